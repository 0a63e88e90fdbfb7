// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The least of EFI that makes Linux find a table of unaccepted memory: a system table, its configuration tables and
//! a memory map. `arch/x86/platform/efi/efi.c:efi_init` reads them if `boot_params.efi_info` leads to them.
//!
//! There are no runtime services. Without `efi=noruntime` on the command line Linux looks for them in the memory map,
//! prints "EFI runtime non-functional" and goes on.
//!
//! The tables lie in RAM that e820 calls RAM. Linux maps them by `early_memremap`, which is private in a confidential
//! guest whatever its e820 type; but `drivers/firmware/efi/efi.c:reserve_unaccepted` makes the pages of the unaccepted table
//! known as memory, and to do that in a reserved range would make one more kind of page for /dev/mem. All but the memory
//! map and that table, which Linux reserves itself, are read before memblock gives out its first page; boot services data
//! they are so that Linux keeps them until later anyway (`arch/x86/platform/efi/quirks.c:efi_reserve_boot_services`).

use std::mem::size_of;
use std::ops::Range;

use linux_loader::bootparam::efi_info;
use types::View;
use zerocopy::{FromBytes as _, IntoBytes as _};

use self::structures::{
    ACPI_TABLE, ConfigurationTable, DESCRIPTOR_VERSION, Guid, MemoryDescriptor, MemoryType, REVISION,
    SMBIOS_TABLE, SYSTEM_TABLE_SIGNATURE, SystemTable, TableHeader, UNACCEPTED_TABLE, UNACCEPTED_VERSION,
    UnacceptedTable,
};
use crate::layout::PAGE_SIZE;
use crate::memory::GuestMemory;
use crate::memory::ram::{E820Entry, E820Type};

mod structures;
#[cfg(test)]
mod tests;

/// `EFI64_LOADER_SIGNATURE`: "EL64".
const LOADER_SIGNATURE: u32 = u32::from_le_bytes(*b"EL64");
/// Who made the firmware, as the kernel's log shows it.
const VENDOR: &str = "copra";
/// Bytes that Linux maps to read the vendor (`drivers/firmware/efi/efi.c:efi_systab_report_header`).
const VENDOR_SIZE: usize = 200;
/// The bitmap is read by words of 64 bits.
const BITMAP_WORD: u64 = 8;
/// Enough for 16 TiB in units of 2 MiB.
const MAX_BITMAP: u64 = 1 << 20;

/// Why the tables cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EfiError {
    /// They do not begin a page, or do not fit into the RAM there.
    #[error(
        "the EFI tables need {size:#x} bytes of RAM at {base:#x}, on a page of their own; place them elsewhere"
    )]
    Place {
        /// Where they were to lie.
        base: u64,
        /// Bytes.
        size: u64,
    },
    /// A unit of unaccepted memory is of no use.
    #[error(
        "unaccepted memory in units of {unit_size:#x} bytes from {phys_base:#x} on: units have to be a power of 2 \
         of pages, and the start a multiple of one"
    )]
    Unit {
        /// The unit's size.
        unit_size: u32,
        /// What the first bit represents.
        phys_base: u64,
    },
    /// Unaccepted memory that the bitmap cannot represent.
    #[error(
        "unaccepted memory from {start:#x} to {end:#x} does not consist of units behind the start of all, or \
         takes a bitmap of more than {MAX_BITMAP} bytes"
    )]
    Range {
        /// First byte.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// Linux reads the tables before it can accept memory.
    #[error("the EFI tables at {base:#x} lie in unaccepted memory; place them elsewhere")]
    Unaccepted {
        /// Where they were to lie.
        base: u64,
    },
}

