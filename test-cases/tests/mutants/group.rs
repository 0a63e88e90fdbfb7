// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mutants that share a guest, and its cases.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use engine::library;
use guest_kernel::Mutant;
use guest_kernel::mutants::NONE;

use crate::common::job::Job;

/// Steps of `copra explore`, and where they begin: the same each time.
const STEPS: &str = "3000";
const SEED: &str = "1";
/// The guest ends at the first forbidden access; without one, its devices have read and written.
const COMMAND: [&str; 5] = ["--fail-fast", "--strict", "--", "cat", "/etc/passwd"];

/// What kills a mutant.
pub enum Killer<'a> {
    /// A case, in this step.
    Case(&'a str, &'a str),
    /// The boot: a forbidden access, or its end.
    Boot,
    /// `copra boot-audit`, in the mutant's layout.
    BootAudit(&'a str),
    /// `copra explore`.
    Explore,
    /// `copra audit`.
    Audit,
    /// The devices of `copra exec`: a forbidden access of one.
    Exec,
    /// A test of `copra suite --kunit`.
    Suite(KunitTest<'a>),
    /// Nothing can, and every case passes.
    Nothing,
}

impl<'a> Killer<'a> {
    /// From the table.
    pub fn of(mutant: &'a Mutant) -> Result<Self, String> {
        match mutant.killer.as_deref() {
            None => Ok(Self::Nothing),
            Some("boot") => Ok(Self::Boot),
            Some("boot-audit") => Ok(Self::BootAudit(mutant.layout.as_deref().unwrap_or("usual"))),
            Some("explore") => Ok(Self::Explore),
            Some("audit") => Ok(Self::Audit),
            Some("exec") => Ok(Self::Exec),
            Some("suite") => Ok(Self::Suite(KunitTest::of(mutant)?)),
            Some(text) => match text.split_once('#') {
                Some((case, step)) => Ok(Self::Case(case, step)),
                None => Err(format!("mutants.toml names no killer of {} but `{text}`", mutant.name)),
            },
        }
    }
}

/// A KUnit test, and the conversions that are refused meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KunitTest<'a> {
    suite: &'a str,
    test: &'a str,
    refused: &'a [String],
}

impl<'a> KunitTest<'a> {
    fn of(mutant: &'a Mutant) -> Result<Self, String> {
        let test = mutant.got.as_deref().and_then(|got| got.split_once('/'));
        let (suite, test) =
            test.ok_or_else(|| format!("mutants.toml names no SUITE/TEST as what {} fails in", mutant.name))?;
        Ok(Self { suite, test, refused: &mutant.fail })
    }

    /// The suites or tests to run. With refused conversions it is one test: others would fail for that reason alone.
    fn filter(self) -> String {
        if self.refused.is_empty() { self.suite.to_owned() } else { format!("{}.{}", self.suite, self.test) }
    }

    fn options(self) -> Vec<String> {
        let rules = self.refused.iter().flat_map(|rule| ["--fail".to_owned(), rule.clone()]);
        ["--kunit".to_owned(), self.filter()].into_iter().chain(rules).collect()
    }

    /// The job of a group that runs it without a mistake.
    pub fn control(self, group: &str) -> String {
        format!("{group}-{}", self.filter())
    }
}

/// The case of a mutant in the report of its group.
pub fn mutated(mutant: &Mutant) -> String {
    format!("mutant/{}", mutant.name)
}

/// The same case without a mistake.
pub fn control(case: &str) -> String {
    format!("control/{case}")
}

/// The job of all mutants of a policy on a platform.
pub fn job_name(policy: &str, platform: &str) -> String {
    format!("{policy}-{platform}")
}

/// The job of a group's boot without a mistake in a layout.
pub fn in_layout(group: &str, layout: &str) -> String {
    format!("{group}-in-{layout}")
}

