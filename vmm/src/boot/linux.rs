// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Puts a Linux kernel, its initramfs, command line and `boot_params` into memory.
//!
//! Documentation/arch/x86/boot.rst, "64-bit Boot Protocol", entered at the ELF entry of `vmlinux`: no
//! firmware and no decompressor run in the guest.

use std::io::Cursor;

use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::KernelLoader;
use linux_loader::loader::elf::Elf;
use types::{GuestLayout, LayoutError, MapForm, Platform};
use vm_memory::mmap::MmapRegion;
use vm_memory::{ByteValued, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

use super::image::{ElfFacts, Vmlinux};
use super::launch;
use super::opcode::{self, OpcodeError, Sites};
use super::{firmware, page_tables};
use crate::layout::{self, PAGE_SIZE};
use crate::memory::ram::Ram;
use crate::memory::{GuestMemory, MemoryError};
use crate::platform::PlatformModel;
use crate::x86::cpuid::CpuidTable;
use crate::x86::opcode::Opcode;

/// Bytes of memory the kernel finds free beyond image and initramfs, at least.
const HEADROOM: u64 = 32 << 20;
/// `type_of_loader`: "undefined" (boot.rst).
const LOADER_UNDEFINED: u8 = 0xff;
/// Boot protocol 2.15, that of 6.x kernels.
const PROTOCOL: u16 = 0x020f;
/// `HdrS`.
const HEADER_MAGIC: u32 = 0x5372_6448;
/// Alignment of a relocatable kernel (`CONFIG_PHYSICAL_ALIGN`).
const KERNEL_ALIGNMENT: u32 = 2 << 20;

/// What every guest's command line starts with: the console on the first serial port, one device range marked busy, a
/// reset through port 0xcf9, a panic that ends at once; and nothing for what is not there: a bounce buffer of 2 MiB where no
/// device does DMA (else the kernel chooses its size), no machine-check banks, two serial ports, no self-tests of the crypto API
/// (a third of the instructions of a distribution kernel's boot), no EFI runtime services where there are EFI tables.
pub fn base_command_line(efi: bool, dma: bool) -> String {
    let efi = if efi { " efi=noruntime" } else { "" };
    let swiotlb = if dma { "" } else { " swiotlb=1024" };
    format!(
        "console=ttyS0 reboot=p panic=-1{swiotlb} mce=off 8250.nr_uarts=2 cryptomgr.notests reserve={:#x},{:#x}{efi}",
        layout::CLAIMED_MMIO,
        layout::CLAIMED_MMIO_SIZE
    )
}

/// Why a kernel could not be put into memory.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Kernel beyond the end of RAM.
    #[error("the kernel needs RAM up to {need} MiB and {have} MiB of low RAM are there: give the guest more")]
    KernelTooLarge {
        /// MiB needed.
        need: u64,
        /// MiB of low RAM.
        have: u64,
    },
    /// Initramfs does not fit.
    #[error(
        "the initramfs of {size} MiB does not fit between the kernel's end at {kernel_end} MiB and the {have} MiB of low RAM with {} MiB to spare: make it smaller or give the guest more RAM",
        HEADROOM >> 20
    )]
    InitramfsTooLarge {
        /// MiB of initramfs.
        size: u64,
        /// Where the kernel ends, MiB.
        kernel_end: u64,
        /// MiB of low RAM.
        have: u64,
    },
    /// Command line too long.
    #[error("the kernel command line has {len} bytes, Linux takes {}: shorten it", layout::COMMAND_LINE_SIZE - 1)]
    CommandLineTooLong {
        /// Bytes given.
        len: usize,
    },
    /// Kernel below the first MiB or such.
    #[error(
        "the kernel's segment at {0:#x} lies below 1 MiB, where boot data are: build it with the usual PHYSICAL_START"
    )]
    KernelTooLow(u64),
    /// The guest cannot be laid out so.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// ACPI tables do not fit.
    #[error("the guest's ACPI tables take {size} bytes, and their place has {place}")]
    Acpi {
        /// Bytes of tables.
        size: usize,
        /// Bytes there are.
        place: u64,
    },
    /// EFI tables do not fit.
    #[error("building the guest's EFI tables: {0}")]
    Efi(String),
    /// The instructions to rewrite cannot be found.
    #[error(transparent)]
    Opcode(#[from] OpcodeError),
    /// The SNP launch pages do not fit.
    #[error("building the guest's SEV-SNP launch pages: {0}")]
    SnpLaunch(String),
    /// The ELF loader refused.
    #[error("loading the kernel's ELF segments: {0}; the image is damaged or of an unknown kind")]
    Elf(String),
    /// Guest memory refused.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// What to boot.
#[derive(Debug)]
pub struct LinuxBoot<'a> {
    /// Kernel.
    pub kernel: &'a Vmlinux<'a>,
    /// Its instructions that may have to be rewritten, where they were found before; else they are searched.
    pub sites: Option<&'a Sites>,
    /// Initramfs, a cpio archive.
    pub initramfs: &'a [u8],
    /// Whole command line.
    pub command_line: &'a str,
}