/// Contents of the tables.
#[derive(Debug, Clone)]
pub struct Params<'a> {
    /// Where they lie: a page of RAM that no one else's data are in.
    pub base: u64,
    /// The memory map handed over by e820, sorted.
    pub memory: &'a [E820Entry],
    /// Of the reserved ranges in it, the one that is runtime services data.
    pub runtime: Option<Range<u64>>,
    /// The SMBIOS entry point. With EFI tables Linux looks for it nowhere else (`drivers/firmware/dmi_scan.c`).
    pub smbios: Option<u64>,
    /// The RSDP.
    pub acpi: Option<u64>,
    /// Memory to accept before its first use.
    pub unaccepted: Option<Unaccepted<'a>>,
}

/// Memory that the guest has to accept.
#[derive(Debug, Clone)]
pub struct Unaccepted<'a> {
    /// What the first bit represents; all below is accepted.
    pub phys_base: u64,
    /// Bytes per bit; Linux' EFI stub uses 2 MiB.
    pub unit_size: u32,
    /// What is unaccepted, in whole units.
    pub ranges: &'a [Range<u64>],
    /// Where the table lies; `None` for a page of its own behind the others.
    pub table: Option<u64>,
}

/// The tables, ready to be written to guest memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Efi {
    /// Belongs at [`Params::base`]; whole pages.
    pub bytes: Vec<u8>,
    /// The table of unaccepted memory, where it has another place.
    pub unaccepted: Option<(u64, Vec<u8>)>,
    /// Its description for `boot_params`.
    pub info: EfiInfo,
}

/// What the kernel needs to find the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EfiInfo {
    /// Address of the system table.
    pub systab: u64,
    /// Address of the memory map.
    pub memmap: u64,
    /// Bytes of memory map.
    pub memmap_size: u32,
    /// Bytes from one descriptor to the next.
    pub memdesc_size: u32,
    /// The descriptors' version.
    pub memdesc_version: u32,
    /// Address of the table of unaccepted memory; the kernel finds it by the system table.
    pub unaccepted_table: Option<u64>,
}

impl EfiInfo {
    /// As `boot_params.efi_info` has it, with the signature of a 64-bit EFI.
    pub fn boot_params(&self) -> efi_info {
        efi_info {
            efi_loader_signature: LOADER_SIGNATURE,
            efi_systab: self.systab as u32,
            efi_systab_hi: (self.systab >> 32) as u32,
            efi_memmap: self.memmap as u32,
            efi_memmap_hi: (self.memmap >> 32) as u32,
            efi_memmap_size: self.memmap_size,
            efi_memdesc_size: self.memdesc_size,
            efi_memdesc_version: self.memdesc_version,
        }
    }
}

/// Builds all tables.
pub fn build(params: &Params<'_>) -> Result<Efi, EfiError> {
    let table = params.unaccepted.as_ref().map(unaccepted).transpose()?;
    let apart = params.unaccepted.as_ref().and_then(|unaccepted| unaccepted.table);
    let (unaccepted, apart) = match apart {
        Some(at) => (None, table.map(|table| (at, table))),
        None => (table, None),
    };
    let has_table = params.unaccepted.is_some();
    let tables =
        [params.smbios.is_some(), params.acpi.is_some(), has_table].map(usize::from).iter().sum::<usize>();
    let vendor_at = size_of::<SystemTable>();
    let configuration_at = vendor_at + VENDOR_SIZE;
    let memmap_at = configuration_at + tables * size_of::<ConfigurationTable>();
    // The tables' own pages split one entry into three.
    let most = memmap_at + (params.memory.len() + 2) * size_of::<MemoryDescriptor>();
    // Linux reserves the pages this table is in for good; the others it takes back.
    let unaccepted_at = most.next_multiple_of(PAGE_SIZE as usize);
    let size = unaccepted_at + unaccepted.as_ref().map_or(0, Vec::len).next_multiple_of(PAGE_SIZE as usize);

    let own = own_pages(params, size as u64)?;
    let memmap = memory_map(params.memory, &own, params.runtime.as_ref());
    let mut configuration = Vec::new();
    let mut point_to = |vendor_guid: Guid, address: u64| {
        configuration.push(ConfigurationTable { vendor_guid, vendor_table: address.into() });
    };
    if let Some(smbios) = params.smbios {
        point_to(SMBIOS_TABLE, smbios);
    }
    if let Some(rsdp) = params.acpi {
        point_to(ACPI_TABLE, rsdp);
    }
    let table_at = apart.as_ref().map_or(params.base + unaccepted_at as u64, |(at, _)| *at);
    let unaccepted_table = has_table.then_some(table_at);
    if let Some(at) = unaccepted_table {
        point_to(UNACCEPTED_TABLE, at);
    }

    let system = system_table(
        params.base + vendor_at as u64,
        params.base + configuration_at as u64,
        configuration.len() as u64,
    );
    let vendor: Vec<u8> = VENDOR.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut bytes = vec![0; size];
    let parts = [
        (0, system.as_bytes()),
        (vendor_at, &vendor),
        (configuration_at, configuration.as_bytes()),
        (memmap_at, memmap.as_bytes()),
        (unaccepted_at, unaccepted.as_deref().unwrap_or_default()),
    ];
    for (at, part) in parts {
        bytes[at..at + part.len()].copy_from_slice(part);
    }
    let info = EfiInfo {
        systab: params.base,
        memmap: params.base + memmap_at as u64,
        memmap_size: memmap.as_bytes().len() as u32,
        memdesc_size: size_of::<MemoryDescriptor>() as u32,
        memdesc_version: DESCRIPTOR_VERSION,
        unaccepted_table,
    };
    Ok(Efi { bytes, unaccepted: apart, info })
}

