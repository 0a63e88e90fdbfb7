// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a machine could not be made or could not go on.

use std::io;

use crate::boot::linux::LoadError;
use crate::device::virtio::VirtioError;
use crate::memory::MemoryError;

/// Making a machine failed.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// /dev/kvm does not open.
    #[error(
        "/dev/kvm does not open ({0}): load kvm_intel or kvm_amd, join group kvm, or enable nested virtualisation"
    )]
    Open(kvm_ioctls::Error),
    /// An ioctl failed.
    #[error("{attempt}: KVM answered {source}")]
    Kvm {
        /// What was attempted.
        attempt: &'static str,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
    /// KVM lacks something.
    #[error("this KVM has no {capability} ({purpose}); use a newer host kernel")]
    Capability {
        /// Its name in the KVM API.
        capability: &'static str,
        /// What it is for.
        purpose: &'static str,
    },
    /// The encryption bit has no room.
    #[error(
        "the encryption bit {bit} does not fit: it must lie above RAM (bit {lowest}) and below the host's {bits} physical address bits"
    )]
    EncryptionBit {
        /// Requested.
        bit: u8,
        /// Lowest that works.
        lowest: u8,
        /// Host's physical address bits.
        bits: u8,
    },
    /// Memory could not be made.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A virtio device could not be made.
    #[error(transparent)]
    Virtio(#[from] VirtioError),
    /// The kernel could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Running a machine failed on the host's side. What a guest does is never an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// `KVM_RUN` or a register ioctl failed.
    #[error("{attempt}: KVM answered {source}; the guest was at RIP {rip:#x}")]
    Kvm {
        /// What was attempted.
        attempt: &'static str,
        /// RIP, if known.
        rip: u64,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
    /// The deadline timer could not be made.
    #[error("starting the deadline timer: {0}; raise `ulimit -i`")]
    Timer(io::Error),
    /// Page enforcement failed.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// An earlier failure of the host came in the middle of an exit, which was not answered.
    #[error(
        "running the guest: its vCPU {0} has an exit that was not completed after an earlier failure of this host; boot a new guest"
    )]
    Unanswered(u32),
}
