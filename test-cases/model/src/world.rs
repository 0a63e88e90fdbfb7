// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state outside a task that decides the result of an access to /dev/mem.

use std::collections::BTreeMap;
use std::ops::Range;

use types::{PageState, Platform, Policy, View};

use super::cache_mode::CacheMode;
use super::iomem::{Intersection, Iomem};
use super::lockdown::{Level, Reason};
use super::page::PAGE;
use super::prediction::Source;
use crate::class::{Class, MemoryState};
use crate::release::Release;

/// How the kernel was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the kernel")]
pub struct KernelConfig {
    /// `DEVMEM`.
    pub devmem: bool,
    /// `DEVPORT`.
    pub devport: bool,
    /// `STRICT_DEVMEM`.
    pub strict: bool,
    /// `IO_STRICT_DEVMEM`.
    pub io_strict: bool,
    /// `X86_PAT`, and not switched off by `nopat`.
    pub pat: bool,
    /// `PROC_KCORE`.
    pub kcore: bool,
    /// `X86_MSR` built in; a module counts as absent, as the guest loads none.
    pub msr: bool,
    /// `X86_IOPL_IOPERM`.
    pub iopl: bool,
    /// `SECURITY_LOCKDOWN_LSM`.
    pub lockdown: bool,
    /// `USER_NS`.
    pub user_ns: bool,
    /// `UNIX`.
    pub unix: bool,
}

impl KernelConfig {
    /// Reads the options off a configuration; those that are not in it are off.
    pub fn of(config: &BTreeMap<String, String>) -> Self {
        let on = |option: &str| config.get(option).is_some_and(|value| value == "y");
        Self {
            devmem: on("DEVMEM"),
            devport: on("DEVPORT"),
            strict: on("STRICT_DEVMEM"),
            io_strict: on("IO_STRICT_DEVMEM"),
            pat: on("X86_PAT"),
            kcore: on("PROC_KCORE"),
            msr: on("X86_MSR"),
            iopl: on("X86_IOPL_IOPERM"),
            lockdown: on("SECURITY_LOCKDOWN_LSM"),
            user_ns: on("USER_NS"),
            unix: on("UNIX"),
        }
    }
}

/// The addresses that memory backs, and the state of its pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Addresses that memory backs.
    pub backed: Vec<Range<u64>>,
    /// Pages whose state is not private.
    pub page_states: BTreeMap<u64, PageState>,
    /// One past the last byte of RAM: `__pa(high_memory)`.
    pub top: u64,
}

/// The guest as far as the model needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// How the kernel was built.
    pub config: KernelConfig,
    /// The /dev/mem policy of the kernel.
    pub policy: Policy,
    /// The platform the kernel detected.
    pub platform: Platform,
    /// Its release.
    pub release: Release,
    /// The level that `lockdown=` on the command line requests.
    pub lockdown: Level,
    /// `iomem=` on the command line: true for `strict`, false for `relaxed`.
    pub iomem_checks: Option<bool>,
    /// `boot_cpu_data.x86_phys_bits`.
    pub physical_bits: u8,
    /// The processor has protection keys and the kernel uses them (`ospke` in /proc/cpuinfo).
    pub protection_keys: bool,
    /// Position of the encryption bit.
    pub encryption_bit: Option<u8>,
    /// The resource tree.
    pub iomem: Iomem,
    /// Memory.
    pub memory: Memory,
    /// The ranges that the MTRRs read by the kernel make uncached.
    pub uncached: Vec<Range<u64>>,
    /// Ranges that the kernel keeps mapped, write-back where the MTRRs allow it: the SMBIOS table (`drivers/firmware/dmi_scan.c:dmi_init`).
    pub kept: Vec<Range<u64>>,
}

/// The name of [`World::bar`] in /proc/iomem.
const BAR: &str = "0000:00:01.0";

/// `memremap()` maps encrypted by default from here on (`x86/mm: Make memremap(MEMREMAP_WB) map memory as encrypted`).
const ENCRYPTED_MEMREMAP: Release = Release { major: 6, minor: 15 };
/// The range check before mmap(2) is made once only, and mappings share one tracking entry with their forked copies.
const PFNMAP_TRACK: Release = Release { major: 6, minor: 16 };

/// Access to another task's memory checks for each page where the mapping ends. Not the case in 6.12, observed in 7.3.
const BOUNDED_ACCESS: Release = Release { major: 7, minor: 0 };

impl World {
    /// `mm/memory.c:generic_access_phys()` accesses no more than the page it looked up.
    pub fn bounds_access(&self) -> bool {
        self.release >= BOUNDED_ACCESS
    }

    /// read(2) and write(2) map what is not RAM encrypted.
    pub fn maps_encrypted(&self) -> bool {
        self.release >= ENCRYPTED_MEMREMAP
    }

    /// A mapping shares its caching entry with the copies that fork(2) makes (`mm/memory.c:pfnmap_track_ctx_alloc`).
    pub fn shares_tracking(&self) -> bool {
        self.release >= PFNMAP_TRACK
    }

    /// mmap(2) calls `devmem_is_allowed()` a second time, from the PAT code
    /// (`arch/x86/mm/pat/memtype.c:phys_mem_access_prot_allowed`), where `STRICT_DEVMEM` is off.
    pub fn checks_aliasing(&self) -> bool {
        self.release < PFNMAP_TRACK && self.config.pat && !self.config.strict
    }

    /// `kernel/resource.c:strict_iomem_checks`.
    pub fn checks_iomem(&self) -> bool {
        self.iomem_checks.unwrap_or(self.config.strict)
    }

