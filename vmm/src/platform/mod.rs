// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest is made to believe about the machine it runs on: CPUID, MSRs, hypercalls, views.

pub mod guest_type;
mod none;
pub mod services;
pub mod sev;
pub mod snp;
pub mod tdx;
pub mod vbs;

use std::fmt;
use std::str::FromStr;

use kvm_bindings::kvm_regs;

use self::guest_type::{NoSign, Seen};
pub use self::none::None as Plain;
use self::services::{Consequence, Next, Services};
pub use self::sev::{HYPERCALL_MAP_GPA_RANGE, Sev};
use crate::boot::opcode::Opcode;
use crate::memory::protected::{Mode, PageState};
use crate::memory::{Content, GuestMemory, Mismatch, View};
use crate::vcpu::cpuid::CpuidTable;

/// A kind of confidential guest, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PlatformKind {
    /// An ordinary KVM guest.
    None,
    /// AMD SEV: encrypted memory, no page states.
    Sev,
    /// AMD SEV-SNP at VMPL0.
    Snp,
    /// Intel TDX.
    Tdx,
    /// Hyper-V VBS isolation with a virtual top of memory.
    Vbs,
}

impl PlatformKind {
    /// Every platform this build can simulate.
    pub const ALL: [Self; 5] = [Self::None, Self::Sev, Self::Snp, Self::Tdx, Self::Vbs];

    /// Short name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sev => "sev",
            Self::Snp => "snp",
            Self::Tdx => "tdx",
            Self::Vbs => "vbs",
        }
    }

    /// RAM may be launched unaccepted, and the guest accepts it.
    pub fn accepts_memory(self) -> bool {
        matches!(self, Self::Snp | Self::Tdx)
    }

    /// State of the ROM area (0xC0000–0xFFFFF) at launch where nothing else is asked for. SEV-SNP firmware leaves it
    /// unvalidated, which is why Linux scans no ROMs there (`arch/x86/mm/mem_encrypt_amd.c:sme_early_init`); a TD scans
    /// them through the private view (`arch/x86/kernel/probe_roms.c:probe_roms`), so its firmware has accepted them.
    pub fn usual_rom(self) -> Option<PageState> {
        match self {
            Self::None | Self::Sev => None,
            Self::Snp => Some(PageState::Unaccepted),
            Self::Tdx | Self::Vbs => Some(PageState::Private),
        }
    }

    /// What the VMM stands in for, for reports.
    pub fn simulated(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Sev => &[
                "CPUID 0x8000001f, MSR 0xC0010131 and the C-bit are supplied by the VMM",
                "memory encryption is AES-XTS per 4 KiB page, tweaked by address, moved between two views as they are touched",
            ],
            Self::Snp => &[
                "CPUID 0x8000001f, MSRs 0xC0010130 and 0xC0010131, the C-bit, CPUID page and secrets page are supplied by the VMM",
                "the RMP: a state per page and view, contents dropped on conversion",
                "VMGEXIT, PVALIDATE and RMPADJUST are rewritten to port writes in the loaded kernel and answered by the VMM",
                "#VC 0x404 is delivered by the VMM for a private access to memory not validated",
            ],
            Self::Tdx => &[
                "CPUID 0x21, the shared bit and the TDX module's and hypervisor's calls are supplied by the VMM",
                "the secure EPT: a state per page and view, contents dropped on conversion",
                "TDCALL is rewritten to a port write in the loaded kernel and answered by the VMM",
            ],
            Self::Vbs => &[
                "Hyper-V's CPUID leaves, MSRs, hypercall page and the shared GPA boundary are supplied by the VMM",
                "host visibility: a state per page and view, contents dropped on conversion",
            ],
        }
    }

    /// What hardware has and this has not, for reports.
    pub fn not_simulated(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Sev => &[
                "no SEV hardware: no isolation, no attestation, the host sees everything",
                "hardware has its own cipher and tweak, so ciphertext differs",
                WALKS,
            ],
            Self::Snp => &[
                "no SEV-SNP hardware: no isolation, no attestation, keys in the secrets page are fake, the host sees everything",
                "no #VC but 0x404: CPUID, MSRs and port I/O simply work",
                "a page validated or converted holds zeros; hardware leaves noise, and bytes of a page rescinded and validated again",
                WALKS,
            ],
            Self::Tdx => &[
                "no TDX hardware: no isolation, no attestation, TDG.MR.REPORT gives a fake, the host sees everything",
                "no #VE but for illegal private accesses: CPUID, MSRs, HLT and port I/O simply work",
            ],
            Self::Vbs => &[
                "no Hyper-V: no isolation, the host sees everything",
                "what Hyper-V does on a touch through the wrong view is not documented: here it is recorded and goes on",
            ],
        }
    }
}

