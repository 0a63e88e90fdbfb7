// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page as plain text, at most 120 columns wide, and as Markdown with the same tables.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use engine::spec::{
    Answer, COLUMNS, Consequence, Difference, PHYSICAL_BITS, Page, Sheet, Word, consequence, difference,
    placed, reasons,
};
use types::Region;

use super::Described;
use super::marks::Marks;
use super::table::{WIDTH, doors, functions, rows};
use crate::matrix::text::wrap;

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For a terminal.
    Plain,
    /// Headings, and tables as preformatted text.
    Markdown,
}

/// The options that decide the answers.
pub(super) const OPTIONS: [&str; 13] = [
    "DEVMEM",
    "STRICT_DEVMEM",
    "IO_STRICT_DEVMEM",
    "X86_PAT",
    "SECURITY_LOCKDOWN_LSM",
    "DEVPORT",
    "PROC_KCORE",
    "X86_MSR",
    "X86_IOPL_IOPERM",
    "DMI",
    "UNACCEPTED_MEMORY",
    "AMD_MEM_ENCRYPT",
    "INTEL_TDX_GUEST",
];

/// The whole page of a kernel; of the others, what differs from it.
pub fn page(described: &Described, others: &[Described], form: Form) -> String {
    let everything = || [described].into_iter().chain(others).flat_map(|one| &one.pages);
    let answers = || everything().flat_map(|page| page.sheets.iter().flat_map(Sheet::answers));
    let mut writer = Writer { out: String::new(), form, marks: Marks::of(reasons(answers())) };
    writer.head(described, others);
    writer.words(answers());
    writer.places(everything());
    for page in &described.pages {
        writer.platform(page);
    }
    for (platform, why) in &described.missing {
        writer.heading(2, &format!("Platform {platform}"));
        writer.paragraph(&format!("Not shown: {why}."));
    }
    for other in others {
        writer.other(described, other);
    }
    writer.out
}

struct Writer {
    out: String,
    form: Form,
    marks: Marks,
}

