// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The CPUID table a guest sees, edited leaf by leaf.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};

/// Four registers of one leaf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leaf {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// A CPUID table under construction.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct CpuidTable {
    entries: Vec<kvm_cpuid_entry2>,
    tsc_hz: Option<u64>,
}

impl CpuidTable {
    /// Starts from what KVM supports.
    pub fn new(supported: &CpuId) -> Self {
        Self { entries: supported.as_slice().to_vec(), tsc_hz: None }
    }

    /// Frequency of the guest's TSC, where KVM reports it.
    pub fn tsc_hz(&self) -> Option<u64> {
        self.tsc_hz
    }

    /// Sets the frequency of the guest's TSC.
    pub fn set_tsc_hz(&mut self, hz: u64) {
        self.tsc_hz = Some(hz);
    }

    /// The leaf's registers, subleaf 0 where it has several.
    pub fn get(&self, function: u32) -> Option<Leaf> {
        self.entries.iter().find(|e| e.function == function && e.index == 0).map(|e| Leaf {
            eax: e.eax,
            ebx: e.ebx,
            ecx: e.ecx,
            edx: e.edx,
        })
    }

    /// The subleaf's registers; a leaf without subleaves answers alike to every index.
    pub fn subleaf(&self, function: u32, index: u32) -> Option<Leaf> {
        let significant = |e: &kvm_cpuid_entry2| e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
        self.entries
            .iter()
            .find(|e| e.function == function && (!significant(e) || e.index == index))
            .map(|e| Leaf { eax: e.eax, ebx: e.ebx, ecx: e.ecx, edx: e.edx })
    }

    /// Every leaf and subleaf with its registers.
    pub fn leaves(&self) -> impl Iterator<Item = (u32, u32, Leaf)> + '_ {
        self.entries
            .iter()
            .map(|e| (e.function, e.index, Leaf { eax: e.eax, ebx: e.ebx, ecx: e.ecx, edx: e.edx }))
    }

    /// Changes the leaf (subleaf 0), made of zeros if it was missing.
    pub fn edit(&mut self, function: u32, change: impl FnOnce(&mut Leaf)) {
        let mut leaf = self.get(function).unwrap_or_default();
        change(&mut leaf);
        let Leaf { eax, ebx, ecx, edx } = leaf;
        if let Some(e) = self.entries.iter_mut().find(|e| e.function == function && e.index == 0) {
            (e.eax, e.ebx, e.ecx, e.edx) = (eax, ebx, ecx, edx);
        } else {
            self.entries.push(kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() });
        }
    }

    /// Changes one subleaf, if it is there.
    pub fn edit_subleaf(&mut self, function: u32, index: u32, change: impl FnOnce(&mut Leaf)) {
        let found = self.entries.iter_mut().find(|e| {
            e.function == function && e.index == index && e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0
        });
        if let Some(e) = found {
            let mut leaf = Leaf { eax: e.eax, ebx: e.ebx, ecx: e.ecx, edx: e.edx };
            change(&mut leaf);
            (e.eax, e.ebx, e.ecx, e.edx) = (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx);
        }
    }

    /// Takes a leaf and all its subleaves away.
    pub fn remove(&mut self, function: u32) {
        self.entries.retain(|e| e.function != function);
    }

    /// The table as KVM takes it; `None` if it has grown beyond what KVM takes.
    pub fn to_kvm(&self) -> Option<CpuId> {
        let fits = self.entries.len() <= KVM_MAX_CPUID_ENTRIES;
        fits.then(|| CpuId::from_entries(&self.entries).ok()).flatten()
    }
}

/// Largest physical address width the table reports (AMD APM volume 3 §E.4.7, leaf 0x80000008 EAX[7:0]).
pub fn physical_address_bits(table: &CpuidTable) -> u8 {
    table.get(LEAF_ADDRESS_SIZES).map_or(36, |leaf| (leaf.eax & 0xff) as u8)
}

/// Address sizes.
pub const LEAF_ADDRESS_SIZES: u32 = 0x8000_0008;
/// Features; ECX bit 31: a hypervisor is present, bit 24 "TSC-deadline timer".
const LEAF_FEATURES: u32 = 1;
/// Extended state enumeration.
const LEAF_XSAVE: u32 = 0xd;
/// Structured extended features; EBX bit 5 is AVX2.
const LEAF_EXTENDED_FEATURES: u32 = 7;
/// KVM's paravirtual features (`arch/x86/include/uapi/asm/kvm_para.h`).
const LEAF_KVM_FEATURES: u32 = 0x4000_0001;
/// Host signature of QEMU's TCG in leaf 0x40000000.
const TCG_SIGNATURE: &[u8; 12] = b"TCGTCGTCGTCG";

