//! Checks what only a whole case can show: names used before they exist, names given twice, gaps.

use std::ops::Range;

use super::error::{ProblemKind, Sink};
use super::step::{Action, Step};
use crate::platform::Platform;

/// Notes every such problem of the steps, each of which stands at its span.
pub(super) fn check(steps: &[(Step, Range<usize>)], platforms: &[Platform], sink: &mut Sink<'_>) {
    // What could not be read would only be told a second time as a gap.
    let readable = sink.is_clean();
    for (index, (step, span)) in steps.iter().enumerate() {
        let earlier = &steps[..index];
        if let Some((first, _)) = earlier.iter().find(|(other, _)| other.id == step.id) {
            let (name, first) = (step.id.clone(), first.line);
            sink.add(span, ProblemKind::Twice { what: "step", name, first });
        }
        check_obtained(step, span, earlier, sink);
        check_used(step, span, earlier, sink);
        if let Some((policy, platform)) = step.expect.gap(platforms).filter(|_| readable) {
            let (step, policy, platform) = (step.id.clone(), policy.to_string(), platform.to_string());
            sink.add(span, ProblemKind::Gap { step, policy, platform });
        }
    }
}

/// A name stands for one file or mapping in the whole case.
fn check_obtained(step: &Step, span: &Range<usize>, earlier: &[(Step, Range<usize>)], sink: &mut Sink<'_>) {
    let Some(name) = step.action.obtains() else { return };
    if let Some((first, _)) = earlier.iter().find(|(other, _)| other.action.obtains() == Some(name)) {
        let (name, first) = (name.to_owned(), first.line);
        sink.add(span, ProblemKind::Twice { what: "file or mapping", name, first });
    }
}

/// What a step uses must have been obtained, and be of the right kind.
fn check_used(step: &Step, span: &Range<usize>, earlier: &[(Step, Range<usize>)], sink: &mut Sink<'_>) {
    let dangling = |what, name: &str| {
        let (step, name) = (step.id.clone(), name.to_owned());
        ProblemKind::Dangling { step, what, name }
    };
    let is_map = |action: &Action| matches!(action, Action::Mmap { .. });
    if let Some(name) = step.action.uses() {
        let wants_map = step.action.works_on_map();
        let found = earlier
            .iter()
            .any(|(other, _)| other.action.obtains() == Some(name) && is_map(&other.action) == wants_map);
        if !found {
            sink.add(span, dangling(if wants_map { "mapping" } else { "file" }, name));
        }
    }
    if let Action::Memory { wrote: Some(wrote), .. } = &step.action {
        match earlier.iter().find(|(other, _)| other.id == *wrote).map(|(other, _)| other.action.data()) {
            None => sink.add(span, dangling("step", wrote)),
            Some(None) => {
                let why = format!("step `{wrote}` writes nothing that `{}` could look for", step.id);
                sink.add(span, ProblemKind::Nonsense(why));
            }
            Some(Some(_)) => {}
        }
    }
}
