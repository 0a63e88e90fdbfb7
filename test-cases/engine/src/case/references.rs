// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks what only a whole case can show: names used before they exist or after they were given up, names given twice, gaps.

use std::collections::HashMap;
use std::ops::Range;

use types::Platform;

use super::error::{ProblemKind, Sink};
use super::step::{Action, Step};
use super::term::Term;

/// What the steps so far have: by name, so that a long case is read in one pass.
#[derive(Default)]
struct Earlier<'a> {
    steps: HashMap<&'a str, (&'a Step, usize)>,
    /// Files and mappings, with the line of the step that obtains them.
    obtained: HashMap<&'a str, (usize, bool)>,
    /// What the process that does the steps has given up, by the step that did.
    given_up: HashMap<&'a str, &'a str>,
    /// The same of the processes that wait for the end of the child they forked.
    parents: Vec<HashMap<&'a str, &'a str>>,
}

impl<'a> Earlier<'a> {
    /// Follows what a step gives up, where nothing but its success is expected.
    fn give_up(&mut self, step: &'a Step) {
        let name = match &step.action {
            Action::Close { fd: name } | Action::Munmap { map: name } => name,
            Action::Mremap { map, handle: Some(_), .. } => map,
            Action::Fork => return self.parents.push(self.given_up.clone()),
            Action::Exit => return self.given_up = self.parents.pop().unwrap_or_default(),
            _ => return,
        };
        let mut terms = step.expect.entries.iter().flat_map(|(_, expected)| &expected.alternatives);
        if terms.all(Term::is_success) {
            self.given_up.insert(name, &step.id);
        }
    }
}

/// Notes every such problem of the steps, each at its span.
pub(super) fn check(steps: &[(Step, Range<usize>)], platforms: &[Platform], sink: &mut Sink<'_>) {
    // A step that could not be parsed would only be reported a second time.
    let readable = sink.is_clean();
    let mut earlier = Earlier::default();
    for (step, span) in steps {
        let line = sink.line(span.start);
        if let Some(&(_, first)) = earlier.steps.get(step.id.as_str()) {
            let name = step.id.clone();
            sink.add(span, ProblemKind::Twice { what: "step", name, first });
        }
        check_obtained(step, span, &earlier, sink);
        check_used(step, span, &earlier, sink);
        if let Some((policy, platform)) = step.expect.gap(platforms).filter(|_| readable) {
            let (step, policy, platform) = (step.id.clone(), policy.to_string(), platform.to_string());
            sink.add(span, ProblemKind::Gap { step, policy, platform });
        }
        earlier.steps.entry(&step.id).or_insert((step, line));
        earlier.give_up(step);
        if let Some(name) = step.action.obtains() {
            earlier.obtained.entry(name).or_insert((line, step.action.obtains_map()));
        }
    }
}

/// A name refers to one file or mapping in the whole case.
fn check_obtained(step: &Step, span: &Range<usize>, earlier: &Earlier<'_>, sink: &mut Sink<'_>) {
    let Some(name) = step.action.obtains() else { return };
    if let Some(&(first, _)) = earlier.obtained.get(name) {
        let name = name.to_owned();
        sink.add(span, ProblemKind::Twice { what: "file or mapping", name, first });
    }
}

/// What a step uses must have been obtained, and be of the right kind.
fn check_used(step: &Step, span: &Range<usize>, earlier: &Earlier<'_>, sink: &mut Sink<'_>) {
    let dangling = |what, name: &str| {
        let (step, name) = (step.id.clone(), name.to_owned());
        ProblemKind::Dangling { step, what, name }
    };
    let used = step.action.uses().map(|name| (name, step.action.works_on_map()));
    for (name, is_map) in used.into_iter().chain(step.action.takes_place_of().map(|name| (name, true))) {
        if earlier.obtained.get(name).is_none_or(|(_, obtained)| *obtained != is_map) {
            sink.add(span, dangling(if is_map { "mapping" } else { "file" }, name));
        } else if let Some(by) = earlier.given_up.get(name) {
            let why = format!("step `{}` uses `{name}`, which step `{by}` gave up", step.id);
            sink.add(span, ProblemKind::Nonsense(why));
        }
    }
    if let Action::Memory { wrote: Some(wrote), .. } = &step.action {
        match earlier.steps.get(wrote.as_str()).map(|(step, _)| step.action.data()) {
            None => sink.add(span, dangling("step", wrote)),
            Some(None) => {
                let why = format!("step `{wrote}` writes nothing that `{}` could look for", step.id);
                sink.add(span, ProblemKind::Nonsense(why));
            }
            Some(Some(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    /// What is wrong with a case of these steps.
    fn problems(steps: &[&str]) -> String {
        let open = "id = 'open'\ndo = 'open'\npath = '/dev/mem'\nflags = 'O_RDWR'\nas = 'mem'";
        let map = "id = 'map'\ndo = 'mmap'\nfd = 'mem'\nat = 0xf0000\nprot = 'r'\nshare = 'shared'\nas = 'm'";
        let steps = [&[open, map], steps].concat();
        let steps = steps.iter().map(|step| format!("[[step]]\n{step}\n")).collect::<Vec<_>>().concat();
        let parsed = crate::case::parse(&format!("title = 't'\nwhy = 'w'\n{steps}"), "test");
        parsed.err().map(|errors| errors.to_string()).unwrap_or_default()
    }

    const PEEK: &str = "id = 'peek'\ndo = 'peek'\nmap = 'm'\nlen = 1";
    const UNMAP: &str = "id = 'unmap'\ndo = 'munmap'\nmap = 'm'";

    #[test]
    fn what_a_case_gave_up_it_cannot_use() {
        let move_it = "id = 'move'\ndo = 'mremap'\nmap = 'm'\nlen = 0x1000\nas = 'n'";
        let close = "id = 'close'\ndo = 'close'\nfd = 'mem'";
        let read = "id = 'read'\ndo = 'pread'\nfd = 'mem'\nat = 0xf0000\nlen = 1";
        for (steps, name, by) in
            [([UNMAP, PEEK], "m", "unmap"), ([move_it, PEEK], "m", "move"), ([close, read], "mem", "close")]
        {
            let problems = problems(&steps);
            assert!(problems.contains(&format!("uses `{name}`, which step `{by}` gave up")), "{problems}");
        }
        assert_eq!(problems(&[PEEK, UNMAP]), "");
        assert_eq!(problems(&[close, PEEK]), "");
    }

    #[test]
    fn what_may_still_be_held_can_be_used() {
        let (fork, exit) = ("id = 'fork'\ndo = 'fork'", "id = 'exit'\ndo = 'exit'");
        let refused = format!("{UNMAP}\nexpect = 'EINVAL'");
        assert_eq!(problems(&[refused.as_str(), PEEK]), "");
        assert_eq!(problems(&[fork, UNMAP, exit, PEEK]), "");
        assert!(problems(&[fork, UNMAP, PEEK]).contains("gave up"));
        assert!(problems(&[UNMAP, fork, exit, PEEK]).contains("gave up"));
    }
}
