// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a confidential guest finds at its launch beside the kernel: page states, EFI tables that list unaccepted
//! memory, and what SEV-SNP's firmware measures in.

use std::ops::Range;

use types::{GuestLayout, PageState, Platform, SmbiosPlace, Tables, UnacceptedPattern};

use super::efi::{self, EfiInfo};
use super::linux::LoadError;
use super::snp_launch::{self, CpuidEntry};
use super::{acpi, firmware, mp_table};
use crate::layout::{self, LARGE_PAGE_SIZE, PAGE_SIZE};
use crate::memory::GuestMemory;
use crate::memory::ram::E820Type;
use crate::x86::cpuid::{CpuidTable, Leaf};

/// Places the EFI tables of a guest that has any. `used` is what the loader has put into RAM above 1 MiB.
pub fn efi(
    memory: &GuestMemory,
    platform: Platform,
    guest: &GuestLayout,
    used: &[Range<u64>],
) -> Result<Option<EfiInfo>, LoadError> {
    if !guest.has_efi(platform) {
        return Ok(None);
    }
    let ram = *memory.ram();
    let ranges = unaccepted(memory, guest, used);
    let e820 = ram.e820();
    let base = ram.efi();
    let place = ram.unaccepted_table();
    let unaccepted = guest.has_unaccepted(platform).then(|| efi::Unaccepted {
        phys_base: 0,
        unit_size: unit(guest) as u32,
        ranges: &ranges,
        table: (!place.is_empty()).then(|| place.start + u64::from(guest.unaccepted.offset)),
    });
    let smbios = guest.smbios_of(platform);
    let tables = efi::build(&efi::Params {
        base,
        memory: &e820,
        runtime: (smbios == SmbiosPlace::RuntimeData).then(|| ram.reserved()..ram.acpi()),
        smbios: firmware::smbios_entry(smbios, &ram),
        acpi: (guest.tables == Tables::Acpi).then(|| ram.acpi_tables()),
        unaccepted,
    })
    .map_err(|e| LoadError::Efi(e.to_string()))?;
    if tables.bytes.len() as u64 > ram.efi_size() {
        return Err(LoadError::Efi(format!(
            "they take {} bytes, more than their place has",
            tables.bytes.len()
        )));
    }
    memory.write(base, &tables.bytes)?;
    if let Some((at, table)) = &tables.unaccepted {
        memory.write(*at, table)?;
    }
    Ok(Some(tables.info))
}

/// Bytes of a unit of unaccepted memory.
fn unit(guest: &GuestLayout) -> u64 {
    u64::from(guest.unaccepted.unit_kib) << 10
}

/// Places what tells of interrupt controllers and buses, and gives the address of the RSDP, if there is one.
pub fn machine_tables(memory: &GuestMemory, tables: Tables) -> Result<Option<u64>, LoadError> {
    match tables {
        Tables::Acpi => acpi(memory).map(Some),
        Tables::MpTable => {
            memory.write(layout::MP_TABLE, &mp_table::build(layout::MP_TABLE))?;
            Ok(None)
        }
        Tables::Nothing => Ok(None),
    }
}

/// Places the ACPI tables, and gives the address of the RSDP.
fn acpi(memory: &GuestMemory) -> Result<u64, LoadError> {
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
    guest: &GuestLayout,
    used: &[Range<u64>],
) -> Result<(), LoadError> {
    let rom = guest.rom_of(platform).state().filter(|rom| *rom != PageState::Private);
    if let Some(rom) = rom {
        memory.launch_as(layout::ROM, layout::HIGH_MEMORY - layout::ROM, rom)?;
    }
    if rom == Some(PageState::Shared) {
        firmware::write_shared(memory, layout::ROM, layout::HIGH_MEMORY)?;
    }
    if guest.has_unaccepted(platform) {
        for range in unaccepted(memory, guest, used) {
            memory.launch_as(range.start, range.end - range.start, PageState::Unaccepted)?;
        }
    }
    Ok(())
}

/// Whole units of e820 RAM above 1 MiB that hold nothing, of them those that the layout selects, ascending.
fn unaccepted(memory: &GuestMemory, guest: &GuestLayout, used: &[Range<u64>]) -> Vec<Range<u64>> {
    let ram = memory.ram();
    let unit = unit(guest);
    let tables = ram.efi()..ram.low_end();
    let is_free = |at: &u64| {
        let apart = |u: &Range<u64>| u.end <= *at || at + unit <= u.start;
        used.iter().chain([&tables]).all(apart)
    };
    let units: Vec<u64> = ram
        .e820()
        .into_iter()
        .filter(|entry| entry.kind == E820Type::Ram && entry.start >= layout::HIGH_MEMORY)
        .flat_map(|entry| {
            let (start, end) = (entry.start.max(LARGE_PAGE_SIZE), entry.start + entry.len);
            (start.div_ceil(unit)..end / unit).map(move |n| n * unit)
        })
        .filter(is_free)
        .collect();
    let keep = units.len() * usize::from(guest.unaccepted.percent.min(100)) / 100;
    let kept: Vec<u64> = match guest.unaccepted.pattern {
        UnacceptedPattern::Highest => units[units.len() - keep..].to_vec(),
        UnacceptedPattern::AboveFourGib => {
            let first = units.partition_point(|unit| *unit < layout::HIGH_RAM);
            units[first.max(units.len() - keep)..].to_vec()
        }
        UnacceptedPattern::Lowest => units[..keep].to_vec(),
        UnacceptedPattern::Alternate => {
            let mut kept: Vec<u64> = units.into_iter().rev().step_by(2).take(keep).collect();
            kept.reverse();
            kept
        }
    };
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for start in kept {
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end += unit,
            _ => ranges.push(start..start + unit),
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
