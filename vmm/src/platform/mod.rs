//! What a guest is made to believe about the machine it runs on: CPUID, MSRs, hypercalls, views.

mod none;
pub mod sev;

use std::fmt;
use std::str::FromStr;

pub use self::none::None as Plain;
pub use self::sev::{HYPERCALL_MAP_GPA_RANGE, Sev};
use crate::memory::{Content, GuestMemory, View};
use crate::vcpu::cpuid::CpuidTable;

/// A kind of confidential guest, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PlatformKind {
    /// An ordinary KVM guest.
    None,
    /// AMD SEV: encrypted memory, no page states.
    Sev,
}

impl PlatformKind {
    /// Every platform this build can simulate.
    pub const ALL: [Self; 2] = [Self::None, Self::Sev];

    /// Short name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sev => "sev",
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
        }
    }

    /// What hardware has and this has not, for reports.
    pub fn not_simulated(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Sev => &[
                "no SEV hardware: no isolation, no attestation, the host sees everything",
                "hardware has its own cipher and tweak, so ciphertext differs",
                "page walks and instruction fetches use the view the page tables name; hardware forces them private",
            ],
        }
    }
}

impl fmt::Display for PlatformKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A platform name nobody knows.
#[derive(Debug, thiserror::Error)]
#[error("unknown platform '{0}': known are none, sev")]
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

/// Makes the platform; `bit` overrides the position of its encryption bit, `seed` makes its key.
pub fn make(kind: PlatformKind, host: &HostFacts, bit: Option<u8>, seed: u64) -> Box<dyn Platform> {
    match kind {
        PlatformKind::None => Box::new(Plain),
        PlatformKind::Sev => Box::new(Sev::new(bit.unwrap_or(host.default_encryption_bit()), seed)),
    }
}
