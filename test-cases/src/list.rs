// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `copra list` prints of cases, platforms, policies and regions.

use std::io::{self, Write};

use serde_json::{Value, json};
use types::{Platform, Policy, Region};

use crate::cli::ListArgs;
use engine::case::Case;
use engine::layouts::NamedLayout;

/// One line: a name, its description, and both as JSON.
struct Line {
    name: String,
    about: String,
    json: Value,
}

/// Prints every list that the options name, except the kernels.
pub fn write(
    args: &ListArgs,
    cases: &[Case],
    layouts: &[NamedLayout],
    mut out: impl Write,
) -> io::Result<()> {
    let lists = [
        (args.lists_cases(), "cases", cases.iter().map(case).collect::<Vec<_>>()),
        (args.platforms, "platforms", named("platform", Platform::ALL, |it| (it.name(), it.about()))),
        (args.policies, "policies", named("policy", Policy::ALL, |it| (it.name(), it.about()))),
        (args.layouts, "layouts", layouts.iter().map(layout).collect()),
        (args.regions, "regions", named("region", Region::ALL, |it| (it.name(), it.about()))),
    ];
    let several = lists.iter().filter(|(listed, ..)| *listed).count() + usize::from(args.kernels) > 1;
    for (_, title, lines) in lists.iter().filter(|(listed, ..)| *listed) {
        if args.json {
            lines.iter().try_for_each(|line| writeln!(out, "{}", line.json))?;
            continue;
        }
        if several {
            writeln!(out, "{title}:")?;
        }
        let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
        lines.iter().try_for_each(|line| writeln!(out, "{:width$}  {}", line.name, line.about))?;
        if several {
            writeln!(out)?;
        }
    }
    Ok(())
}

fn case(case: &Case) -> Line {
    Line { name: case.name.clone(), about: case.title.clone(), json: crate::report::json::case_line(case) }
}

fn layout(layout: &NamedLayout) -> Line {
    let json = json!({ "kind": "layout", "name": layout.name, "about": layout.title, "file": layout });
    Line { name: layout.name.clone(), about: layout.title.clone(), json }
}

fn named<T: Copy>(kind: &str, all: &[T], text: impl Fn(T) -> (&'static str, &'static str)) -> Vec<Line> {
    let line = |value: &T| {
        let (name, about) = text(*value);
        let json = json!({ "kind": kind, "name": name, "about": about });
        Line { name: name.to_owned(), about: about.to_owned(), json }
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use engine::{layouts, library};

    fn list(options: &str) -> String {
        let words = ["copra", "list"].into_iter().chain(options.split_whitespace());
        let Command::List(args) = Cli::parse_from(words).command else { panic!() };
        let mut out = Vec::new();
        write(&args, &library::all().unwrap(), &layouts::all().unwrap(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_with_their_explanations() {
        insta::assert_snapshot!(list("--platforms --policies --regions"));
    }

    #[test]
    fn every_case_on_its_line() {
        let text = list("");
        let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert!(library::all().unwrap().iter().map(|case| case.name.as_str()).eq(names));
    }

    #[test]
    fn json_has_one_object_per_line() {
        let text = list("--cases --regions --json");
        let values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(values.iter().all(|value| value["name"].is_string() && value["kind"].is_string()));
    }
}
