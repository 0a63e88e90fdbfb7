// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads a case file; reports all its errors at once.

use std::ops::Range;

use toml::de::DeTable;
use types::Platform;
use vmm::platform::failure::{ConversionFailure, Failures};

use super::error::{CaseErrors, ProblemKind, Sink};
use super::fields::{Fields, Value, is_name};
use super::step::Step;
use super::{Case, Needs, action_parse, expect_parse, references};
use crate::setup::SetupOverrides;

/// The most bytes a case file has: 256 steps, each with the longest data there is, have fewer.
const MOST_TEXT: usize = 32 << 20;
/// The most steps a case has.
const MOST_STEPS: usize = 256;

/// Reads the case in `text`, the content of the file that gives the case its `name`.
pub fn parse(text: &str, name: &str) -> Result<Case, CaseErrors> {
    let mut sink = Sink::new(text);
    if text.len() > MOST_TEXT {
        let why = format!("the file has {} bytes; a case has at most {MOST_TEXT}: split it", text.len());
        sink.add(&(0..0), ProblemKind::Nonsense(why));
        return Err(sink.into_errors(name));
    }
    // Reading so many tables takes seconds; texts with such lines are far below this.
    if text.lines().filter(|line| line.trim_end() == "[[step]]").count() > 4 * MOST_STEPS {
        sink.add(&(0..0), too_many_steps());
        return Err(sink.into_errors(name));
    }
    let (document, syntax) = DeTable::parse_recoverable(text);
    if syntax.is_empty() {
        let case = read(Fields::new(document.get_ref(), 0..0, "the case", &mut sink), name);
        if let Some(case) = case {
            return sink.finish(name).map(|()| case);
        }
    }
    for error in syntax {
        sink.add(&error.span().unwrap_or(0..0), ProblemKind::Syntax(error.message().to_owned()));
    }
    Err(sink.into_errors(name))
}

fn too_many_steps() -> ProblemKind {
    ProblemKind::Nonsense(format!("a case has between 1 and {MOST_STEPS} steps"))
}

/// Reads the top of the file and its steps.
fn read(mut f: Fields<'_, '_, '_, '_>, name: &str) -> Option<Case> {
    let title = f.text("title", "one line that says what the case shows").map(|(text, _)| text.to_owned());
    let why = f.text("why", "why the kernel behaves so, and which function decides");
    let why = why.map(|(text, _)| text.trim().to_owned());
    let tags = f.texts("tags").into_iter().map(|(tag, _)| tag.to_owned()).collect();
    let platforms = f.parsed_list("platforms");
    let platforms = if platforms.is_empty() { Platform::ALL.to_vec() } else { platforms };
    let needs = f.optional("needs").map_or_else(Needs::default, |value| needs(value, f.sink()));
    let guest = f.optional("guest").map_or_else(SetupOverrides::default, |value| guest(value, f.sink()));
    let foreign = platforms.iter().find_map(|platform| guest.fail?.check(*platform).err());
    if let Some(foreign) = foreign {
        f.sink().add(&(0..0), ProblemKind::ForeignRule(foreign));
    }
    let list = f.list("step", "at least one [[step]]");
    let mut steps = Vec::new();
    // Too many are refused unread.
    let fits = list.is_none_or(|list| list.len() <= MOST_STEPS);
    for value in list.into_iter().flatten().filter(|_| fits) {
        steps.extend(step(value, steps.len(), f.sink()));
    }
    let whole = list.is_some_and(|list| list.len() == steps.len());
    if whole {
        references::check(&steps, &platforms, f.sink());
    }
    if list.is_some_and(|list| list.is_empty() || list.len() > MOST_STEPS) {
        f.sink().add(&(0..0), too_many_steps());
    }
    f.finish();
    let steps = steps.into_iter().map(|(step, _)| step).collect();
    Some(Case { name: name.to_owned(), title: title?, why: why?, tags, platforms, needs, guest, steps })
}

fn needs(value: Value<'_, '_>, sink: &mut Sink<'_>) -> Needs {
    let Some(table) = value.get_ref().as_table() else {
        super::fields::wrong_type(sink, "needs", "a table, as in { config = [\"DEVPORT=y\"] }", value);
        return Needs::default();
    };
    let mut f = Fields::new(table, value.span(), "needs", sink);
    let needs = Needs { config: f.parsed_list("config"), kernel: f.parsed_list("kernel") };
    f.finish();
    needs
}

fn guest(value: Value<'_, '_>, sink: &mut Sink<'_>) -> SetupOverrides {
    let Some(table) = value.get_ref().as_table() else {
        super::fields::wrong_type(sink, "guest", "a table, as in { mode = \"faithful\" }", value);
        return SetupOverrides::default();
    };
    let mut f = Fields::new(table, value.span(), "guest", sink);
    let overrides = SetupOverrides {
        mode: f.optional_parsed("mode"),
        rom: f.optional_parsed("rom"),
        sept_ve: f.optional("sept-ve").is_some().then(|| f.flag("sept-ve", false)).flatten(),
        lockdown: f.optional_parsed("lockdown"),
        iomem: f.optional_parsed("iomem"),
        mutant: f.optional_parsed("mutant"),
        fail: failures(&mut f),
    };
    f.finish();
    overrides
}

/// The rules by which conversions fail; `None` where there are none.
fn failures(f: &mut Fields<'_, '_, '_, '_>) -> Option<Failures> {
    let span = f.optional("fail")?.span();
    let rules: Vec<ConversionFailure> = f.parsed_list("fail");
    f.sink().take(&span, Failures::new(&rules))
}

fn step(value: Value<'_, '_>, index: usize, sink: &mut Sink<'_>) -> Option<(Step, Range<usize>)> {
    let Some(table) = value.get_ref().as_table() else {
        super::fields::wrong_type(sink, "step", "a table: write [[step]]", value);
        return None;
    };
    let mut f = Fields::new(table, value.span(), format!("step {}", index + 1), sink);
    let id = f.text("id", "a short name in quotes, as in \"read-low\"");
    let id = id.and_then(|(id, span)| {
        if is_name(id) {
            return Some(id.to_owned());
        }
        let why = format!("`{id}` is no step's name: use letters, digits and `-`, at most 40");
        f.sink().add(&span, ProblemKind::Nonsense(why));
        None
    });
    if let Some(id) = &id {
        f.rename(format!("step `{id}`"));
    }
    let action = action_parse::action(&mut f);
    let note = f.optional_text("note").map(|(note, _)| note.to_owned());
    let expect = f.optional("expect");
    let Some(action) = action else {
        // Without its action a step's other keys cannot be checked.
        return None;
    };
    let expect = expect_parse::expectations(expect, &action, f.sink());
    let span = f.span().clone();
    f.finish();
    Some((Step { id: id?, action, expect, note }, span))
}

#[cfg(test)]
mod tests;
