// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes a case as the file that [`parse`](super::parse()) reads back to the same case.

use std::fmt::{Display, Write as _};

use super::expectation::{Expectations, Expected, Key};
use super::flags::{Direction, UserBuffer, ViewChoice};
use super::step::{Action, Step};
use super::{Case, Needs};
use crate::setup::SetupOverrides;
use model::class::hex;
use types::Platform;

/// The case as TOML.
pub fn write(case: &Case) -> String {
    write_commented(case, |_| Vec::new())
}

/// The case as TOML. `comments` gives the lines of comment before the step of an index; those of the number of steps stand at
/// the end.
pub fn write_commented(case: &Case, comments: impl Fn(usize) -> Vec<String>) -> String {
    let mut out = Keys::default();
    out.text("title", &case.title);
    out.raw("why", &multi_line(&case.why));
    if !case.tags.is_empty() {
        out.texts("tags", &case.tags);
    }
    if case.platforms != Platform::ALL {
        out.texts("platforms", &case.platforms);
    }
    needs(&mut out, &case.needs);
    guest(&mut out, case.guest);
    for (index, step) in case.steps.iter().enumerate() {
        out.0.push('\n');
        out.comments(&comments(index));
        out.0.push_str("[[step]]\n");
        out.step(step);
    }
    let rest = comments(case.steps.len());
    if !rest.is_empty() {
        out.0.push('\n');
        out.comments(&rest);
    }
    out.0
}

fn needs(out: &mut Keys, needs: &Needs) {
    let mut inner = Inline::default();
    if !needs.config.is_empty() {
        inner.add("config", &list(&needs.config));
    }
    if !needs.kernel.is_empty() {
        inner.add("kernel", &list(&needs.kernel));
    }
    out.table("needs", &inner);
}

fn guest(out: &mut Keys, guest: SetupOverrides) {
    let SetupOverrides { mode, rom, sept_ve, lockdown, iomem, mutant, fail } = guest;
    let mut inner = Inline::default();
    inner.optional("mode", mode);
    inner.optional("rom", rom);
    if let Some(sept_ve) = sept_ve {
        inner.add("sept-ve", &sept_ve.to_string());
    }
    inner.optional("lockdown", lockdown);
    inner.optional("iomem", iomem);
    inner.optional("mutant", mutant);
    if let Some(fail) = fail {
        inner.add("fail", &list(&fail.iter().collect::<Vec<_>>()));
    }
    out.table("guest", &inner);
}

/// An inline table.
#[derive(Default)]
struct Inline(Vec<String>);

impl Inline {
    fn add(&mut self, key: &str, value: &str) {
        self.0.push(format!("{key} = {value}"));
    }

    fn optional(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(key, &quoted(&value.to_string()));
        }
    }

    fn end(&self) -> String {
        format!("{{ {} }}", self.0.join(", "))
    }
}

/// Lines of keys and values.
#[derive(Default)]
struct Keys(String);

impl Keys {
    fn raw(&mut self, key: &str, value: &str) -> &mut Self {
        let _ = writeln!(self.0, "{key} = {value}");
        self
    }

    fn text(&mut self, key: &str, value: impl Display) -> &mut Self {
        self.raw(key, &quoted(&value.to_string()))
    }

    fn number(&mut self, key: &str, value: impl Into<u64>) -> &mut Self {
        self.raw(key, &value.into().to_string())
    }

    fn flag(&mut self, key: &str, value: bool) -> &mut Self {
        self.raw(key, &value.to_string())
    }

    fn texts(&mut self, key: &str, values: &[impl Display]) -> &mut Self {
        self.raw(key, &list(values))
    }

    fn table(&mut self, key: &str, inner: &Inline) {
        if !inner.0.is_empty() {
            self.raw(key, &inner.end());
        }
    }

    fn comments(&mut self, lines: &[String]) {
        for line in lines.iter().flat_map(|text| text.lines()) {
            // TOML forbids control characters in comments.
            let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let _ = writeln!(self.0, "# {line}");
        }
    }

    fn step(&mut self, step: &Step) {
        self.text("id", &step.id).text("do", step.action.name());
        self.action(&step.action);
        if let Some(note) = &step.note {
            self.text("note", note);
        }
        if step.expect != Expectations::of_action(&step.action) {
            self.expectations(&step.expect);
        }
    }

    fn expectations(&mut self, expect: &Expectations) {
        match expect.entries.as_slice() {
            [(key, expected)] if *key == Key::ANY => {
                self.raw("expect", &value(expected));
            }
            entries => {
                for (key, expected) in entries {
                    self.raw(&format!("expect.{}", quoted(&key.to_string())), &value(expected));
                }
            }
        }
    }

    fn buffer(&mut self, buffer: UserBuffer) {
        if buffer != UserBuffer::Good {
            self.text("buffer", buffer);
        }
    }

    /// The bytes a step writes: one that is repeated is written once.
    fn data(&mut self, data: &[u8]) -> &mut Self {
        match data {
            [first, rest @ ..] if !rest.is_empty() && rest.iter().all(|byte| byte == first) => {
                self.text("hex", hex(&[*first])).number("repeat", data.len() as u64)
            }
            _ => self.text("hex", hex(data)),
        }
    }

