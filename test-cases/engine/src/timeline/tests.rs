// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::time::Duration;

use types::{AccessKind, AccessTarget, PageState, View};
use vmm::machine::Stop;
use vmm::machine::timeline::Moment;
use vmm::memory::MemoryCounters;
use vmm::trace::RecordedAccess;

use super::*;

/// A file with these moments, 1.5 microseconds apart.
fn file(moments: &[Moment<'_>]) -> String {
    let mut state = State::new(Vec::new());
    state.begin("a guest");
    let start = Instant::now();
    for (moment, index) in moments.iter().zip(0..) {
        state.record(start + Duration::from_nanos(1500) * index, VcpuId::BOOT, moment);
    }
    state.end().unwrap();
    String::from_utf8(state.out).unwrap()
}

#[test]
fn moments_are_nested_slices_and_instants() {
    let access = RecordedAccess {
        number: 0,
        count: 1,
        gpa: 0xf_0000,
        view: View::Shared,
        state: AccessTarget::Page(PageState::Private),
        kind: AccessKind::Read,
        operand: None,
        device: None,
        at: None,
    };
    #[expect(clippy::default_trait_access, reason = "the type is another crate's, which only the VMM uses")]
    let registers = Default::default();
    let stats = Stats { exits: 1, calls: 1, accesses: 1, ..Stats::default() };
    let memory = MemoryCounters { conversions: 3, faults: 1, ..MemoryCounters::default() };
    let text = file(&[
        Moment::Entered,
        Moment::Failed,
        Moment::Interrupts(2),
        Moment::Call { name: "TDCALL", registers: &registers },
        Moment::CallEnded,
        Moment::Access { access: &access, place: Some("read_mem+0x1".to_owned()) },
        Moment::Memory(memory),
        Moment::Memory(MemoryCounters::default()),
        Moment::Exception(29),
        Moment::Handled,
        Moment::Stopped { stop: &Stop::Agent, stats: &stats },
    ]);
    let file: Value = serde_json::from_str(&text).unwrap();
    let events = file["traceEvents"].as_array().unwrap();
    let phases: String = events.iter().map(|event| event["ph"].as_str().unwrap()).collect();
    assert_eq!(phases, "MMBEBiBEiiiEi");
    let call = events.iter().find(|event| event["name"] == "TDCALL").unwrap();
    assert_eq!((call["ts"].as_f64(), call["tid"].as_u64()), (Some(4.5), Some(1)));
    let access = events.iter().find(|event| event["name"] == "forbidden access").unwrap();
    assert_eq!(access["args"]["place"], "read_mem+0x1");
    let memory = events.iter().find(|event| event["name"] == "memory").unwrap();
    assert_eq!(memory["args"], json!({ "conversions": 3, "faults": 1 }));
    let counted = json!({ "exits": 1, "calls": 1, "conversions": 0, "accesses": 1 });
    assert_eq!(file["otherData"]["counted"], counted);
}

#[test]
fn a_failed_write_is_reported_at_the_end() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut state = State::new(Full);
    state.begin("a guest");
    state.record(Instant::now(), VcpuId::BOOT, &Moment::Entered);
    assert_eq!(state.end().unwrap_err().kind(), io::ErrorKind::StorageFull);
}
