// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent's window, accessed through the view that its kernel uses for it.

use protocol::GuestMemory;
use types::View;

/// Guest RAM for the agent's line.
pub struct AgentMemory<'a>(pub &'a vmm::memory::GuestMemory);

impl GuestMemory for AgentMemory<'_> {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> bool {
        self.0.read(View::Private, address, buffer).is_ok()
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        self.0.write(address, bytes).is_ok()
    }
}
