// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The bus as a kernel probes it.

use proptest::prelude::*;

use super::*;
use crate::layout;

/// Where the BARs are at first.
const BAR32: u64 = 0xe000_0000;
const BAR64: u64 = 0x20_0000_0000;
/// Offsets of configuration registers.
const VENDOR: u8 = 0x00;
const COMMAND: u8 = 0x04;
const CLASS: u8 = 0x08;
const BAR0: u8 = 0x10;
const BAR1: u8 = 0x14;

fn bus() -> PciBus {
    PciBus::new(BAR32, BAR64)
}

fn select(bus: &mut PciBus, device: u32, register: u8) {
    let address = 0x8000_0000 | device << 11 | u32::from(register & 0xfc);
    bus.write_config_port(0xcf8, &address.to_le_bytes());
}

fn read32(bus: &mut PciBus, device: u32, register: u8) -> u32 {
    select(bus, device, register);
    let mut data = [0; 4];
    bus.read_config_port(0xcfc, &mut data);
    u32::from_le_bytes(data)
}

fn write32(bus: &mut PciBus, device: u32, register: u8, value: u32) {
    select(bus, device, register);
    bus.write_config_port(0xcfc, &value.to_le_bytes());
}

#[test]
fn the_configuration_shown_is_what_the_guest_reads() {
    let mut bus = bus();
    write32(&mut bus, 1, COMMAND, 0);
    for device in TestDevice::ALL {
        for register in (0..=u8::MAX).step_by(4) {
            let shown = [0, 1, 2, 3].map(|at| bus.configuration(device, register + at));
            assert_eq!(u32::from_le_bytes(shown), read32(&mut bus, device.number() as u32, register));
        }
    }
}

#[test]
fn configuration_space_in_memory_is_that_behind_the_ports() {
    let mut bus = bus();
    let byte = |bus: &PciBus, device: u64, register: u64| {
        bus.read_configuration(layout::ECAM + (device << 15) + register)
    };
    for device in 0..3 {
        for register in (0..=u8::MAX).step_by(4) {
            let shown = [0, 1, 2, 3].map(|at| byte(&bus, device, u64::from(register) + at));
            assert_eq!(u32::from_le_bytes(shown), read32(&mut bus, device as u32, register));
        }
    }
    let command = layout::ECAM + (1 << 15) + u64::from(COMMAND);
    bus.write_configuration(command, 0);
    assert_eq!(bus.bar(TestDevice::Bar32), None, "memory decoding is off");
    assert_eq!(byte(&bus, 0, 0x100), 0xff, "no extended configuration space");
    assert_eq!(byte(&bus, 3, 0), 0xff, "no such device");
    assert_eq!(bus.read_configuration(layout::ECAM + (1 << 12)), 0xff, "no such function");
    assert!(!PciBus::is_configuration(layout::ECAM - 1));
    assert!(!PciBus::is_configuration(layout::ECAM + layout::ECAM_SIZE));
}

#[test]
fn a_bus_is_restored_and_an_image_of_another_bus_is_refused() {
    let mut bus = bus();
    let device = TestDevice::Bar32.number() as u32;
    let saved = bus.save();
    write32(&mut bus, device, COMMAND, 0);
    bus.restore(&saved).unwrap();
    assert_eq!(read32(&mut bus, device, COMMAND) & 2, 2, "memory decoding is on again");
    let length = saved.headers[0].len();
    for bytes in [0, length - 1, length + 1] {
        let mut image = saved.clone();
        image.headers[1].resize(bytes, 0);
        assert_eq!(bus.restore(&image), Err(PciImageError::Header { device: 1, bytes }));
    }
    for functions in [0, 2, 4] {
        let mut image = saved.clone();
        image.headers.resize(functions, vec![0; length]);
        assert_eq!(bus.restore(&image), Err(PciImageError::Functions { image: functions, bus: 3 }));
    }
    let mut image = saved.clone();
    image.memory[1].pop();
    let bytes = BAR_SIZE as usize - 1;
    assert_eq!(bus.restore(&image), Err(PciImageError::Memory { bytes }));
}

