// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plain SEV: one CPUID leaf, one MSR, the C-bit, and the hypercall by which Linux reports its conversions.
//!
//! Linux detects SEV in `arch/x86/mm/mem_encrypt_identity.c:sme_enable` from exactly these.

use types::{Platform, VcpuId, View};

use super::failure::{Conversion, ConversionCall};
use super::guest_type::{self, GuestActivity, NoEvidence};
use super::services::Services;
use super::{MsrRange, PlatformModel, PlatformState};
use crate::memory::{Content, GuestMemory};
use crate::x86::cpuid::{CpuidTable, LEAF_ADDRESS_SIZES};

/// Encrypted memory capabilities (AMD APM volume 3 §E.4.17).
pub(super) const LEAF_ENCRYPTED_MEMORY: u32 = 0x8000_001f;
/// Largest extended leaf.
pub(super) const LEAF_LARGEST_EXTENDED: u32 = 0x8000_0000;
/// KVM's features; bit 17 lets the guest report conversions (`kvm_para.h:KVM_FEATURE_MIGRATION_CONTROL`).
pub(super) const LEAF_KVM_FEATURES: u32 = 0x4000_0001;

/// `SEV_STATUS`; bit 0: SEV is active (AMD APM volume 2 §15.34.10).
const MSR_SEV_STATUS: u32 = 0xc001_0131;
/// The GHCB MSR beside it, absent without SEV-ES.
const MSR_SEV_ES_GHCB: u32 = 0xc001_0130;
/// `kvm_para.h:MSR_KVM_MIGRATION_CONTROL`; the guest writes 1 once its list of shared pages is complete.
const MSR_KVM_MIGRATION_CONTROL: u32 = 0x4b56_4d08;
/// `kvm_para.h:KVM_MIGRATION_READY`.
const MIGRATION_READY: u64 = 1;

/// `kvm_para.h:KVM_HC_MAP_GPA_RANGE`: RBX = GPA, RCX = 4 KiB pages, RDX bit 4 = encrypted.
pub const HYPERCALL_MAP_GPA_RANGE: u64 = 12;
const MAP_GPA_RANGE_ENCRYPTED: u64 = 1 << 4;
/// `kvm_para.h:KVM_EINVAL` and `KVM_ENOSYS`, negated as a hypercall returns them.
const KVM_EINVAL: u64 = (-22i64).cast_unsigned();
const KVM_ENOSYS: u64 = (-1000i64).cast_unsigned();

/// Platform `sev`.
#[derive(Debug)]
pub struct Sev {
    c_bit: u8,
    seed: u64,
}

impl Sev {
    /// A guest whose C-bit is at `c_bit` and whose memory key is made of `seed`.
    pub fn new(c_bit: u8, seed: u64) -> Self {
        Self { c_bit, seed }
    }
}

impl PlatformModel for Sev {
    fn kind(&self) -> Platform {
        Platform::Sev
    }

    fn content(&self) -> Content {
        Content::EncryptedAlias { seed: self.seed }
    }

    fn save(&self) -> PlatformState {
        PlatformState::Sev
    }

    fn restore(&mut self, state: &PlatformState) -> bool {
        *state == PlatformState::Sev
    }

    fn encryption_bit(&self) -> Option<u8> {
        Some(self.c_bit)
    }

    fn view_with_bit(&self) -> View {
        View::Private
    }

    fn cpuid(&self, table: &mut CpuidTable) {
        const SEV: u32 = 1 << 1;
        const MIGRATION_CONTROL: u32 = 1 << 17;
        /// EBX[11:6]: physical address bits given up when memory encryption is on.
        const REDUCTION: u32 = 1 << 6;
        table.edit(LEAF_LARGEST_EXTENDED, |leaf| leaf.eax = leaf.eax.max(LEAF_ENCRYPTED_MEMORY));
        table.edit(LEAF_ENCRYPTED_MEMORY, |leaf| {
            leaf.eax = SEV;
            leaf.ebx = u32::from(self.c_bit) | REDUCTION;
            (leaf.ecx, leaf.edx) = (0, 0);
        });
        table.edit(LEAF_ADDRESS_SIZES, |leaf| {
            // Page-table entries may carry the bit only if it is a physical address bit.
            leaf.eax = (leaf.eax & !0xff) | (leaf.eax & 0xff).max(u32::from(self.c_bit) + 1);
        });
        table.edit(LEAF_KVM_FEATURES, |leaf| leaf.eax |= MIGRATION_CONTROL);
    }

