// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A PCI bus with a host bridge and two test devices that no driver claims: one with a 32-bit memory BAR, one with
//! a 64-bit one. Configuration mechanism #1 (PCI Local Bus Specification 3.0 §3.2.2.3.2) and memory-mapped.

use serde::{Deserialize, Serialize};

use crate::marker::{self, Tag};

mod config;
mod ecam;
mod stored;

/// What the devices' memory holds before a guest stores anything.
fn fresh_memory() -> [Vec<u8>; 2] {
    TestDevice::ALL.map(|device| {
        let mut memory = vec![0; BAR_SIZE as usize];
        marker::fill(device.tag(), 0, &mut memory);
        memory
    })
}

#[cfg(test)]
mod tests;

use self::config::{Bar, Function};

/// `CONFIG_ADDRESS`: only 4-byte accesses are for it; others at these ports are for other devices.
const CONFIG_ADDRESS: u16 = 0xcf8;
/// `CONFIG_DATA`: a window of four ports on the register that `CONFIG_ADDRESS` selects.
const CONFIG_DATA: u16 = 0xcfc;
/// How many ports that is.
const CONFIG_DATA_PORTS: u16 = 4;
/// `CONFIG_ADDRESS` bit 31: accesses to `CONFIG_DATA` are configuration cycles.
const ENABLE: u32 = 1 << 31;
/// `CONFIG_ADDRESS`: the bits that exist; the lowest two are always zero.
const ADDRESS_BITS: u32 = !3;
/// `CONFIG_ADDRESS` bits 2 to 7: register; the remaining bits select the function.
const REGISTER_BITS: u32 = 0xfc;
/// `CONFIG_ADDRESS`: distance of the device number from bit 0.
const DEVICE_SHIFT: u32 = 11;

/// How large a test device's memory is.
pub const BAR_SIZE: u64 = 0x1_0000;

/// A test device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TestDevice {
    /// 00:01.0 with a 32-bit memory BAR.
    Bar32,
    /// 00:02.0 with a 64-bit memory BAR.
    Bar64,
}

impl TestDevice {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bar32, Self::Bar64];

    /// How its memory is marked.
    pub const fn tag(self) -> Tag {
        match self {
            Self::Bar32 => Tag::Bar32,
            Self::Bar64 => Tag::Bar64,
        }
    }

    /// Its device number; the host bridge has 0.
    pub const fn number(self) -> usize {
        match self {
            Self::Bar32 => 1,
            Self::Bar64 => 2,
        }
    }
}

/// All of a bus at one instant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PciImage {
    address: u32,
    /// Configuration space by device number.
    headers: Vec<Vec<u8>>,
    #[serde(with = "stored")]
    memory: [Vec<u8>; 2],
}

/// An image is not of the bus that is to be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PciImageError {
    /// Other devices.
    #[error("restoring the PCI bus: it has {bus} functions, the saved one {image}; boot a new guest")]
    Functions {
        /// In the image.
        image: usize,
        /// On the bus.
        bus: usize,
    },
    /// No configuration header.
    #[error(
        "restoring PCI device {device}: the saved configuration header has {bytes} bytes; boot a new guest"
    )]
    Header {
        /// Its number.
        device: usize,
        /// In the image.
        bytes: usize,
    },
    /// Another device's memory.
    #[error(
        "restoring a PCI device's memory of {BAR_SIZE} bytes: {bytes} bytes were saved; boot a new guest"
    )]
    Memory {
        /// In the image.
        bytes: usize,
    },
}

/// Bus 0 with all that is on it.
#[derive(Debug, Clone)]
pub struct PciBus {
    address: u32,
    /// By device number; each has function 0 only.
    functions: Vec<Function>,
    /// By device number, less the host bridge: what the guest reads from a BAR.
    memory: [Vec<u8>; 2],
}

impl PciBus {
    /// A bus as firmware leaves it: BARs assigned, memory decoding on. Addresses are rounded down to [`BAR_SIZE`].
    pub fn new(bar32: u64, bar64: u64) -> Self {
        let functions = vec![
            Function::host_bridge(),
            Function::test_device(Bar::Memory32, bar32),
            Function::test_device(Bar::Memory64, bar64),
        ];
        Self { address: 0, functions, memory: fresh_memory() }
    }

    /// Adds a virtio device of this kind and class, with these capabilities behind each other, and gives its number.
    pub(super) fn add_virtio(
        &mut self,
        kind: u16,
        class: [u8; 3],
        address: u64,
        capabilities: &[(Vec<u8>, Vec<u8>)],
    ) -> usize {
        let mut function = Function::virtio(kind, class, address);
        function.add_capabilities(capabilities);
        self.functions.push(function);
        self.functions.len() - 1
    }

    /// Adds the device that tests a kernel's DMA API, and gives its number.
    pub(super) fn add_dma_probe(&mut self, address: u64) -> usize {
        self.functions.push(Function::dma_probe(address));
        self.functions.len() - 1
    }

