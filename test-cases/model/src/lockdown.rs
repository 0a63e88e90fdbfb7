// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lockdown: what the kernel keeps from root (`security/lockdown/lockdown.c`).

/// How far a kernel is locked down as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not at all.
    None,
    /// `LOCKDOWN_INTEGRITY_MAX`: nothing that changes the running kernel.
    Integrity,
    /// `LOCKDOWN_CONFIDENTIALITY_MAX`: and nothing that shows its memory.
    Confidentiality,
}

/// What lockdown restricts (`include/linux/security.h:lockdown_reason`); the reasons that the model covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// `LOCKDOWN_DEV_MEM`: opening /dev/mem and /dev/port.
    DevMem,
    /// `LOCKDOWN_PCI_ACCESS`: mapping BARs, writing configuration space.
    PciAccess,
    /// `LOCKDOWN_IOPORT`: ioperm(2), iopl(2).
    IoPort,
    /// `LOCKDOWN_MSR`: writing model-specific registers.
    Msr,
    /// `LOCKDOWN_KCORE`: opening /proc/kcore.
    Kcore,
}

impl Reason {
    /// The lowest level that includes it.
    pub const fn level(self) -> Level {
        match self {
            Self::DevMem | Self::PciAccess | Self::IoPort | Self::Msr => Level::Integrity,
            Self::Kcore => Level::Confidentiality,
        }
    }
}
