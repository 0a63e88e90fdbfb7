// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A matrix as plain text of at most 100 columns, for a mail, and as Markdown.

use std::fmt::Write as _;

use engine::matrix::{Combination, Matrix, Operation, Sign, operations};
use types::Platform;

use super::text::{fold, wrap};
use engine::matrix::programs::summary::summary;
use engine::observation::KernelFacts;

/// Columns of a mail.
pub const WIDTH: usize = 100;
/// Columns of a kernel's name before it is folded.
const COLUMN: usize = 9;
/// Digits of a hash that are shown.
const DIGITS: usize = 16;

/// The operations of a mail.
fn brief() -> Vec<Operation> {
    operations::all().into_iter().filter(|operation| operation.brief).collect()
}

/// Everything as plain text, at most [`WIDTH`] columns wide.
pub fn text(matrix: &Matrix) -> String {
    let mut out = String::from(
        "Results of root's accesses to /dev/mem and other interfaces: kernels across, operations down.\n",
    );
    for platform in matrix.platforms() {
        let _ = write!(out, "\nPlatform {platform}: {}\n", platform.about());
        tables(&mut out, &matrix.on(platform));
    }
    out.push_str("\nWords\n");
    for sign in matrix.signs(true) {
        item(&mut out, words(sign), sign.about());
    }
    out.push_str("\nKernels\n");
    for kernel in matrix.kernels() {
        item(&mut out, &engine::matrix::label(kernel), &about(kernel));
    }
    let programs = summary(matrix);
    if !programs.is_empty() {
        out.push_str("\nOutput of programs that do not work as in an ordinary guest\n");
        for program in programs {
            item(&mut out, &program.name, &program.line());
        }
    }
    simulation(&mut out, matrix, item);
    failures(&mut out, matrix);
    out
}

/// The tables of one platform; kernels that do not fit go into a further one.
fn tables(out: &mut String, combinations: &[&Combination]) {
    let rows = brief();
    let first = rows.iter().map(|row| row.name.chars().count() + 2).max().unwrap_or(0);
    let heads: Vec<Vec<String>> = combinations
        .iter()
        .map(|combination| fold(&engine::matrix::label(&combination.kernel), COLUMN))
        .collect();
    let width = |index: usize| {
        let cells = rows.iter().map(|row| combinations[index].cell(&row.id).word.chars().count());
        let head = heads[index].iter().map(|line| line.chars().count());
        cells.chain(head).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..combinations.len()).map(width).collect();
    let mut start = 0;
    while start < combinations.len() {
        let (mut end, mut taken) = (start, first);
        while end < combinations.len() && (end == start || taken + 1 + widths[end] <= WIDTH) {
            taken += 1 + widths[end];
            end += 1;
        }
        out.push('\n');
        let tallest = heads[start..end].iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..tallest {
            // The last lines of all names are in one row.
            let part = |head: &Vec<String>| {
                let skipped = tallest - head.len();
                line.checked_sub(skipped).map(|line| head[line].clone()).unwrap_or_default()
            };
            let parts: Vec<String> = heads[start..end].iter().map(part).collect();
            row_of(out, "", first, &parts, &widths[start..end]);
        }
        let mut group = "";
        for row in &rows {
            if row.group != group {
                let _ = writeln!(out, "{}", row.group);
                group = &row.group;
            }
            let words: Vec<String> =
                combinations[start..end].iter().map(|combination| combination.cell(&row.id).word).collect();
            row_of(out, &format!("  {}", row.name), first, &words, &widths[start..end]);
        }
        start = end;
    }
}

