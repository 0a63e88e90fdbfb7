// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a suite's output to cases with verdicts. A test passes if its line states so, its plan was fulfilled, and no forbidden
//! access was made while it ran; what has no result is not run, with the reason.

use std::collections::{HashMap, HashSet};

use types::AccessEvent;

use super::output::Accesses;
use crate::case::{Action, Case, Step};
use crate::judge::{CaseVerdict, Rigour, Verdict, describe};
use crate::ktap::{Directive, Ktap, Level, Test};
use crate::observation::{Answer, CaseObservation, NotRun, StepObservation};
use crate::report::{CaseResult, Report, RunEnd};
use crate::session::Ended;

/// The step of each case.
const STEP: &str = "result";
/// Characters of a test's name that are kept.
const NAME_CHARS: usize = 120;
/// `tools/testing/selftests/kselftest.h:KSFT_SKIP`.
const KSFT_SKIP: u8 = 4;

/// How a suite ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The kernel came up after its KUnit suites.
    CameUp,
    /// The program exited.
    Exited(u8),
    /// A signal ended the program.
    Signal(u8),
    /// The user stopped it.
    Interrupted,
    /// The guest died.
    Died(String),
    /// The guest was aborted, which is no evidence about it.
    Aborted(String),
}

impl Ending {
    /// How the boot of a report's only guest ended.
    pub(super) fn of_boot(report: &Report) -> Self {
        match (report.deaths.last(), report.aborted.last()) {
            (Some(death), _) => Self::Died(format!("{}: {}", death.kind, death.text)),
            (None, Some(aborted)) => Self::Aborted(aborted.reason.clone()),
            (None, None) if report.ended == RunEnd::Interrupted => Self::Interrupted,
            (None, None) => Self::CameUp,
        }
    }

    /// How a guest ended; the report gets it too.
    pub(super) fn of_guest(ended: Ended, report: &mut Report) -> Self {
        match ended.into_report(None) {
            Ok(death) => report.deaths.push(death),
            Err(aborted) => report.aborted.push(aborted),
        }
        Self::of_boot(report)
    }

    /// Why there is no more output, as the end of a sentence.
    fn reason(&self) -> String {
        match self {
            Self::CameUp => "the kernel went on with its boot".to_owned(),
            Self::Exited(status) => format!("the program exited with {status}"),
            Self::Signal(signal) => format!("signal {signal} ended the program"),
            Self::Interrupted => "the run was interrupted".to_owned(),
            Self::Died(how) => format!("the guest ended, {how}"),
            Self::Aborted(why) => format!("the guest was aborted: {why}"),
        }
    }
}

/// A suite.
#[derive(Debug)]
pub(super) struct Suite {
    program: String,
    arguments: Vec<String>,
    /// The name of each test is an argument.
    by_name: bool,
}

impl Suite {
    pub(super) fn kunit() -> Self {
        Self { program: "kunit".to_owned(), arguments: Vec::new(), by_name: true }
    }

    pub(super) fn program(arguments: &[Vec<u8>]) -> Self {
        let mut texts = arguments.iter().map(|text| String::from_utf8_lossy(text).into_owned());
        Self { program: texts.next().unwrap_or_default(), arguments: texts.collect(), by_name: false }
    }

    pub(super) fn name(&self) -> &str {
        &self.program
    }

    /// The cases, in the order of the output.
    pub(super) fn judge(&self, ktap: &Ktap, accesses: Accesses, ending: &Ending) -> Vec<CaseResult> {
        let mut judging = Judging {
            suite: self,
            accesses,
            ending,
            bail_out: ktap.bail_out.as_deref(),
            results: Vec::new(),
        };
        judging.output(ktap);
        unique(&mut judging.results);
        judging.results
    }
}

/// No two cases have the same name.
fn unique(results: &mut [CaseResult]) {
    let mut names = HashSet::new();
    // The next number of each name: a program may print one name millions of times.
    let mut next: HashMap<String, u64> = HashMap::new();
    for result in results {
        let mut name = result.case.name.clone();
        while !names.insert(name.clone()) {
            let number = next.entry(result.case.name.clone()).or_insert(2);
            name = format!("{}~{number}", result.case.name);
            *number += 1;
        }
        result.case.name = name;
    }
}

struct Judging<'a> {
    suite: &'a Suite,
    accesses: Accesses,
    ending: &'a Ending,
    bail_out: Option<&'a str>,
    results: Vec<CaseResult>,
}

