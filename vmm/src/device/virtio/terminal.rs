// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A console with a single port (Virtio 1.2 §5.3): a terminal, `/dev/hvc*` in the guest.
//!
//! It has no control messages: with them, kernels read the terminal's size in one order or the other
//! (`drivers/char/virtio_console.c:handle_control_message`), and in the configuration in one only.

use std::sync::Arc;

use types::DeviceKind;

use super::console::{F_SIZE, PortPeer, QUEUE, receive, transmit};
use super::{Backend, Malformed, Request};
use crate::memory::dma::DmaMemory;

/// §5.3.2: input of the guest.
const RECEIVE: u16 = 0;

/// The terminal.
#[derive(Debug)]
pub struct Terminal {
    peer: Arc<dyn PortPeer>,
    /// The size that the guest was shown.
    shown: Option<(u16, u16)>,
}

impl Terminal {
    /// A terminal with this on the host's side.
    pub fn new(peer: Arc<dyn PortPeer>) -> Self {
        Self { shown: peer.size(), peer }
    }
}

impl Backend for Terminal {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Console
    }

    fn features(&self) -> u64 {
        F_SIZE
    }

    fn queues(&self) -> Vec<u16> {
        vec![QUEUE; 2]
    }

    /// §5.3.4: columns, rows.
    fn config(&self) -> Vec<u8> {
        let (columns, rows) = self.peer.size().unwrap_or_default();
        [columns.to_le_bytes(), rows.to_le_bytes()].concat()
    }

    fn config_changed(&mut self) -> bool {
        let size = self.peer.size();
        std::mem::replace(&mut self.shown, size) != size
    }

    fn has_input(&self, queue: u16) -> Option<bool> {
        (queue == RECEIVE).then(|| self.peer.has_input())
    }

    fn carry_out(&mut self, queue: u16, request: &Request, memory: &DmaMemory<'_>) -> Result<u32, Malformed> {
        if queue == RECEIVE {
            receive(self.peer.as_ref(), request, memory)
        } else {
            transmit(self.peer.as_ref(), request, memory).map(|()| 0)
        }
    }
}
