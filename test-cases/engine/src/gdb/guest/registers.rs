// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Registers in gdb's form and in KVM's.

use gdbstub_arch::x86::reg::{F80, X86_64CoreRegs, X86SegmentRegs, X87FpuInternalRegs};
use vmm::machine::debug::DebugRegisters;

/// As gdb has them. System registers and the segments' other parts are in `monitor system`.
pub(super) fn to_gdb(from: &DebugRegisters) -> X86_64CoreRegs {
    let (g, s, f) = (&from.general, &from.system, &from.float);
    let selector = |selector: u16| u32::from(selector);
    let mut st = [F80::default(); 8];
    for (to, from) in st.iter_mut().zip(&f.fpr) {
        to.copy_from_slice(&from[..10]);
    }
    X86_64CoreRegs {
        regs: [
            g.rax, g.rbx, g.rcx, g.rdx, g.rsi, g.rdi, g.rbp, g.rsp, g.r8, g.r9, g.r10, g.r11, g.r12, g.r13,
            g.r14, g.r15,
        ],
        eflags: g.rflags as u32,
        rip: g.rip,
        segments: X86SegmentRegs {
            cs: selector(s.cs.selector),
            ss: selector(s.ss.selector),
            ds: selector(s.ds.selector),
            es: selector(s.es.selector),
            fs: selector(s.fs.selector),
            gs: selector(s.gs.selector),
        },
        st,
        fpu: X87FpuInternalRegs {
            fctrl: u32::from(f.fcw),
            fstat: u32::from(f.fsw),
            ftag: u32::from(full_tags(f.ftwx)),
            fop: u32::from(f.last_opcode),
            fiseg: (f.last_ip >> 32) as u32,
            fioff: f.last_ip as u32,
            foseg: (f.last_dp >> 32) as u32,
            fooff: f.last_dp as u32,
        },
        xmm: f.xmm.map(u128::from_le_bytes),
        mxcsr: f.mxcsr,
    }
}

/// Takes what gdb may have changed: not the selectors, which are nothing without their descriptors.
pub(super) fn from_gdb(from: &X86_64CoreRegs, to: &mut DebugRegisters) {
    let g = &mut to.general;
    [
        g.rax, g.rbx, g.rcx, g.rdx, g.rsi, g.rdi, g.rbp, g.rsp, g.r8, g.r9, g.r10, g.r11, g.r12, g.r13,
        g.r14, g.r15,
    ] = from.regs;
    (g.rip, g.rflags) = (from.rip, u64::from(from.eflags));
    let f = &mut to.float;
    for (to, from) in f.fpr.iter_mut().zip(&from.st) {
        to[..10].copy_from_slice(from);
    }
    f.xmm = from.xmm.map(u128::to_le_bytes);
    (f.fcw, f.fsw, f.mxcsr) = (from.fpu.fctrl as u16, from.fpu.fstat as u16, from.mxcsr);
}

/// FXSAVE keeps one bit per x87 register, set where it is in use; gdb has two bits, 3 where it is empty (Intel SDM volume 1
/// §10.5.1.1). Which of the other values it is follows from the register, so that 0, valid, does for gdb.
fn full_tags(used: u8) -> u16 {
    (0..8).filter(|bit| used >> bit & 1 == 0).fold(0, |tags, bit| tags | 3 << (2 * bit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vmm::machine::debug::DebugRegisters;

    use super::*;

    #[expect(clippy::default_trait_access, reason = "the types are KVM's, which this crate does not name")]
    fn empty() -> DebugRegisters {
        DebugRegisters { general: Default::default(), system: Default::default(), float: Default::default() }
    }

    #[test]
    fn an_empty_x87_register_has_both_bits_of_its_tag() {
        assert_eq!((full_tags(0), full_tags(0xff), full_tags(0b1)), (0xffff, 0, 0xfffc));
    }

    proptest! {
        #[test]
        fn what_gdb_changes_comes_back(values: [u64; 16], rip: u64, xmm: [u128; 16], flags: u32, st: [u8; 10]) {
            let mut registers = to_gdb(&empty());
            (registers.regs, registers.rip, registers.eflags) = (values, rip, flags);
            (registers.xmm, registers.st[3]) = (xmm, st);
            let mut kvm = empty();
            from_gdb(&registers, &mut kvm);
            prop_assert_eq!((kvm.general.rdi, kvm.general.r15, kvm.general.rip), (values[5], values[15], rip));
            prop_assert_eq!(to_gdb(&kvm), registers);
        }
    }
}
