//! One run of the case, as its JSON report tells it.

use serde_json::Value;

/// What one guest showed.
#[derive(Debug)]
pub struct Witness {
    report: Value,
    steps: Vec<Value>,
}

impl Witness {
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
            Some("signalled") => answer["signal"].as_str().unwrap_or("?").into(),
            Some(other) => other.replace('-', " "),
            None => "not tried".into(),
        }
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

    /// Where the step looked.
    pub fn gpa(&self, id: &str) -> u64 {
        let text = self.step(id)["observed"]["gpa"]["start"].as_str().unwrap_or("");
        crate::region::parse_number(text).unwrap_or(0)
    }

    /// The forbidden accesses during a step, one line each.
    pub fn events(&self, id: &str) -> Vec<String> {
        let events = self.step(id)["observed"]["events"].as_array();
        let line = |event: &Value| {
            let field = |name: &str| event[name].as_str().unwrap_or("?").to_owned();
            format!(
                "{} of GPA {}, a {} page, by the instruction at {} (CPL {})",
                field("kind"),
                field("gpa"),
                field("state"),
                field("rip"),
                event["cpl"]
            )
        };
        events.map(|events| events.iter().map(line).collect()).unwrap_or_default()
    }

    /// Whether the judge found the step as the policy documents it, known holes included.
    pub fn is_as_documented(&self, id: &str) -> bool {
        matches!(
            self.step(id)["judged"]["verdict"].as_str(),
            Some("as-specified" | "known-hole" | "not-reached")
        )
    }
}
