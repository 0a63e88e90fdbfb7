// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why an operation has its result: the functions of the kernel that decide it.

use serde::{Serialize, Serializer};

macro_rules! reasons {
    ($($variant:ident = $name:literal, $function:literal, $about:literal;)+) => {
        /// A decision of the kernel, by the function that makes it.
        #[allow(clippy::doc_markdown, reason = "the same lines are shown on the terminal")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $about] $variant,)+
        }

        impl Reason {
            /// Every reason, in the order in which an access meets them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The function of the kernel, after its source file.
            pub const fn function(self) -> &'static str {
                match self { $(Self::$variant => $function,)+ }
            }

            /// What it decides, in one line.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)+ }
            }
        }
    };
}

reasons! {
    NoDevice = "no-device", "drivers/char/mem.c:chr_dev_init", "the option that makes the device (DEVMEM, DEVPORT) is off";
    NoFile = "no-file", "fs/namei.c:link_path_walk", "the option or device that makes the file is missing";
    NotCapable = "not-capable", "kernel/capability.c:capable", "the caller has not CAP_SYS_RAWIO";
    LockedDown = "locked-down", "security/lockdown/lockdown.c:lockdown_is_locked_down", "the kernel is locked down for this";
    OpenEperm = "open-eperm", "drivers/char/mem.c:open_port (patched)", "open-eperm: STRICT_DEVMEM and encrypted guest memory";
    OpenPort = "open-port", "drivers/char/mem.c:open_port", "CAP_SYS_RAWIO, and not locked down";
    OpenKcore = "open-kcore", "fs/proc/kcore.c:open_kcore", "CAP_SYS_RAWIO, and not locked down";
    MsrOpen = "msr-open", "arch/x86/kernel/msr.c:msr_open", "CAP_SYS_RAWIO; lockdown restricts writes only";
    KernfsOpen = "kernfs-open", "fs/kernfs/file.c:kernfs_fop_open", "the mode of the file and nothing else";

    AboveRam = "above-ram", "arch/x86/mm/mmap.c:valid_phys_addr_range", "beyond the last byte of RAM (high_memory), before any other check";
    PhysicalBits = "physical-bits", "arch/x86/mm/mmap.c:valid_mmap_phys_addr_range", "the address has more bits than the processor";
    NotStrict = "not-strict", "drivers/char/mem.c:page_is_allowed", "STRICT_DEVMEM is off: every page is allowed";
    RangeDeny = "range-deny", "arch/x86/mm/init.c:devmem_is_allowed (patched)", "0, range-deny: no page of a confidential guest";
    Ram = "ram", "arch/x86/mm/init.c:devmem_is_allowed", "0: System RAM, but for the first MiB";
    RamNoLow1m = "ram-no-low-1m", "arch/x86/mm/init.c:devmem_is_allowed (patched)", "0, no-low-1m: System RAM or claimed below 1 MiB";
    Claimed = "claimed", "kernel/resource.c:iomem_is_exclusive", "busy (IO_STRICT_DEVMEM), for which devmem_is_allowed() returns 0";
    LowRam = "low-ram", "arch/x86/mm/init.c:devmem_is_allowed", "2: System RAM below 1 MiB; reads get zeros, writes have no effect";
    LowNotRam = "low-not-ram", "arch/x86/mm/init.c:devmem_is_allowed", "1: below 1 MiB and no System RAM, claimed or not";
    NotRam = "not-ram", "arch/x86/mm/init.c:devmem_is_allowed", "1: no System RAM, not claimed";

    LowRamMapped = "low-ram-mapped", "drivers/char/mem.c:range_is_allowed", "accepts 2 as it does 1: the page itself is mapped";
    MmapZeros = "mmap-zeros", "drivers/char/mem.c:mmap_mem (patched)", "mmap-zeros: anonymous zeros where devmem_is_allowed() returns 2";
    Aliasing = "aliasing", "arch/x86/mm/pat/memtype.c:phys_mem_access_prot_allowed", "calls devmem_is_allowed() without STRICT_DEVMEM too, before 6.16";
    BitMasked = "bit-masked", "arch/x86/include/asm/pgtable.h:pfn_pte", "the entry has not the encryption bit of the address: it maps the page below";
    Mapped = "mapped", "mm/memory.c:remap_pfn_range", "maps the page itself";
    MappedPrivate = "mapped-private", "arch/x86/mm/ioremap.c:phys_mem_access_encrypted", "a user mapping is encrypted (private view), also of devices";
    PrivateCopy = "private-copy", "mm/memory.c:__wp_page_copy_user", "the first store copies the page; the original stays";

    PartRam = "part-ram", "kernel/iomem.c:memremap", "refuses a page that is RAM in part";
    DirectMap = "direct-map", "kernel/iomem.c:try_ram_remap", "RAM: the direct map, in the view of its owner";
    AccessPhys = "access-phys", "mm/memory.c:generic_access_phys", "maps the page anew by ioremap_prot(), not as the user's mapping is";
    NotPinned = "not-pinned", "mm/gup.c:check_vma_flags", "refuses pages of a VM_PFNMAP mapping";
    Pinned = "pinned", "mm/gup.c:get_user_pages_remote", "pages of anonymous memory like any other";
    NotWritable = "not-writable", "mm/memory.c:generic_access_phys", "refuses a write where the page table entry admits none";
    ReservedBits = "reserved-bits", "arch/x86/mm/ioremap.c:__ioremap_caller", "checks the first address only; an entry with reserved bits faults";
    IoremapAddress = "ioremap-address", "arch/x86/mm/ioremap.c:__ioremap_caller", "refuses an address with more bits than the processor";
    IoremapRam = "ioremap-ram", "arch/x86/mm/ioremap.c:__ioremap_check_ram", "refuses RAM that the page allocator has";
    CacheConflict = "cache-conflict", "arch/x86/mm/pat/memtype.c:memtype_reserve", "refuses a second caching of one page";
    IoremapSpecial = "ioremap-special", "arch/x86/mm/ioremap.c:__ioremap_check_mem", "ACPI tables: mapped encrypted (private view)";
    Paravisor = "paravisor", "arch/x86/hyperv/ivm.c:hv_is_private_mmio", "the paravisor's device: mapped encrypted (private view)";
    MemremapEncrypted = "memremap-encrypted", "arch/x86/mm/ioremap.c:arch_memremap_wb", "no RAM: mapped encrypted (private view), since 6.15";
    IoremapShared = "ioremap-shared", "arch/x86/mm/ioremap.c:__ioremap_caller", "mapped decrypted (shared view)";
    Ioremap = "ioremap", "arch/x86/mm/ioremap.c:__ioremap_caller", "mapped; there is one view only";

    UserBuffer = "user-buffer", "lib/usercopy.c:_copy_to_user", "part of the caller's buffer is not mapped";

    Seek = "seek", "drivers/char/mem.c:memory_lseek", "any position but those that are error numbers (EOVERFLOW)";
    SeekEnd = "seek-end", "drivers/char/mem.c:memory_lseek", "there is no end to count from";
    ReadPort = "read-port", "drivers/char/mem.c:read_port", "byte by byte up to port 65535";
    WritePort = "write-port", "drivers/char/mem.c:write_port", "byte by byte up to port 65535";
    IoPorts = "io-ports", "arch/x86/kernel/ioport.c:ksys_ioperm", "CAP_SYS_RAWIO, and not locked down";
    NoIoPorts = "no-io-ports", "arch/x86/kernel/ioport.c", "X86_IOPL_IOPERM is off";
    ReadKcore = "read-kcore", "fs/proc/kcore.c:read_kcore_iter", "the ELF header; what follows is not modelled";
    MsrAccess = "msr-access", "arch/x86/kernel/msr.c:msr_read", "the register; its value is not modelled";
    MsrWrite = "msr-write", "arch/x86/kernel/msr.c:msr_write", "not locked down; the new value is not modelled";
    PciConfig = "pci-config", "drivers/pci/pci-sysfs.c:pci_read_config", "CAP_SYS_ADMIN sees all of it, others 64 bytes";
    PciConfigWrite = "pci-config-write", "drivers/pci/pci-sysfs.c:pci_write_config", "not locked down";
    BarMapped = "bar-mapped", "drivers/pci/pci-sysfs.c:pci_mmap_resource", "not locked down; mapped decrypted";
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Adds a reason unless it is there already: many pages or words are decided alike.
pub fn note(reasons: &mut Vec<Reason>, reason: Reason) {
    if !reasons.contains(&reason) {
        reasons.push(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_names_a_function_of_the_kernel_and_fits_a_line() {
        let mut names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let (file, _) =
                reason.function().split_once(".c").or(reason.function().split_once(".h")).unwrap();
            assert!(file.contains('/'), "{}", reason.function());
            assert!(reason.function().chars().count() <= 56, "{}", reason.function());
            assert!(reason.about().chars().count() <= 80, "{}", reason.about());
        }
    }
}