#[test]
fn three_functions_answer() {
    let mut bus = bus();
    assert_eq!(read32(&mut bus, 0, VENDOR), 0x0008_1b36);
    assert_eq!(read32(&mut bus, 0, CLASS) >> 8, 0x06_0000);
    for device in 1..3 {
        assert_eq!(read32(&mut bus, device, VENDOR), 0x0005_1b36);
        assert_eq!(read32(&mut bus, device, CLASS) >> 8, 0xff_0000);
    }
    for device in 3..32 {
        assert_eq!(read32(&mut bus, device, VENDOR), u32::MAX);
    }
    // Other functions, another bus, reserved bits.
    for address in [0x8000_0100_u32, 0x8001_0000, 0x8100_0000, 0xc000_0000] {
        bus.write_config_port(0xcf8, &address.to_le_bytes());
        let mut data = [0; 4];
        bus.read_config_port(0xcfc, &mut data);
        assert_eq!(data, [0xff; 4], "{address:#x}");
    }
}

#[test]
fn linux_finds_mechanism_1() {
    // arch/x86/pci/direct.c: pci_check_type1
    let mut bus = bus();
    bus.write_config_port(0xcfb, &[1]);
    bus.write_config_port(0xcf8, &0x8000_0000_u32.to_le_bytes());
    let mut data = [0; 4];
    bus.read_config_port(0xcf8, &mut data);
    assert_eq!(u32::from_le_bytes(data), 0x8000_0000);
    // arch/x86/pci/direct.c: pci_sanity_check
    let mut class = [0; 2];
    select(&mut bus, 0, 0x0a);
    bus.read_config_port(0xcfe, &mut class);
    assert_eq!(u16::from_le_bytes(class), 0x0600);
}

#[test]
fn disabled_address_selects_nothing() {
    let mut bus = bus();
    bus.write_config_port(0xcf8, &[0; 4]);
    bus.write_config_port(0xcfc, &[0; 4]);
    let mut data = [0; 4];
    bus.read_config_port(0xcfc, &mut data);
    assert_eq!(data, [0xff; 4]);
    // Bytes at the address port belong to the reset control register.
    let mut byte = [0];
    bus.read_config_port(0xcf9, &mut byte);
    assert_eq!(byte, [0xff]);
}

#[test]
fn bytes_and_words() {
    let mut bus = bus();
    select(&mut bus, 1, VENDOR);
    let mut word = [0; 2];
    bus.read_config_port(0xcfe, &mut word);
    assert_eq!(word, [0x05, 0x00]);
    let mut byte = [0];
    bus.read_config_port(0xcfd, &mut byte);
    assert_eq!(byte, [0x1b]);
    // Beyond the window no device answers.
    let mut across = [0; 4];
    bus.read_config_port(0xcfe, &mut across);
    assert_eq!(across, [0x05, 0x00, 0xff, 0xff]);
    // The interrupt line is a byte the kernel writes.
    select(&mut bus, 1, 0x3c);
    bus.write_config_port(0xcfc, &[11]);
    assert_eq!(read32(&mut bus, 1, 0x3c), 11);
    assert_eq!(read32(&mut bus, 1, 0x40), 0);
}

#[test]
fn bars_are_sized_and_moved() {
    let mut bus = bus();
    assert_eq!(bus.decode(BAR32), Some((TestDevice::Bar32, 0)));
    assert_eq!(bus.decode(BAR32 + BAR_SIZE - 1), Some((TestDevice::Bar32, BAR_SIZE - 1)));
    assert_eq!(bus.decode(BAR32 + BAR_SIZE), None);
    assert_eq!(bus.decode(BAR32 - 1), None);
    assert_eq!(bus.decode(BAR64 + 5), Some((TestDevice::Bar64, 5)));

    // drivers/pci/probe.c: __pci_read_base, with decoding off meanwhile
    write32(&mut bus, 2, COMMAND, 0);
    assert_eq!(bus.decode(BAR64), None);
    assert_eq!(read32(&mut bus, 2, BAR0), 0x4);
    assert_eq!(read32(&mut bus, 2, BAR1), 0x20);
    write32(&mut bus, 2, BAR0, u32::MAX);
    write32(&mut bus, 2, BAR1, u32::MAX);
    assert_eq!(read32(&mut bus, 2, BAR0), 0xffff_0004);
    assert_eq!(read32(&mut bus, 2, BAR1), u32::MAX);
    write32(&mut bus, 2, BAR0, 0x1234_0000);
    write32(&mut bus, 2, BAR1, 0x21);
    write32(&mut bus, 2, COMMAND, 0xffff_ffff);
    assert_eq!(read32(&mut bus, 2, COMMAND), 0x0406);
    assert_eq!(bus.decode(BAR64), None);
    assert_eq!(bus.decode(0x21_1234_0001), Some((TestDevice::Bar64, 1)));

    write32(&mut bus, 1, BAR0, u32::MAX);
    assert_eq!(read32(&mut bus, 1, BAR0), 0xffff_0000);
    assert_eq!(read32(&mut bus, 1, BAR1), 0);
    write32(&mut bus, 1, BAR0, 0);
    assert_eq!(bus.decode(0), None, "address 0 means unassigned");
    // The expansion ROM is not there.
    write32(&mut bus, 1, 0x30, u32::MAX);
    assert_eq!(read32(&mut bus, 1, 0x30), 0);
}

