// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What makes a guest a confidential guest of its platform: CPUID, MSRs, hypercalls, views.

pub mod failure;
pub mod guest_type;
mod plain;
pub mod services;
pub mod sev;
pub mod snp;
pub mod tdx;
pub mod vbs;

use std::fmt;

use kvm_bindings::{kvm_regs, kvm_sregs};
use serde::{Deserialize, Serialize};
use types::{Mode, Platform, VcpuId, View};

use self::guest_type::{GuestActivity, NoEvidence};
pub use self::plain::PlainPlatform;
use self::services::{Consequence, Next, Services};
pub use self::sev::{HYPERCALL_MAP_GPA_RANGE, Sev};
use crate::memory::{Content, GuestMemory, Mismatch};
use crate::x86::cpuid::CpuidTable;
use crate::x86::opcode::Opcode;
use crate::x86::walk::PageTables;

/// What the VMM simulates, for reports.
pub fn simulated(platform: Platform) -> &'static [&'static str] {
    match platform {
        Platform::None => &[],
        Platform::Sev => &[
            "CPUID 0x8000001f, MSR 0xC0010131 and the C-bit are supplied by the VMM",
            "memory encryption is AES-XTS per 4 KiB page, tweaked by address, moved between two views as they are accessed",
        ],
        Platform::Snp => &[
            "CPUID 0x8000001f, MSRs 0xC0010130 and 0xC0010131, the C-bit, CPUID page and secrets page are supplied by the VMM",
            "the RMP: a state per page and view, contents dropped on conversion",
            "VMGEXIT, PVALIDATE and RMPADJUST are rewritten to port writes in the loaded kernel and answered by the VMM",
            "#VC 0x404 is delivered by the VMM for a private access to memory not validated",
        ],
        Platform::Tdx => &[
            "CPUID 0x21, the shared bit and the TDX module's and hypervisor's calls are supplied by the VMM",
            "the secure EPT: a state per page and view, contents dropped on conversion",
            "TDCALL is rewritten to a port write in the loaded kernel and answered by the VMM",
        ],
        Platform::Vbs => &[
            "Hyper-V's CPUID leaves, MSRs, hypercall page and the shared GPA boundary are supplied by the VMM",
            "host visibility: a state per page and view, contents dropped on conversion",
        ],
    }
}

/// What hardware has and this has not, for reports.
pub fn not_simulated(platform: Platform) -> &'static [&'static str] {
    match platform {
        Platform::None => &[],
        Platform::Sev => &[
            "no SEV hardware: no isolation, no attestation, the host sees everything",
            "hardware has its own cipher and tweak, so ciphertext differs",
            WALKS,
        ],
        Platform::Snp => &[
            "no SEV-SNP hardware: no isolation, no attestation, keys in the secrets page are fake, the host sees everything",
            "no #VC but 0x404: CPUID, MSRs and port I/O simply work",
            "a page validated or converted holds zeros; hardware leaves noise, and bytes of a page rescinded and validated again",
            WALKS,
        ],
        Platform::Tdx => &[
            "no TDX hardware: no isolation, no attestation, TDG.MR.REPORT gives a fake, the host sees everything",
            "no #VE but for illegal private accesses: CPUID, MSRs, HLT and port I/O simply work",
        ],
        Platform::Vbs => &[
            "no Hyper-V: no isolation, the host sees everything",
            "what Hyper-V does on an access through the wrong view is not documented: here it is recorded and goes on",
        ],
    }
}

const WALKS: &str = "instruction fetches, and page walks below the root, use the view the page tables name; hardware forces them private";

/// What the host's processor allows.
#[derive(Debug, Clone, Copy)]
pub struct HostFacts {
    /// Physical address bits of a guest (`CPUID 0x80000008.EAX[7:0]` as KVM supports it).
    pub physical_bits: u8,
}

impl HostFacts {
    /// The highest position at which nested page tables take an alias: min(physical bits, 48) − 1.
    pub fn default_encryption_bit(&self) -> u8 {
        self.physical_bits.min(48) - 1
    }
}

/// A range of model-specific registers the VMM answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsrRange {
    /// First register.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// One platform's answers.
pub trait PlatformModel: fmt::Debug + Send {
    /// Which.
    fn kind(&self) -> Platform;

    /// How many views its memory has and what connects them.
    fn content(&self) -> Content;

    /// Address bit that selects the view, `None` with one view.
    fn encryption_bit(&self) -> Option<u8>;

    /// View of an address that carries the encryption bit.
    fn view_with_bit(&self) -> View;

    /// What firmware and hypervisor keep of this guest.
    fn save(&self) -> PlatformState;

    /// Makes them what they were then; `false` if the state is another platform's.
    fn restore(&mut self, state: &PlatformState) -> bool;

    /// Edits the CPUID table.
    fn cpuid(&self, table: &mut CpuidTable);