    /// Whether device `number` may access memory.
    pub(super) fn is_master(&self, number: usize) -> bool {
        self.functions.get(number).is_some_and(Function::is_master)
    }

    /// Where the BAR of device `number` is now.
    pub(super) fn bar_of(&self, number: usize) -> Option<u64> {
        self.functions.get(number)?.bar()
    }

    /// A configuration register of device `number`.
    pub(super) fn register_of(&self, number: usize, register: u8) -> u8 {
        self.functions.get(number).map_or(0xff, |function| function.read(register))
    }

    /// Saves configuration space and device memory.
    pub fn save(&self) -> PciImage {
        let headers = self.functions.iter().map(|function| function.header().to_vec()).collect();
        PciImage { address: self.address, headers, memory: self.memory.clone() }
    }

    /// Makes them what they were then.
    ///
    /// # Errors
    /// Where the image is not of this bus. What was restored before that was found stays so.
    pub fn restore(&mut self, image: &PciImage) -> Result<(), PciImageError> {
        if image.headers.len() != self.functions.len() {
            let (image, bus) = (image.headers.len(), self.functions.len());
            return Err(PciImageError::Functions { image, bus });
        }
        let memory = image.memory.iter().find(|memory| memory.len() as u64 != BAR_SIZE);
        if let Some(memory) = memory {
            return Err(PciImageError::Memory { bytes: memory.len() });
        }
        for (device, (function, header)) in self.functions.iter_mut().zip(&image.headers).enumerate() {
            if !function.set_header(header) {
                return Err(PciImageError::Header { device, bytes: header.len() });
            }
        }
        self.address = image.address;
        self.memory.clone_from(&image.memory);
        Ok(())
    }

    /// IN from a port between 0xcf8 and 0xcff; ports and registers that are not there float high.
    pub fn read_config_port(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if port == CONFIG_ADDRESS && data.len() == size_of::<u32>() {
            data.copy_from_slice(&self.address.to_le_bytes());
            return;
        }
        let Some(device) = self.selected() else { return };
        for (port, byte) in (port..).zip(data) {
            if let Some(register) = self.register(port) {
                *byte = self.functions[device].read(register);
            }
        }
    }

    /// OUT to a port between 0xcf8 and 0xcff.
    pub fn write_config_port(&mut self, port: u16, data: &[u8]) {
        if port == CONFIG_ADDRESS
            && let Ok(address) = <[u8; 4]>::try_from(data)
        {
            self.address = u32::from_le_bytes(address) & ADDRESS_BITS;
            return;
        }
        let Some(device) = self.selected() else { return };
        for (port, byte) in (port..).zip(data) {
            if let Some(register) = self.register(port) {
                self.functions[device].write(register, *byte);
            }
        }
    }

    /// A byte of a device's configuration space, as the guest would read it.
    pub fn configuration(&self, device: TestDevice, register: u8) -> u8 {
        self.functions[device.number()].read(register)
    }

    /// The device that answers at a guest physical address, and the offset in its memory.
    pub fn decode(&self, gpa: u64) -> Option<(TestDevice, u64)> {
        TestDevice::ALL.into_iter().find_map(|device| {
            let offset = gpa.checked_sub(self.bar(device)?)?;
            (offset < BAR_SIZE).then_some((device, offset))
        })
    }

    /// Where a device's memory is now; `None` while the guest has it switched off or at address 0.
    pub fn bar(&self, device: TestDevice) -> Option<u64> {
        self.functions[device.number()].bar()
    }

    /// Reads from a device's memory; beyond its end no device answers.
    pub fn read_memory(&self, device: TestDevice, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        let memory = self.memory[device.number() - 1].get(offset as usize..).unwrap_or_default();
        for (to, from) in data.iter_mut().zip(memory) {
            *to = *from;
        }
    }

    /// Writes to a device's memory, which keeps it.
    pub fn write_memory(&mut self, device: TestDevice, offset: u64, data: &[u8]) {
        let memory = self.memory[device.number() - 1].get_mut(offset as usize..).unwrap_or_default();
        for (to, from) in memory.iter_mut().zip(data) {
            *to = *from;
        }
    }

    /// The device on bus 0 that `CONFIG_ADDRESS` selects, if it is there.
    fn selected(&self) -> Option<usize> {
        // Function, bus and reserved bits are all zero for the functions that there are.
        let device = ((self.address & !ENABLE & !REGISTER_BITS) >> DEVICE_SHIFT) as usize;
        let exact = self.address & !REGISTER_BITS == ENABLE | (device as u32) << DEVICE_SHIFT;
        (exact && device < self.functions.len()).then_some(device)
    }

    /// The register behind a data port.
    fn register(&self, port: u16) -> Option<u8> {
        let window = CONFIG_DATA..CONFIG_DATA + CONFIG_DATA_PORTS;
        window.contains(&port).then(|| (self.address & REGISTER_BITS) as u8 + (port - CONFIG_DATA) as u8)
    }
}
