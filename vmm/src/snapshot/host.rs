// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What of the host a guest that was saved depends on.

use std::fmt::Write as _;
use std::fs;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::Kvm;

/// EBX bits 31:24 of leaf 1 and EDX of the topology leaves name the processor that was asked (Intel SDM volume 2, CPUID).
const LEAF_FEATURES: u32 = 1;
const INITIAL_APIC_ID: u32 = 0xff << 24;
const TOPOLOGY_LEAVES: [u32; 3] = [0xb, 0x1f, 0x8000_001e];

/// The processor's features as KVM supports them, and the version of the kernel that KVM belongs to; `None` where KVM does
/// not open.
pub fn fingerprint() -> Option<String> {
    let supported = Kvm::new().ok()?.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).ok()?;
    let mut text = fs::read_to_string("/proc/version").ok()?;
    for entry in supported.as_slice() {
        let kvm_cpuid_entry2 { function, index, eax, mut ebx, ecx, mut edx, .. } = *entry;
        if function == LEAF_FEATURES {
            ebx &= !INITIAL_APIC_ID;
        }
        if TOPOLOGY_LEAVES.contains(&function) {
            edx = 0;
        }
        let _ = write!(text, "{function:x}.{index:x}:{eax:x}.{ebx:x}.{ecx:x}.{edx:x} ");
    }
    Some(text)
}