#[test]
fn memory_is_marked_and_kept() {
    let mut bus = bus();
    for device in TestDevice::ALL {
        let mut data = [0; 48];
        bus.read_memory(device, 0xf09, &mut data);
        assert_eq!(marker::parse(&data), Some((device.tag(), 0xf09)));
        bus.write_memory(device, 0xf0a, b"hello");
        bus.read_memory(device, 0xf09, &mut data);
        assert_eq!(&data[1..6], b"hello");
        bus.write_memory(device, BAR_SIZE - 1, b"xy");
        bus.write_memory(device, u64::MAX, b"xy");
        bus.read_memory(device, BAR_SIZE - 1, &mut data);
        assert_eq!(data[..2], [b'x', 0xff]);
        bus.read_memory(device, u64::MAX, &mut data);
        assert_eq!(data, [0xff; 48]);
    }
}

proptest! {
    #[test]
    fn any_port_traffic_is_survived(
        traffic in prop::collection::vec(
            (0xcf0_u16..0xd10, prop::collection::vec(any::<u8>(), 0..9), any::<bool>()), 0..100),
        gpa: u64,
    ) {
        let mut bus = bus();
        for (port, mut data, write) in traffic {
            if write {
                bus.write_config_port(port, &data);
            } else {
                bus.read_config_port(port, &mut data);
            }
        }
        // Identity never changes.
        prop_assert_eq!(read32(&mut bus, 0, VENDOR), 0x0008_1b36);
        prop_assert_eq!(read32(&mut bus, 1, VENDOR), 0x0005_1b36);
        prop_assert_eq!(read32(&mut bus, 2, CLASS) >> 8, 0xff_0000);
        if let Some((device, offset)) = bus.decode(gpa) {
            prop_assert!(offset < BAR_SIZE);
            prop_assert_eq!(bus.bar(device), Some(gpa - offset));
        }
    }

    #[test]
    fn decoding_follows_the_bar(address in 1_u64..u64::MAX / BAR_SIZE, offset in 0..BAR_SIZE) {
        let mut bus = bus();
        let address = address * BAR_SIZE;
        write32(&mut bus, 2, BAR0, address as u32 | 0xf);
        write32(&mut bus, 2, BAR1, (address >> 32) as u32);
        prop_assert_eq!(bus.bar(TestDevice::Bar64), Some(address));
        let overlapped = address == BAR32;
        prop_assert_eq!(bus.decode(address + offset).map(|(_, offset)| offset), Some(offset));
        prop_assert!(overlapped || bus.decode(address + offset) == Some((TestDevice::Bar64, offset)));
    }

    #[test]
    fn writes_in_pieces_are_the_same(register in (0_u8..16).prop_map(|r| r * 4), value: u32) {
        let (mut whole, mut bytes) = (bus(), bus());
        write32(&mut whole, 1, register, value);
        select(&mut bytes, 1, register);
        for (index, byte) in (0..).zip(value.to_le_bytes()) {
            bytes.write_config_port(0xcfc + index, &[byte]);
        }
        prop_assert_eq!(read32(&mut whole, 1, register), read32(&mut bytes, 1, register));
    }
}