/// Where the vCPU starts.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Instruction pointer.
    pub rip: u64,
    /// RSI.
    pub boot_params: u64,
    /// Page tables.
    pub cr3: u64,
    /// Where the table of unaccepted memory is, if there is one.
    pub unaccepted_table: Option<u64>,
    /// Instructions that were found; those of the platform are rewritten.
    pub sites: Sites,
    /// Modules in the initramfs that contain some of the platform's instructions: not rewritten, as it is not known where they
    /// will be loaded, so they would fault there.
    pub unserved_modules: Vec<UnservedModule>,
}

/// A kernel module copra cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UnservedModule {
    /// Its path in the initramfs.
    pub path: String,
    /// The instructions in it.
    pub opcodes: Vec<Opcode>,
}

/// Writes everything and gives the entry state.
pub fn load(
    memory: &GuestMemory,
    platform: &dyn PlatformModel,
    boot: &LinuxBoot<'_>,
    guest: &GuestLayout,
    cpuid: &CpuidTable,
) -> Result<Entry, LoadError> {
    let ram = *memory.ram();
    let initramfs = place_initramfs(ram, &boot.kernel.facts, boot.initramfs.len() as u64)?;
    if boot.command_line.len() >= layout::COMMAND_LINE_SIZE {
        return Err(LoadError::CommandLineTooLong { len: boot.command_line.len() });
    }
    guest.check(platform.kind())?;
    firmware::write(memory, platform.kind(), guest)?;
    firmware::leave_residue(memory)?;
    let loaded = Elf::load(
        &loader_memory(memory)?,
        None,
        &mut Cursor::new(&*boot.kernel.elf),
        Some(GuestAddress(layout::HIGH_MEMORY)),
    )
    .map_err(|e| LoadError::Elf(e.to_string()))?;
    memory.write(initramfs, boot.initramfs)?;
    let mut command_line = boot.command_line.as_bytes().to_vec();
    command_line.push(0);
    memory.write(layout::COMMAND_LINE, &command_line)?;
    let sites = rewrite(memory, platform, boot)?;
    let mut params = params(ram, guest.map, boot, initramfs);
    let kind = platform.kind();
    let used = [
        launch::page_range(
            boot.kernel.facts.lowest(),
            boot.kernel.facts.highest() - boot.kernel.facts.lowest(),
        ),
        launch::page_range(initramfs, boot.initramfs.len() as u64),
    ];
    let efi = launch::efi(memory, kind, guest, &used)?;
    if let Some(info) = &efi {
        params.efi_info = info.boot_params();
    }
    params.acpi_rsdp_addr = launch::machine_tables(memory, guest.tables)?.unwrap_or_default();
    if kind == Platform::Snp {
        params.cc_blob_address = launch::snp_pages(memory, cpuid)?;
    }
    memory.write(layout::BOOT_PARAMS, params.as_slice())?;
    let cr3 = page_tables::write(memory, platform.private_mask())?;
    launch::states(memory, kind, guest, &used)?;
    let unserved_modules = unserved_modules(platform, boot.initramfs);
    Ok(Entry {
        rip: loaded.kernel_load.0,
        boot_params: layout::BOOT_PARAMS,
        cr3,
        unaccepted_table: efi.and_then(|info| info.unaccepted_table),
        sites,
        unserved_modules,
    })
}

/// Rewrites the platform's instructions in the loaded kernel.
fn rewrite(
    memory: &GuestMemory,
    platform: &dyn PlatformModel,
    boot: &LinuxBoot<'_>,
) -> Result<Sites, LoadError> {
    if platform.opcodes().is_empty() {
        return Ok(Sites::default());
    }
    let sites = match boot.sites {
        Some(sites) => sites.clone(),
        None => opcode::find(boot.kernel)?,
    };
    for site in sites.for_opcodes(platform.opcodes()) {
        memory.write(site.physical, &site.replacement())?;
    }
    Ok(sites)
}

fn unserved_modules(platform: &dyn PlatformModel, initramfs: &[u8]) -> Vec<UnservedModule> {
    let wanted = platform.opcodes();
    if wanted.is_empty() {
        return Vec::new();
    }
    let found = opcode::scan_initramfs(initramfs).modules.into_iter();
    found
        .map(|(path, mut opcodes)| {
            opcodes.retain(|opcode| wanted.contains(opcode));
            UnservedModule { path, opcodes }
        })
        .filter(|module| !module.opcodes.is_empty())
        .collect()
}

