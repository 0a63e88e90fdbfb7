// SPDX-License-Identifier: Apache-2.0 OR MIT
//! For any registers and input page the hypercall page answers, and every page is private or shared.

use kvm_bindings::kvm_regs;
use types::{Mode, VcpuId};
use vmm::layout::PAGE_SIZE;
use vmm::memory::protected::Architecture;
use vmm::platform::PlatformModel;
use vmm::platform::services::Next;
use vmm::platform::vbs::Vbs;

use crate::bench::{BIT, Bench, Program, encode};

/// Calls of one program.
const CALLS: usize = 8;
/// Where the rest of the input is put for the guest to point to.
const LIST: u64 = 0x10_0000;

/// Four words per call; the rest is what the list holds.
pub fn run(bytes: &[u8]) {
    let mut program = Program(bytes);
    let Some(mut bench) = Bench::new(Architecture::Vbs) else { return };
    let mut vbs = Vbs::new(BIT, Mode::Faithful);
    let calls = usize::from(program.byte().unwrap_or_default()) % CALLS;
    for _ in 0..calls {
        let (Some(rcx), Some(rdx), Some(msr), Some(value)) =
            (program.word(), program.word(), program.word(), program.word())
        else {
            break;
        };
        let list = &program.0[..program.0.len().min(2 * PAGE_SIZE as usize)];
        bench.memory.write(LIST, list).expect("it is RAM");
        let index = 0x4000_0000 | msr as u32 & 0x1ff;
        let _ = vbs.write_msr(VcpuId::BOOT, index, value, &bench.memory);
        assert!(vbs.read_msr(VcpuId::BOOT, index).is_some());
        let mut regs = kvm_regs { rcx, rdx, ..Default::default() };
        let before = bench.bad_calls;
        assert_eq!(vbs.page_call(&mut regs, &mut bench), Next::Resume);
        assert!(regs.rax & 0xffff <= 5 && regs.rax >> 32 <= 510, "{:#x}", regs.rax);
        assert!(bench.bad_calls <= before + 1, "one call, one report");
    }
    assert_eq!(bench.memory.unaccepted(), 0);
    bench.check();
}

/// Lists Linux makes, and some it should not.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let program = |call: [u64; 2], list: &[u64]| {
        let words = [call[0], call[1], 1, 0x40_0000].into_iter().flat_map(encode);
        let list = list.iter().flat_map(|word| word.to_le_bytes());
        [1].into_iter().chain(words).chain(list).collect::<Vec<u8>>()
    };
    let call = |reps: u64| [0xdb | reps << 32, LIST];
    let many: Vec<u64> = [u64::MAX, 3].into_iter().chain(0x600..0x600 + 510).collect();
    vec![
        ("visible".into(), program(call(2), &[u64::MAX, 3, 0x600, 0x601])),
        ("hidden".into(), program(call(1), &[u64::MAX, 0, 0x600])),
        ("many".into(), program(call(510), &many)),
        ("too-many".into(), program(call(511), &many)),
        ("no-memory".into(), program(call(1), &[u64::MAX, 3, 0xe_0000])),
        ("unknown".into(), program([0x5c, LIST], &[])),
    ]
}
