//! What a policy leaves open, as `copra audit` finds it, against docs/policies.md.
//!
//! The page has it in blocks that begin with three backticks, `audit`, the policy's name and the platforms.

use std::collections::BTreeSet;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::copra;

/// Where it is looked for.
pub const PLATFORMS: [&str; 4] = ["none", "sev", "snp", "tdx"];

const PAGE: &str = include_str!("../../../docs/policies.md");

/// The audit finds what the page says, and nothing the policy is said to close.
pub fn check(policy: &str, platform: &str) -> Result<(), Failed> {
    let kernel = format!("build:{policy}");
    let (text, code) = copra::run(&["audit", "--quiet", "--json", "-", "-k", &kernel, "-p", platform])?;
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("{code:?}: {error}: {text}"))?;
    let findings = value["findings"].as_array().ok_or("no findings in the report")?;
    for finding in findings {
        let closed_by = finding["closed_by"].as_array().map(Vec::as_slice).unwrap_or_default();
        if closed_by.iter().any(|closer| closer == policy) {
            return Err(format!("{policy} is said to close this, and does not: {finding:#}").into());
        }
    }
    let found: BTreeSet<String> = findings.iter().map(line).collect();
    let stated = stated(policy, platform)?;
    if found == stated {
        return Ok(());
    }
    let list = |lines: &BTreeSet<String>| lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    Err(format!("docs/policies.md says:\n{}\n\nfound:\n{}", list(&stated), list(&found)).into())
}

fn line(finding: &Value) -> String {
    let text = |key: &str| finding[key].as_str().unwrap_or("?").to_owned();
    format!("{} {}: {}", text("weight"), text("invariant"), text("name"))
}

/// The lines of the block for the policy and the platform.
fn stated(policy: &str, platform: &str) -> Result<BTreeSet<String>, String> {
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        let Some(head) = line.strip_prefix("```audit ") else { continue };
        let mut words = head.split_whitespace();
        if words.next() == Some(policy) && words.any(|word| word == platform) {
            let block = lines.by_ref().take_while(|line| *line != "```");
            return Ok(block.filter(|line| *line != "nothing").map(str::to_owned).collect());
        }
    }
    Err(format!("docs/policies.md has no block `audit {policy}` for {platform}"))
}
