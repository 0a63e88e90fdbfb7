// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A matrix as a self-contained HTML page.

#[expect(clippy::cast_precision_loss, reason = "a drawing is as precise as a pixel")]
mod layout;
#[expect(clippy::cast_precision_loss, reason = "a drawing is as precise as a pixel")]
mod map;

use std::fmt::Write as _;

use engine::matrix::{Combination, Matrix, operations};
use types::Platform;

use super::table;
use crate::report::plain::in_html as escape;
use engine::matrix::programs::summary::summary;

const STYLE: &str = include_str!("style.css");
const PATTERNS: &str = include_str!("patterns.svg");
const SCRIPT: &str = include_str!("script.js");

/// The page.
pub fn page(matrix: &Matrix) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    let _ = writeln!(
        out,
        "<title>/dev/mem in confidential guests</title>\n<style>\n{STYLE}</style></head><body>"
    );
    out.push_str(PATTERNS);
    out.push_str("<h1>Results of root's accesses to /dev/mem and other interfaces</h1>\n");
    out.push_str("<p>Kernels across, operations down, one table per platform; below each, the guests' physical memory, drawn to scale. Confidential guests are <a href=\"#simulated\">simulated</a>; every forbidden access goes through and is recorded.</p>\n<nav>");
    for platform in matrix.platforms() {
        let _ = write!(out, "<a href=\"#{platform}\">{platform}</a>");
    }
    out.push_str("<a href=\"#programs\">programs</a><a href=\"#kernels\">kernels</a><a href=\"#simulated\">what is simulated</a></nav>\n");
    incidents(&mut out, matrix);
    legend(&mut out, matrix);
    for platform in matrix.platforms() {
        section(&mut out, matrix, platform);
    }
    programs(&mut out, matrix);
    kernels(&mut out, matrix);
    simulated(&mut out, matrix);
    let _ = writeln!(
        out,
        "<p class=\"faint\">copra {}</p>\n<script>\n{SCRIPT}</script></body></html>",
        env!("CARGO_PKG_VERSION")
    );
    out
}

