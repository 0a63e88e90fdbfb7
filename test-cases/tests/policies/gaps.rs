// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The holes that a policy leaves open, as `copra audit` finds them, against docs/policies.md; and whether it closes exactly
//! the holes that the audit reports as closed by it.
//!
//! The page has the gaps in blocks that begin with three backticks, `audit`, the policy's name and the platforms. With
//! `COPRA_UPDATE_POLICIES=1` in the environment the blocks are written instead of compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::{env, fs};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::copra;

/// The platforms that are audited.
pub const PLATFORMS: [&str; 4] = ["none", "sev", "snp", "tdx"];

/// The kernel without a policy's patch: its findings include all that policies close.
const BASE: &str = "upstream";
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policies.md");

/// What the audit found in the kernel of [`BASE`], by platform: each policy is compared with it.
static BASE_FINDINGS: Mutex<BTreeMap<String, Vec<Value>>> = Mutex::new(BTreeMap::new());
/// One test at a time writes the page.
static WRITING: Mutex<()> = Mutex::new(());

/// The audit finds what docs/policies.md lists, and the policy closes what `closed_by` states.
pub fn check(policy: &str, platform: &str) -> Result<(), Failed> {
    let findings = audit(policy, platform)?;
    for finding in &findings {
        if is_closed_by(finding, policy) {
            return Err(format!("`closed_by` names {policy}, which does not close this: {finding:#}").into());
        }
    }
    for finding in &base(platform)? {
        let remains = findings.iter().any(|other| is_same(finding, other));
        match (is_closed_by(finding, policy), remains) {
            (true, true) => {
                return Err(
                    format!("`closed_by` names {policy}, which does not close this: {finding:#}").into()
                );
            }
            (false, false) if finding["invariant"] != "nothing-lost" => {
                return Err(
                    format!("{policy} closes this, and `closed_by` does not name it: {finding:#}").into()
                );
            }
            _ => {}
        }
    }
    let found: BTreeSet<String> = findings.iter().map(line).collect();
    if env::var_os("COPRA_UPDATE_POLICIES").is_some() {
        return Ok(update(policy, platform, &findings)?);
    }
    let stated = stated(policy, platform)?;
    if found == stated {
        return Ok(());
    }
    let list = |lines: &BTreeSet<String>| lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    Err(format!("docs/policies.md lists:\n{}\n\nfound:\n{}", list(&stated), list(&found)).into())
}

fn audit(policy: &str, platform: &str) -> Result<Vec<Value>, Failed> {
    let kernel = format!("build:{policy}");
    let (text, code) = copra::run(&["audit", "--quiet", "--json", "-", "-k", &kernel, "-p", platform])?;
    // An incomplete audit has no list to compare.
    if !matches!(code, Some(0 | 1)) {
        return Err(format!("copra audit of {kernel} as {platform} guest: exit code {code:?}: {text}").into());
    }
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("{code:?}: {error}: {text}"))?;
    if value["ended"]["how"] != "complete" || value["incomplete"] != Value::Array(Vec::new()) {
        return Err(format!(
            "the audit of {kernel} is incomplete: {}, {}",
            value["ended"], value["incomplete"]
        )
        .into());
    }
    Ok(value["findings"].as_array().ok_or("no findings in the report")?.clone())
}

/// Audited once for all policies.
fn base(platform: &str) -> Result<Vec<Value>, Failed> {
    let mut known = BASE_FINDINGS.lock().map_err(|_| "another test panicked")?;
    if let Some(findings) = known.get(platform) {
        return Ok(findings.clone());
    }
    let findings = audit(BASE, platform)?;
    known.insert(platform.to_owned(), findings.clone());
    Ok(findings)
}

fn is_closed_by(finding: &Value, policy: &str) -> bool {
    finding["closed_by"].as_array().is_some_and(|closers| closers.iter().any(|closer| closer == policy))
}

/// The same invariant, violated by the same path in the same place.
fn is_same(one: &Value, other: &Value) -> bool {
    let texts = |finding: &Value, key: &str| -> Vec<String> {
        let list = finding[key].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let paths = texts(other, "paths");
    let pages = |finding: &Value| -> Vec<RangeInclusive<u64>> {
        texts(finding, "pages").iter().filter_map(|text| range(text)).collect()
    };
    let theirs = pages(other);
    let overlaps = |mine: &RangeInclusive<u64>| {
        theirs.iter().any(|range| mine.start() <= range.end() && range.start() <= mine.end())
    };
    one["invariant"] == other["invariant"]
        && texts(one, "paths").iter().any(|path| paths.contains(path))
        && pages(one).iter().any(overlaps)
}

/// `0xc0000-0xfffff`.
fn range(text: &str) -> Option<RangeInclusive<u64>> {
    let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let (start, end) = text.split_once('-')?;
    Some(number(start)?..=number(end)?)
}

fn line(finding: &Value) -> String {
    let text = |key: &str| finding[key].as_str().unwrap_or("?").to_owned();
    format!("{} {}: {}", text("weight"), text("invariant"), text("name"))
}

/// The lines of the block for the policy and the platform.
fn stated(policy: &str, platform: &str) -> Result<BTreeSet<String>, String> {
    let page = fs::read_to_string(PAGE).map_err(|error| format!("{PAGE}: {error}"))?;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if is_head(line, policy, platform) {
            let block = lines.by_ref().take_while(|line| *line != "```");
            return Ok(block.filter(|line| *line != "nothing").map(str::to_owned).collect());
        }
    }
    Err(format!("docs/policies.md has no block `audit {policy}` for {platform}"))
}

fn is_head(line: &str, policy: &str, platform: &str) -> bool {
    let Some(head) = line.strip_prefix("```audit ") else { return false };
    let mut words = head.split_whitespace();
    words.next() == Some(policy) && words.any(|word| word == platform)
}

/// Writes the block anew.
fn update(policy: &str, platform: &str, findings: &[Value]) -> Result<(), String> {
    let _one = WRITING.lock().map_err(|_| "another test panicked")?;
    let page = fs::read_to_string(PAGE).map_err(|error| format!("{PAGE}: {error}"))?;
    let mut text = String::new();
    let mut lines = page.lines();
    while let Some(old) = lines.next() {
        text.push_str(old);
        text.push('\n');
        if is_head(old, policy, platform) {
            let _ = lines.by_ref().take_while(|line| *line != "```").count();
            for finding in findings {
                text.push_str(&(line(finding) + "\n"));
            }
            if findings.is_empty() {
                text.push_str("nothing\n");
            }
            text.push_str("```\n");
        }
    }
    fs::write(PAGE, text).map_err(|error| format!("{PAGE}: {error}"))
}
