// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What firmware leaves in memory: the BIOS data areas, SMBIOS tables, and markers everywhere else it owns.

use types::{GuestLayout, Platform, SmbiosPlace, View};

use super::smbios;
use crate::layout::{self, PAGE_SIZE};
use crate::marker::{self, Tag};
use crate::memory::ram::Ram;
use crate::memory::{GuestMemory, MemoryError};

/// Fills every firmware-owned page. Markers name view and GPA, so any byte of them that turns up elsewhere shows
/// where it was read and through what.
pub fn write(memory: &GuestMemory, platform: Platform, guest: &GuestLayout) -> Result<(), MemoryError> {
    let ram = *memory.ram();
    let rom = ram.has_rom().then_some((layout::ROM, layout::HIGH_MEMORY));
    let owned = [(0, PAGE_SIZE), (layout::EBDA, layout::VGA), (ram.reserved(), ram.low_end())];
    for (start, end) in owned.into_iter().chain(rom) {
        let mut bytes = vec![0; (end - start) as usize];
        marker::fill(Tag::Private, start, &mut bytes);
        memory.write(start, &bytes)?;
    }
    bios_data_area(memory)?;
    let place = guest.smbios_of(platform);
    let Some(at) = smbios_table(place, &ram) else { return Ok(()) };
    let tables = smbios::build(&smbios::Params {
        platform: platform.name(),
        table_address: at as u32,
        ram_mib: (ram.mapped_size() >> 20) as u32,
    });
    if ram.has_rom() {
        memory.write(layout::SYSTEM_ROM, &tables.entry_point)?;
    }
    if let Some(entry) = smbios_entry(place, &ram).filter(|_| guest.has_efi(platform)) {
        memory.write(entry, &tables.entry_point)?;
    }
    memory.write(at, &tables.table)
}

/// Fills pages that firmware leaves shared: with markers of the shared view, so that what is read there is not taken for a
/// page of zeros. Pages in another state take nothing.
pub fn write_shared(memory: &GuestMemory, start: u64, end: u64) -> Result<(), MemoryError> {
    let mut bytes = vec![0; (end - start) as usize];
    marker::fill(Tag::Shared, start, &mut bytes);
    memory.store(View::Shared, start, &bytes)
}

/// Where the SMBIOS structures lie.
///
/// An ordinary guest has them in the system ROM, where `SeaBIOS` puts a table of up to 600 bytes
/// (`BUILD_MAX_SMBIOS_FSEG` in its `src/config.h`), so that dmidecode reaches them through /dev/mem.
///
/// A confidential guest has them in ACPI data. Linux maps reserved memory shared when it reads the table again for sysfs,
/// so a table there would be ciphertext to the guest (`arch/x86/mm/ioremap.c:__ioremap_check_encrypted`); ACPI data it maps
/// private. The price is that /dev/mem does not show them to anyone: ACPI data are busy
/// (`arch/x86/kernel/e820.c:do_mark_busy`), which `IO_STRICT_DEVMEM` refuses. OVMF's table lies in runtime services data
/// (edk2's `SmbiosDxe.c`), which Linux maps private and does not mark busy; a layout can place it so.
pub fn smbios_table(place: SmbiosPlace, ram: &Ram) -> Option<u64> {
    match place {
        SmbiosPlace::Rom => Some(layout::SYSTEM_ROM + layout::SMBIOS_TABLE_OFFSET),
        SmbiosPlace::AcpiData => Some(ram.acpi()),
        SmbiosPlace::Reserved | SmbiosPlace::RuntimeData => Some(ram.reserved()),
        SmbiosPlace::Nowhere => None,
    }
}

/// The entry point's place for EFI tables, near the structures.
pub fn smbios_entry(place: SmbiosPlace, ram: &Ram) -> Option<u64> {
    match place {
        SmbiosPlace::Rom => Some(layout::SYSTEM_ROM),
        place => smbios_table(place, ram).map(|table| table + layout::SMBIOS_ENTRY_OFFSET),
    }
}

/// Leaves in low RAM what boot loaders leave there: bytes that are no zeros. Only before the kernel starts.
pub fn leave_residue(memory: &GuestMemory) -> Result<(), MemoryError> {
    let mut bytes = vec![0; (layout::EBDA - PAGE_SIZE) as usize];
    marker::fill(Tag::Private, PAGE_SIZE, &mut bytes);
    memory.write(PAGE_SIZE, &bytes)
}

/// BDA 0x496 bit 4: a keyboard of 101 keys.
const ENHANCED_KEYBOARD: u8 = 1 << 4;
/// BDA 0x497 bit 1: its Num Lock light is on.
const NUM_LOCK_LED: u8 = 1 << 1;

/// The fields Linux itself reads; the rest of the area keeps its markers.
fn bios_data_area(memory: &GuestMemory) -> Result<(), MemoryError> {
    let ports = [layout::COM1, layout::COM2, 0, 0];
    let ports: Vec<u8> = ports.iter().flat_map(|port| port.to_le_bytes()).collect();
    memory.write(layout::BDA, &ports)?;
    memory.write(layout::BDA_EBDA_SEGMENT, &((layout::EBDA >> 4) as u16).to_le_bytes())?;
    memory.write(layout::BDA_BASE_MEMORY_KIB, &((layout::EBDA >> 10) as u16).to_le_bytes())?;
    memory.write(layout::BDA_KEYBOARD, &[ENHANCED_KEYBOARD, NUM_LOCK_LED])?;
    memory.write(layout::EBDA, &[((layout::VGA - layout::EBDA) >> 10) as u8])
}
