// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a guest could not be saved or restored.

use std::io;

use types::{Platform, VcpuId};

use crate::machine::MachineError;
use crate::machine::vcpu::image::VcpuImageError;
use crate::memory::MemoryError;

/// Why a guest could not be saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It has devices that access its memory.
    #[error(
        "a guest with devices that access its memory cannot be saved: what they know of its requests is no part of a saved guest"
    )]
    Dma,
    /// An ioctl failed.
    #[error("{attempt}: KVM answered {source}")]
    Kvm {
        /// What was attempted.
        attempt: &'static str,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
    /// A vCPU.
    #[error(transparent)]
    Vcpu(#[from] VcpuImageError),
    /// A device.
    #[error("{0}")]
    Devices(io::Error),
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// No new VM.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The snapshot is of another platform.
    #[error("restoring a {0} guest: the snapshot is of a guest of another platform")]
    Platform(Platform),
    /// The snapshot has other vCPUs.
    #[error("restoring a guest of {present} vCPUs: the snapshot has {saved}")]
    Vcpus {
        /// In the snapshot.
        saved: usize,
        /// In the VM.
        present: usize,
    },
    /// Nothing says which pages changed.
    #[error("restoring a guest that was never saved: boot a new one")]
    NotSaved,
    /// An earlier failure of the host came in the middle of an exit.
    #[error("saving or restoring a guest: its vCPU {} has an exit that an earlier failure of this host left unanswered; boot a new guest", .0.0)]
    Unanswered(VcpuId),
}

impl SnapshotError {
    pub(super) fn kvm(attempt: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |source| Self::Kvm { attempt, source }
    }
}