/// The pages the tables take, which have to be accepted RAM.
fn own_pages(params: &Params<'_>, size: u64) -> Result<Range<u64>, EfiError> {
    let base = params.base;
    let refused = || EfiError::Place { base, size };
    let own = base..base.checked_add(size).ok_or_else(refused)?;
    let holds = |e: &E820Entry| {
        e.kind == E820Type::Ram && e.start <= own.start && own.end <= e.start.saturating_add(e.len)
    };
    if !base.is_multiple_of(PAGE_SIZE) || !params.memory.iter().any(holds) {
        return Err(refused());
    }
    let overlaps = |range: &Range<u64>| range.start < own.end && own.start < range.end;
    if params.unaccepted.as_ref().is_some_and(|u| u.ranges.iter().any(overlaps)) {
        return Err(EfiError::Unaccepted { base });
    }
    Ok(own)
}

/// The table with its checksum, which Linux does not look at.
fn system_table(vendor: u64, configuration: u64, entries: u64) -> SystemTable {
    let mut table = SystemTable {
        hdr: TableHeader {
            signature: SYSTEM_TABLE_SIGNATURE.into(),
            revision: REVISION.into(),
            header_size: (size_of::<SystemTable>() as u32).into(),
            crc32: 0.into(),
            reserved: 0.into(),
        },
        firmware_vendor: vendor.into(),
        firmware_revision: 0.into(),
        padding: 0.into(),
        consoles: [0.into(); 6],
        runtime_services: 0.into(),
        boot_services: 0.into(),
        number_of_table_entries: entries.into(),
        configuration_table: configuration.into(),
    };
    let mut crc = flate2::Crc::new();
    crc.update(table.as_bytes());
    table.hdr.crc32 = crc.sum().into();
    table
}

