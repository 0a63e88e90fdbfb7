// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel options that each platform requires.

use std::collections::BTreeMap;

use types::Platform;

/// The options without which a kernel does not detect the platform, and the code that needs them.
const OPTIONS: &[(Platform, &str, &str)] = &[
    (Platform::Sev, "AMD_MEM_ENCRYPT", "arch/x86/mm/mem_encrypt_identity.c"),
    (Platform::Snp, "AMD_MEM_ENCRYPT", "arch/x86/coco/sev/core.c"),
    (Platform::Tdx, "INTEL_TDX_GUEST", "arch/x86/coco/tdx/tdx.c"),
    (Platform::Vbs, "AMD_MEM_ENCRYPT", "arch/x86/hyperv/ivm.c"),
    (Platform::Vbs, "HYPERV", "arch/x86/hyperv/ivm.c"),
];

/// Whether the kernel can be given memory it has to accept (`drivers/firmware/efi/unaccepted_memory.c`, since 6.5). One that
/// cannot needs firmware that accepts all of it.
pub fn accepts_lazily(config: &BTreeMap<String, String>) -> bool {
    config.get("UNACCEPTED_MEMORY").is_some_and(|value| value == "y")
}

/// The first option that the platform needs and the kernel was not built with.
pub fn missing_option(platform: Platform, config: &BTreeMap<String, String>) -> Option<&'static str> {
    let has = |option: &str| config.get(option).is_some_and(|value| value == "y" || value == "m");
    let mut needed = OPTIONS.iter().filter(|(needs, ..)| *needs == platform);
    needed.find(|(_, option, _)| !has(option)).map(|(_, option, _)| *option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_what_a_platform_needs_is_reported_by_the_options_name() {
        let config = |options: &[&str]| options.iter().map(|o| ((*o).to_owned(), "y".to_owned())).collect();
        let debian_6_1 = config(&["AMD_MEM_ENCRYPT", "EFI", "HYPERV"]);
        assert_eq!(missing_option(Platform::Tdx, &debian_6_1), Some("INTEL_TDX_GUEST"));
        assert_eq!(missing_option(Platform::Snp, &debian_6_1), None);
        assert_eq!(missing_option(Platform::Vbs, &config(&["AMD_MEM_ENCRYPT"])), Some("HYPERV"));
        assert_eq!(missing_option(Platform::None, &BTreeMap::new()), None);
        assert!(!accepts_lazily(&debian_6_1) && accepts_lazily(&config(&["UNACCEPTED_MEMORY"])));
    }
}