/// Edits common to every platform.
pub fn common(table: &mut CpuidTable, apic_id: u32) {
    const HYPERVISOR: u32 = 1 << 31;
    const TSC_DEADLINE: u32 = 1 << 24;
    // `kvm_para.h`: ASYNC_PF, ASYNC_PF_VMEXIT, ASYNC_PF_INT. A pending access must stop the vCPU itself, not a
    // worker that faults for it.
    const ASYNC_PF: u32 = 1 << 4 | 1 << 10 | 1 << 14;
    table.edit(LEAF_FEATURES, |leaf| {
        leaf.ecx |= HYPERVISOR | TSC_DEADLINE;
        leaf.ebx = (leaf.ebx & 0x00ff_ffff) | apic_id << 24;
    });
    table.edit(LEAF_KVM_FEATURES, |leaf| leaf.eax &= !ASYNC_PF);
    without_other_exception_delivery(table);
    if host_is_tcg() {
        // TCG does not intercept XSETBV, so sizes in leaf 0xD contradict XCR0: Linux 6.12 warns
        // (`arch/x86/kernel/fpu/xstate.c:paranoid_xstate_size_valid`), later kernels panic.
        const XSAVE_OSXSAVE_AVX: u32 = 1 << 26 | 1 << 27 | 1 << 28;
        const F16C_FMA: u32 = 1 << 29 | 1 << 12;
        const AVX2: u32 = 1 << 5;
        table.edit(LEAF_FEATURES, |leaf| leaf.ecx &= !(XSAVE_OSXSAVE_AVX | F16C_FMA));
        table.edit_subleaf(LEAF_EXTENDED_FEATURES, 0, |leaf| leaf.ebx &= !AVX2);
        table.remove(LEAF_XSAVE);
    }
}

/// Takes away what would change how exceptions are delivered, which the VMM does itself for #VC and #VE
/// (`vcpu/exception.rs`): FRED's frames, and shadow stacks with their tokens (Intel SDM volume 1 §17, volume 3 §6).
fn without_other_exception_delivery(table: &mut CpuidTable) {
    /// Leaf 7 subleaf 0: shadow stacks, indirect branch tracking.
    const SHSTK: u32 = 1 << 7;
    const IBT: u32 = 1 << 20;
    /// Leaf 7 subleaf 1.
    const FRED: u32 = 1 << 17;
    /// Leaf 0xD subleaf 1, ECX: what XSAVES keeps of user and supervisor shadow stacks in `IA32_XSS`.
    const CET_STATES: u32 = 1 << 11 | 1 << 12;
    table.edit_subleaf(LEAF_EXTENDED_FEATURES, 0, |leaf| {
        leaf.ecx &= !SHSTK;
        leaf.edx &= !IBT;
    });
    table.edit_subleaf(LEAF_EXTENDED_FEATURES, 1, |leaf| leaf.eax &= !FRED);
    table.edit_subleaf(LEAF_XSAVE, 1, |leaf| leaf.ecx &= !CET_STATES);
}

/// What the hypervisor around this process calls itself, if there is one (CPUID 1 ECX[31], 0x40000000).
pub fn hypervisor_signature() -> Option<[u8; 12]> {
    const HYPERVISOR: u32 = 1 << 31;
    (std::arch::x86_64::__cpuid(LEAF_FEATURES).ecx & HYPERVISOR != 0).then(|| {
        let leaf = std::arch::x86_64::__cpuid(0x4000_0000);
        let words = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
        std::array::from_fn(|i| words[i / 4][i % 4])
    })
}

/// The host is QEMU's emulator rather than a processor.
pub fn host_is_tcg() -> bool {
    hypervisor_signature().as_ref() == Some(TCG_SIGNATURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[kvm_cpuid_entry2]) -> CpuidTable {
        CpuidTable { entries: entries.to_vec(), tsc_hz: None }
    }

    #[test]
    fn a_missing_leaf_is_made_and_a_present_one_edited() {
        let mut t = table(&[kvm_cpuid_entry2 { function: 1, eax: 5, ..Default::default() }]);
        t.edit(1, |leaf| leaf.eax += 1);
        t.edit(9, |leaf| leaf.edx = 3);
        assert_eq!(t.get(1).unwrap().eax, 6);
        assert_eq!(t.get(9).unwrap(), Leaf { edx: 3, ..Default::default() });
        t.remove(1);
        assert_eq!(t.get(1), None);
    }

    #[test]
    fn no_guest_gets_another_exception_delivery_than_the_vmms() {
        let leaf = |function, index| kvm_cpuid_entry2 {
            function,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax: !0,
            ebx: !0,
            ecx: !0,
            edx: !0,
            ..Default::default()
        };
        let all = [(7, 0), (7, 1), (0xd, 0), (0xd, 1)].map(|(function, index)| leaf(function, index));
        let mut t = table(&all);
        without_other_exception_delivery(&mut t);
        let (features, more) = (t.subleaf(7, 0).unwrap(), t.subleaf(7, 1).unwrap());
        assert_eq!((features.ecx, features.edx, more.eax), (!(1 << 7), !(1 << 20), !(1 << 17)));
        assert_eq!(t.subleaf(0xd, 1).unwrap().ecx, !(3 << 11));
        assert_eq!((features.eax, features.ebx, more.ecx), (!0, !0, !0), "the rest stays");
    }

    #[test]
    fn common_announces_a_hypervisor_and_no_async_page_faults() {
        let mut t = table(&[kvm_cpuid_entry2 { function: LEAF_KVM_FEATURES, eax: !0, ..Default::default() }]);
        common(&mut t, 0);
        assert_ne!(t.get(1).unwrap().ecx & 1 << 31, 0);
        assert_eq!(t.get(LEAF_KVM_FEATURES).unwrap().eax & (1 << 4 | 1 << 10 | 1 << 14), 0);
    }
}
