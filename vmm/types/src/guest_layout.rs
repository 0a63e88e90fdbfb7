// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What firmware gives a guest beside its kernel: where memory is, what is listed in which table, what was accepted.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::named;
use crate::{PageState, Platform};

named! {
    /// What the option ROM and system ROM area (0xC0000-0xFFFFF) is when the guest starts.
    pub enum RomArea ("state of the ROM area") {
        Validated = "validated", "private and accepted, with the firmware's bytes";
        Unaccepted = "unaccepted", "assigned to the guest and never accepted: a private access is a violation";
        Shared = "shared", "the hypervisor's: a private access is a violation, a shared one is not";
        Absent = "absent", "no memory: the hypervisor answers reads with 0xff";
    }
}

impl RomArea {
    /// The state of its pages; `None` where there are none.
    pub const fn state(self) -> Option<PageState> {
        match self {
            Self::Validated => Some(PageState::Private),
            Self::Unaccepted => Some(PageState::Unaccepted),
            Self::Shared => Some(PageState::Shared),
            Self::Absent => None,
        }
    }
}

named! {
    /// Where the SMBIOS structures are.
    pub enum SmbiosPlace ("place of SMBIOS") {
        Rom = "rom", "in the system ROM, as SeaBIOS has them";
        AcpiData = "acpi-data", "in ACPI data";
        Reserved = "reserved", "in the reserved hole above 1 MiB";
        RuntimeData = "runtime-data", "in EFI runtime services data, as EDK II has them";
        Nowhere = "none", "there are none";
    }
}

named! {
    /// Where the EFI table of unaccepted memory is.
    pub enum TablePlace ("place of the unaccepted table") {
        Ram = "ram", "in EFI boot services data, on a page boundary";
        AcpiData = "acpi-data", "in ACPI data, where Linux' EFI stub allocates it";
    }
}

named! {
    /// The form of the memory map.
    pub enum MapForm ("form of the memory map") {
        Plain = "plain", "one entry for each range, ascending";
        Descending = "descending", "one entry for each range, descending";
        Holes = "holes", "single reserved pages in the midst of RAM";
        Ragged = "ragged", "RAM in pieces that begin and end within pages";
    }
}

named! {
    /// Which units of the memory that may be unaccepted are so.
    pub enum UnacceptedPattern ("pattern of unaccepted units") {
        Highest = "highest", "the highest ones, in one piece";
        Lowest = "lowest", "the lowest ones, in one piece";
        AboveFourGib = "above-4g", "those above 4 GiB, in one piece";
        Alternate = "alternate", "every other one from the highest, so that each has accepted neighbours";
    }
}

named! {
    /// What tells of interrupt controllers and buses.
    pub enum Tables ("machine tables") {
        Acpi = "acpi", "ACPI tables with a MADT";
        MpTable = "mp-table", "no ACPI; an MP table in the system ROM";
        Nothing = "none", "neither";
    }
}

/// Unaccepted memory, on platforms that have such a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UnacceptedLayout {
    /// Percent of the free units that are unaccepted.
    pub percent: u8,
    /// KiB that one bit of the table stands for: a power of two, 4 at least.
    pub unit_kib: u32,
    /// Which of the free units.
    pub pattern: UnacceptedPattern,
    /// Where the table is.
    pub table: TablePlace,
    /// At which byte of a page the table begins: a multiple of 8; ACPI data only.
    pub offset: u16,
}

impl Default for UnacceptedLayout {
    fn default() -> Self {
        Self {
            percent: 100,
            unit_kib: 2048,
            pattern: UnacceptedPattern::Highest,
            table: TablePlace::Ram,
            offset: 0,
        }
    }
}

/// What is chosen about a guest's memory and firmware. The default is what every guest gets that nothing was chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GuestLayout {
    /// EFI tables; `None` where the platform needs them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub efi: Option<bool>,
    /// The ROM area; `None` for the platform's usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rom: Option<RomArea>,
    /// The SMBIOS structures; `None` for the platform's usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smbios: Option<SmbiosPlace>,
    /// The form of the memory map.
    pub map: MapForm,
    /// MiB of RAM above 4 GiB, even. What does not fit below the device hole is there in any case.
    pub high_mib: u32,
    /// MiB at the end of the RAM above 4 GiB that no memory map lists.
    pub unlisted_mib: u32,
    /// Interrupt controllers and buses.
    pub tables: Tables,
    /// Unaccepted memory.
    pub unaccepted: UnacceptedLayout,
}

