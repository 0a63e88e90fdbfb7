// SPDX-License-Identifier: Apache-2.0 OR MIT
//! For any registers at TDCALL the module answers or ends the TD, and every page keeps a state.

use kvm_bindings::kvm_regs;
use types::{AccessKind, Mode, PageState, View};
use vmm::memory::Mismatch;
use vmm::memory::protected::Architecture;
use vmm::platform::PlatformModel;
use vmm::platform::services::Next;
use vmm::platform::tdx::Tdx;
use vmm::x86::opcode::Opcode;

use crate::bench::{BIT, Bench, Program, encode};

/// Calls of one program.
const CALLS: usize = 32;

fn registers(program: &mut Program<'_>) -> Option<kvm_regs> {
    let mut word = || program.word();
    Some(kvm_regs {
        rax: word()?,
        r10: word()?,
        r11: word()?,
        r12: word()?,
        r13: word()?,
        r14: word()?,
        r15: word()?,
        rcx: word()?,
        rdx: word()?,
        r8: word()?,
        r9: word()?,
        ..Default::default()
    })
}

/// Makes the calls one after the other; now and then a #VE is in between.
pub fn run(bytes: &[u8]) {
    let mut program = Program(bytes);
    let Some(mut bench) = Bench::new(Architecture::Tdx) else { return };
    let options = program.byte().unwrap_or_default();
    let mut td = Tdx::new(BIT, Mode::Faithful, options & 1 == 0);
    for _ in 0..CALLS {
        let Some(mut regs) = registers(&mut program) else { break };
        if regs.r9 & 1 == 1 {
            let gpa = regs.r12 & !0xfff;
            let access = Mismatch {
                gpa,
                view: View::Private,
                state: PageState::Unaccepted,
                kind: AccessKind::Read,
                refused: false,
            };
            let _ = td.denied(&access, regs.r13, regs.r13 & 1 == 0);
        }
        let before = bench.bad_calls;
        if let Next::End(termination) = td.instruction(Opcode::Tdcall, &mut regs, &mut bench) {
            assert!(!termination.to_string().is_empty());
            break;
        }
        assert!(bench.bad_calls <= before + 1, "one call, one report");
    }
    bench.check();
}

/// Calls that Linux makes, and malformed ones.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let shared = 1 << BIT;
    let program = |calls: &[[u64; 11]]| {
        let words = calls.iter().flatten().flat_map(|word| encode(*word));
        [0].into_iter().chain(words).collect::<Vec<u8>>()
    };
    let map = |gpa, len| [0, 0, 0x10001, gpa, len, 0, 0, 0, 0, 0, 0];
    let leaf = |rax, rcx, rdx, r8, r9| [rax, 0, 0, 0, 0, 0, 0, rcx, rdx, r8, r9];
    let vmcall = |function, r12, r13, r14| [0, 0, function, r12, r13, r14, 0, 0, 0, 0, 0];
    vec![
        ("boot".into(), program(&[leaf(1, 0, 0, 0, 0), leaf(7, 0, 0x1110_0003_0000_0016, 0, 0)])),
        ("accept".into(), program(&[leaf(6, 0x80_0001, 0, 0, 0), leaf(6, 0xa0_0000, 0, 0, 0)])),
        (
            "convert".into(),
            program(&[
                map(shared | 0x60_0000, 0x20_0000),
                map(0x60_0000, 0x20_0000),
                leaf(6, 0x60_0001, 0, 0, 0),
            ]),
        ),
        ("retry".into(), program(&[map(shared | 0x10_0000, 0x7f0_0000)])),
        ("report".into(), program(&[leaf(4, 0x40_0000, 0x40_1000, 0, 0)])),
        ("io".into(), program(&[vmcall(30, 1, 1, 0x3f8), vmcall(30, 4, 0, 0xcfc)])),
        ("mmio".into(), program(&[vmcall(48, 8, 0, shared | 0xe000_0000)])),
        ("msr".into(), program(&[vmcall(31, 0x10, 0, 0), vmcall(32, 0x10, 1, 0)])),
        ("fatal".into(), program(&[vmcall(0x10003, 1, 0, 0x4141_4141_4141_4141)])),
        ("exception".into(), program(&[leaf(3, 0, 0, 0, 1), leaf(3, 0, 0, 0, 0)])),
    ]
}
