// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Message signalled interrupts: PCI Local Bus Specification 3.0 §6.8.2.

use std::fmt::Debug;
use std::sync::Arc;

use kvm_bindings::kvm_msi;
use kvm_ioctls::VmFd;

/// Where messages go.
pub trait MessageSink: Debug + Send + Sync {
    /// Sends one. A message without a receiver is lost, as on hardware.
    fn send(&self, address: u64, data: u32);
}

impl MessageSink for VmFd {
    fn send(&self, address: u64, data: u32) {
        let (address_lo, address_hi) = (address as u32, (address >> 32) as u32);
        let _ = self.signal_msi(kvm_msi { address_lo, address_hi, data, ..kvm_msi::default() });
    }
}

/// §6.8.2: the capability's id.
const ID: u8 = 0x11;
/// Where it is in configuration space: it is the first one.
const AT: u8 = 0x40;
/// §6.8.2.3, message control: MSI-X enable, and function mask, in its high byte.
const ENABLE: u8 = 1 << 7;
const MASK_ALL: u8 = 1 << 6;
/// §6.8.2.9, vector control: masked.
const MASKED: u32 = 1;
/// Bytes of a vector in the table.
const ENTRY: u64 = 16;

/// §6.8.2.3: whether a function sends messages, as its capability has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageControl {
    /// It has none.
    Off,
    /// All vectors are masked.
    Masked,
    /// Those vectors that are not masked are sent.
    On,
}

impl MessageControl {
    /// By the function's configuration registers.
    pub(super) fn of(register: impl Fn(u8) -> u8) -> Self {
        match register(AT + 3) & (ENABLE | MASK_ALL) {
            ENABLE => Self::On,
            bits if bits & ENABLE != 0 => Self::Masked,
            _ => Self::Off,
        }
    }
}

/// A vector.
#[derive(Debug, Clone, Copy)]
struct Vector {
    /// Address, upper address, data, vector control.
    entry: [u32; 4],
    /// §6.8.2.10: its message waits until it is unmasked.
    pending: bool,
}

/// The vectors of one device.
#[derive(Debug)]
pub(super) struct Msix {
    sink: Arc<dyn MessageSink>,
    table: Vec<Vector>,
}

impl Msix {
    pub(super) fn new(sink: Arc<dyn MessageSink>, vectors: u16) -> Self {
        let vector = Vector { entry: [0, 0, 0, MASKED], pending: false };
        Self { sink, table: vec![vector; usize::from(vectors)] }
    }

    /// The capability and its writable bits, with table and pending bits in BAR 0.
    pub(super) fn capability(vectors: u16, table: u64, pending: u64) -> (Vec<u8>, Vec<u8>) {
        let mut bytes = vec![ID, 0];
        bytes.extend_from_slice(&(vectors - 1).to_le_bytes());
        bytes.extend_from_slice(&(table as u32).to_le_bytes());
        bytes.extend_from_slice(&(pending as u32).to_le_bytes());
        let mut writable = vec![0; bytes.len()];
        writable[3] = ENABLE | MASK_ALL;
        (bytes, writable)
    }

    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            let vector = self.table.get((at / ENTRY) as usize);
            let word = vector.map_or(0, |vector| vector.entry[(at % ENTRY / 4) as usize]);
            *byte = word.to_le_bytes()[(at % 4) as usize];
        }
    }

    /// The pending bits, one for each vector.
    pub(super) fn read_pending(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset as usize..).zip(data) {
            let vectors = self.table.iter().skip(at.saturating_mul(8)).take(8);
            *byte = vectors.zip(0..).fold(0, |bits, (vector, bit)| bits | u8::from(vector.pending) << bit);
        }
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        for (at, byte) in (offset..).zip(data) {
            if let Some(vector) = self.table.get_mut((at / ENTRY) as usize) {
                let word = &mut vector.entry[(at % ENTRY / 4) as usize];
                let mut bytes = word.to_le_bytes();
                bytes[(at % 4) as usize] = *byte;
                *word = u32::from_le_bytes(bytes);
            }
        }
    }

    /// Sends the message of a vector, if there is one; a masked one becomes pending (§6.8.2).
    pub(super) fn send(&mut self, vector: u16, control: MessageControl) {
        if control != MessageControl::Off
            && let Some(vector) = self.table.get_mut(usize::from(vector))
        {
            vector.pending = true;
        }
        self.send_pending(control);
    }

    /// Sends what is pending and not masked.
    pub(super) fn send_pending(&mut self, control: MessageControl) {
        let masked = |vector: &Vector| control != MessageControl::On || vector.entry[3] & MASKED != 0;
        for vector in self.table.iter_mut().filter(|vector| vector.pending && !masked(vector)) {
            vector.pending = false;
            let [address, upper, data, _] = vector.entry;
            self.sink.send(u64::from(address) | u64::from(upper) << 32, data);
        }
    }

    /// The driver has reset the device: no request of before has anything to report.
    pub(super) fn discard_pending(&mut self) {
        self.table.iter_mut().for_each(|vector| vector.pending = false);
    }
}