impl Default for GuestLayout {
    fn default() -> Self {
        Self {
            efi: None,
            rom: None,
            smbios: None,
            map: MapForm::Plain,
            high_mib: 64,
            unlisted_mib: 0,
            tables: Tables::Acpi,
            unaccepted: UnacceptedLayout::default(),
        }
    }
}

/// Why a guest cannot be laid out so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Pages have no state to be unaccepted in.
    #[error("the ROM area cannot be {state} on {platform}: {reason}")]
    Rom {
        /// The state.
        state: RomArea,
        /// The platform.
        platform: Platform,
        /// Why.
        reason: &'static str,
    },
    /// Two things contradict each other.
    #[error("{what} needs {needs}")]
    Needs {
        /// What was chosen.
        what: String,
        /// What it needs.
        needs: &'static str,
    },
    /// A number is out of its range.
    #[error("{field} = {value} is not {expected}")]
    Number {
        /// The field, as in a layout file.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it has to be.
        expected: &'static str,
    },
}

impl GuestLayout {
    /// A guest of `platform` has EFI tables.
    pub fn has_efi(&self, platform: Platform) -> bool {
        self.efi.unwrap_or(platform.accepts_memory())
    }

    /// A guest of `platform` can be launched with unaccepted memory: the table that lists it is one of EFI's.
    pub fn has_unaccepted(&self, platform: Platform) -> bool {
        platform.accepts_memory() && self.has_efi(platform)
    }

    /// The ROM area of a guest of `platform`.
    pub fn rom_of(&self, platform: Platform) -> RomArea {
        self.rom.unwrap_or(match platform.default_rom_state() {
            Some(PageState::Unaccepted) => RomArea::Unaccepted,
            Some(PageState::Shared) => RomArea::Shared,
            Some(PageState::Private) | None => RomArea::Validated,
        })
    }

    /// Where the SMBIOS structures of a guest of `platform` are.
    pub fn smbios_of(&self, platform: Platform) -> SmbiosPlace {
        self.smbios.unwrap_or(match platform {
            Platform::None => SmbiosPlace::Rom,
            _ => SmbiosPlace::AcpiData,
        })
    }

    /// Refuses what no firmware gives a guest of `platform`.
    pub fn check(&self, platform: Platform) -> Result<(), LayoutError> {
        self.check_rom(platform)?;
        self.check_numbers()?;
        let needs = |what: String, needs| Err(LayoutError::Needs { what, needs });
        let smbios = self.smbios_of(platform);
        let validated = self.rom_of(platform) == RomArea::Validated;
        if smbios == SmbiosPlace::RuntimeData && !self.has_efi(platform) {
            return needs(format!("smbios = \"{smbios}\""), "EFI tables: efi = true");
        }
        if smbios == SmbiosPlace::Rom && !validated {
            return needs(format!("smbios = \"{smbios}\""), "a validated ROM area: rom = \"validated\"");
        }
        if self.tables == Tables::MpTable && !validated {
            return needs("tables = \"mp-table\"".to_owned(), "a validated ROM area: rom = \"validated\"");
        }
        Ok(())
    }

    fn check_rom(&self, platform: Platform) -> Result<(), LayoutError> {
        let reason = match (platform, self.rom) {
            (Platform::Vbs, Some(RomArea::Unaccepted)) => "it has no acceptance of pages",
            _ => return Ok(()),
        };
        self.rom.map_or(Ok(()), |state| Err(LayoutError::Rom { state, platform, reason }))
    }

