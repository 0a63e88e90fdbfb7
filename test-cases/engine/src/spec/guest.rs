// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest that the answers are of: as copra places one, derived from the kernel's options without booting it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use types::{GuestLayout, Mode, PageState, PlacedRegion, Platform, Policy, Region};
use vmm::layout;
use vmm::memory::ram::{E820Entry, E820Type, Ram, RamError};
use vmm::platform::{self, HostFacts, Options, PlatformModel};

use crate::explore::{smbios_page, uncached, with_command_line};
use crate::requirements::accepts_lazily;
use model::iomem::{BadIomem, Iomem};
use model::lockdown::Level;
use model::release::Release;
use model::world::Memory;
use model::{KernelConfig, PAGE, World};

/// Physical address bits of the guest's processor. The encryption bit is the highest of them.
pub const PHYSICAL_BITS: u8 = 46;

/// A kernel as far as the model needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// What it is, for the reader.
    pub name: String,
    /// Its release.
    pub release: Release,
    /// The options it was built with, without `CONFIG_`.
    pub options: BTreeMap<String, String>,
    /// Added to its command line.
    pub command_line: Vec<String>,
}

/// Why there is no guest to describe.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The memory size.
    #[error("placing the guest's RAM: {0}")]
    Ram(#[from] RamError),
    /// The resource tree made here.
    #[error(transparent)]
    Iomem(#[from] BadIomem),
    /// The kernel cannot be one of the platform.
    #[error(
        "{kernel} cannot run as {platform} guest: it was built without {option}; choose another kernel or platform"
    )]
    Option {
        /// The kernel.
        kernel: String,
        /// The platform.
        platform: Platform,
        /// What it lacks.
        option: &'static str,
    },
}

/// A guest and its regions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// The guest as the model has it.
    pub world: World,
    /// Its regions.
    pub regions: Vec<PlacedRegion>,
}

/// The platform as the VMM makes it for a guest of this kind.
pub(super) fn platform_model(kind: Platform) -> Box<dyn PlatformModel> {
    let host = HostFacts { physical_bits: PHYSICAL_BITS };
    let options = Options { encryption_bit: None, seed: 0, mode: Mode::Faithful, sept_ve_disable: true };
    platform::make(kind, &host, &options)
}

impl Guest {
    /// A guest of this kernel with `memory_mib` of RAM, when its agent is ready.
    ///
    /// # Errors
    /// If the kernel cannot be a guest of the platform, or there is no such guest.
    pub fn of(
        kernel: &Kernel,
        platform: Platform,
        policy: Policy,
        memory_mib: u64,
    ) -> Result<Self, SpecError> {
        if let Some(option) = crate::requirements::missing_option(platform, &kernel.options) {
            return Err(SpecError::Option { kernel: kernel.name.clone(), platform, option });
        }
        let ram = Ram::new(memory_mib << 20)?;
        let model = platform_model(platform);
        let mut regions = vmm::region::regions(&ram, &*model, PHYSICAL_BITS);
        let mut page_states = BTreeMap::new();
        if platform.default_rom_state() == Some(PageState::Unaccepted) {
            let pages = (layout::ROM..layout::HIGH_MEMORY).step_by(PAGE as usize);
            page_states.extend(pages.map(|gpa| (gpa, PageState::Unaccepted)));
        }
        if platform.accepts_memory() && accepts_lazily(&kernel.options) {
            let gpa = ram.low_end() / 2;
            page_states.insert(gpa, PageState::Unaccepted);
            let kind = "System RAM that was not accepted when the agent came up".into();
            regions.push(PlacedRegion { region: Region::Unaccepted, gpa, len: PAGE, kind });
        }
        let has_table = kernel.options.get("DMI").is_some_and(|value| value == "y");
        let world = World {
            config: KernelConfig::of(&kernel.options),
            policy,
            platform,
            release: kernel.release,
            lockdown: Level::None,
            iomem_checks: None,
            physical_bits: PHYSICAL_BITS,
            protection_keys: false,
            encryption_bit: model.encryption_bit(),
            iomem: Iomem::parse(&iomem(ram, platform, kernel.release))?,
            memory: Memory {
                backed: ram.backed().iter().map(|(gpa, len)| *gpa..gpa + len).collect(),
                page_states,
                top: ram.end(),
            },
            uncached: uncached(ram, platform, kernel.release).into_iter().collect(),
            kept: if has_table {
                smbios_page(platform, &GuestLayout::default(), &ram).into_iter().collect()
            } else {
                Vec::new()
            },
        };
        Ok(Self { world: with_command_line(world, &kernel.command_line), regions })
    }

