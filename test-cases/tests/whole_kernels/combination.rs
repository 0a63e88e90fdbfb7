// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One kernel on one platform under one policy: run at its first use; the report is kept.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The result of a case.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// As specified, known holes included.
    Good,
    /// Not run, for this reason.
    Skipped(String),
    /// A finding.
    Bad(String),
}

/// A combination.
#[derive(Debug)]
pub struct Combination {
    kernel: &'static str,
    platform: &'static str,
    policy: Option<&'static str>,
    /// The only case that is run; all if there is none.
    only: Option<String>,
    ran: OnceLock<Result<(Value, Option<i32>), String>>,
}

impl Combination {
    /// A combination; without a policy, the kernel's own.
    pub fn new(kernel: &'static str, platform: &'static str, policy: Option<&'static str>) -> Self {
        Self { kernel, platform, policy, only: None, ran: OnceLock::new() }
    }

    /// The same kernel and platform with one case only.
    pub fn only(&self, case: &str) -> Self {
        Self { only: Some(case.to_owned()), ..Self::new(self.kernel, self.platform, self.policy) }
    }

    /// Its name in test names.
    pub fn name(&self) -> String {
        format!("{}::{}", self.kernel.replace(':', "-"), self.platform)
    }

    /// The kernel is Debian's own.
    pub fn is_debian(&self) -> bool {
        self.kernel.starts_with("debian:")
    }

    /// The platform.
    pub fn platform(&self) -> &'static str {
        self.platform
    }

    /// The report of its run.
    pub fn report(&self) -> Result<&Value, String> {
        self.ran.get_or_init(|| self.run()).as_ref().map(|(report, _)| report).map_err(Clone::clone)
    }

    /// How the run ended.
    pub fn exit_code(&self) -> Option<i32> {
        self.ran.get().and_then(|ran| ran.as_ref().ok()).and_then(|(_, code)| *code)
    }

    /// The result of a case.
    pub fn case(&self, name: &str) -> Result<Verdict, String> {
        let report = self.report()?;
        let cases = report["cases"].as_array().ok_or("the report has no cases")?;
        let Some(case) = cases.iter().find(|case| case["name"] == name) else {
            return Err(format!("{name} did not run: {}", report["ended"]));
        };
        let judged = &case["judged"];
        Ok(match judged["verdict"].as_str() {
            Some("as-specified" | "known-hole") => Verdict::Good,
            Some("skipped") => Verdict::Skipped(judged["reason"].as_str().unwrap_or("no reason").to_owned()),
            _ => Verdict::Bad(complaint(case)),
        })
    }

    /// Reasons for which cases were skipped, and how many.
    pub fn skips(&self) -> BTreeMap<String, u64> {
        let report = self.ran.get().and_then(|ran| ran.as_ref().ok()).map(|(report, _)| report);
        let reasons = report.and_then(|report| report["summary"]["skip_reasons"].as_object());
        let count = |(reason, count): (&String, &Value)| (reason.clone(), count.as_u64().unwrap_or(0));
        reasons.map(|reasons| reasons.iter().map(count).collect()).unwrap_or_default()
    }

    fn run(&self) -> Result<(Value, Option<i32>), String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let json = folder.path().join("report.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_copra"));
        command.args(["run", "--kernel", self.kernel, "--platform", self.platform, "--json"]);
        command.arg(&json).args(["--timeout", "240"]).env("COPRA_QUIET", "1");
        if let Some(policy) = self.policy {
            command.args(["--policy", policy, "open/modes"]);
        }
        command.args(self.only.as_deref());
        // Standard error is inherited: it shows the progress of fetching and building kernels, which takes minutes.
        command.stderr(Stdio::inherit());
        let output = command.output().map_err(|error| format!("starting copra: {error}"))?;
        let printed = || String::from_utf8_lossy(&output.stdout).into_owned();
        let text =
            std::fs::read_to_string(&json).map_err(|_| format!("copra wrote no report:\n{}", printed()))?;
        let report =
            serde_json::from_str(&text).map_err(|error| format!("{error} in the report:\n{text}"))?;
        Ok((report, output.status.code()))
    }
}

/// The failed steps of a case.
fn complaint(case: &Value) -> String {
    let steps = case["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<String> = steps
        .iter()
        .filter(|step| {
            !matches!(step["judged"]["verdict"].as_str(), Some("as-specified" | "known-hole" | "not-reached"))
        })
        .map(|step| {
            let judged = &step["judged"];
            let verdict = judged["verdict"].as_str().unwrap_or("?").replace('-', " ");
            format!(
                "{verdict} at {}: {}: expected {}, got {}",
                step["id"], step["call"], judged["expected"], judged["got"]
            )
        })
        .collect();
    format!("{}\n{}", case["title"], lines.join("\n"))
}
