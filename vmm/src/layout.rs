// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every guest physical address and port copra decides, one doc line each.
//!
//! The low megabyte follows the PC (what `arch/x86/kernel/ebda.c` and `probe_roms.c` look at);
//! everything else is placed so that each class of address the kernel distinguishes exists once.

use std::ops::Range;

/// One 4 KiB page: the unit of page state and of every view switch.
pub const PAGE_SIZE: u64 = 4096;
/// One 2 MiB page.
pub const LARGE_PAGE_SIZE: u64 = 2 << 20;

/// BIOS data area, inside page 0.
pub const BDA: u64 = 0x400;
/// BDA word: segment of the EBDA (`arch/x86/include/asm/bios_ebda.h:get_bios_ebda`).
pub const BDA_EBDA_SEGMENT: u64 = 0x40e;
/// BDA word: KiB of base memory (`arch/x86/kernel/ebda.c:reserve_bios_regions`).
pub const BDA_BASE_MEMORY_KIB: u64 = 0x413;
/// BDA bytes: keyboard type, and keyboard lights at 0x497.
pub const BDA_KEYBOARD: u64 = 0x496;
/// One past the BIOS data area.
pub const BDA_END: u64 = 0x500;

/// `struct boot_params`, handed to the kernel in RSI.
pub const BOOT_PARAMS: u64 = 0x7000;
/// Entry page tables: one PML4, one PDPT, one PD of 2 MiB pages for the first GiB; one more PD and a PT
/// for the aliases small test guests look through.
pub const PAGE_TABLES: u64 = 0x9000;
/// Pages used from [`PAGE_TABLES`] on.
pub const PAGE_TABLE_PAGES: u64 = 5;
/// The kernel command line: low System RAM that keeps the boot loader's bytes.
pub const COMMAND_LINE: u64 = 0x20000;
/// Longest command line Linux takes, with its NUL (`arch/x86/include/asm/setup.h:COMMAND_LINE_SIZE`).
pub const COMMAND_LINE_SIZE: usize = 2048;
/// `struct cc_blob_sev_info`, by which a kernel finds the next two (SEV-SNP).
pub const CC_BLOB: u64 = 0x12000;
/// The SNP secrets page.
pub const SNP_SECRETS: u64 = 0x13000;
/// The SNP CPUID page.
pub const SNP_CPUID: u64 = 0x14000;
/// Where small test guests keep their code and the stack below it.
pub const FLAT_CODE: u64 = 0x30000;

/// Extended BIOS data area: the last KiB of base memory.
pub const EBDA: u64 = 0x9_fc00;
/// The VGA window: no memory behind it, a device answers.
pub const VGA: u64 = 0xa_0000;
/// First byte of the ROM area.
pub const ROM: u64 = 0xc_0000;
/// System ROM, with the SMBIOS entry point (SMBIOS 3.x §5.2.1).
pub const SYSTEM_ROM: u64 = 0xf_0000;
/// The MP floating pointer structure with its table, where a layout has one: behind the SMBIOS structures, where Linux looks for
/// it (`arch/x86/kernel/mpparse.c:mpparse_find_mptable`).
pub const MP_TABLE: u64 = SYSTEM_ROM + 0xe000;
/// First byte above the first MiB.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// Bytes of the e820 reserved hole that ends low RAM together with the ACPI data.
pub const RESERVED_SIZE: u64 = 0x1_0000;
/// Where in the system ROM an ordinary guest's SMBIOS structure table lies: behind the entry point.
pub const SMBIOS_TABLE_OFFSET: u64 = 0x8000;
/// Bytes of e820 ACPI data at the very end of low RAM; holds a confidential guest's SMBIOS structure table.
pub const ACPI_DATA_SIZE: u64 = 0x1_0000;

/// Where in the ACPI data a second copy of the SMBIOS entry point is, for the EFI tables to point to: on SEV-SNP the
/// ROM area is not validated.
pub const SMBIOS_ENTRY_OFFSET: u64 = 0x8000;
/// Bytes kept for EFI tables below the reserved hole, at least.
pub const EFI_SIZE: u64 = 0x4000;
/// Bytes of them without the table of unaccepted memory.
pub const EFI_OTHERS_SIZE: u64 = 0x2000;
/// Where in the ACPI data the ACPI tables are, to the end of it.
pub const ACPI_TABLES_OFFSET: u64 = 0xa000;
/// Start of the 32-bit device hole; low RAM never reaches it.
pub const DEVICE_HOLE: u64 = 0xc000_0000;
/// Where the PCI bus has devices below 4 GiB: the next two ranges are in it, what is unclaimed is not.
pub const PCI_WINDOW_32: Range<u64> = BAR32..UNCLAIMED_MMIO;
/// 32-bit memory BAR of the first PCI test device.
pub const BAR32: u64 = 0xe000_0000;
/// A range the kernel command line marks busy (`reserve=`): device memory that is claimed.
pub const CLAIMED_MMIO: u64 = 0xe100_0000;
/// Bytes of [`CLAIMED_MMIO`].
pub const CLAIMED_MMIO_SIZE: u64 = 0x1_0000;
/// Unclaimed part of the device hole, without a device.
pub const UNCLAIMED_MMIO: u64 = 0xe200_0000;
/// Memory-mapped configuration space (ECAM) of the PCI buses from 0 to [`ECAM_LAST_BUS`]; e820 reserved, as firmware has it.
pub const ECAM: u64 = 0xe800_0000;
/// Number of the last PCI bus with memory-mapped configuration space.
pub const ECAM_LAST_BUS: u8 = 0;
/// Bytes of [`ECAM`]: 1 MiB a bus.
pub const ECAM_SIZE: u64 = (ECAM_LAST_BUS as u64 + 1) << 20;
/// I/O APIC; KVM's own is nowhere else (`arch/x86/kvm/ioapic.h:IOAPIC_DEFAULT_BASE_ADDRESS`).
pub const IOAPIC: u64 = 0xfec0_0000;
/// Local APIC.
pub const LAPIC: u64 = 0xfee0_0000;
/// Three pages KVM needs for real mode on Intel hosts (`KVM_SET_TSS_ADDR`).
pub const KVM_TSS: u64 = 0xfffb_d000;
/// One page KVM needs for an identity map on Intel hosts.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;