impl Writer {
    fn heading(&mut self, level: usize, text: &str) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        let _ = match self.form {
            Form::Markdown => writeln!(self.out, "{} {text}\n", "#".repeat(level)),
            Form::Plain if level < 3 => writeln!(self.out, "{text}\n{}", "=".repeat(text.chars().count())),
            Form::Plain => writeln!(self.out, "{text}"),
        };
    }

    fn paragraph(&mut self, text: &str) {
        for line in wrap(text, WIDTH) {
            let _ = writeln!(self.out, "{line}");
        }
    }

    /// Preformatted lines.
    fn block(&mut self, lines: &str) {
        let _ = match self.form {
            Form::Markdown => writeln!(self.out, "```text\n{}\n```", lines.trim_end_matches('\n')),
            Form::Plain => write!(self.out, "{lines}"),
        };
    }

    fn gap(&mut self) {
        self.out.push('\n');
    }

    fn head(&mut self, described: &Described, others: &[Described]) {
        let kernel = &described.kernel;
        self.heading(1, "The specification of /dev/mem");
        self.paragraph(&format!(
            "What each operation on /dev/mem gives in {}, for root with every capability, and which function of the \
             kernel decides it. Every answer comes from the model by which `copra run` gives its verdicts \
             (`test-cases/model`); no kernel was booted. The model is compared with kernels by `copra explore`.",
            kernel.name
        ));
        if self.form == Form::Markdown {
            self.gap();
            let mut also = String::new();
            for other in others {
                let _ = write!(also, " --also {}", other.kernel.release);
            }
            self.paragraph(&format!(
                "`copra spec --markdown --release {}{also}` writes this page, and a test compares it with what is written here; \
                 `INSTA_UPDATE=always cargo test -p copra --lib spec` writes it anew.",
                kernel.release
            ));
        }
        self.gap();
        let mut lines = String::new();
        let value =
            |option: &&str| format!("{option}={}", kernel.options.get(*option).map_or("n", String::as_str));
        let options: Vec<String> = OPTIONS.iter().map(value).collect();
        item(&mut lines, "release", &kernel.release.to_string());
        item(&mut lines, "configuration", &options.join(" "));
        if !kernel.command_line.is_empty() {
            item(&mut lines, "command line", &kernel.command_line.join(" "));
        }
        if let Some(page) = described.pages.first() {
            let backed = page.guest.world.memory.backed.iter();
            let ranges: Vec<String> =
                backed.map(|range| format!("{:#x}-{:#x}", range.start, range.end - 1)).collect();
            let guest = format!(
                "RAM at {}; {PHYSICAL_BITS} physical address bits, the highest of them the encryption bit of a confidential guest",
                ranges.join(", ")
            );
            item(&mut lines, "guest", &guest);
        }
        self.block(&lines);
    }

    fn words<'a>(&mut self, answers: impl Iterator<Item = &'a Answer>) {
        let mut used: BTreeSet<Word> = BTreeSet::new();
        let mut any_forbidden = false;
        for answer in answers {
            used.insert(answer.word);
            any_forbidden |= !answer.forbidden.is_empty();
        }
        self.heading(2, "How to read the tables");
        let mut lines = String::new();
        for word in used {
            let name = if word == Word::Failed { "EPERM, …" } else { word.name() };
            item(&mut lines, name, word.about());
        }
        if any_forbidden {
            let about = "behind a word: the access is forbidden by the state of the page, or it is of a device through the \
                         private view. The words show what copra's mode `record` gives, in which it goes through; each platform \
                         below has what follows in mode `faithful`";
            item(&mut lines, "!", about);
        }
        let letters = "behind a word: the functions of the kernel that decide it, in order, which are listed under the table";
        item(&mut lines, "a, b, …", letters);
        self.block(&lines);
        self.gap();
        let mut lines = String::new();
        for column in COLUMNS {
            item(&mut lines, &column.name(), column.about);
        }
        self.block(&lines);
    }

    fn places<'a>(&mut self, pages: impl Iterator<Item = &'a Page>) {
        let mut all: Vec<(Region, u64)> = Vec::new();
        for place in pages.flat_map(|page| placed(&page.guest)) {
            if !all.iter().any(|(region, _)| *region == place.0) {
                all.push(place);
            }
        }
        all.sort_by_key(|(_, gpa)| *gpa);
        self.heading(2, "Places");
        let mut lines = String::new();
        for (region, gpa) in all {
            item(&mut lines, region.name(), &format!("{gpa:#x}: {}", region.about()));
        }
        self.block(&lines);
    }

    fn platform(&mut self, page: &Page) {
        self.heading(2, &format!("Platform {}", page.platform));
        self.paragraph(&format!("{}.", capitalised(page.platform.about())));
        let mut lines = String::new();
        for text in vmm::platform::simulated(page.platform) {
            item(&mut lines, "simulated", text);
        }
        for text in vmm::platform::not_simulated(page.platform) {
            item(&mut lines, "not simulated", text);
        }
        // Accesses with one consequence are in one item.
        let mut after: Vec<(Consequence, Vec<String>)> = Vec::new();
        for access in page.forbidden() {
            let (what, access) = (consequence(page.platform, access), access.to_string());
            match after.iter_mut().find(|(known, _)| *known == what) {
                Some((_, accesses)) => accesses.push(access),
                None => after.push((what, vec![access])),
            }
        }
        for (Consequence { what, source }, accesses) in after {
            let source = source.map(|source| format!(" ({source})")).unwrap_or_default();
            item(&mut lines, "!", &format!("{}: {what}{source}", accesses.join(", ")));
        }
        if !lines.is_empty() {
            self.gap();
            self.block(&lines);
        }
        let Some((first, rest)) = page.sheets.split_first() else { return };
        self.sheet(page, first);
        for sheet in rest {
            let title = format!("{}: policy {}", page.platform, sheet.policy);
            let about = capitalised(sheet.policy.about());
            let changes = difference(first, sheet);
            if changes.is_empty() {
                self.heading(3, &title);
                self.paragraph(&format!(
                    "{about}. On {} everything is as under {}.",
                    page.platform, first.policy
                ));
                continue;
            }
            self.heading(3, &title);
            let scope = if sheet.opens() {
                format!("What is not here is as under {}.", first.policy)
            } else {
                "No other operation on /dev/mem is possible.".to_owned()
            };
            self.paragraph(&format!("{about}. {scope}"));
            self.changes(sheet, &changes);
        }
    }

    fn sheet(&mut self, page: &Page, sheet: &Sheet) {
        self.heading(3, &format!("{}: policy {}", page.platform, sheet.policy));
        self.paragraph(&format!("{}.", capitalised(sheet.policy.about())));
        let everything = Difference { rows: sheet.rows.clone(), doors: (0..sheet.doors.len()).collect() };
        self.changes(sheet, &everything);
    }

    /// The rows and operations of a difference, and the functions behind them.
    fn changes(&mut self, sheet: &Sheet, changes: &Difference) {
        let mut lines = String::new();
        let mut shown: Vec<&Answer> = Vec::new();
        if sheet.opens() && !changes.rows.is_empty() {
            rows(&mut lines, &changes.rows, &self.marks);
            shown.extend(
                changes.rows.iter().flat_map(|row| row.cells.iter().flatten()).map(|(_, answer)| answer),
            );
            lines.push('\n');
        }
        let listed: Vec<(usize, &Answer)> =
            changes.doors.iter().filter_map(|index| Some((*index, sheet.doors.get(*index)?))).collect();
        if !listed.is_empty() {
            doors(&mut lines, &listed, &self.marks);
            shown.extend(listed.iter().map(|(_, answer)| *answer));
            lines.push('\n');
        }
        functions(&mut lines, shown.into_iter(), &self.marks);
        // Markdown has an empty line after a heading already.
        if !self.out.ends_with("\n\n") {
            self.gap();
        }
        self.block(&lines);
    }

    /// What another kernel has otherwise.
    fn other(&mut self, described: &Described, other: &Described) {
        let (base, kernel) = (&described.kernel, &other.kernel);
        self.heading(2, &format!("What differs in {}", kernel.release));
        let differs = |option: &&&str| base.options.get(**option) != kernel.options.get(**option);
        let options: Vec<String> = OPTIONS
            .iter()
            .filter(differs)
            .map(|option| format!("{option}={}", kernel.options.get(*option).map_or("n", String::as_str)))
            .collect();
        let options = if options.is_empty() {
            "the same options".to_owned()
        } else {
            format!("{} instead", options.join(", "))
        };
        self.paragraph(&format!(
            "{}, with {options}. Where nothing is listed, it gives what {} gives.",
            capitalised(&kernel.name),
            base.name
        ));
        for page in &other.pages {
            let Some(earlier) = described.pages.iter().find(|earlier| earlier.platform == page.platform)
            else {
                continue;
            };
            // Policies under which the same differs are listed together.
            let mut groups: Vec<(Vec<&Sheet>, Difference)> = Vec::new();
            for (before, sheet) in earlier.sheets.iter().zip(&page.sheets) {
                let changes = difference(before, sheet);
                if changes.is_empty() || !sheet.opens() && changes.doors.is_empty() {
                    continue;
                }
                match groups.iter_mut().find(|(_, known)| *known == changes) {
                    Some((sheets, _)) => sheets.push(sheet),
                    None => groups.push((vec![sheet], changes)),
                }
            }
            for (sheets, changes) in groups {
                let names: Vec<&str> = sheets.iter().map(|sheet| sheet.policy.name()).collect();
                let title = format!("{}, {}: policy {}", kernel.release, page.platform, names.join(", "));
                self.heading(3, &title);
                self.changes(sheets[0], &changes);
            }
        }
        for (platform, why) in &other.missing {
            self.heading(3, &format!("{}, {platform}", kernel.release));
            self.paragraph(&format!("Not shown: {why}."));
        }
    }
}

/// Columns of an item's name.
const NAME: usize = 18;

/// A name and its text.
fn item(out: &mut String, name: &str, text: &str) {
    for (index, line) in wrap(text, WIDTH - NAME - 2).iter().enumerate() {
        let name = if index == 0 { name } else { "" };
        let _ = writeln!(out, "  {name:NAME$}{line}");
    }
}

/// As a sentence begins; names of calls keep their case.
fn capitalised(text: &str) -> String {
    if text.split_whitespace().next().is_some_and(|word| word.contains(['(', '_', '='])) {
        return text.to_owned();
    }
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    first + letters.as_str()
}
