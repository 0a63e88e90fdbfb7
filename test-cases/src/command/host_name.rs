// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The name of the KVM host that this process runs on, from CPUID and DMI.

use std::fs;

/// Name of the machine around KVM, for reports.
pub fn host_name() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let dmi = ["sys_vendor", "product_name"].map(|name| read(&format!("/sys/class/dmi/id/{name}")));
    let dmi =
        dmi.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
    describe(vmm::x86::cpuid::hypervisor_signature(), &read("/proc/cpuinfo"), &dmi)
}

/// Puts the name together from CPUID 0x40000000, /proc/cpuinfo and DMI.
fn describe(signature: Option<[u8; 12]>, cpuinfo: &str, dmi: &str) -> String {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |name| flags.split_whitespace().any(|flag| flag == name);
    let with = match (has("svm"), has("vmx")) {
        (true, _) => "with SVM",
        (_, true) => "with VMX",
        _ => "without SVM and VMX",
    };
    let machine = |kind: &str| match dmi {
        "" => format!("{kind} {with}"),
        dmi => format!("{dmi} ({kind} {with})"),
    };
    match signature.as_ref() {
        Some(b"TCGTCGTCGTCG") => format!("QEMU (TCG {with})"),
        Some(b"KVMKVMKVM\0\0\0") => machine("KVM"),
        Some(b"Microsoft Hv") => machine("Hyper-V"),
        Some(b"VMwareVMware") => machine("VMware"),
        Some(other) => machine(&format!("hypervisor {}", other.escape_ascii())),
        None => machine("a processor without hypervisor signature,"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_named_by_what_it_shows() {
        let (amd, intel) = ("processor : 0\nflags\t: fpu svm npt\n", "flags\t: fpu vmx\n");
        assert_eq!(describe(Some(*b"TCGTCGTCGTCG"), amd, "QEMU Standard PC"), "QEMU (TCG with SVM)");
        assert_eq!(describe(Some(*b"KVMKVMKVM\0\0\0"), intel, "Xen HVM"), "Xen HVM (KVM with VMX)");
        assert_eq!(
            describe(None, intel, "Bochs"),
            "Bochs (a processor without hypervisor signature, with VMX)"
        );
        assert_eq!(describe(Some(*b"ACRNACRNACRN"), "", ""), "hypervisor ACRNACRNACRN without SVM and VMX");
    }
}