    fn msrs(&self) -> &'static [MsrRange] {
        &[
            MsrRange { first: MSR_SEV_ES_GHCB, count: 2 },
            MsrRange { first: MSR_KVM_MIGRATION_CONTROL, count: 1 },
        ]
    }

    fn read_msr(&mut self, _vcpu: VcpuId, index: u32) -> Option<u64> {
        match index {
            MSR_SEV_STATUS => Some(1),
            MSR_KVM_MIGRATION_CONTROL => Some(0),
            _ => None,
        }
    }

    fn write_msr(&mut self, _vcpu: VcpuId, index: u32, value: u64, memory: &GuestMemory) -> Option<()> {
        match index {
            MSR_KVM_MIGRATION_CONTROL => {
                // `arch/x86/kernel/kvm.c:kvm_guest_cpu_offline` writes 0 before the next kernel starts: what this one declared
                // stays true until then.
                if value & MIGRATION_READY != 0 {
                    memory.map_gpa_range_enabled();
                }
                Some(())
            }
            _ => None,
        }
    }

    fn guest_type_evidence(&self, activity: &GuestActivity) -> Result<String, NoEvidence> {
        guest_type::c_bit_in_cr3(activity, self.c_bit)?;
        Ok(format!("C-bit in CR3, {} pages converted", activity.conversions))
    }

    fn hypercall(&mut self, number: u64, arguments: &[u64; 6], services: &mut dyn Services) -> u64 {
        if number != HYPERCALL_MAP_GPA_RANGE {
            return KVM_ENOSYS;
        }
        let [gpa, pages, attributes, ..] = *arguments;
        let (_, gpa) = self.split(gpa);
        let Some(end) = pages.checked_mul(crate::layout::PAGE_SIZE).and_then(|len| gpa.checked_add(len))
        else {
            return KVM_EINVAL;
        };
        if gpa % crate::layout::PAGE_SIZE != 0 || end > 1 << self.c_bit {
            return KVM_EINVAL;
        }
        let view = if attributes & MAP_GPA_RANGE_ENCRYPTED != 0 { View::Private } else { View::Shared };
        let conversion = Conversion { call: ConversionCall::MapGpaRange, to: view, gpa, pages };
        if let Some(refusal) = services.refuse(&conversion) {
            services.memory().note_refusal(gpa, pages, view);
            return refusal.error.value;
        }
        services.memory().declare(gpa, pages, view);
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::services::fake::Fake;

    #[test]
    fn the_c_bit_splits_and_joins_addresses() {
        let sev = Sev::new(38, 0);
        assert_eq!(sev.split(0xf0000 | 1 << 38), (View::Private, 0xf0000));
        assert_eq!(sev.split(0xf0000), (View::Shared, 0xf0000));
        assert_eq!(sev.alias(View::Private, 0x1000), 0x1000 | 1 << 38);
        assert_eq!(sev.alias(View::Shared, 0x1000), 0x1000);
    }

    proptest::proptest! {
        #[test]
        fn map_gpa_range_takes_any_registers(number in 0u64..16, gpa: u64, pages: u64, attributes: u64) {
            let mut sev = Sev::new(38, 0);
            let answer = sev.hypercall(number, &[gpa, pages, attributes, 0, 0, 0], &mut Fake::of_sev(&[]));
            proptest::prop_assert!([0, KVM_EINVAL, KVM_ENOSYS].contains(&answer));
        }

        #[test]
        fn a_range_whose_declaration_is_refused_is_what_it_was(page in 256u64..1000, pages in 1u64..50, nth in 1u32..4) {
            let mut sev = Sev::new(38, 0);
            let mut fake = Fake::of_sev(&[&format!("map-gpa-range:nth={nth},error=enosys")]);
            let gpa = page * crate::layout::PAGE_SIZE;
            for call in 1..=4 {
                // One call is refused: the state is that of the last one that was not.
                let view = if call % 2 == 1 { View::Shared } else { View::Private };
                let before = fake.memory.declared(gpa);
                let attributes = if view == View::Private { MAP_GPA_RANGE_ENCRYPTED } else { 0 };
                let arguments = [gpa, pages, attributes, 0, 0, 0];
                let answer = sev.hypercall(HYPERCALL_MAP_GPA_RANGE, &arguments, &mut fake);
                let refused = call == nth;
                proptest::prop_assert_eq!(answer, if refused { KVM_ENOSYS } else { 0 });
                proptest::prop_assert_eq!(fake.memory.declared(gpa), if refused { before } else { Some(view) });
            }
        }
    }
}
