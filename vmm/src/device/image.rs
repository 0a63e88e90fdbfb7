// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All devices at one instant.

use std::io;

use serde::{Deserialize, Serialize};
use vm_superio::serial::SerialState;

use super::Devices;
use super::cmos::Cmos;
use super::pci::{PciBus, PciImage, PciImageError};
use super::power::PowerManagement;
use super::serial::Capture;
use super::window::Windows;
use crate::layout;

/// The devices of one guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DevicesImage {
    console: PortImage,
    /// What the guest had written to its console.
    written: Capture,
    agent: PortImage,
    pci: PciImage,
    cmos: Cmos,
    power: PowerManagement,
    windows: Windows,
    /// The port through which a small test guest ends itself exists.
    debug_exit: bool,
}

/// A serial port, without what lies behind it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PortImage {
    divisor: [u8; 2],
    /// Interrupt enable, interrupt identification, line control, line status, modem control, modem status, scratch.
    registers: [u8; 7],
    fifo: Vec<u8>,
    /// Bytes for the guest that do not fit into the FIFO yet.
    incoming: Vec<u8>,
}

impl PortImage {
    pub(super) fn new(state: &SerialState, incoming: Vec<u8>) -> Self {
        Self {
            divisor: [state.baud_divisor_low, state.baud_divisor_high],
            registers: [
                state.interrupt_enable,
                state.interrupt_identification,
                state.line_control,
                state.line_status,
                state.modem_control,
                state.modem_status,
                state.scratch,
            ],
            fifo: state.in_buffer.clone(),
            incoming,
        }
    }

    pub(super) fn state(&self) -> SerialState {
        let [
            interrupt_enable,
            interrupt_identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
        ] = self.registers;
        SerialState {
            baud_divisor_low: self.divisor[0],
            baud_divisor_high: self.divisor[1],
            interrupt_enable,
            interrupt_identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
            in_buffer: self.fifo.clone(),
        }
    }

    pub(super) fn incoming(&self) -> &[u8] {
        &self.incoming
    }
}

impl DevicesImage {
    /// The devices of a guest that has not run.
    pub fn fresh() -> Self {
        let port = || PortImage::new(&SerialState::default(), Vec::new());
        Self {
            console: port(),
            written: Capture::default(),
            agent: port(),
            pci: PciBus::new(layout::BAR32, layout::BAR64).save(),
            cmos: Cmos::default(),
            power: PowerManagement::default(),
            windows: Windows::default(),
            debug_exit: false,
        }
    }

    /// Whether a guest has such a PCI bus.
    pub fn check(&self) -> Result<(), PciImageError> {
        PciBus::new(layout::BAR32, layout::BAR64).restore(&self.pci)
    }
}

impl Devices {
    /// Saves all of them.
    pub fn save(&self) -> DevicesImage {
        DevicesImage {
            console: self.console.save(),
            written: self.console.sink().clone(),
            agent: self.agent.save(),
            pci: self.pci.save(),
            cmos: self.cmos.clone(),
            power: self.power.clone(),
            windows: self.windows.clone(),
            debug_exit: self.debug_exit,
        }
    }

    /// Makes them what they were then. Interrupts that a port raises meanwhile are overwritten with the interrupt
    /// controllers, which are restored afterwards.
    pub fn restore(&mut self, image: &DevicesImage) -> io::Result<()> {
        let mut written = image.written.clone();
        written.echo = self.console.sink().echo;
        written.marks = self.console.sink().marks.afresh();
        self.console.restore(&image.console, written)?;
        self.agent.restore(&image.agent, Vec::new())?;
        self.pci.restore(&image.pci).map_err(io::Error::other)?;
        self.cmos = image.cmos.clone();
        self.power = image.power.clone();
        self.windows = image.windows.clone();
        self.debug_exit = image.debug_exit;
        Ok(())
    }
}
