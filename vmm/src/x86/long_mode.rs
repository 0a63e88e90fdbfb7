// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Registers of a processor that a boot loader has already brought into 64-bit mode.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

/// CR0: PE, MP, ET, NE, WP, AM, PG.
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18 | 1 << 31;
/// CR4: PAE.
const CR4_PAE: u64 = 1 << 5;
/// EFER: LME, LMA.
const EFER: u64 = 1 << 8 | 1 << 10;
/// RFLAGS: the bit that is always set; interrupts off.
const RFLAGS: u64 = 1 << 1;

/// Code segment type: execute/read, accessed.
const CODE: u8 = 11;
/// Data segment type: read/write, accessed.
const DATA: u8 = 3;
/// 64-bit TSS, busy.
const TSS_BUSY: u8 = 11;

/// Documentation/arch/x86/boot.rst, "64-bit Boot Protocol": flat segments `__BOOT_CS` and `__BOOT_DS`,
/// interrupts off, paging on with an identity map.
pub fn enter(sregs: &mut kvm_sregs, cr3: u64) {
    let segment = |selector, type_, l, db| kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db,
        s: 1,
        l,
        g: 1,
        avl: 0,
        unusable: 0,
        padding: 0,
    };
    sregs.cs = segment(0x10, CODE, 1, 0);
    let data = segment(0x18, DATA, 0, 1);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment { s: 0, limit: 0xffff, g: 0, ..segment(0, TSS_BUSY, 0, 0) };
    sregs.cr0 = CR0;
    sregs.cr3 = cr3;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER;
}

/// General registers at a 64-bit entry point; RSI is what Linux calls `boot_params`.
pub fn registers(rip: u64, rsi: u64, rsp: u64) -> kvm_regs {
    kvm_regs { rip, rsi, rsp, rflags: RFLAGS, ..Default::default() }
}
