// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An ordinary KVM guest: one view, nothing pretended.

use types::{Platform, VcpuId, View};

use super::guest_type::{GuestActivity, NoEvidence};
use super::sev::LEAF_ENCRYPTED_MEMORY;
use super::{MsrRange, PlatformModel, PlatformState};
use crate::memory::{Content, GuestMemory};
use crate::x86::cpuid::CpuidTable;

/// `ENOSYS`, as KVM's own hypercalls answer (`arch/x86/kvm/x86.c:kvm_emulate_hypercall`).
pub(super) const KVM_ENOSYS: u64 = (-1000i64).cast_unsigned();

/// Platform `none`.
#[derive(Debug, Clone, Copy)]
pub struct PlainPlatform;

impl PlatformModel for PlainPlatform {
    fn kind(&self) -> Platform {
        Platform::None
    }

    fn content(&self) -> Content {
        Content::OneView
    }

    fn save(&self) -> PlatformState {
        PlatformState::None
    }

    fn restore(&mut self, state: &PlatformState) -> bool {
        *state == PlatformState::None
    }

    fn encryption_bit(&self) -> Option<u8> {
        None
    }

    fn view_with_bit(&self) -> View {
        View::Shared
    }

    fn cpuid(&self, table: &mut CpuidTable) {
        // A host with SEV offers the leaf, and Linux then reads an MSR that an ordinary guest has not
        // (`arch/x86/mm/mem_encrypt_identity.c:sme_enable`).
        table.remove(LEAF_ENCRYPTED_MEMORY);
    }

    fn msrs(&self) -> &'static [MsrRange] {
        &[]
    }

    fn read_msr(&mut self, _vcpu: VcpuId, _index: u32) -> Option<u64> {
        None
    }

    fn write_msr(&mut self, _vcpu: VcpuId, _index: u32, _value: u64, _memory: &GuestMemory) -> Option<()> {
        None
    }

    fn guest_type_evidence(&self, _activity: &GuestActivity) -> Result<String, NoEvidence> {
        Ok("none needed".to_owned())
    }
}