    fn check_numbers(&self) -> Result<(), LayoutError> {
        let UnacceptedLayout { percent, unit_kib, table, offset, .. } = self.unaccepted;
        let high = u64::from(self.high_mib);
        let checks = [
            ("unaccepted.percent", u64::from(percent), percent <= 100, "from 0 to 100"),
            (
                "unaccepted.unit-kib",
                u64::from(unit_kib),
                unit_kib.is_power_of_two() && (4..=1 << 20).contains(&unit_kib),
                "a power of two from 4 to 1048576",
            ),
            (
                "unaccepted.offset",
                u64::from(offset),
                offset < 4096 && offset.is_multiple_of(8) && (offset == 0 || table == TablePlace::AcpiData),
                "a multiple of 8 below 4096, and 0 unless unaccepted.table is \"acpi-data\"",
            ),
            ("high-mib", high, high.is_multiple_of(2), "even"),
            (
                "unlisted-mib",
                u64::from(self.unlisted_mib),
                self.unlisted_mib == 0
                    || (self.unlisted_mib < self.high_mib && self.unlisted_mib.is_multiple_of(2)),
                "even and less than high-mib",
            ),
        ];
        let wrong = checks.into_iter().find(|(.., holds, _)| !holds);
        wrong
            .map_or(Ok(()), |(field, value, _, expected)| Err(LayoutError::Number { field, value, expected }))
    }
}

/// What differs from the default, in one line.
impl fmt::Display for GuestLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        let (now, then) = (self.unaccepted, usual.unaccepted);
        let facts = [
            self.efi.map(|efi| if efi { "EFI tables" } else { "no EFI tables" }.to_owned()),
            self.rom.map(|rom| format!("ROM area {rom}")),
            self.smbios.map(|place| match place {
                SmbiosPlace::Nowhere => "no SMBIOS".to_owned(),
                place => format!("SMBIOS in {place}"),
            }),
            (self.map != usual.map).then(|| format!("memory map {}", self.map)),
            (self.high_mib != usual.high_mib).then(|| format!("{} MiB above 4 GiB", self.high_mib)),
            (self.unlisted_mib != 0).then(|| format!("{} MiB unlisted", self.unlisted_mib)),
            (self.tables != usual.tables).then(|| match self.tables {
                Tables::Nothing => "neither ACPI nor MP table".to_owned(),
                tables => format!("{tables} tables"),
            }),
            (now.percent != then.percent).then(|| format!("{} % unaccepted", now.percent)),
            (now.unit_kib != then.unit_kib).then(|| format!("units of {} KiB", now.unit_kib)),
            (now.pattern != then.pattern).then(|| format!("{} units unaccepted", now.pattern)),
            (now.table != then.table)
                .then(|| format!("unaccepted table in {} at {:#x} of a page", now.table, now.offset)),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        if facts.is_empty() { f.write_str("as usual") } else { f.write_str(&facts.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_everywhere_and_has_no_facts() {
        for platform in Platform::ALL {
            assert_eq!(GuestLayout::default().check(*platform), Ok(()));
        }
        assert_eq!(GuestLayout::default().to_string(), "as usual");
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_what_it_needs() {
        let usual = GuestLayout::default();
        let unaccepted = |change: fn(&mut UnacceptedLayout)| {
            let mut layout = usual;
            change(&mut layout.unaccepted);
            layout
        };
        let cases = [
            (GuestLayout { smbios: Some(SmbiosPlace::RuntimeData), efi: Some(false), ..usual }, "efi = true"),
            (
                GuestLayout { smbios: Some(SmbiosPlace::Rom), rom: Some(RomArea::Absent), ..usual },
                "rom = \"validated\"",
            ),
            (
                GuestLayout { tables: Tables::MpTable, rom: Some(RomArea::Absent), ..usual },
                "rom = \"validated\"",
            ),
            (unaccepted(|it| it.percent = 101), "unaccepted.percent = 101"),
            (unaccepted(|it| it.unit_kib = 3), "power of two"),
            (unaccepted(|it| it.offset = 8), "acpi-data"),
            (unaccepted(|it| (it.table, it.offset) = (TablePlace::AcpiData, 9)), "multiple of 8"),
            (GuestLayout { high_mib: 3, ..usual }, "even"),
            (GuestLayout { unlisted_mib: 64, ..usual }, "less than high-mib"),
        ];
        for (layout, expected) in cases {
            let error = layout.check(Platform::Tdx).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        let rom = GuestLayout { rom: Some(RomArea::Unaccepted), ..usual };
        assert!(rom.check(Platform::Vbs).is_err() && rom.check(Platform::Snp).is_ok());
    }
}
