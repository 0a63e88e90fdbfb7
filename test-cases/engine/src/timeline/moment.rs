// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each moment of a machine is in the file.

use serde_json::{Value, json};
use vmm::machine::VmExit;
use vmm::machine::timeline::Moment;
use vmm::memory::MemoryCounters;

use super::Contents;

/// The slice of a track in which the guest runs.
const GUEST: &str = "guest";

/// Phase, name and arguments of the events that a moment is. Slices begin (B) and end (E) nested; the rest are instants (i).
pub(super) fn events(moment: &Moment<'_>) -> Vec<(char, &'static str, Value)> {
    match moment {
        Moment::Entered => vec![('B', GUEST, Value::Null)],
        Moment::Left(exit) => {
            let (name, arguments) = exit_of(exit);
            vec![('E', GUEST, Value::Null), ('B', name, arguments)]
        }
        Moment::Failed => vec![('E', GUEST, Value::Null), ('B', "KVM_RUN failed", Value::Null)],
        Moment::Handled | Moment::CallEnded => vec![('E', "", Value::Null)],
        Moment::Call { name, registers: r } => {
            let hex = |value: u64| format!("{value:#x}");
            let arguments = json!({
                "rip": hex(r.rip), "rax": hex(r.rax), "rcx": hex(r.rcx), "rdx": hex(r.rdx), "r10": hex(r.r10),
                "r11": hex(r.r11), "r12": hex(r.r12), "r13": hex(r.r13),
            });
            vec![('B', name, arguments)]
        }
        Moment::Access { access, place } => {
            vec![('i', "forbidden access", json!({ "access": access.to_string(), "place": place }))]
        }
        Moment::Memory(done) => {
            memory(done).map_or_else(Vec::new, |arguments| vec![('i', "memory", arguments)])
        }
        Moment::Interrupts(count) => vec![('i', "interrupts injected", json!({ "count": count }))],
        Moment::Exception(vector) => vec![('i', "exception delivered", json!({ "vector": vector }))],
        Moment::Stopped { stop, .. } => vec![('i', "stopped", json!({ "why": stop.to_string() }))],
    }
}

/// How many of what a moment is.
pub(super) fn contents(moment: &Moment<'_>) -> Contents {
    let none = Contents::default();
    match moment {
        Moment::Left(_) => Contents { exits: 1, ..none },
        Moment::Call { .. } => Contents { calls: 1, ..none },
        Moment::Memory(done) => Contents { conversions: conversions(done), ..none },
        Moment::Interrupts(count) => Contents { interrupts: *count, ..none },
        Moment::Access { access, .. } => Contents { accesses: access.count, ..none },
        _ => none,
    }
}

/// Pages that were converted, or moved to the other view.
pub(super) fn conversions(counters: &MemoryCounters) -> u64 {
    counters.conversions + counters.declared_moves + counters.implicit_moves
}

/// The counters that are not zero.
fn memory(done: &MemoryCounters) -> Option<Value> {
    let all = [
        ("conversions", conversions(done)),
        ("declared_pages", done.declared_pages),
        ("accepted", done.accepted),
        ("split", done.smashed),
        ("mismatches", done.mismatches),
        ("faults", done.faults),
    ];
    let some = all.into_iter().filter(|(_, count)| *count > 0);
    let arguments: serde_json::Map<_, _> =
        some.map(|(name, count)| (name.to_owned(), Value::from(count))).collect();
    (!arguments.is_empty()).then_some(Value::Object(arguments))
}

fn exit_of(exit: &VmExit) -> (&'static str, Value) {
    let hex = |value: u64| format!("{value:#x}");
    match exit {
        VmExit::PortWrite { port, size, data, .. } => {
            ("port write", json!({ "port": hex(u64::from(*port)), "size": size, "bytes": data.len() }))
        }
        VmExit::PortRead(read) => {
            ("port read", json!({ "port": hex(u64::from(read.port)), "size": read.size }))
        }
        VmExit::MmioWrite { gpa, data, .. } => {
            ("MMIO write", json!({ "gpa": hex(*gpa), "bytes": data.len() }))
        }
        VmExit::MmioRead(read) => ("MMIO read", json!({ "gpa": hex(read.gpa), "bytes": read.size() })),
        VmExit::Msr(msr) => match msr.written {
            Some(value) => ("WRMSR", json!({ "msr": hex(u64::from(msr.index)), "value": hex(value) })),
            None => ("RDMSR", json!({ "msr": hex(u64::from(msr.index)) })),
        },
        VmExit::Hypercall(call) => {
            ("hypercall", json!({ "number": call.number, "arguments": call.arguments.map(hex) }))
        }
        VmExit::Halt(_) => ("halt", Value::Null),
        VmExit::Shutdown(_) => ("triple fault", Value::Null),
        VmExit::Debug { address, .. } => ("debug", json!({ "rip": hex(*address) })),
        VmExit::Interrupted(_) => ("signal", Value::Null),
        VmExit::MemoryFault(_) => ("memory fault", Value::Null),
        VmExit::Failed { why, .. } => ("failed", json!({ "why": why })),
    }
}
