// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Configuration space of one function: PCI Local Bus Specification 3.0 §6.1.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, Unaligned};

use super::BAR_SIZE;

/// Red Hat, Inc.; its devices are QEMU's.
const VENDOR: u16 = 0x1b36;
/// QEMU's PCI Express host bridge, for which Linux has no quirk.
const DEVICE_HOST_BRIDGE: u16 = 0x0008;
/// QEMU's pci-testdev (docs/specs/pci-testdev.rst), for which Linux has no driver.
const DEVICE_TEST: u16 = 0x0005;
/// Virtio 1.2 §4.1.2: the vendor of all virtio devices.
const VENDOR_VIRTIO: u16 = 0x1af4;
/// The first device id: that of a device is its kind more.
const DEVICE_VIRTIO: u16 = 0x1040;
/// The first device id of this vendor for experiments (QEMU, docs/specs/pci-ids.rst); Linux has no driver for it.
const DEVICE_DMA_PROBE: u16 = 0x10f0;
/// A subsystem id that is no legacy device's.
const SUBSYSTEM_VIRTIO: u16 = 0x40;
/// §6.2.3, status: there is a list of capabilities.
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// §D.7: host bridge.
const CLASS_HOST_BRIDGE: [u8; 3] = [0x00, 0x00, 0x06];
/// §D: the device fits in no class.
const CLASS_NONE: [u8; 3] = [0x00, 0x00, 0xff];
/// §6.2.2, command: memory space.
const COMMAND_MEMORY: u16 = 1 << 1;
/// §6.2.2, command: bus master.
const COMMAND_MASTER: u16 = 1 << 2;
/// §6.2.2, command: interrupt disable.
const COMMAND_INTERRUPT_DISABLE: u16 = 1 << 10;
/// §6.2.5.1: type field of a 64-bit memory BAR.
const MEMORY_64: u32 = 0b100;
/// §6.2.5.1: what in a memory BAR is no address.
const TYPE_BITS: u64 = 0xf;

/// §6.1, figure 6-1, and §6.2.4: the type 00h header.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, Unaligned)]
#[expect(clippy::struct_field_names, reason = "the specification's names")]
#[repr(C)]
struct Header {
    vendor_id: U16,
    device_id: U16,
    command: U16,
    status: U16,
    revision_id: u8,
    class_code: [u8; 3],
    cache_line_size: u8,
    latency_timer: u8,
    header_type: u8,
    bist: u8,
    base_address: [U32; 6],
    cardbus_cis_pointer: U32,
    subsystem_vendor_id: U16,
    subsystem_id: U16,
    expansion_rom_base_address: U32,
    capabilities_pointer: u8,
    reserved: [u8; 7],
    interrupt_line: u8,
    interrupt_pin: u8,
    min_gnt: u8,
    max_lat: u8,
}

const _: () = {
    assert!(offset_of!(Header, class_code) == 0x09);
    assert!(offset_of!(Header, base_address) == 0x10);
    assert!(offset_of!(Header, subsystem_vendor_id) == 0x2c);
    assert!(offset_of!(Header, interrupt_line) == 0x3c);
    assert!(size_of::<Header>() == 0x40);
};

/// The BAR that a test device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bar {
    /// Below 4 GiB.
    Memory32,
    /// Anywhere.
    Memory64,
}

/// One function: what its header holds, and which bits of it can be written.
#[derive(Debug, Clone)]
pub(super) struct Function {
    header: Header,
    writable: Header,
    bar: Option<Bar>,
    /// Registers behind the header, and which bits of them can be written.
    capabilities: Vec<u8>,
    capabilities_writable: Vec<u8>,
}

impl Function {
    /// Configuration space as it is.
    pub(super) fn header(&self) -> &[u8] {
        self.header.as_bytes()
    }

    /// Sets it to bytes that [`Self::header`] gave; `false`, and nothing is set, if there are more or fewer.
    #[must_use]
    pub(super) fn set_header(&mut self, bytes: &[u8]) -> bool {
        let header = Header::read_from_bytes(bytes);
        header.is_ok_and(|header| {
            self.header = header;
            true
        })
    }

    /// What all have in common.
    fn new(device_id: u16, class_code: [u8; 3]) -> Self {
        let zero: Header = zerocopy::transmute!([0_u8; size_of::<Header>()]);
        let header = Header {
            vendor_id: VENDOR.into(),
            device_id: device_id.into(),
            command: COMMAND_MEMORY.into(),
            class_code,
            ..zero
        };
        let command = COMMAND_MEMORY | COMMAND_MASTER | COMMAND_INTERRUPT_DISABLE;
        let writable = Header {
            command: command.into(),
            cache_line_size: 0xff,
            latency_timer: 0xff,
            interrupt_line: 0xff,
            ..zero
        };
        Self { header, writable, bar: None, capabilities: Vec::new(), capabilities_writable: Vec::new() }
    }

