// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The moments that a machine reports to its recorder are those that it counts.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use types::Platform::{Sev, Tdx};
use types::View::Shared;
use types::{Mode, VcpuId};
use vmm::guest_code;
use vmm::machine::timeline::{Moment, Timeline};
use vmm::machine::{Machine, MachineConfig};
use vmm::memory::MemoryCounters;

use self::common::script::Script;
use self::common::*;

/// Keeps what it needs to compare.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<(Instant, &'static str, u64)>>);

impl Timeline for Kept {
    fn record(&self, at: Instant, _: VcpuId, moment: Moment<'_>) {
        let (what, count) = match moment {
            Moment::Entered => ("entered", 1),
            Moment::Left(_) => ("left", 1),
            Moment::Failed => ("failed", 1),
            Moment::Handled => ("handled", 1),
            Moment::Call { .. } => ("call", 1),
            Moment::CallEnded => ("call ended", 1),
            Moment::Access { .. } => ("access", 1),
            Moment::Memory(MemoryCounters { conversions, .. }) => ("conversions", conversions),
            Moment::Interrupts(count) => ("interrupts", count),
            Moment::Exception(_) => ("exception", 1),
            Moment::Stopped { .. } => ("stopped", 1),
        };
        self.0.lock().unwrap().push((at, what, count));
    }
}

impl Kept {
    fn count(&self, wanted: &str) -> u64 {
        self.0.lock().unwrap().iter().filter(|(_, what, _)| *what == wanted).map(|(.., count)| count).sum()
    }

    /// Times ascend, and every exit is between an entry and the next one.
    fn check_order(&self) {
        let all = self.0.lock().unwrap();
        assert!(all.windows(2).all(|two| two[0].0 <= two[1].0));
        let frame = |what: &&str| ["entered", "left", "handled"].contains(what);
        let frames: Vec<_> = all.iter().map(|(_, what, _)| *what).filter(frame).collect();
        assert!(!frames.is_empty() && frames.chunks(3).all(|three| three == ["entered", "left", "handled"]));
        let calls: Vec<_> =
            all.iter().map(|(_, what, _)| *what).filter(|what| what.starts_with("call")).collect();
        assert!(calls.chunks(2).all(|two| two == ["call", "call ended"]));
    }
}

guest_code!(
    loads_through_the_other_view,
    "mov rbx, 0x40000000",
    "mov rax, [rbx]",
    "mov dx, 0x3f8",
    "in al, dx",
    "in al, dx",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al",
);

#[test]
fn exits_and_accesses_are_recorded_as_they_are_counted() {
    let kept = Arc::new(Kept::default());
    let timeline = Some(Arc::clone(&kept) as Arc<dyn Timeline>);
    let mut machine = Machine::new(&MachineConfig { timeline, mode: Mode::Record, ..config(Sev) }).unwrap();
    boot(&mut machine, loads_through_the_other_view(), &[(Shared, ROM_PAGE)]);
    pass(&mut machine);
    let stats = machine.stats();
    assert!(stats.exits >= 4, "{stats:?}");
    assert_eq!((kept.count("left"), kept.count("handled")), (stats.exits, stats.exits));
    assert_eq!((kept.count("access"), recorded(&machine).len()), (1, 1));
    assert_eq!(kept.count("stopped"), 1);
    kept.check_order();
}

#[test]
fn calls_and_conversions_are_recorded_as_they_are_counted() {
    let mut script = Script::new();
    script.map_gpa(PLAYGROUND | 1 << 51, 0x3000);
    script.map_gpa(PLAYGROUND, 0x2000);
    script.accept(PLAYGROUND, 0);
    script.stop(0x4b);
    let kept = Arc::new(Kept::default());
    let timeline = Some(Arc::clone(&kept) as Arc<dyn Timeline>);
    let mut machine = script.machine(&MachineConfig { timeline, ..config(Tdx) }, &[]);
    pass(&mut machine);
    let stats = machine.stats();
    assert_eq!((kept.count("call"), stats.calls), (3, 3));
    assert_eq!(kept.count("conversions"), stats.memory.conversions);
    kept.check_order();
}