    fn part_of_map(&mut self, map: &str, offset: u64) -> &mut Self {
        self.text("map", map).number("offset", offset)
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each action")]
    fn action(&mut self, action: &Action) {
        match action {
            Action::Open { path, flags, handle } => {
                self.text("path", path).text("flags", flags).text("as", handle);
            }
            Action::Close { fd } | Action::SendFile { fd } => {
                self.text("fd", fd);
            }
            Action::Lseek { fd, to, whence } => {
                self.text("fd", fd).text("to", to);
                if *whence != Direction::Set {
                    self.text("whence", whence);
                }
            }
            Action::Read { fd, len, buffer } => {
                self.text("fd", fd).number("len", *len).buffer(*buffer);
            }
            Action::Pread { fd, at, len, buffer } => {
                self.text("fd", fd).text("at", at).number("len", *len).buffer(*buffer);
            }
            Action::Write { fd, data, buffer } => {
                self.text("fd", fd).data(data).buffer(*buffer);
            }
            Action::Pwrite { fd, at, data, buffer } => {
                self.text("fd", fd).text("at", at).data(data).buffer(*buffer);
            }
            Action::Buffer { fd, from, len } => {
                self.text("fd", fd).number("from", *from).number("len", *len);
            }
            Action::Mmap { fd, at, len, prot, share, over, handle } => {
                self.text("fd", fd)
                    .text("at", at)
                    .number("len", *len)
                    .text("prot", prot)
                    .text("share", share);
                if let Some(over) = over {
                    self.text("fixed", over);
                }
                self.text("as", handle);
            }
            Action::Mprotect { map, offset, len, prot } => {
                self.part_of_map(map, *offset).number("len", *len).text("prot", prot);
            }
            Action::Mremap { map, len, handle } => {
                self.text("map", map).number("len", *len);
                if let Some(handle) = handle {
                    self.text("as", handle);
                }
            }
            Action::Munmap { map } => {
                self.text("map", map);
            }
            Action::Peek { map, offset, len }
            | Action::SelfMemRead { map, offset, len }
            | Action::VmReadv { map, offset, len }
            | Action::PtracePeek { map, offset, len } => {
                self.part_of_map(map, *offset).number("len", *len);
            }
            Action::Poke { map, offset, data } | Action::SelfMemWrite { map, offset, data } => {
                self.part_of_map(map, *offset).data(data);
            }
            Action::Stat { path } => {
                self.text("path", path);
            }
            Action::ReadFile { path, len } => {
                self.text("path", path).number("len", *len);
            }
            Action::WriteFile { path, data } => {
                self.text("path", path).data(data);
            }
            Action::Run { program, args } => {
                self.text("program", program).texts("args", args);
            }
            Action::PortIn { port, width } => {
                self.number("port", *port).number("width", *width);
            }
            Action::PortOut { port, width, value } => {
                self.number("port", *port).number("width", *width).number("value", *value);
            }
            Action::Iopl { level } => {
                self.number("level", *level);
            }
            Action::Ioperm { port, count, on } => {
                self.number("port", *port).number("count", *count).flag("on", *on);
            }
            Action::Setuid { uid, gid, keep } => {
                self.number("uid", *uid).number("gid", *gid).flag("keep", *keep);
            }
            Action::DropCaps { caps } | Action::KeepCaps { caps } => {
                self.texts("caps", caps);
            }
            Action::Mknod { path, major, minor } => {
                self.text("path", path).number("major", *major).number("minor", *minor);
            }
            Action::ReceiveFile { handle } => {
                self.text("as", handle);
            }
            Action::KcoreRead { at, len } => {
                self.text("at", at).number("len", *len);
            }
            Action::Memory { at, len, wrote, view } => {
                self.text("at", at).number("len", *len);
                if let Some(wrote) = wrote {
                    self.text("wrote", wrote);
                }
                if *view != ViewChoice::Owner {
                    self.text("view", view);
                }
            }
            Action::UserNamespace
            | Action::NoNewPrivs
            | Action::Fork
            | Action::Exec
            | Action::Exit
            | Action::KernelLog
            | Action::Reboot => {}
        }
    }
}

/// One expectation: a text, or a table if there is more to say.
fn value(expected: &Expected) -> String {
    let terms: Vec<String> = expected.alternatives.iter().map(ToString::to_string).collect();
    let terms = quoted(&terms.join(" | "));
    if expected.hole.is_none() && expected.events.is_none() {
        return terms;
    }
    let mut inner = Inline::default();
    inner.add("is", &terms);
    inner.optional("hole", expected.hole.as_ref());
    if let Some(events) = &expected.events {
        inner.add("events", &list(events));
    }
    inner.end()
}

fn list(values: &[impl Display]) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(&value.to_string())).collect();
    format!("[{}]", values.join(", "))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// A basic string of TOML; over several lines if the text has some. The parser removes white space around it.
fn multi_line(text: &str) -> String {
    if !text.contains('\n') {
        return quoted(text);
    }
    let lines: Vec<String> = text.split('\n').map(escaped).collect();
    format!("\"\"\"\n{}\n\"\"\"", lines.join("\n"))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