    pub(super) fn host_bridge() -> Self {
        Self::new(DEVICE_HOST_BRIDGE, CLASS_HOST_BRIDGE)
    }

    /// §6.2.5.1: a BAR's size shows by the address bits that cannot be written.
    pub(super) fn test_device(bar: Bar, address: u64) -> Self {
        let mut function = Self::new(DEVICE_TEST, CLASS_NONE);
        function.bar = Some(bar);
        let size_mask = !(BAR_SIZE - 1);
        let (header, writable) = (&mut function.header, &mut function.writable);
        header.base_address[0] = ((address & size_mask) as u32).into();
        writable.base_address[0] = (size_mask as u32).into();
        header.subsystem_vendor_id = VENDOR.into();
        header.subsystem_id = 32.into();
        if bar == Bar::Memory64 {
            header.base_address[0] |= MEMORY_64;
            header.base_address[1] = ((address >> 32) as u32).into();
            writable.base_address[1] = u32::MAX.into();
            header.subsystem_id = 64.into();
        }
        function
    }

    /// A virtio device (Virtio 1.2 §4.1.2) with a 64-bit memory BAR.
    pub(super) fn virtio(kind: u16, class_code: [u8; 3], address: u64) -> Self {
        let mut function = Self::test_device(Bar::Memory64, address);
        let header = &mut function.header;
        header.vendor_id = VENDOR_VIRTIO.into();
        header.device_id = (DEVICE_VIRTIO + kind).into();
        header.revision_id = 1;
        header.class_code = class_code;
        header.subsystem_vendor_id = VENDOR_VIRTIO.into();
        header.subsystem_id = SUBSYSTEM_VIRTIO.into();
        header.status = STATUS_CAPABILITIES.into();
        header.capabilities_pointer = size_of::<Header>() as u8;
        function
    }

    /// The device that tests a kernel's DMA API, with a 64-bit memory BAR.
    pub(super) fn dma_probe(address: u64) -> Self {
        let mut function = Self::test_device(Bar::Memory64, address);
        let header = &mut function.header;
        header.vendor_id = VENDOR_VIRTIO.into();
        header.device_id = DEVICE_DMA_PROBE.into();
        header.subsystem_vendor_id = VENDOR_VIRTIO.into();
        header.subsystem_id = DEVICE_DMA_PROBE.into();
        function
    }

    /// Whether the function may access memory.
    pub(super) fn is_master(&self) -> bool {
        self.header.command.get() & COMMAND_MASTER != 0
    }

    /// Adds capabilities, each with the bits that can be written. Its second byte is set here: where the next one is (§6.7).
    pub(super) fn add_capabilities(&mut self, list: &[(Vec<u8>, Vec<u8>)]) {
        for (index, (bytes, writable)) in list.iter().enumerate() {
            let start = self.capabilities.len();
            let end = start + bytes.len().next_multiple_of(4);
            self.capabilities.extend_from_slice(bytes);
            self.capabilities_writable.extend_from_slice(writable);
            self.capabilities.resize(end, 0);
            self.capabilities_writable.resize(end, 0);
            let is_last = index + 1 == list.len();
            self.capabilities[start + 1] = if is_last { 0 } else { (size_of::<Header>() + end) as u8 };
        }
    }

    /// A register behind the header.
    fn capability(&self, register: u8) -> u8 {
        let at = usize::from(register).checked_sub(size_of::<Header>());
        at.and_then(|at| self.capabilities.get(at)).copied().unwrap_or_default()
    }

    /// Other registers are not implemented: they read as zero (§6.1).
    pub(super) fn read(&self, register: u8) -> u8 {
        let header = self.header.as_bytes().get(usize::from(register)).copied();
        header.unwrap_or_else(|| self.capability(register))
    }

    /// Bits that cannot be written stay as they are.
    pub(super) fn write(&mut self, register: u8, value: u8) {
        let register = usize::from(register);
        let mask = self.writable.as_bytes().get(register).copied().unwrap_or_default();
        if let Some(byte) = self.header.as_mut_bytes().get_mut(register) {
            *byte = *byte & !mask | value & mask;
        } else if let Some(at) = register.checked_sub(size_of::<Header>())
            && let Some((byte, mask)) = self.capabilities.get_mut(at).zip(self.capabilities_writable.get(at))
        {
            *byte = *byte & !mask | value & mask;
        }
    }

    /// The BAR's address, if it is one that the function answers at.
    pub(super) fn bar(&self) -> Option<u64> {
        let [low, high, ..] = self.header.base_address.map(|half| u64::from(half.get()));
        let address = match self.bar? {
            Bar::Memory32 => low,
            Bar::Memory64 => low | high << 32,
        } & !TYPE_BITS;
        (address != 0 && self.header.command.get() & COMMAND_MEMORY != 0).then_some(address)
    }
}
