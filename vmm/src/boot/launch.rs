// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a confidential guest finds at its launch beside the kernel: page states, EFI tables that list unaccepted
//! memory, and what SEV-SNP's firmware measures in.

use std::ops::Range;

use types::{PageState, Platform};

use super::acpi;
use super::efi::{self, EfiInfo};
use super::firmware;
use super::linux::LoadError;
use super::snp_launch::{self, CpuidEntry};
use crate::layout::{self, LARGE_PAGE_SIZE, PAGE_SIZE};
use crate::memory::GuestMemory;
use crate::x86::cpuid::{CpuidTable, Leaf};

/// What may be chosen about a launch.
#[derive(Debug, Clone, Copy)]
pub struct Launch {
    /// State of the option ROM and system ROM area; `None` takes the platform's usual.
    pub rom: Option<PageState>,
    /// Percent of the RAM that no boot data use that is launched unaccepted, the highest first.
    pub unaccepted_percent: u8,
}

/// Unaccepted memory is listed in units of this, as by Linux' EFI stub.
const UNIT: u64 = LARGE_PAGE_SIZE;

/// Places the EFI tables of a platform with unaccepted memory. `used` is what the loader has put into RAM above 1 MiB.
pub fn efi(
    memory: &GuestMemory,
    platform: Platform,
    launch: Launch,
    used: &[Range<u64>],
) -> Result<Option<EfiInfo>, LoadError> {
    if !platform.accepts_memory() {
        return Ok(None);
    }
    let ram = *memory.ram();
    let ranges = unaccepted(memory, launch, used);
    let e820 = ram.e820();
    let base = ram.efi();
    let smbios = firmware::smbios_entry_beside_tables(&ram);
    let tables = efi::build(&efi::Params {
        base,
        memory: &e820,
        smbios: Some(smbios),
        acpi: Some(ram.acpi_tables()),
        unaccepted: Some(efi::Unaccepted { phys_base: 0, unit_size: UNIT as u32, ranges: &ranges }),
    })
    .map_err(|e| LoadError::Efi(e.to_string()))?;
    if tables.bytes.len() as u64 > layout::EFI_SIZE {
        return Err(LoadError::Efi(format!(
            "they take {} bytes, more than their place has",
            tables.bytes.len()
        )));
    }
    memory.write(base, &tables.bytes)?;
    Ok(Some(tables.info))
}

/// Places the ACPI tables, and gives the address of the RSDP.
pub fn acpi(memory: &GuestMemory) -> Result<u64, LoadError> {
    let base = memory.ram().acpi_tables();
    let tables = acpi::build(base);
    let place = layout::ACPI_DATA_SIZE - layout::ACPI_TABLES_OFFSET;
    if tables.len() as u64 > place {
        return Err(LoadError::Acpi { size: tables.len(), place });
    }
    memory.write(base, &tables)?;
    Ok(base)
}

/// Places what SEV-SNP's firmware gives a guest; the address is that of the blob that points to the rest.
pub fn snp_pages(memory: &GuestMemory, cpuid: &CpuidTable) -> Result<u32, LoadError> {
    // CPUID is not intercepted, so the table is read only if a #VC requested it; more than fits is left out.
    let entries: Vec<CpuidEntry> = cpuid
        .leaves()
        .map(|(leaf, subleaf, Leaf { eax, ebx, ecx, edx })| CpuidEntry { leaf, subleaf, eax, ebx, ecx, edx })
        .take(snp_launch::MAX_CPUID_ENTRIES)
        .collect();
    let page = snp_launch::cpuid_page(&entries).map_err(|e| LoadError::SnpLaunch(e.to_string()))?;
    memory.write(layout::SNP_CPUID, &page)?;
    memory.write(layout::SNP_SECRETS, &snp_launch::secrets_page())?;
    memory.write(layout::CC_BLOB, &snp_launch::cc_blob(layout::SNP_SECRETS, layout::SNP_CPUID))?;
    Ok(layout::CC_BLOB as u32)
}

/// Gives every page the state it has when the guest starts. Nothing may be loaded afterwards.
pub fn states(
    memory: &GuestMemory,
    platform: Platform,
    launch: Launch,
    used: &[Range<u64>],
) -> Result<(), LoadError> {
    let rom = launch.rom.or(platform.default_rom_state()).unwrap_or(PageState::Private);
    if platform == Platform::Vbs && rom == PageState::Unaccepted {
        return Err(LoadError::RomState(platform));
    }
    if rom != PageState::Private {
        memory.launch_as(layout::ROM, layout::HIGH_MEMORY - layout::ROM, rom)?;
    }
    if rom == PageState::Shared {
        firmware::write_shared(memory, layout::ROM, layout::HIGH_MEMORY)?;
    }
    if platform.accepts_memory() {
        for range in unaccepted(memory, launch, used) {
            memory.launch_as(range.start, range.end - range.start, PageState::Unaccepted)?;
        }
    }
    Ok(())
}

/// Whole units of e820 RAM above 1 MiB that hold nothing, the highest ones up to the share requested, ascending.
fn unaccepted(memory: &GuestMemory, launch: Launch, used: &[Range<u64>]) -> Vec<Range<u64>> {
    let ram = memory.ram();
    let bounds = [(UNIT, ram.efi()), (layout::HIGH_RAM, ram.end())];
    let free = |unit: &u64| used.iter().all(|u| u.end <= *unit || unit + UNIT <= u.start);
    let units: Vec<u64> = bounds
        .into_iter()
        .flat_map(|(start, end)| (start / UNIT..end / UNIT).map(|n| n * UNIT))
        .filter(free)
        .collect();
    let keep = units.len() * usize::from(launch.unaccepted_percent.min(100)) / 100;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for unit in &units[units.len() - keep..] {
        match ranges.last_mut() {
            Some(last) if last.end == *unit => last.end += UNIT,
            _ => ranges.push(*unit..unit + UNIT),
        }
    }
    ranges
}

/// A range as the units it accesses.
pub fn page_range(start: u64, len: u64) -> Range<u64> {
    start & !(PAGE_SIZE - 1)..(start + len).next_multiple_of(PAGE_SIZE)
}

#[cfg(test)]
mod tests;