/// The memory map, in which `own` is the tables'. EFI has whole pages only: a page that is not all RAM is left out.
///
/// Firmware's ranges are reserved but for `runtime`: runtime services data Linux maps private where it maps a reserved range
/// shared (`arch/x86/mm/ioremap.c:__ioremap_check_other`), so EFI changes what /dev/mem shows.
fn memory_map(
    entries: &[E820Entry],
    own: &Range<u64>,
    runtime: Option<&Range<u64>>,
) -> Vec<MemoryDescriptor> {
    let mut map = Vec::new();
    let mut covered = 0;
    let mut add = |range: Range<u64>, kind: MemoryType| {
        // What two ranges share, one has.
        let start = range.start.max(covered);
        if start < range.end {
            covered = range.end;
            map.push(MemoryDescriptor {
                kind: (kind as u32).into(),
                padding: 0.into(),
                physical_start: start.into(),
                virtual_start: 0.into(),
                number_of_pages: ((range.end - start) / PAGE_SIZE).into(),
                attribute: kind.attributes().into(),
                beyond: 0.into(),
            });
        }
    };
    let down = |address: u64| address & !(PAGE_SIZE - 1);
    let up = |address: u64| down(address.saturating_add(PAGE_SIZE - 1));
    for entry in entries {
        let (start, end) = (entry.start, entry.start.saturating_add(entry.len));
        match entry.kind {
            E820Type::Ram => {
                let (start, end) = (up(start), down(end));
                add(start..end.min(own.start), MemoryType::Conventional);
                add(start.max(own.start)..end.min(own.end), MemoryType::BootServicesData);
                add(start.max(own.end)..end, MemoryType::Conventional);
            }
            E820Type::Reserved if runtime == Some(&(start..end)) => {
                add(start..end, MemoryType::RuntimeServicesData);
            }
            E820Type::Reserved => add(down(start)..up(end), MemoryType::Reserved),
            E820Type::Acpi => add(down(start)..up(end), MemoryType::AcpiReclaim),
        }
    }
    map
}

/// Whether the table at `table` lists the page at `gpa` as unaccepted, as the kernel has it now
/// (`drivers/firmware/efi/unaccepted_memory.c:range_contains_unaccepted_memory`); `None` where there is no such table.
pub fn lists_as_unaccepted(memory: &GuestMemory, table: u64, gpa: u64) -> Option<bool> {
    let mut header = [0; size_of::<UnacceptedTable>()];
    memory.read(View::Private, table, &mut header).ok()?;
    let header = UnacceptedTable::read_from_bytes(&header).ok()?;
    if header.version.get() != UNACCEPTED_VERSION || header.unit_size.get() == 0 {
        return None;
    }
    let unit =
        gpa.checked_sub(header.phys_base.get()).map(|offset| offset / u64::from(header.unit_size.get()));
    let Some(unit) = unit.filter(|unit| unit / 8 < header.size.get()) else { return Some(false) };
    let mut byte = [0];
    let at = table.checked_add(size_of::<UnacceptedTable>() as u64 + unit / 8)?;
    memory.read(View::Private, at, &mut byte).ok()?;
    Some(byte[0] & 1 << (unit % 8) != 0)
}

/// The table of unaccepted memory. Linux takes everything the bitmap does not reach to as accepted.
fn unaccepted(params: &Unaccepted<'_>) -> Result<Vec<u8>, EfiError> {
    let (base, unit) = (params.phys_base, u64::from(params.unit_size));
    if !unit.is_power_of_two() || unit < PAGE_SIZE || !base.is_multiple_of(unit) {
        return Err(EfiError::Unit { unit_size: params.unit_size, phys_base: base });
    }
    let mut bitmap = Vec::new();
    for Range { start, end } in params.ranges.iter().cloned() {
        let refused = || EfiError::Range { start, end };
        let first = start.checked_sub(base).ok_or_else(refused)?;
        let last = end.checked_sub(base).filter(|_| start <= end).ok_or_else(refused)?;
        if !first.is_multiple_of(unit) || !last.is_multiple_of(unit) || last / unit > MAX_BITMAP * 8 {
            return Err(refused());
        }
        let (first, last) = ((first / unit) as usize, (last / unit) as usize);
        let need = last.div_ceil(8).next_multiple_of(BITMAP_WORD as usize);
        bitmap.resize(bitmap.len().max(need), 0u8);
        for bit in first..last {
            bitmap[bit / 8] |= 1 << (bit % 8);
        }
    }
    let header = UnacceptedTable {
        version: UNACCEPTED_VERSION.into(),
        unit_size: params.unit_size.into(),
        phys_base: base.into(),
        size: (bitmap.len() as u64).into(),
    };
    Ok([header.as_bytes(), &bitmap].concat())
}