fn place_initramfs(ram: Ram, kernel: &ElfFacts, len: u64) -> Result<u64, LoadError> {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    if kernel.lowest() < layout::HIGH_MEMORY {
        return Err(LoadError::KernelTooLow(kernel.lowest()));
    }
    let end = kernel.highest().max(layout::HIGH_MEMORY).saturating_add(HEADROOM);
    let top = ram.efi();
    if end > top {
        return Err(LoadError::KernelTooLarge { need: mib(end), have: mib(ram.low_end()) });
    }
    match top.checked_sub(len) {
        Some(start) if start & !(PAGE_SIZE - 1) >= end => Ok(start & !(PAGE_SIZE - 1)),
        _ => Err(LoadError::InitramfsTooLarge {
            size: mib(len),
            kernel_end: mib(kernel.highest()),
            have: mib(ram.low_end()),
        }),
    }
}

fn params(ram: Ram, form: MapForm, boot: &LinuxBoot<'_>, initramfs: u64) -> boot_params {
    let mut header = setup_header {
        boot_flag: super::image::bzimage::BOOT_FLAG,
        header: HEADER_MAGIC,
        version: PROTOCOL,
        kernel_alignment: KERNEL_ALIGNMENT,
        ..Default::default()
    };
    if let Some(bzimage) = &boot.kernel.bzimage {
        let len = bzimage.header_bytes.len().min(size_of::<setup_header>());
        header.as_mut_slice()[..len].copy_from_slice(&bzimage.header_bytes[..len]);
    }
    header.type_of_loader = LOADER_UNDEFINED;
    header.cmd_line_ptr = layout::COMMAND_LINE as u32;
    header.cmdline_size = layout::COMMAND_LINE_SIZE as u32 - 1;
    header.ramdisk_image = initramfs as u32;
    header.ramdisk_size = boot.initramfs.len() as u32;
    let mut params = boot_params { hdr: header, ..Default::default() };
    let mut map = ram.e820();
    if form == MapForm::Descending {
        map.reverse();
    }
    for (slot, entry) in params.e820_table.iter_mut().zip(map) {
        *slot = boot_e820_entry { addr: entry.start, size: entry.len, r#type: entry.kind as u32 };
        params.e820_entries += 1;
    }
    params
}

/// Guest memory for the loader crate: the private view's host mapping.
fn loader_memory(memory: &GuestMemory) -> Result<GuestMemoryMmap, LoadError> {
    let mut regions = Vec::new();
    for (gpa, len) in memory.ram().backed() {
        let refused = || LoadError::Memory(MemoryError::NotRam { gpa, len: len as usize });
        let pointer = memory.loader_pointer(gpa, len as usize).ok_or_else(refused)?;
        // SAFETY: `loader_pointer` gives memory valid for `len` bytes for as long as `memory` lives, which is
        // longer than the loader call; no Rust reference into it exists.
        let mapping = unsafe {
            MmapRegion::build_raw(
                pointer,
                len as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            )
        }
        .map_err(|e| LoadError::Elf(e.to_string()))?;
        regions.push(GuestRegionMmap::new(mapping, GuestAddress(gpa)).ok_or_else(refused)?);
    }
    GuestMemoryMmap::from_regions(regions).map_err(|e| LoadError::Elf(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::image::Segment;
    use super::*;

    fn facts(lowest: u64, highest: u64) -> ElfFacts {
        let segment = Segment {
            offset: 0,
            vaddr: lowest,
            paddr: lowest,
            filesz: 0,
            memsz: highest.saturating_sub(lowest),
            executable: true,
            writable: false,
        };
        ElfFacts { entry: lowest, segments: vec![segment], build_id: None }
    }

    #[test]
    fn the_initramfs_goes_below_the_reserved_hole_page_aligned() {
        let ram = Ram::new(256 << 20).unwrap();
        let at = place_initramfs(ram, &facts(16 << 20, 64 << 20), 12_345).unwrap();
        assert_eq!(at % PAGE_SIZE, 0);
        assert!(at + 12_345 <= ram.efi());
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_size() {
        let ram = Ram::new(192 << 20).unwrap();
        let kernel = facts(16 << 20, 64 << 20);
        let error = place_initramfs(ram, &kernel, 100 << 20).unwrap_err().to_string();
        assert!(error.contains("initramfs of 100 MiB") && error.contains("more RAM"), "{error}");
        let error = place_initramfs(ram, &facts(16 << 20, 200 << 20), 0).unwrap_err().to_string();
        assert!(
            error.contains("needs RAM up to 232 MiB") && error.contains("give the guest more"),
            "{error}"
        );
    }

    proptest::proptest! {
        #[test]
        fn placement_never_overlaps(len in 0u64..1 << 40, highest in 0u64..1 << 40, ram_mib in 96u64..1500) {
            let ram = Ram::new((ram_mib * 2) << 20).unwrap();
            if let Ok(at) = place_initramfs(ram, &facts(1 << 20, highest), len) {
                proptest::prop_assert!(at >= highest && at + len <= ram.efi());
            }
        }
    }
}