/// The fragment identifier of a combination.
pub(super) fn anchor(combination: &Combination) -> String {
    let name = format!("{}-{}", combination.platform, combination.kernel.spec);
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

fn incidents(out: &mut String, matrix: &Matrix) {
    for (name, why) in table::incidents(matrix) {
        let _ =
            writeln!(out, "<p class=\"incident\"><strong>{}</strong>: {}</p>", escape(&name), escape(&why));
    }
}

fn legend(out: &mut String, matrix: &Matrix) {
    out.push_str("<h2 id=\"legend\">Words and patterns</h2>\n<dl>\n");
    for sign in matrix.signs(false) {
        let word = table::words(sign);
        let _ = writeln!(
            out,
            "<dt><svg width=\"150\" height=\"22\" aria-hidden=\"true\"><rect class=\"cell {sign}\" x=\"1\" y=\"1\" width=\"148\" height=\"20\"/><text class=\"word\" x=\"75\" y=\"15\" font-size=\"12\">{word}</text></svg></dt><dd>{}</dd>",
            escape(sign.about())
        );
    }
    out.push_str("</dl>\n");
}

fn section(out: &mut String, matrix: &Matrix, platform: Platform) {
    let combinations = matrix.on(platform);
    let _ = writeln!(out, "<h2 id=\"{platform}\">{platform}: {}</h2>", escape(platform.about()));
    out.push_str("<div class=\"scroll\"><table><thead><tr><th>operation</th>");
    for combination in &combinations {
        let label = escape(&engine::matrix::label(&combination.kernel));
        if combination.facts.is_some() {
            let _ = write!(out, "<th><a href=\"#{}\">{label}</a></th>", anchor(combination));
        } else {
            let _ = write!(out, "<th>{label}</th>");
        }
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    let mut group = String::new();
    for row in operations::all() {
        if row.group != group {
            let _ = writeln!(
                out,
                "<tr class=\"group\"><th colspan=\"{}\" scope=\"rowgroup\">{}</th></tr>",
                combinations.len() + 1,
                escape(&row.group)
            );
            group.clone_from(&row.group);
        }
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(&row.name));
        for combination in &combinations {
            let cell = combination.cell(&row.id);
            let _ = write!(
                out,
                "<td class=\"{}\" title=\"{}\">{}</td>",
                cell.sign,
                escape(&[std::slice::from_ref(&cell.detail), &cell.accesses].concat().join("\n")),
                escape(&cell.word)
            );
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    for combination in combinations.iter().filter(|combination| combination.facts.is_some()) {
        let _ = writeln!(
            out,
            "<h3 id=\"{}\">{} as {platform} guest</h3>\n<p class=\"faint\">{}<br>open(2) of /dev/mem: {}; each part of the map is to scale, with a minimum width</p>",
            anchor(combination),
            escape(&combination.kernel.spec),
            escape(&table::about(&combination.kernel)),
            escape(&combination.cell("open/mem").word)
        );
        out.push_str(&map::map(combination));
    }
}

/// The output of programs where they do not work.
fn programs(out: &mut String, matrix: &Matrix) {
    out.push_str("<h2 id=\"programs\">Output of programs</h2>\n<ul>\n");
    for program in summary(matrix) {
        let _ =
            writeln!(out, "<li><strong>{}</strong> {}</li>", escape(&program.name), escape(&program.line()));
    }
    out.push_str("</ul>\n");
}

fn kernels(out: &mut String, matrix: &Matrix) {
    out.push_str("<h2 id=\"kernels\">Kernels</h2>\n<div class=\"scroll\"><table><thead><tr><th>kernel</th><th>release</th><th>policy</th><th>build id</th><th>image sha256</th><th>config sha256</th></tr></thead><tbody>\n");
    for kernel in matrix.kernels() {
        let policy = kernel.policy.map_or("", |policy| policy.name());
        let hash = |hash: Option<&str>| {
            let hash = hash.unwrap_or_default();
            format!("<td class=\"num\" title=\"{hash}\">{}</td>", hash.chars().take(16).collect::<String>())
        };
        let _ = writeln!(
            out,
            "<tr><th>{}</th><td>{}</td><td>{policy}</td>{}{}{}</tr>",
            escape(&kernel.spec),
            escape(&kernel.release),
            hash(kernel.build_id.as_deref()),
            hash(Some(&kernel.sha256)),
            hash(kernel.config_sha256.as_deref())
        );
    }
    out.push_str("</tbody></table></div>\n");
}

fn simulated(out: &mut String, matrix: &Matrix) {
    out.push_str("<h2 id=\"simulated\">What is simulated, and what is not</h2>\n");
    for platform in matrix.platforms() {
        let facts = matrix.on(platform).into_iter().find_map(|combination| combination.facts.as_ref());
        let Some(facts) = facts.filter(|_| platform.is_confidential()) else { continue };
        let _ = writeln!(out, "<h3>{platform}</h3>\n<ul>");
        for (head, texts) in [("Simulated", &facts.simulated), ("Not simulated", &facts.not_simulated)] {
            for text in texts {
                let _ = writeln!(out, "<li><strong>{head}</strong>: {}</li>", escape(text));
            }
        }
        let rewritten = table::rewritten(matrix, platform);
        let _ = writeln!(
            out,
            "<li><strong>Rewritten in the loaded image</strong>: {}</li>\n</ul>",
            escape(&rewritten)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::matrix::{Sign, fixture};

    #[test]
    fn a_page() {
        let page = page(&fixture::matrix());
        let (style, script) = (page.find(STYLE).unwrap(), page.find(SCRIPT).unwrap());
        assert!(style < script);
        // Style and script are separate files, so they are left out.
        insta::assert_snapshot!(page.replace(STYLE, "[style]\n").replace(SCRIPT, "[script]\n"));
    }

    #[test]
    fn it_needs_no_other_file() {
        let page = page(&fixture::matrix());
        for foreign in ["http:", "https:", "src=", "@import", "<link"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn every_sign_has_its_style_and_texts_are_escaped() {
        for sign in Sign::ALL {
            assert!(
                STYLE.contains(&format!("td.{sign}")) && STYLE.contains(&format!("rect.{sign}")),
                "{sign}"
            );
        }
        let mut matrix = fixture::matrix();
        matrix.combinations[5].failed = Some("<script>\"".to_owned());
        assert!(page(&matrix).contains("&lt;script&gt;&quot;"));
    }

    #[test]
    fn what_is_opened_is_closed() {
        let page = page(&fixture::matrix());
        for tag in [
            "table", "thead", "tbody", "tr", "td", "th", "svg", "div", "details", "h2", "h3", "dl", "ul",
            "a", "g",
        ] {
            let opened =
                page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
