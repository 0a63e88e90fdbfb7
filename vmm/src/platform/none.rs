// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An ordinary KVM guest: one view, nothing pretended.

use super::guest_type::{NoSign, Seen};
use super::sev::LEAF_ENCRYPTED_MEMORY;
use super::{MsrRange, Platform, PlatformKind};
use crate::memory::{Content, GuestMemory, View};
use crate::vcpu::cpuid::CpuidTable;

/// `ENOSYS`, as KVM's own hypercalls answer (`arch/x86/kvm/x86.c:kvm_emulate_hypercall`).
pub(super) const KVM_ENOSYS: u64 = (-1000i64).cast_unsigned();

/// Platform `none`.
#[derive(Debug, Clone, Copy)]
pub struct None;

impl Platform for None {
    fn kind(&self) -> PlatformKind {
        PlatformKind::None
    }

    fn content(&self) -> Content {
        Content::OneView
    }

    fn encryption_bit(&self) -> Option<u8> {
        Option::None
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

    fn read_msr(&mut self, _index: u32) -> Option<u64> {
        Option::None
    }

    fn write_msr(&mut self, _index: u32, _value: u64, _memory: &GuestMemory) -> Option<()> {
        Option::None
    }

    fn guest_type_evidence(&self, _seen: &Seen) -> Result<String, NoSign> {
        Ok("none needed".to_owned())
    }

    fn hypercall(&mut self, _number: u64, _arguments: &[u64; 6], _memory: &GuestMemory) -> u64 {
        KVM_ENOSYS
    }
}
