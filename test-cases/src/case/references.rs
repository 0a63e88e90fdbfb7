//! Checks what only a whole case can show: names used before they exist, names given twice, gaps.

use std::collections::HashMap;
use std::ops::Range;

use super::error::{ProblemKind, Sink};
use super::step::{Action, Step};
use crate::platform::Platform;

/// What the steps so far have: by name, so that a long case is read in one pass.
#[derive(Default)]
struct Earlier<'a> {
    steps: HashMap<&'a str, &'a Step>,
    /// Files and mappings, with the line of the step that obtains them.
    obtained: HashMap<&'a str, (usize, bool)>,
}

/// Notes every such problem of the steps, each of which stands at its span.
pub(super) fn check(steps: &[(Step, Range<usize>)], platforms: &[Platform], sink: &mut Sink<'_>) {
    // What could not be read would only be told a second time as a gap.
    let readable = sink.is_clean();
    let mut earlier = Earlier::default();
    for (step, span) in steps {
        if let Some(first) = earlier.steps.get(step.id.as_str()) {
            let (name, first) = (step.id.clone(), first.line);
            sink.add(span, ProblemKind::Twice { what: "step", name, first });
        }
        check_obtained(step, span, &earlier, sink);
        check_used(step, span, &earlier, sink);
        if let Some((policy, platform)) = step.expect.gap(platforms).filter(|_| readable) {
            let (step, policy, platform) = (step.id.clone(), policy.to_string(), platform.to_string());
            sink.add(span, ProblemKind::Gap { step, policy, platform });
        }
        earlier.steps.entry(&step.id).or_insert(step);
        if let Some(name) = step.action.obtains() {
            earlier.obtained.entry(name).or_insert((step.line, step.action.obtains_map()));
        }
    }
}

/// A name stands for one file or mapping in the whole case.
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
        }
    }
    if let Action::Memory { wrote: Some(wrote), .. } = &step.action {
        match earlier.steps.get(wrote.as_str()).map(|step| step.action.data()) {
            None => sink.add(span, dangling("step", wrote)),
            Some(None) => {
                let why = format!("step `{wrote}` writes nothing that `{}` could look for", step.id);
                sink.add(span, ProblemKind::Nonsense(why));
            }
            Some(Some(_)) => {}
        }
    }
}