    /// Where the guest has a region.
    pub fn gpa(&self, region: Region) -> Option<u64> {
        self.regions.iter().find(|placed| placed.region == region).map(|placed| placed.gpa)
    }
}

/// /proc/iomem as the kernel makes it of the memory map and the devices. Page 0 is Reserved
/// (`arch/x86/kernel/setup.c:trim_bios_range`); a SEV-SNP guest probes no ROMs (`arch/x86/kernel/probe_roms.c`).
fn iomem(ram: Ram, platform: Platform, release: Release) -> String {
    let mut out = String::new();
    let mut line = |depth: usize, start: u64, end: u64, name: &str| {
        let _ = writeln!(out, "{:1$}{start:08x}-{2:08x} : {name}", "", depth * 2, end - 1);
    };
    line(0, 0, PAGE, "Reserved");
    for E820Entry { start, len, kind } in ram.e820() {
        let end = start + len;
        match (kind, start) {
            (E820Type::Ram, 0) => line(0, PAGE, end, "System RAM"),
            (E820Type::Ram, _) => {
                line(0, start, end, "System RAM");
                if (start..end).contains(&KERNEL_TEXT.start) {
                    line(1, KERNEL_TEXT.start, KERNEL_TEXT.end, "Kernel code");
                }
            }
            (E820Type::Acpi, _) => {
                line(0, start, end, "ACPI Tables");
                line(0, layout::BAR32, layout::PCI_WINDOW_32.end, "PCI Bus 0000:00");
                line(1, layout::BAR32, layout::BAR32 + BAR_SIZE, "0000:00:01.0");
                let claimed = layout::CLAIMED_MMIO;
                line(1, claimed, claimed + layout::CLAIMED_MMIO_SIZE, "reserved");
            }
            (E820Type::Reserved, layout::ECAM) => line(0, start, end, "PCI ECAM 0000 [bus 00-00]"),
            (E820Type::Reserved, layout::SYSTEM_ROM) => {
                line(0, layout::VGA, layout::ROM, "PCI Bus 0000:00");
                line(0, start, end, "Reserved");
                if platform != Platform::Snp {
                    line(1, start, end, "System ROM");
                }
            }
            (E820Type::Reserved, _) => line(0, start, end, "Reserved"),
        }
        if start == layout::ECAM {
            line(1, start, end, "Reserved");
            line(0, layout::IOAPIC, layout::IOAPIC + 0x400, "IOAPIC 0");
            if release < LAPIC_MISPLACED {
                line(0, layout::LAPIC, layout::LAPIC + PAGE, "Local APIC");
            }
        }
    }
    let window = layout::PCI_WINDOW_64;
    line(0, window.start, window.end, "PCI Bus 0000:00");
    line(1, layout::BAR64, layout::BAR64 + BAR_SIZE, "0000:00:02.0");
    out
}

/// From here on the resource of the local APIC is at a virtual address (`arch/x86/kernel/apic/apic.c:lapic_insert_resource`).
const LAPIC_MISPLACED: Release = Release { major: 6, minor: 6 };
/// Bytes of the BARs of the first two PCI devices.
const BAR_SIZE: u64 = 0x1_0000;
/// Where the kernel's text lies, without KASLR (`CONFIG_PHYSICAL_START`).
const KERNEL_TEXT: std::ops::Range<u64> = 0x100_0000..0x200_0000;