const WALKS: &str =
    "page walks and instruction fetches use the view the page tables name; hardware forces them private";

impl fmt::Display for PlatformKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A platform name nobody knows.
#[derive(Debug, thiserror::Error)]
#[error("unknown platform '{0}': known are none, sev, snp, tdx, vbs")]
pub struct UnknownPlatform(String);

impl FromStr for PlatformKind {
    type Err = UnknownPlatform;

    fn from_str(name: &str) -> Result<Self, UnknownPlatform> {
        Self::ALL.into_iter().find(|p| p.name() == name).ok_or_else(|| UnknownPlatform(name.into()))
    }
}

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
pub trait Platform: fmt::Debug + Send {
    /// Which.
    fn kind(&self) -> PlatformKind;

    /// How many views its memory has and what connects them.
    fn content(&self) -> Content;

    /// Address bit that tells the views apart, `None` with one view.
    fn encryption_bit(&self) -> Option<u8>;

    /// View of an address that carries the encryption bit.
    fn view_with_bit(&self) -> View;

    /// Edits the CPUID table.
    fn cpuid(&self, table: &mut CpuidTable);

    /// Registers to be answered here.
    fn msrs(&self) -> &'static [MsrRange];

    /// RDMSR; `None` is #GP.
    fn read_msr(&mut self, index: u32) -> Option<u64>;

    /// WRMSR; `None` is #GP.
    fn write_msr(&mut self, index: u32, value: u64, memory: &GuestMemory) -> Option<()>;

    /// A hypercall KVM hands on; gives RAX.
    fn hypercall(&mut self, number: u64, arguments: &[u64; 6], memory: &GuestMemory) -> u64;

    /// Instructions that KVM cannot hand to user space and the loader therefore rewrites.
    fn opcodes(&self) -> &'static [Opcode] {
        &[]
    }

    /// One of them, met in kernel mode at a site the loader rewrote: does what the instruction would do to the registers.
    /// RIP stays where it is; the caller moves on.
    fn instruction(&mut self, opcode: Opcode, regs: &mut kvm_regs, services: &mut dyn Services) -> Next {
        let _ = (opcode, regs, services);
        Next::Resume
    }

    /// GPA of the page whose code calls the hypervisor by an OUT to [`crate::layout::HYPERCALL_PORT`].
    fn hypercall_page(&self) -> Option<u64> {
        None
    }

    /// Such a call, met in that page and in kernel mode.
    fn page_call(&mut self, regs: &mut kvm_regs, services: &mut dyn Services) -> Next {
        let _ = (regs, services);
        Next::Resume
    }

    /// What the guest has done until its agent came up that only a guest of this platform does.
    fn guest_type_evidence(&self, seen: &Seen) -> Result<String, NoSign>;

    /// A touch of RAM that does not go through. `address` is the guest virtual address, where known; `exact` says that the
    /// vCPU stands at the instruction, so that an exception can be raised there.
    fn denied(&mut self, mismatch: &Mismatch, address: u64, exact: bool) -> Consequence {
        let _ = (mismatch, address, exact);
        Consequence::Resume
    }

    /// A device touched through the private view, where such a touch is to have its consequences ([`Mode::Faithful`]).
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

    /// Splits an address as KVM reports it into view and plain GPA.
    fn split(&self, address: u64) -> (View, u64) {
        match self.encryption_bit() {
            None => (View::Private, address),
            Some(bit) if address >> bit & 1 == 1 => (self.view_with_bit(), address & !(1 << bit)),
            Some(_) => (self.view_with_bit().other(), address),
        }
    }
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
pub fn make(kind: PlatformKind, host: &HostFacts, options: &Options) -> Box<dyn Platform> {
    let bit = options.encryption_bit.unwrap_or(host.default_encryption_bit());
    match kind {
        PlatformKind::None => Box::new(Plain),
        PlatformKind::Sev => Box::new(Sev::new(bit, options.seed)),
        PlatformKind::Snp => Box::new(snp::Snp::new(bit, options.mode)),
        PlatformKind::Tdx => Box::new(tdx::Tdx::new(bit, options.mode, options.sept_ve_disable)),
        PlatformKind::Vbs => Box::new(vbs::Vbs::new(bit, options.mode)),
    }
}