/// All jobs for these mutants, with the cases they need written below `folder`.
pub fn jobs(mutants: &[&Mutant], folder: &Path) -> Result<Vec<Job>, String> {
    let mut groups: BTreeMap<(&str, &str), Vec<&Mutant>> = BTreeMap::new();
    for mutant in mutants {
        groups.entry((&mutant.policy, &mutant.platform)).or_default().push(mutant);
    }
    let mut jobs = Vec::new();
    for ((policy, platform), members) in groups {
        let name = job_name(policy, platform);
        let cases = folder.join(&name).join("cases");
        let (mut controls, mut layouts, mut suites) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let (mut explored, mut audited, mut executed) = (false, false, false);
        for mutant in members {
            match Killer::of(mutant)? {
                Killer::Case(case, _) => {
                    write(&cases, &mutated(mutant), case, &mutant.name)?;
                    controls.insert(case);
                }
                // Its guest makes the mistake from the beginning.
                Killer::Boot => {
                    jobs.push(job(&mutant.name, "run", &mutant.name, platform, &["open/zero"], folder));
                    controls.insert("open/zero");
                }
                Killer::BootAudit(layout) => {
                    let options = ["--no-shrink", "--layout", layout];
                    jobs.push(job(&mutant.name, "boot-audit", &mutant.name, platform, &options, folder));
                    layouts.insert(layout);
                }
                Killer::Explore => {
                    jobs.push(job(&mutant.name, "explore", &mutant.name, platform, &[], folder));
                    explored = true;
                }
                Killer::Audit => {
                    jobs.push(job(&mutant.name, "audit", &mutant.name, platform, &[], folder));
                    audited = true;
                }
                Killer::Exec => {
                    jobs.push(job(&mutant.name, "exec", &mutant.name, platform, &COMMAND, folder));
                    executed = true;
                }
                Killer::Suite(test) => {
                    let options = test.options();
                    let options: Vec<&str> = options.iter().map(String::as_str).collect();
                    jobs.push(job(&mutant.name, "suite", &mutant.name, platform, &options, folder));
                    let control = test.control(&name);
                    suites
                        .insert(control.clone(), job(&control, "suite", policy, platform, &options, folder));
                }
                Killer::Nothing => {
                    jobs.push(job(&mutant.name, "run", &mutant.name, platform, &[], folder));
                }
            }
        }
        for case in &controls {
            write(&cases, &control(case), case, NONE)?;
        }
        if !controls.is_empty() {
            let cases = cases.to_string_lossy().into_owned();
            jobs.push(job(&name, "run", policy, platform, &[&cases], folder));
        }
        for layout in layouts {
            let options = ["--no-shrink", "--layout", layout];
            jobs.push(job(&in_layout(&name, layout), "boot-audit", policy, platform, &options, folder));
        }
        if explored {
            jobs.push(job(&format!("{name}-explore"), "explore", policy, platform, &[], folder));
        }
        if executed {
            jobs.push(job(&format!("{name}-exec"), "exec", policy, platform, &COMMAND, folder));
        }
        jobs.extend(suites.into_values());
        if audited {
            jobs.push(job(&format!("{name}-audit"), "audit", policy, platform, &[], folder));
        }
    }
    Ok(jobs)
}

fn job(name: &str, command: &str, kernel: &str, platform: &str, more: &[&str], folder: &Path) -> Job {
    let kernel = format!("mutant:{kernel}");
    let report = folder.join(format!("{name}.json")).to_string_lossy().into_owned();
    let mut arguments = vec![command, "--quiet", "-k", &kernel, "-p", platform];
    match command {
        "explore" => arguments.extend(["--steps", STEPS, "--seed", SEED, "--out", &report]),
        _ => arguments.extend(["--json", &report]),
    }
    arguments.extend(more);
    let arguments = arguments.into_iter().map(str::to_owned).collect();
    Job { name: name.to_owned(), arguments, ..Job::default() }
}

/// Writes a bundled case under another name, for a guest that makes a mistake.
fn write(cases: &Path, name: &str, case: &str, mutant: &str) -> Result<(), String> {
    let text = library::source(case).ok_or_else(|| format!("{mutant}: there is no case {case}"))?;
    let file = cases.join(format!("{name}.toml"));
    let put = |file: &Path| -> io::Result<()> {
        fs::create_dir_all(file.parent().unwrap_or(cases))?;
        fs::write(file, with_mutant(text, mutant))
    };
    put(&file).map_err(|error| format!("{}: {error}", file.display()))
}

/// The case with `mutant` among its requirements of the guest.
fn with_mutant(text: &str, mutant: &str) -> String {
    const GUEST: &str = "\nguest = {";
    const STEP: &str = "\n[[step]]";
    let requirement = format!(" mutant = \"{mutant}\"");
    if let Some(at) = text.find(GUEST) {
        let (before, after) = text.split_at(at + GUEST.len());
        return format!("{before}{requirement},{after}");
    }
    text.replacen(STEP, &format!("\nguest = {{{requirement} }}\n{STEP}"), 1)
}
