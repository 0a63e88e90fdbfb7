// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads what a step must give.

use std::ops::Range;

use toml::de::DeTable;

use super::error::{ProblemKind, Sink};
use super::expectation::{Expectations, Expected, Key};
use super::fields::{Fields, Value, wrong_type};
use super::step::{Action, Yield};
use super::term::Term;

/// Reads the value of `expect`: one expectation for all, or a table with one per policy and platform.
pub(super) fn expectations(
    value: Option<Value<'_, '_>>,
    action: &Action,
    sink: &mut Sink<'_>,
) -> Expectations {
    let yields = action.yields();
    let Some(value) = value else { return Expectations::of_action(action) };
    let entries = match value.get_ref().as_table() {
        Some(table) if !is_single(table) => per_key(table, yields, sink),
        _ => expected(value, yields, sink).into_iter().map(|expected| (Key::ANY, expected)).collect(),
    };
    Expectations { entries }
}

/// Whether a table is one expectation rather than a list of keys.
fn is_single(table: &DeTable<'_>) -> bool {
    table.iter().any(|(key, _)| matches!(key.get_ref().as_ref(), "is" | "hole" | "events"))
}

fn per_key(table: &DeTable<'_>, yields: Yield, sink: &mut Sink<'_>) -> Vec<(Key, Expected)> {
    let mut entries: Vec<(Key, Expected)> = Vec::new();
    let mut seen: Vec<(Key, Range<usize>)> = Vec::new();
    for (name, value) in table {
        // `open-eperm.sev = …` without quotes is a table in a table: it means the same.
        if let Some(inner) = value.get_ref().as_table().filter(|inner| !is_single(inner)) {
            for (platform, value) in inner {
                let full = format!("{}.{}", name.get_ref(), platform.get_ref());
                entry(&full, &platform.span(), value, yields, sink, &mut seen, &mut entries);
            }
        } else {
            entry(name.get_ref(), &name.span(), value, yields, sink, &mut seen, &mut entries);
        }
    }
    entries
}

fn entry(
    name: &str,
    span: &Range<usize>,
    value: Value<'_, '_>,
    yields: Yield,
    sink: &mut Sink<'_>,
    seen: &mut Vec<(Key, Range<usize>)>,
    entries: &mut Vec<(Key, Expected)>,
) {
    let Some(key) = sink.take(span, name.parse::<Key>()) else { return };
    if let Some((_, first)) = seen.iter().find(|(other, _)| *other == key) {
        let first = sink.line(first.start);
        sink.add(span, ProblemKind::Twice { what: "key", name: key.to_string(), first });
        return;
    }
    seen.push((key, span.clone()));
    entries.extend(expected(value, yields, sink).map(|expected| (key, expected)));
}

/// Reads one expectation: a text, or a table with `is` and further keys.
fn expected(value: Value<'_, '_>, yields: Yield, sink: &mut Sink<'_>) -> Option<Expected> {
    if let Some(text) = value.get_ref().as_str() {
        let alternatives = sink.take(&value.span(), Term::parse_all(text, yields))?;
        return Some(Expected { alternatives, hole: None, events: None });
    }
    let form = "a text such as \"zeros | EPERM\", or a table with `is`";
    let Some(table) = value.get_ref().as_table() else {
        wrong_type(sink, "expect", form, value);
        return None;
    };
    let mut f = Fields::new(table, value.span(), "an expectation", sink);
    let terms = f.text("is", "what must come back, as in \"zeros | EPERM\"");
    let alternatives = terms.and_then(|(text, span)| f.sink().take(&span, Term::parse_all(text, yields)));
    let hole = f.optional_text("hole").map(|(text, _)| text.trim().to_owned());
    let has_events = table.iter().any(|(key, _)| key.get_ref() == "events");
    let events = f.parsed_list("events");
    f.finish();
    Some(Expected { alternatives: alternatives?, hole, events: has_events.then_some(events) })
}
