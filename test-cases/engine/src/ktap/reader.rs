// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Puts the lines of an output together to tests and subtests.

use super::line::{Line, classify, without_printk_prefix};
use super::{Ktap, Level, Origin, Plan, Test, TestId};

/// Lines kept of a test's log, and characters of each.
const LOG_LINES: usize = 48;
const LINE_CHARS: usize = 240;
/// Levels below each other; a line beyond is an ordinary one.
const DEPTH: usize = 32;
/// What `# ` before a line counts as: `run_kselftest.sh` shows a program's output so
/// (tools/testing/selftests/kselftest/prefix.pl).
const HASH: &str = "# ";

/// A level that has not ended.
#[derive(Debug)]
struct Open {
    column: usize,
    level: Level,
    /// The test that these are the subtests of.
    owner: TestId,
}

#[derive(Debug)]
struct Reader {
    origin: Origin,
    open: Vec<Open>,
    log: Vec<String>,
    next: usize,
    ktap: Ktap,
}

pub(super) fn read(text: &[u8], origin: Origin, complete: bool) -> Ktap {
    let mut reader = Reader { origin, open: Vec::new(), log: Vec::new(), next: 0, ktap: Ktap::default() };
    let mut end = 0;
    for bytes in text.split_inclusive(|byte| *byte == b'\n') {
        end += bytes.len();
        if !bytes.ends_with(b"\n") && !complete {
            break;
        }
        let line = String::from_utf8_lossy(bytes);
        reader.take(line.trim_end_matches(['\n', '\r']), end);
        if reader.ktap.bail_out.is_some() {
            break;
        }
    }
    reader.end()
}

impl Reader {
    fn take(&mut self, whole: &str, end: usize) {
        let shown = without_printk_prefix(whole);
        let (column, line, bare) = self.place(shown);
        match line {
            Line::Version => self.version(column, end),
            Line::Subtest(name) => self.subtest(column, name, end),
            Line::Plan { count, skip } if self.is_at_level(column) => {
                self.plan(column, Plan { count, skip }, end);
            }
            Line::Result { ok, number, name, directive } if self.is_at_level(column) => {
                let name = match (name.is_empty(), number) {
                    (false, _) => name,
                    (true, Some(number)) => number.to_string(),
                    (true, None) => String::new(),
                };
                let test = Test {
                    id: TestId(0),
                    name,
                    ok: Some(ok),
                    directive,
                    line: bare.to_owned(),
                    log: Vec::new(),
                    subtests: None,
                };
                self.result(column, number, test, end);
            }
            Line::BailOut(reason) if !self.open.is_empty() || self.origin == Origin::Program => {
                self.ktap.bail_out = Some(reason);
            }
            _ => self.keep(shown),
        }
    }