    /// Registers to be answered here.
    fn msrs(&self) -> &'static [MsrRange];

    /// RDMSR; `None` is #GP.
    fn read_msr(&mut self, vcpu: VcpuId, index: u32) -> Option<u64>;

    /// WRMSR; `None` is #GP.
    fn write_msr(&mut self, vcpu: VcpuId, index: u32, value: u64, memory: &GuestMemory) -> Option<()>;

    /// A hypercall KVM hands on; gives RAX.
    fn hypercall(&mut self, number: u64, arguments: &[u64; 6], services: &mut dyn Services) -> u64 {
        let _ = (number, arguments, services);
        plain::KVM_ENOSYS
    }

    /// Instructions that KVM cannot hand to user space and the loader therefore rewrites.
    fn opcodes(&self) -> &'static [Opcode] {
        &[]
    }

    /// One of them, executed in kernel mode at a site the loader rewrote: changes the registers as the instruction would.
    /// Leaves RIP to the caller.
    fn instruction(&mut self, opcode: Opcode, regs: &mut kvm_regs, services: &mut dyn Services) -> Next {
        let _ = (opcode, regs, services);
        Next::Resume
    }

    /// GPA of the page whose code calls the hypervisor by an OUT to [`crate::layout::HYPERCALL_PORT`].
    fn hypercall_page(&self) -> Option<u64> {
        None
    }

    /// Such a call, made from that page in kernel mode.
    fn page_call(&mut self, regs: &mut kvm_regs, services: &mut dyn Services) -> Next {
        let _ = (regs, services);
        Next::Resume
    }

    /// What shows, up to the agent's start, that the guest runs as a guest of this platform.
    fn guest_type_evidence(&self, activity: &GuestActivity) -> Result<String, NoEvidence>;

    /// A forbidden access of RAM that does not complete. `address` is the guest virtual address, where known; `exact`: the
    /// vCPU is at the instruction, so that an exception can be raised there.
    fn denied(&mut self, mismatch: &Mismatch, address: u64, exact: bool) -> Consequence {
        let _ = (mismatch, address, exact);
        Consequence::Resume
    }

    /// A device accessed through the private view, where such an access has consequences ([`Mode::Faithful`]).
    fn private_device(&mut self, gpa: u64) -> Consequence {
        let _ = gpa;
        Consequence::Resume
    }

    /// Mask to OR into page-table entries that map private memory.
    fn private_mask(&self) -> u64 {
        match (self.view_with_bit(), self.encryption_bit()) {
            (View::Private, Some(bit)) => 1 << bit,
            _ => 0,
        }
    }

    /// GPA at which `view` shows the byte at plain `gpa`.
    fn alias(&self, view: View, gpa: u64) -> u64 {
        match self.encryption_bit() {
            Some(bit) if view == self.view_with_bit() => gpa | 1 << bit,
            _ => gpa,
        }
    }

    /// The page tables in use.
    fn page_tables(&self, sregs: &kvm_sregs) -> PageTables {
        PageTables::new(sregs, self.encryption_bit(), self.view_with_bit())
    }

    /// Splits an address as KVM reports it into view and plain GPA.
    fn split(&self, address: u64) -> (View, u64) {
        match self.encryption_bit() {
            None => (View::Private, address),
            Some(bit) if address >> bit & 1 == 1 => (self.view_with_bit(), address & !(1 << bit)),
            Some(_) => (self.view_with_bit().other(), address),
        }
    }
}

/// What firmware and hypervisor keep of one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlatformState {
    /// Nothing (platform `none`).
    None,
    /// Nothing that changes.
    Sev,
    /// GHCB protocol.
    Snp(snp::SnpState),
    /// TDX module.
    Tdx(tdx::TdState),
    /// Synthetic MSRs.
    Vbs(vbs::VbsState),
}

/// What may be chosen about a platform.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Position of the encryption bit; `None` takes the highest one that works here.
    pub encryption_bit: Option<u8>,
    /// Makes the memory key.
    pub seed: u64,
    /// What follows a mismatch.
    pub mode: Mode,
    /// TD attribute 28: an access to private memory not accepted ends the TD instead of raising #VE.
    pub sept_ve_disable: bool,
}

/// Makes the platform.
pub fn make(kind: Platform, host: &HostFacts, options: &Options) -> Box<dyn PlatformModel> {
    let bit = options.encryption_bit.unwrap_or(host.default_encryption_bit());
    match kind {
        Platform::None => Box::new(PlainPlatform),
        Platform::Sev => Box::new(Sev::new(bit, options.seed)),
        Platform::Snp => Box::new(snp::Snp::new(bit, options.mode)),
        Platform::Tdx => Box::new(tdx::Tdx::new(bit, options.mode, options.sept_ve_disable)),
        Platform::Vbs => Box::new(vbs::Vbs::new(bit, options.mode)),
    }
}