fn row_of(out: &mut String, name: &str, first: usize, words: &[String], widths: &[usize]) {
    let mut line = format!("{name:first$}");
    for (word, width) in words.iter().zip(widths) {
        let _ = write!(line, " {word:width$}");
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

/// The words in the tables that have this sign.
pub fn words(sign: Sign) -> &'static str {
    match sign {
        Sign::Denied => "EPERM, EACCES",
        Sign::Failed => "other errno",
        Sign::Absent => "ENOENT, …",
        other => other.word(),
    }
}

/// Columns before an item's text.
const INDENT: usize = 17;

/// Prints a name and its description.
fn item(out: &mut String, name: &str, about: &str) {
    let mut name = name.to_owned();
    if name.chars().count() > INDENT - 4 {
        let _ = writeln!(out, "  {name}");
        name.clear();
    }
    for (index, line) in wrap(about, WIDTH - INDENT).iter().enumerate() {
        let head = if index == 0 { name.as_str() } else { "" };
        let _ = writeln!(out, "  {head:0$}{line}", INDENT - 2);
    }
}

/// The same in Markdown.
fn bullet(out: &mut String, name: &str, about: &str) {
    let _ = writeln!(out, "- **{name}**: {about}");
}

/// Version, build id and hashes of a kernel.
pub fn about(kernel: &KernelFacts) -> String {
    let short = |hash: &str| hash.chars().take(DIGITS).collect::<String>();
    let mut parts = vec![kernel.release.clone()];
    parts.extend(kernel.policy.map(|policy| format!("policy {policy}")));
    parts.extend(kernel.build_id.as_deref().map(|id| format!("build id {}", short(id))));
    if !kernel.sha256.is_empty() {
        parts.push(format!("image sha256 {}", short(&kernel.sha256)));
    }
    parts.extend(kernel.config_sha256.as_deref().map(|hash| format!("config sha256 {}", short(hash))));
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

/// Instructions rewritten in each kernel on a platform, in words.
pub fn rewritten(matrix: &Matrix, platform: Platform) -> String {
    let mut counts: Vec<(String, Vec<String>)> = Vec::new();
    for combination in matrix.on(platform) {
        let Some(facts) = &combination.facts else { continue };
        let what = engine::report::rewritten(facts);
        match counts.iter_mut().find(|(known, _)| *known == what) {
            Some((_, kernels)) => kernels.push(engine::matrix::label(&combination.kernel)),
            None => counts.push((what, vec![engine::matrix::label(&combination.kernel)])),
        }
    }
    let texts: Vec<String> = match counts.as_slice() {
        [(what, _)] => vec![what.clone()],
        several => several.iter().map(|(what, kernels)| format!("{}: {what}", kernels.join(", "))).collect(),
    };
    texts.join("; ")
}

/// What is simulated on each platform and what is not, printed by `item`.
fn simulation(out: &mut String, matrix: &Matrix, item: fn(&mut String, &str, &str)) {
    for platform in matrix.platforms().into_iter().filter(|platform| platform.is_confidential()) {
        let Some(facts) = matrix.on(platform).into_iter().find_map(|combination| combination.facts.as_ref())
        else {
            continue;
        };
        let _ = writeln!(
            out,
            "\nPlatform {platform} is simulated; every forbidden access goes through and is recorded\n"
        );
        for text in &facts.simulated {
            item(out, "simulated", text);
        }
        for text in &facts.not_simulated {
            item(out, "not simulated", text);
        }
        item(out, "rewritten", &rewritten(matrix, platform));
    }
}

fn failures(out: &mut String, matrix: &Matrix) {
    let lines = incidents(matrix);
    if !lines.is_empty() {
        out.push_str("\nNot every operation was run\n\n");
        for (name, why) in lines {
            item(out, &name, &why);
        }
    }
}

/// Combinations that could not be run and guests that died, with the reasons.
pub fn incidents(matrix: &Matrix) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for combination in &matrix.combinations {
        let name = format!("{} as {} guest", combination.kernel.spec, combination.platform);
        lines.extend(combination.failed.iter().map(|why| (name.clone(), why.clone())));
        for death in &combination.deaths {
            let during = death.during.as_ref().map_or_else(|| "its boot".to_owned(), ToString::to_string);
            lines.push((name.clone(), format!("died during {during} ({}): {}", death.kind, death.text)));
        }
    }
    lines
}

/// Everything as Markdown.
pub fn markdown(matrix: &Matrix) -> String {
    let mut out = String::new();
    let rows = brief();
    for platform in matrix.platforms() {
        let combinations = matrix.on(platform);
        let labels: Vec<String> = combinations
            .iter()
            .map(|combination| escaped(&engine::matrix::label(&combination.kernel)))
            .collect();
        let _ = writeln!(out, "### {platform}: {}\n", platform.about());
        let _ = writeln!(out, "| | {} |", labels.join(" | "));
        let _ = writeln!(out, "|---{}|", "|---".repeat(labels.len()));
        let mut group = "";
        for row in &rows {
            if row.group != group {
                let _ = writeln!(out, "| **{}** {}|", row.group, "| ".repeat(labels.len()));
                group = &row.group;
            }
            let words: Vec<String> =
                combinations.iter().map(|combination| combination.cell(&row.id).word).collect();
            let _ = writeln!(out, "| {} | {} |", row.name, words.join(" | "));
        }
        out.push('\n');
    }
    for sign in matrix.signs(true) {
        bullet(&mut out, words(sign), sign.about());
    }
    out.push('\n');
    for kernel in matrix.kernels() {
        bullet(&mut out, &escaped(&engine::matrix::label(kernel)), &about(kernel));
    }
    for program in summary(matrix) {
        bullet(&mut out, &program.name, &escaped(&program.line()));
    }
    simulation(&mut out, matrix, bullet);
    for (name, why) in incidents(matrix) {
        bullet(&mut out, &format!("not run: {name}"), &why);
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::matrix::fixture;

    #[test]
    fn a_mail() {
        let text = text(&fixture::matrix());
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn as_markdown() {
        insta::assert_snapshot!(markdown(&fixture::matrix()));
    }

    #[test]
    fn many_kernels_go_into_further_tables() {
        let mut matrix = fixture::matrix();
        let one = matrix.combinations[0].clone();
        for number in 0..20 {
            let mut more = one.clone();
            more.kernel.spec = format!("build:another-{number}");
            matrix.combinations.push(more);
        }
        let text = text(&matrix);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.matches("system ROM").count() > matrix.platforms().len());
    }
}
