// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a vCPU re-enters the guest.

/// The answer to a vCPU's last exit. It can be made of that exit only, so an exit the guest did not make cannot be
/// answered, and none can be answered twice.
#[derive(Debug)]
pub struct VmEntry(pub(super) Answer);

/// What KVM reads from `kvm_run` at the next `KVM_RUN`.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing.
    None,
    /// All items of a port read, taken from `offset` of the vCPU's mapping.
    PortRead { offset: u64, data: Vec<u8> },
    /// The bytes of a device read, the rest zeros.
    MmioRead { data: [u8; 8] },
    /// The result of a filtered MSR access; `None` is #GP.
    Msr { value: Option<u64> },
    /// RAX after a hypercall.
    Hypercall { rax: u64 },
}
