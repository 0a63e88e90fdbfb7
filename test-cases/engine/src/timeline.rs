// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A run as a file that Perfetto opens.
//!
//! The format is Chrome's JSON trace events ("Trace Event Format", JSON object form): Perfetto's parser and other tools read it, it is
//! written as it comes, and people and scripts can read it without a schema. Perfetto's own protobuf would be a third of the size.

mod moment;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value, json};
use types::VcpuId;
use vmm::machine::stats::Stats;
use vmm::machine::timeline::{Moment, Timeline};

/// The process that all tracks belong to.
const PROCESS: u32 = 1;

/// What is in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Exits.
    pub exits: u64,
    /// Calls to the module, firmware or hypervisor.
    pub calls: u64,
    /// Pages converted or moved between views.
    pub conversions: u64,
    /// Interrupts injected by KVM.
    pub interrupts: u64,
    /// Forbidden accesses.
    pub accesses: u64,
}

/// Writes events as they come; only what the operating system has not taken yet is kept in memory.
#[derive(Debug)]
pub struct TraceFile(Mutex<State<BufWriter<File>>>);

#[derive(Debug)]
struct State<W: Write> {
    out: W,
    /// The time of the first event.
    origin: Option<Instant>,
    contents: Contents,
    /// The machine's own counters: those of machines before this one, and the last of this one.
    before: Contents,
    last: Contents,
    any: bool,
    failed: Option<io::Error>,
}

impl TraceFile {
    /// Begins a file. `what` names the guest.
    pub fn create(path: &Path, what: &str) -> io::Result<Self> {
        let mut state = State::new(BufWriter::new(File::create(path)?));
        state.begin(what);
        Ok(Self(Mutex::new(state)))
    }

    /// Ends the file; what is in it. The machine's own counters are in it for comparison.
    pub fn finish(&self) -> io::Result<Contents> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.end()?;
        Ok(state.contents)
    }
}

impl Timeline for TraceFile {
    fn record(&self, at: Instant, vcpu: VcpuId, moment: Moment<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record(at, vcpu, &moment);
    }
}

impl<W: Write> State<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            origin: None,
            contents: Contents::default(),
            before: Contents::default(),
            last: Contents::default(),
            any: false,
            failed: None,
        }
    }

    fn begin(&mut self, what: &str) {
        let head = self.out.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n");
        self.keep(head);
        self.write(&json!({
            "ph": "M", "name": "process_name", "pid": PROCESS, "tid": 0, "args": { "name": what },
        }));
        self.write(&json!({
            "ph": "M", "name": "thread_name", "pid": PROCESS, "tid": track(VcpuId::BOOT), "args": { "name": "vCPU 0" },
        }));
    }

    fn end(&mut self) -> io::Result<()> {
        let stats = self.before.plus(self.last);
        let Contents { exits, calls, conversions, accesses, .. } = stats;
        let counted = json!({
            "exits": exits, "calls": calls, "conversions": conversions, "accesses": accesses,
        });
        let end = format!(
            "\n],\"otherData\":{{\"copra\":\"{}\",\"counted\":{counted}}}}}\n",
            env!("CARGO_PKG_VERSION")
        );
        let written = self.out.write_all(end.as_bytes()).and_then(|()| self.out.flush());
        self.keep(written);
        self.failed.take().map_or(Ok(()), Err)
    }

    /// The first failure is reported at the end: the guest runs on.
    fn keep(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }

    fn record(&mut self, at: Instant, vcpu: VcpuId, moment: &Moment<'_>) {
        let origin = *self.origin.get_or_insert(at);
        // Microseconds, with three digits behind the point.
        #[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
        let time = at.saturating_duration_since(origin).as_nanos() as f64 / 1000.0;
        if let Moment::Stopped { stats, .. } = moment {
            let now = counted(stats);
            if now.exits < self.last.exits {
                // Another machine.
                self.before = self.before.plus(self.last);
            }
            self.last = now;
        }
        self.contents = self.contents.plus(moment::contents(moment));
        for (phase, name, arguments) in moment::events(moment) {
            let mut event = json!({ "ph": phase, "ts": time, "pid": PROCESS, "tid": track(vcpu) });
            if let Value::Object(event) = &mut event {
                describe(event, phase, name, arguments);
            }
            self.write(&event);
        }
    }

    fn write(&mut self, event: &Value) {
        if self.failed.is_some() {
            return;
        }
        let separator: &[u8] = if std::mem::replace(&mut self.any, true) { b",\n" } else { b"" };
        let written = self
            .out
            .write_all(separator)
            .and_then(|()| serde_json::to_writer(&mut self.out, event).map_err(io::Error::from));
        self.keep(written);
    }
}

fn describe(event: &mut Map<String, Value>, phase: char, name: &str, arguments: Value) {
    if phase != 'E' {
        event.insert("name".to_owned(), name.into());
    }
    if phase == 'i' {
        // An instant of its track, not of the whole process.
        event.insert("s".to_owned(), "t".into());
    }
    if !arguments.is_null() {
        event.insert("args".to_owned(), arguments);
    }
}

/// The track of a vCPU; number 0 would be the process itself.
fn track(vcpu: VcpuId) -> u32 {
    vcpu.0 + 1
}

/// The same from the machine's counters.
fn counted(stats: &Stats) -> Contents {
    Contents {
        exits: stats.exits,
        calls: stats.calls,
        conversions: moment::conversions(&stats.memory),
        interrupts: 0,
        accesses: stats.accesses,
    }
}

impl Contents {
    fn plus(self, more: Self) -> Self {
        Self {
            exits: self.exits + more.exits,
            calls: self.calls + more.calls,
            conversions: self.conversions + more.conversions,
            interrupts: self.interrupts + more.interrupts,
            accesses: self.accesses + more.accesses,
        }
    }
}

#[cfg(test)]
mod tests;
