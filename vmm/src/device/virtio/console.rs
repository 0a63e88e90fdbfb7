// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A console with several ports (Virtio 1.2 §5.3): byte pipes with a name.

mod control;

use std::fmt::Debug;
use std::sync::Arc;

use types::DeviceKind;

use self::control::Control;
use super::{Backend, Malformed, Request};
use crate::memory::dma::DmaMemory;

/// §5.3.3, feature bits: the configuration has the terminal's size; there are ports and control messages.
pub(super) const F_SIZE: u64 = 1 << 0;
const F_MULTIPORT: u64 = 1 << 1;
/// Requests in each queue.
pub(super) const QUEUE: u16 = 64;
/// Bytes moved at a time.
const CHUNK: u64 = 64 << 10;

/// The host's side of a port, which has no bytes for the guest unless it says so. Called by the thread that runs the guest.
pub trait PortPeer: Debug + Send + Sync {
    /// Takes bytes that the guest wrote.
    fn receive(&self, bytes: &[u8]);
    /// Whether there are bytes for the guest.
    fn has_input(&self) -> bool {
        false
    }
    /// Gives up to `room` of them.
    fn take(&self, _room: usize) -> Vec<u8> {
        Vec::new()
    }
    /// No more will come: the guest reads the end of the file after what it was given.
    fn has_ended(&self) -> bool {
        false
    }
    /// Columns and rows, of a terminal.
    fn size(&self) -> Option<(u16, u16)> {
        None
    }
}

/// The null device: takes everything, and is at its end.
#[derive(Debug, Clone, Copy)]
pub struct NullPeer;

impl PortPeer for NullPeer {
    fn receive(&self, _: &[u8]) {}

    fn has_ended(&self) -> bool {
        true
    }
}

/// A port.
#[derive(Debug, Clone)]
pub struct ConsolePort {
    /// The name by which the guest finds it (`/sys/class/virtio-ports/*/name`).
    pub name: String,
    /// The host's side.
    pub peer: Arc<dyn PortPeer>,
}

/// What a queue is for (§5.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Input of a port.
    Receive(usize),
    /// Output of a port.
    Transmit(usize),
    /// Control messages to the guest.
    ControlReceive,
    /// Control messages from the guest.
    ControlTransmit,
}

impl Role {
    const fn of(queue: u16) -> Self {
        let pair = queue as usize / 2;
        match (pair, queue % 2) {
            (0, 0) => Self::Receive(0),
            (0, _) => Self::Transmit(0),
            (1, 0) => Self::ControlReceive,
            (1, _) => Self::ControlTransmit,
            (_, 0) => Self::Receive(pair - 1),
            (..) => Self::Transmit(pair - 1),
        }
    }
}

/// The console.
#[derive(Debug)]
pub struct Console {
    ports: Vec<ConsolePort>,
    control: Control,
}

impl Console {
    /// A console with these ports.
    pub fn new(ports: Vec<ConsolePort>) -> Self {
        Self { control: Control::new(ports.len()), ports }
    }

    fn peer(&self, port: usize) -> Result<&dyn PortPeer, Malformed> {
        self.ports.get(port).map(|port| port.peer.as_ref()).ok_or(Malformed)
    }
}

/// Gives the guest what a port has for it.
pub(super) fn receive(
    peer: &dyn PortPeer,
    request: &Request,
    memory: &DmaMemory<'_>,
) -> Result<u32, Malformed> {
    let bytes = peer.take(request.writable_len().min(CHUNK) as usize);
    request.write(memory, 0, &bytes)?;
    Ok(bytes.len() as u32)
}

/// Takes what the guest wrote to a port.
pub(super) fn transmit(
    peer: &dyn PortPeer,
    request: &Request,
    memory: &DmaMemory<'_>,
) -> Result<(), Malformed> {
    let len = request.readable_len();
    let mut at = 0;
    while at < len {
        let mut bytes = vec![0; (len - at).min(CHUNK) as usize];
        request.read(memory, at, &mut bytes)?;
        peer.receive(&bytes);
        at += bytes.len() as u64;
    }
    Ok(())
}

impl Backend for Console {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Console
    }

    fn features(&self) -> u64 {
        F_MULTIPORT
    }

    fn queues(&self) -> Vec<u16> {
        vec![QUEUE; 2 * (self.ports.len() + 1)]
    }

    /// §5.3.4: columns and rows, which are not offered, ports at most.
    fn config(&self) -> Vec<u8> {
        [0, self.ports.len() as u32].map(u32::to_le_bytes).concat()
    }

    fn has_input(&self, queue: u16) -> Option<bool> {
        match Role::of(queue) {
            Role::Receive(port) => {
                let takes = self.control.takes_input(port);
                Some(takes && self.ports.get(port).is_some_and(|port| port.peer.has_input()))
            }
            Role::ControlReceive => Some(self.control.has_message(&self.ports)),
            Role::Transmit(_) | Role::ControlTransmit => None,
        }
    }

    fn carry_out(&mut self, queue: u16, request: &Request, memory: &DmaMemory<'_>) -> Result<u32, Malformed> {
        match Role::of(queue) {
            Role::Receive(port) => receive(self.peer(port)?, request, memory),
            Role::Transmit(port) => transmit(self.peer(port)?, request, memory).map(|()| 0),
            Role::ControlReceive => {
                let message = self.control.next(&self.ports).unwrap_or_default();
                // §5.3.6.2: a message longer than the buffer is cut off.
                let len = message.len().min(request.writable_len() as usize);
                request.write(memory, 0, &message[..len])?;
                Ok(len as u32)
            }
            Role::ControlTransmit => {
                let mut message = [0; control::HEADER];
                request.read(memory, 0, &mut message)?;
                self.control.answer(message, &self.ports);
                Ok(0)
            }
        }
    }

    fn reset(&mut self) {
        self.control = Control::new(self.ports.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_belong_to_ports_in_pairs_and_the_second_pair_is_for_control() {
        let roles: Vec<Role> = (0..8).map(Role::of).collect();
        assert_eq!(
            roles,
            [
                Role::Receive(0),
                Role::Transmit(0),
                Role::ControlReceive,
                Role::ControlTransmit,
                Role::Receive(1),
                Role::Transmit(1),
                Role::Receive(2),
                Role::Transmit(2),
            ]
        );
    }
}
