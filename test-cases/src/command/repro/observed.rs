// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One run of the case, as its JSON report tells it.

use serde_json::Value;

use engine::observation::DeathKind;

/// What one guest showed.
#[derive(Debug)]
pub struct Observed {
    report: Value,
    steps: Vec<Value>,
}

impl Observed {
    /// Takes the case out of a report; `None` if it was not run.
    pub fn of(report: Value, case: &str) -> Option<Self> {
        let cases = report.get("cases")?.as_array()?;
        let steps = cases.iter().find(|it| it["name"] == case)?.get("steps")?.as_array()?.clone();
        (!steps.is_empty()).then_some(Self { report, steps })
    }

    fn step(&self, id: &str) -> &Value {
        self.steps.iter().find(|step| step["id"] == id).unwrap_or(&Value::Null)
    }

    /// A field of the report, as text.
    pub fn text(&self, pointer: &str) -> &str {
        self.report.pointer(pointer).and_then(Value::as_str).unwrap_or("")
    }

    /// Kernel log lines that tell what kind of guest it is.
    pub fn log(&self) -> Vec<&str> {
        let lines = self.report.pointer("/kernel/log").and_then(Value::as_array);
        lines.map(|lines| lines.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    /// Forbidden accesses while the guest booted.
    pub fn boot_events(&self) -> u64 {
        self.report.pointer("/counters/boot_events").and_then(Value::as_u64).unwrap_or(0)
    }

    /// How a step came back: `ok`, an errno, a signal, `not reached`.
    pub fn answer(&self, id: &str) -> String {
        let answer = &self.step(id)["observed"]["answer"];
        match answer["how"].as_str() {
            Some("returned") => "ok".into(),
            Some("failed") => answer["errno"].as_str().unwrap_or("?").into(),
            Some("guest-died") => self.death(id),
            Some("signalled") => answer["signal"].as_str().unwrap_or("?").into(),
            Some(other) => other.replace('-', " "),
            None => "not tried".into(),
        }
    }

    /// The exact death that a step ended in.
    fn death(&self, id: &str) -> String {
        let names = self.step(id)["observed"]["death"].as_array();
        let names = names.into_iter().flatten().filter_map(Value::as_str);
        let deaths: Vec<&str> =
            names.filter_map(|name| name.parse().ok()).map(|death: DeathKind| death.sentence()).collect();
        if deaths.is_empty() { "the guest died".to_owned() } else { deaths.join(", or ") }
    }

    /// The bytes a step gave.
    pub fn bytes(&self, id: &str) -> Vec<u8> {
        let hex = self.step(id)["observed"]["bytes"].as_str().unwrap_or("");
        (0..hex.len() / 2).filter_map(|i| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok()).collect()
    }

    /// What the bytes are.
    pub fn classes(&self, id: &str) -> Vec<&str> {
        let classes = self.step(id)["observed"]["class"].as_array();
        classes.map(|classes| classes.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    /// Whether the step's bytes are guest memory's.
    pub fn is_of_memory(&self, id: &str) -> bool {
        self.step(id)["observed"]["gpa"].is_object()
    }

    /// Where the step looked.
    pub fn gpa(&self, id: &str) -> u64 {
        let text = self.step(id)["observed"]["gpa"]["start"].as_str().unwrap_or("");
        engine::place::parse_number(text).unwrap_or(0)
    }

    /// The forbidden accesses during a step, in lines.
    pub fn events(&self, id: &str) -> Vec<String> {
        let events = self.step(id)["observed"]["events"].as_array();
        let lines = |event: &Value| {
            let field = |name: &str| event[name].as_str().unwrap_or("?").to_owned();
            let at = event["symbol"].as_str().map_or_else(|| field("rip"), str::to_owned);
            let task = event["task"].as_str().map(|task| format!(", task {task}")).unwrap_or_default();
            let mut lines = vec![format!(
                "forbidden: {} of GPA {}, a page that is {}, at {at} (CPL {}{task})",
                field("kind"),
                field("gpa"),
                field("state"),
                event["cpl"]
            )];
            let frames: Vec<&str> = event["backtrace"]
                .as_array()
                .map(|frames| frames.iter().skip(1).filter_map(Value::as_str).collect())
                .unwrap_or_default();
            if !frames.is_empty() {
                lines.push(format!("  called by {}", frames.join(" < ")));
            }
            lines
        };
        events.map(|events| events.iter().flat_map(lines).collect()).unwrap_or_default()
    }

    /// Every step with what it does.
    pub fn calls(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        self.steps.iter().map(|step| (text(&step["id"]), text(&step["call"]))).collect()
    }

    /// How guests ended, with the last lines of their consoles.
    pub fn deaths(&self) -> Vec<(String, Vec<String>)> {
        let deaths = self.report["deaths"].as_array();
        let lines = |death: &Value| {
            let console = death["console"].as_array();
            console.map(|lines| lines.iter().filter_map(|l| l.as_str().map(str::to_owned)).collect())
        };
        let of = |death: &Value| {
            let kinds = death["kind"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let kinds: Vec<&str> = kinds.collect();
            let text = format!("{}: {}", kinds.join(" or "), death["text"].as_str().unwrap_or("?"));
            (text, lines(death).unwrap_or_default())
        };
        deaths.map(|deaths| deaths.iter().map(of).collect()).unwrap_or_default()
    }

    /// Rewritten instructions, counted by kind.
    pub fn rewritten(&self) -> String {
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for site in self.report.pointer("/platform/rewritten").and_then(Value::as_array).into_iter().flatten()
        {
            *counts.entry(site["was"].as_str().unwrap_or("?")).or_default() += 1;
        }
        counts.iter().map(|(was, count)| format!("{count} × {was}")).collect::<Vec<_>>().join(", ")
    }

    /// Why a step shows nothing, if there is one that does not: a host failure or a deadline.
    pub fn not_run(&self) -> Option<String> {
        let judged = self.steps.iter().map(|step| (&step["id"], &step["judged"]));
        let mut failed = judged.filter(|(_, judged)| judged["verdict"] == "not-run");
        let (id, judged) = failed.next()?;
        Some(format!("`{}`: {}", id.as_str().unwrap_or("?"), judged["reason"].as_str().unwrap_or("?")))
    }

    /// Whether the judge found the step as the policy documents it, known holes included.
    pub fn is_as_documented(&self, id: &str) -> bool {
        matches!(
            self.step(id)["judged"]["verdict"].as_str(),
            Some("as-specified" | "known-hole" | "not-reached")
        )
    }
}
