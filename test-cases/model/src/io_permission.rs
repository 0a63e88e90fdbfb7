// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Port permissions of a task (`arch/x86/include/asm/processor.h:thread_struct`).

/// The level at which every port is open (`arch/x86/include/asm/processor.h:io_bitmap`).
pub(crate) const EVERY_PORT: u8 = 3;

/// The port permissions of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoPermission {
    /// `thread_struct.iopl_emul`.
    pub(crate) level: u8,
    /// The calls of ioperm(2): first port, count, on; oldest first.
    pub(crate) calls: Vec<(u64, u64, bool)>,
}

impl IoPermission {
    /// The bit of the last call that was about the port.
    pub(crate) fn is_open(&self, port: u64) -> bool {
        let last = self.calls.iter().rev().find(|(from, count, _)| (*from..from + count).contains(&port));
        self.level == EVERY_PORT || last.is_some_and(|(.., on)| *on)
    }
}