/// Start of the RAM above the device hole, which is there by default so that the hole lies below the kernel's `high_memory` and read(2)
/// reaches device memory (`arch/x86/mm/mmap.c:valid_phys_addr_range`).
pub const HIGH_RAM: u64 = 1 << 32;
/// Where the PCI bus has devices above 4 GiB: those at the two addresses below.
pub const PCI_WINDOW_64: Range<u64> = BAR64..0x22_0000_0000;
/// 64-bit memory BAR of the second PCI test device.
pub const BAR64: u64 = 0x20_0000_0000;
/// 64-bit memory BARs of the virtio devices, one behind the other.
pub const VIRTIO_BARS: u64 = 0x21_0000_0000;

/// 64-bit memory BAR of the device that tests a kernel's DMA API.
pub const DMA_PROBE_BAR: u64 = 0x21_8000_0000;

/// Least RAM below the device hole; a kernel that needs more is refused with its size.
pub const LEAST_LOW_RAM: u64 = 32 << 20;
/// RAM that every stock kernel can live in: 57 MB of kernel image, a 64 MiB swiotlb, and room.
pub const MIN_RAM: u64 = 192 << 20;
/// Most RAM a guest is started with: the 64-bit BARs are behind it.
pub const MAX_RAM: u64 = DEVICE_HOLE + (BAR64 - HIGH_RAM);

/// First serial port, the kernel's console, 8 ports.
pub const COM1: u16 = 0x3f8;
/// Second serial port, the agent's, 8 ports.
pub const COM2: u16 = 0x2f8;
/// Interrupt line of [`COM1`].
pub const COM1_IRQ: u32 = 4;
/// Interrupt line of [`COM2`].
pub const COM2_IRQ: u32 = 3;
/// i8042 data port.
pub const I8042_DATA: u16 = 0x60;
/// i8042 command port; 0xfe pulses the reset line. Reads float high: there is no keyboard controller to wait for.
pub const I8042_COMMAND: u16 = 0x64;
/// CMOS index port.
pub const CMOS_INDEX: u16 = 0x70;
/// CMOS data port.
pub const CMOS_DATA: u16 = 0x71;
/// PCI configuration address, also the neighbour of [`RESET_CONTROL`].
pub const PCI_CONFIG_ADDRESS: u16 = 0xcf8;
/// PCI configuration data, 4 ports.
pub const PCI_CONFIG_DATA: u16 = 0xcfc;
/// Reset control register (PIIX/ICH "CF9"); bit 2 resets.
pub const RESET_CONTROL: u16 = 0xcf9;
/// What resets through [`RESET_CONTROL`]: all of the system (bit 1), now (bit 2).
pub const RESET_VALUE: u8 = 6;
/// ACPI's power management event registers, status and enable (`PM1a_EVT_BLK`).
pub const PM1_EVENTS: u16 = 0x600;
/// ACPI's power management control register (`PM1a_CNT_BLK`), which switches off.
pub const PM1_CONTROL: u16 = 0x604;
/// The sleep type of S5 there, which `_S5` gives the guest.
pub const SLEEP_TYPE_S5: u8 = 5;
/// Its last port.
pub const PM1_LAST: u16 = 0x605;
/// The interrupt of ACPI's events, of which there are none, at the pin where PCs have it.
pub const ACPI_IRQ: u8 = 9;
/// Where a TDCALL goes that was rewritten to an OUT (`boot/opcode.rs`), 4 bytes wide as the next three. PCs keep
/// 0xf0-0xff for the coprocessor, so no driver uses them.
pub const TDCALL_PORT: u16 = 0xf1;
/// Where a rewritten VMGEXIT goes.
pub const VMGEXIT_PORT: u16 = 0xf2;
/// Where a rewritten PVALIDATE goes.
pub const PVALIDATE_PORT: u16 = 0xf3;
/// Where a rewritten RMPADJUST goes.
pub const RMPADJUST_PORT: u16 = 0xf4;
/// Where the code of Hyper-V's hypercall page writes (`platform/vbs.rs`).
pub const HYPERCALL_PORT: u16 = 0xf5;
/// Where a debugger's breakpoint writes, on hosts where KVM cannot stop at INT3 (`machine/debug/breakpoints.rs`).
pub const BREAKPOINT_PORT: u16 = 0xf6;
/// Debug exit for small test guests: the byte written is their verdict.
pub const DEBUG_EXIT: u16 = 0x501;