    /// The physical range of the first PCI device's BAR, if there is such a device.
    pub fn bar(&self) -> Option<Range<u64>> {
        let resource = self.iomem.resources().iter().find(|resource| resource.name == BAR)?;
        Some(resource.start..resource.end + 1)
    }

    /// The view of a mapping made with `pgprot_decrypted()`.
    pub fn decrypted(&self) -> View {
        if self.platform.is_confidential() { View::Shared } else { View::Private }
    }

    /// The address in a page table entry, in which the encryption bit is no address bit
    /// (`physical_mask`, `arch/x86/mm/mem_encrypt_identity.c:sme_enable` and its like).
    pub fn without_bit(&self, gpa: u64) -> u64 {
        self.encryption_bit.map_or(gpa, |bit| gpa & ((1 << bit) - 1))
    }

    /// `arch/x86/mm/physaddr.h:phys_addr_valid()`.
    pub fn is_valid(&self, gpa: u64) -> bool {
        gpa.checked_shr(self.physical_bits.into()).unwrap_or(0) == 0
    }

    /// The cache mode of a write-back request: uncached if the MTRRs make part of `[start, end)` uncached.
    pub fn cached(&self, start: u64, end: u64) -> CacheMode {
        let uncached = self.uncached.iter().any(|range| range.start < end && start < range.end);
        if uncached { CacheMode::Uncached } else { CacheMode::WriteBack }
    }

    /// Memory backs `gpa`.
    pub fn is_memory(&self, gpa: u64) -> bool {
        self.memory.backed.iter().any(|range| range.contains(&gpa))
    }

    /// The page of the I/O APIC or the local APIC, which is decoded at the address without the C-bit or shared bit.
    pub fn is_interrupt_controller(&self, gpa: u64, view: View) -> bool {
        let bare = match self.platform {
            Platform::Sev | Platform::Snp => View::Shared,
            Platform::None | Platform::Tdx | Platform::Vbs => View::Private,
        };
        view == bare && matches!(gpa & !(PAGE - 1), 0xfec0_0000 | 0xfee0_0000)
    }

    /// The state of the page at `gpa`.
    pub fn page_state(&self, gpa: u64) -> PageState {
        self.memory.page_states.get(&(gpa & !(PAGE - 1))).copied().unwrap_or(PageState::Private)
    }

    /// The class of bytes that are read at `gpa` through `view`.
    pub fn class(&self, gpa: u64, view: View) -> Class {
        if !self.is_memory(gpa) {
            return Class::Device;
        }
        let owner = match self.page_state(gpa) {
            PageState::Private => View::Private,
            PageState::Shared => View::Shared,
            PageState::Unaccepted => return if view == View::Shared { Class::Shared } else { Class::Zeros },
        };
        match (self.platform, view == owner) {
            (Platform::None, _) | (_, true) => Class::Plain,
            (Platform::Sev, false) => Class::Ciphertext,
            (_, false) => Class::Shared,
        }
    }

    /// What becomes of memory at `gpa` by a store through `view`: where the content belongs to the other view, it is garbled
    /// (one content, encrypted) or not reached (two contents).
    pub fn after_store(&self, gpa: u64, view: View) -> MemoryState {
        let admits = match self.page_state(gpa) {
            PageState::Private => view == View::Private,
            PageState::Shared => view == View::Shared,
            PageState::Unaccepted => false,
        };
        match self.platform {
            Platform::None => MemoryState::Written,
            _ if admits => MemoryState::Written,
            Platform::Sev => MemoryState::Corrupted,
            Platform::Snp | Platform::Tdx | Platform::Vbs => MemoryState::Unchanged,
        }
    }

    /// The class of bytes from a source, if the model determines it.
    pub fn class_of(&self, source: Source) -> Option<Class> {
        Some(match source {
            Source::Zeros => Class::Zeros,
            Source::Physical { gpa, view } => self.class(gpa, view),
            Source::Copy { .. } => Class::Plain,
            Source::Floating => Class::Device,
            Source::Untouched => Class::Other,
            Source::Configuration { .. } | Source::Unknown => return None,
        })
    }

    /// A short name of the kind of memory at `gpa`, as /dev/mem distinguishes it.
    pub fn region(&self, gpa: u64) -> &'static str {
        let plain = self.without_bit(gpa);
        if plain != gpa && self.is_valid(gpa) {
            return "alias";
        }
        match (gpa, self.iomem.intersects_ram(gpa)) {
            _ if !self.is_valid(gpa) => "beyond",
            (0..PAGE, _) => "page0",
            (_, Intersection::Mixed) => "part-ram",
            (..0x10_0000, Intersection::Intersects) => "low-ram",
            (_, Intersection::Intersects) => "ram",
            (0xa_0000..0xc_0000, _) => "vga",
            (0xc_0000..0xf_0000, _) => "option-rom",
            (0xf_0000..0x10_0000, _) => "rom",
            _ if self.is_memory(gpa) => {
                if self.iomem.busy(gpa, gpa).next().is_some() {
                    "acpi-data"
                } else {
                    "reserved"
                }
            }
            _ if gpa >= self.memory.top => "above-ram",
            _ if self.iomem.busy(gpa, gpa).next().is_some() => "mmio-busy",
            _ => "mmio",
        }
    }
}

impl World {
    /// `security/security.c:security_locked_down()`: EPERM for every caller. Without the module it always succeeds.
    pub fn is_locked_down(&self, reason: Reason) -> bool {
        if !self.config.lockdown {
            return false;
        }
        let built_in = if self.policy == Policy::LockdownAll { Level::Integrity } else { Level::None };
        let bits = self.policy == Policy::LockdownCc
            && self.platform.is_confidential()
            && matches!(reason, Reason::DevMem | Reason::PciAccess);
        bits || built_in.max(self.lockdown) >= reason.level()
    }
}