    /// The line with its column: `# ` before it counts as indentation where that leads to a version, or into a level that
    /// such a version has begun.
    fn place<'t>(&self, text: &'t str) -> (usize, Line, &'t str) {
        let trimmed = text.trim_start_matches(' ');
        let mut column = text.len() - trimmed.len();
        let first = classify(trimmed);
        if first != Line::Other {
            return (column, first, trimmed);
        }
        let mut rest = trimmed;
        for _ in 0..DEPTH {
            let Some(inner) = rest.strip_prefix(HASH) else { break };
            let bare = inner.trim_start_matches(' ');
            column += HASH.len() + inner.len() - bare.len();
            rest = bare;
            let line = classify(bare);
            let known = self.open.iter().any(|open| open.column == column && column > 0);
            match line {
                Line::Version => return (column, line, bare),
                Line::Plan { .. } | Line::Result { .. } if known => return (column, line, bare),
                _ => {}
            }
        }
        (0, Line::Other, trimmed)
    }

    /// A plan or result there belongs to a level: in a kernel log a version or subtest line comes first.
    fn is_at_level(&self, column: usize) -> bool {
        let deepest = self.open.last().map_or(0, |open| open.column);
        match self.open.first() {
            Some(first) => column >= first.column && (column <= deepest || self.open.len() < DEPTH),
            None => self.origin == Origin::Program && column == 0,
        }
    }

    fn id(&mut self) -> TestId {
        self.next += 1;
        TestId(self.next)
    }

    fn keep(&mut self, text: &str) {
        if self.log.len() < LOG_LINES && !self.open.is_empty() && !text.trim().is_empty() {
            self.log.push(text.trim_end().chars().take(LINE_CHARS).collect());
        }
    }

    /// The test that a header at the innermost level belongs to.
    fn owner(&self) -> Option<TestId> {
        (self.open.len() > 1).then(|| self.open.last().map(|open| open.owner)).flatten()
    }

    fn bound(&mut self, end: usize, test: Option<TestId>) {
        self.ktap.bounds.push((end, test));
    }

    fn begin(&mut self, column: usize) {
        let owner = self.id();
        self.open.push(Open { column, level: Level::default(), owner });
    }

    fn version(&mut self, column: usize, end: usize) {
        if self.open.first().is_some_and(|first| column <= first.column) {
            self.end_output();
        }
        self.close_beyond(column);
        let same = self.open.last().is_some_and(|open| open.column == column);
        if same {
            self.close_last();
        }
        if self.open.len() >= DEPTH {
            return;
        }
        self.begin(column);
        let owner = self.owner();
        self.bound(end, owner);
    }

    fn subtest(&mut self, column: usize, name: String, end: usize) {
        // KUnit before 5.19 prints no version before subtests; before the outermost level it does.
        let Some(last) = self.open.last() else { return };
        if column > last.column {
            if self.open.len() >= DEPTH {
                return;
            }
            self.begin(column);
        }
        let Some(last) = self.open.last_mut() else { return };
        let level = &mut last.level;
        // TAP 14 puts the line before the subtests with the indentation of their test, too.
        if last.column == column && level.tests.is_empty() && level.plan.is_none() && level.name.is_none() {
            level.name = Some(name);
            let owner = self.owner();
            self.bound(end, owner);
        }
    }

    /// Makes the level at this column the innermost one.
    fn enter(&mut self, column: usize) {
        let Some(first) = self.open.first() else { return self.begin(column) };
        self.close_beyond(column.max(first.column));
        if self.open.last().is_some_and(|open| open.column < column) {
            self.begin(column);
        }
    }

    fn plan(&mut self, column: usize, plan: Plan, end: usize) {
        self.enter(column);
        let owner = self.owner();
        self.bound(end, owner);
        if let Some(last) = self.open.last_mut() {
            if last.level.plan.is_some() {
                last.level.problems.push(format!("a second plan, 1..{}", plan.count));
            } else {
                last.level.plan = Some(plan);
            }
        }
    }

    fn result(&mut self, column: usize, number: Option<u64>, mut test: Test, end: usize) {
        // Subtests that end with this line: the level right below its own.
        let own = self.open.iter().rposition(|open| open.column <= column);
        if let Some(own) = own
            && self.open[own].column == column
        {
            while self.open.len() > own + 2 {
                self.close_last();
            }
            if self.open.len() == own + 2
                && let Some(child) = self.open.pop()
            {
                let mut level = child.level;
                level.log = std::mem::take(&mut self.log);
                test.subtests = Some(level);
                test.id = child.owner;
            }
        } else {
            self.enter(column);
        }
        if test.subtests.is_none() {
            test.id = self.id();
        }
        test.log = std::mem::take(&mut self.log);
        self.bound(end, Some(test.id));
        let Some(last) = self.open.last_mut() else { return };
        let expected = last.level.tests.len() as u64 + 1;
        if test.name.is_empty() {
            test.name = expected.to_string();
        }
        if let Some(number) = number.filter(|number| *number != expected) {
            last.level
                .problems
                .push(format!("test {number} where test {expected} was to come: {}", test.name));
        }
        last.level.tests.push(test);
    }

    /// Ends the levels whose column is larger.
    fn close_beyond(&mut self, column: usize) {
        while self.open.len() > 1 && self.open.last().is_some_and(|open| open.column > column) {
            self.close_last();
        }
    }

    /// Ends the innermost level without a result for the test it belongs to.
    fn close_last(&mut self) {
        let Some(mut open) = self.open.pop() else { return };
        open.level.log = std::mem::take(&mut self.log);
        match self.open.last_mut() {
            Some(parent) => {
                let number = parent.level.tests.len() + 1;
                let name = open.level.name.clone().unwrap_or_else(|| number.to_string());
                let line = "(no result)".to_owned();
                let (id, log) = (open.owner, Vec::new());
                let test =
                    Test { id, name, ok: None, directive: None, line, log, subtests: Some(open.level) };
                parent.level.tests.push(test);
            }
            None => self.ktap.levels.push(open.level),
        }
    }

    fn end_output(&mut self) {
        while !self.open.is_empty() {
            self.close_last();
        }
    }

    fn end(mut self) -> Ktap {
        self.ktap.last = self.owner();
        self.end_output();
        for level in &mut self.ktap.levels {
            check(level, 0);
        }
        self.ktap
    }
}

/// Adds the problem of more tests than planned.
fn check(level: &mut Level, depth: usize) {
    let count = level.tests.len() as u64;
    if let Some(plan) = level.plan.as_ref().filter(|plan| plan.count < count) {
        level.problems.push(format!("{count} tests where {} were planned", plan.count));
    }
    if depth <= DEPTH {
        level
            .tests
            .iter_mut()
            .filter_map(|test| test.subtests.as_mut())
            .for_each(|level| check(level, depth + 1));
    }
}
