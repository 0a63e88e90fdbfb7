// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guest memory as a debugger sees it.

use types::{VcpuId, View};

use crate::machine::Machine;
use crate::x86::walk::{self, PhysicalMemory, page_pieces};

/// Where a virtual address leads, and through which view the guest would access it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugAddress {
    /// The view that the page table entry names.
    pub view: View,
    /// Guest physical address, without any encryption bit.
    pub gpa: u64,
    /// Programs may access it.
    pub user: bool,
}

impl Machine {
    /// Walks the page tables in use. What the kernel has not mapped yet is looked for where its image was loaded, so that a
    /// guest can be debugged from its first instruction on.
    pub fn debug_address(&self, address: u64) -> Option<DebugAddress> {
        let tables = self.vcpu_state(VcpuId::BOOT).ok()?.tables;
        if let Some(page) = walk::translate(&*self.memory, &tables, address) {
            return Some(DebugAddress { view: page.view, gpa: page.gpa, user: page.user });
        }
        let gpa = self.kernel.as_ref()?.physical_of_address(address)?;
        Some(DebugAddress { view: View::Private, gpa, user: false })
    }

    /// Reads virtual memory as the instructions of the guest would, without its breakpoints; returns how many bytes could be read.
    /// Device memory is not read: that could change a device.
    pub fn read_virtual(&self, address: u64, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        for (at, range) in page_pieces(address, buffer.len()) {
            let end = range.end;
            let read = self.debug_address(at).is_some_and(|place| self.read_at(place, &mut buffer[range]));
            if !read {
                break;
            }
            done = end;
        }
        if let Some(debugging) = &self.debugging {
            debugging.breakpoints.hide(address, &mut buffer[..done]);
        }
        done
    }

    /// Writes virtual memory, also where it is mapped read-only; `false` if any of it is not mapped to RAM, or to RAM whose state
    /// forbids the view.
    pub fn write_virtual(&self, address: u64, bytes: &[u8]) -> bool {
        page_pieces(address, bytes.len()).all(|(at, range)| {
            self.debug_address(at).is_some_and(|place| self.write_at(place, &bytes[range]))
        })
    }

    pub(super) fn read_at(&self, at: DebugAddress, buffer: &mut [u8]) -> bool {
        self.memory.load(at.view, at.gpa, buffer)
    }

    pub(super) fn write_at(&self, at: DebugAddress, bytes: &[u8]) -> bool {
        // Through the other view the page would be moved, and the guest's own access there be no event any more.
        self.memory.declared(at.gpa) == Some(at.view) && self.memory.store_admitted(at.view, at.gpa, bytes)
    }
}