impl Judging<'_> {
    fn output(&mut self, ktap: &Ktap) {
        if ktap.levels.is_empty() {
            let reason = format!("its output has no KTAP or TAP, and {}", self.ending.reason());
            self.not_run("output", &self.bail_out.map_or(reason, |why| format!("it bailed out: {why}")));
        } else if let Some(why) = self.bail_out {
            self.not_run("bail out", &format!("the suite bailed out: {why}; what follows was not read"));
        }
        for level in &ktap.levels {
            if let Some(skip) = level.plan.as_ref().and_then(|plan| plan.skip.as_ref())
                && level.tests.is_empty()
            {
                self.bare("all", Verdict::Skipped { reason: skip.clone() }, NotRun::Skipped(skip.clone()));
            }
            self.level("", level);
            if level.plan.is_none() {
                self.not_run(
                    "plan",
                    "the output has no plan (1..N), so that a test that is missing is not noticed",
                );
            }
        }
        if self.accesses.missing > 0 {
            let missing = self.accesses.missing;
            self.not_run(
                "output",
                &format!("{missing} bytes of the output were not kept; run fewer tests at a time"),
            );
        }
        if self.accesses.not_kept > 0 {
            let count = self.accesses.not_kept;
            let reason = format!(
                "{count} forbidden accesses were not kept, so that a test without any may have made some; run fewer tests at a time"
            );
            self.not_run("accesses", &reason);
        }
        let mut outside = std::mem::take(&mut self.accesses.outside);
        outside.append(&mut self.accesses.after_last);
        // Every test of the output has been judged, so nothing is left; were there any, they must not be lost.
        outside.extend(std::mem::take(&mut self.accesses.by_test).into_values().flatten());
        if !outside.is_empty() {
            self.result("outside any test", None, outside, Vec::new());
        }
        self.exit();
    }

    fn level(&mut self, path: &str, level: &Level) {
        level.tests.iter().for_each(|test| self.test(path, test));
        for problem in &level.problems {
            let verdict = Verdict::Unexpected {
                expected: "tests as planned, one after another".to_owned(),
                got: problem.clone(),
            };
            self.judged(&join(path, "plan"), problem, verdict, Vec::new(), &[]);
        }
        if level.missing() > 0 {
            self.missing(path, level);
        }
    }

    /// Planned tests without a line. The first of them ran when the guest died.
    fn missing(&mut self, path: &str, level: &Level) {
        let planned = level.plan.as_ref().map_or(0, |plan| plan.count);
        let first = level.tests.len() as u64 + 1;
        let name = if first == planned { first.to_string() } else { format!("{first}..{planned}") };
        let name = join(path, &format!("test {name}"));
        let why = match self.bail_out {
            Some(why) => format!("the suite bailed out: {why}"),
            None => self.ending.reason(),
        };
        let reason = format!("planned, and has no result: {why}");
        let events = if path.is_empty() { std::mem::take(&mut self.accesses.after_last) } else { Vec::new() };
        if matches!(self.ending, Ending::Died(_)) || !events.is_empty() {
            let verdict = Verdict::Unexpected { expected: "a result".to_owned(), got: reason.clone() };
            self.judged(&name, &reason, verdict, events, &[]);
        } else {
            self.not_run(&name, &reason);
        }
    }

    fn test(&mut self, path: &str, test: &Test) {
        let name = join(path, &clean(&test.name));
        let events = self.accesses.by_test.remove(&test.id).unwrap_or_default();
        let Some(level) =
            test.subtests.as_ref().filter(|level| !level.tests.is_empty() || level.missing() > 0)
        else {
            self.leaf(&name, test, events);
            return;
        };
        let before = self.results.len();
        self.level(&name, level);
        let failed = |result: &CaseResult| {
            result.verdict.verdict.is_finding() || result.verdict.verdict.says_nothing()
        };
        let explained = self.results[before..].iter().any(failed);
        // A result that its subtests explain is no case of its own.
        if !events.is_empty() || !explained && test.ok != Some(true) {
            self.leaf(&name, test, events);
        }
    }

    fn leaf(&mut self, name: &str, test: &Test, events: Vec<AccessEvent>) {
        let log = [test.log.as_slice(), test.subtests.as_ref().map_or(&[][..], |level| &level.log)].concat();
        if test.ok.is_some() {
            return self.result(name, Some(test), events, log);
        }
        let reason = format!("its subtests were not followed by its result: {}", self.ending.reason());
        if matches!(self.ending, Ending::Died(_)) || !events.is_empty() {
            let verdict = Verdict::Unexpected { expected: "a result".to_owned(), got: reason.clone() };
            self.judged(name, &reason, verdict, events, &log);
        } else {
            self.not_run(name, &reason);
        }
    }

    /// A case of which the output has a line, or none that has accesses.
    fn result(&mut self, name: &str, test: Option<&Test>, events: Vec<AccessEvent>, log: Vec<String>) {
        let ok = test.is_none_or(|test| test.ok == Some(true));
        let directive = test.and_then(|test| test.directive.as_ref());
        let line = test.map_or("ok", |test| &test.line);
        let reason = |kind: Directive, why: &str| match (kind, why) {
            (Directive::Skip, "") => "no reason given".to_owned(),
            (Directive::Skip, why) => why.to_owned(),
            (kind, why) => {
                format!("{}, marked {kind}{}{why}", kind.about(), if why.is_empty() { "" } else { ": " })
            }
        };
        let skipped = match directive {
            Some((kind @ (Directive::Skip | Directive::Todo | Directive::Xfail), why))
                if *kind == Directive::Skip || !ok || *kind == Directive::Xfail =>
            {
                Some(reason(*kind, why))
            }
            _ => None,
        };
        let failed =
            !ok && skipped.is_none() || matches!(directive, Some((Directive::Timeout | Directive::Error, _)));
        let got = describe(&step(self.suite, name), &observation(line, events.clone()));
        let verdict = if failed {
            Verdict::Unexpected { expected: "ok".to_owned(), got }
        } else if !events.is_empty() {
            Verdict::Unexpected { expected: "no forbidden access".to_owned(), got }
        } else if let Some(reason) = skipped {
            return self.bare(name, Verdict::Skipped { reason: reason.clone() }, NotRun::Skipped(reason));
        } else {
            Verdict::AsSpecified
        };
        let log = if verdict.is_finding() { log } else { Vec::new() };
        self.judged(name, line, verdict, events, &log);
    }

    /// The program's own end, where its tests do not explain it.
    fn exit(&mut self) {
        let found = self.results.iter().any(|result| result.verdict.verdict.is_finding());
        let ran =
            self.results.iter().any(|result| !matches!(result.verdict.verdict, Verdict::Skipped { .. }));
        let got = match self.ending {
            Ending::Exited(0) => return,
            Ending::Exited(status) if found || *status == KSFT_SKIP && !ran => return,
            Ending::Exited(_) | Ending::Signal(_) => self.ending.reason(),
            Ending::Died(_) if !found => self.ending.reason(),
            _ => return,
        };
        let verdict =
            Verdict::Unexpected { expected: "an end that the tests explain".to_owned(), got: got.clone() };
        self.judged("exit", &got, verdict, Vec::new(), &[]);
    }

    fn judged(&mut self, name: &str, line: &str, verdict: Verdict, events: Vec<AccessEvent>, log: &[String]) {
        let title = match events.len() {
            0 => "no forbidden access".to_owned(),
            1 => "1 forbidden access".to_owned(),
            many => format!("{many} forbidden accesses"),
        };
        let mut case = case(name, &title);
        let mut step = step(self.suite, name);
        step.note =
            (!log.is_empty()).then(|| log.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" | "));
        case.steps = vec![step];
        let observed =
            CaseObservation { steps: vec![observation(line, events)], ..CaseObservation::default() };
        let mut rigour = Rigour::default();
        rigour.exact(1);
        let verdict = CaseVerdict { steps: vec![verdict.clone()], verdict, rigour };
        self.results.push(CaseResult { case, observed, verdict });
    }

    fn not_run(&mut self, name: &str, reason: &str) {
        let reason = reason.to_owned();
        self.bare(name, Verdict::NotRun { reason: reason.clone() }, NotRun::Failed(reason));
    }

    fn bare(&mut self, name: &str, verdict: Verdict, not_run: NotRun) {
        let observed = CaseObservation { not_run: Some(not_run), ..CaseObservation::default() };
        let verdict = CaseVerdict { verdict, steps: Vec::new(), rigour: Rigour::default() };
        self.results.push(CaseResult { case: case(name, ""), observed, verdict });
    }
}

fn case(name: &str, title: &str) -> Case {
    Case { tags: vec!["suite".to_owned()], ..Case::new(name, title, "") }
}

fn step(suite: &Suite, name: &str) -> Step {
    let mut args = suite.arguments.clone();
    if suite.by_name {
        args.push(name.replacen('/', ".", 1));
    }
    Step::new(STEP, Action::Run { program: suite.program.clone(), args })
}

fn observation(line: &str, events: Vec<AccessEvent>) -> StepObservation {
    let mut observed = StepObservation::new(STEP, Answer::Returned { value: 0 });
    observed.bytes = line.as_bytes().to_vec();
    observed.events = events;
    observed
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// A name as one word of a report's line: an output may hold anything.
fn clean(name: &str) -> String {
    let shown = name.chars().map(|c| if c.is_control() || c == '\u{fffd}' { '?' } else { c });
    shown.take(NAME_CHARS).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests;
