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

/// The vectors of one device.
#[derive(Debug)]
pub(super) struct Msix {
    sink: Arc<dyn MessageSink>,
    /// Address, upper address, data, vector control.
    table: Vec<[u32; 4]>,
}

impl Msix {
    pub(super) fn new(sink: Arc<dyn MessageSink>, vectors: u16) -> Self {
        Self { sink, table: vec![[0, 0, 0, MASKED]; usize::from(vectors)] }
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

    /// The driver has switched it on.
    pub(super) fn is_enabled(register: impl Fn(u8) -> u8) -> bool {
        register(AT + 3) & (ENABLE | MASK_ALL) == ENABLE
    }

    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            let word = self.word(at).unwrap_or_default();
            *byte = word.to_le_bytes()[(at % 4) as usize];
        }
    }

    fn word(&self, at: u64) -> Option<u32> {
        self.table.get((at / ENTRY) as usize).map(|entry| entry[(at % ENTRY / 4) as usize])
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        for (at, byte) in (offset..).zip(data) {
            if let Some(entry) = self.table.get_mut((at / ENTRY) as usize) {
                let word = &mut entry[(at % ENTRY / 4) as usize];
                let mut bytes = word.to_le_bytes();
                bytes[(at % 4) as usize] = *byte;
                *word = u32::from_le_bytes(bytes);
            }
        }
    }

    /// Sends the message of a vector, if there is one. A masked one is lost: Linux masks vectors only while it moves them.
    pub(super) fn send(&self, vector: u16) {
        let Some([address, upper, data, control]) = self.table.get(usize::from(vector)) else { return };
        if control & MASKED == 0 {
            self.sink.send(u64::from(*address) | u64::from(*upper) << 32, *data);
        }
    }
}
