// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mappings that policy `mmap-zeros` makes of its own memory: zeros where read(2) gives zeros, the task's to write.
//!
//! They are mappings like any other (`mm/memory.c:vma_set_anonymous`, `mm/shmem.c:shmem_zero_setup`), so the ways through
//! the kernel end where they end, and go by `mm/gup.c:check_vma_flags`.

use super::page::PAGE;
use super::prediction::{Effect, Piece, Source};
use super::space::{Area, READ, WRITE};

/// Who asks for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// /proc/PID/mem and ptrace(2): `FOLL_FORCE`.
    Forced,
    /// `process_vm_readv(2)` and `process_vm_writev(2)`.
    Plain,
}

/// The effect of making one.
pub const fn fresh(area: &Area) -> Effect {
    Effect::Fresh { memory: area.memory, pages: area.len / PAGE }
}

/// Whether a page of it can be reached.
pub const fn is_reached(area: &Area, write: bool, asker: Asker) -> bool {
    match (write, asker) {
        // A write that is forced makes a copy of a private page, whatever its protection, but not of a shared one.
        (true, Asker::Forced) => area.prot & WRITE != 0 || !area.shared,
        (true, Asker::Plain) => area.prot & WRITE != 0,
        (false, Asker::Forced) => true,
        // `VM_READ` itself, though the processor could read what may be written.
        (false, Asker::Plain) => area.prot & READ != 0,
    }
}

/// Where bytes at an address of such a mapping, or of a copy, come from.
pub const fn piece(area: &Area, address: u64, len: u64) -> Piece {
    Piece { source: Source::Copy { memory: area.memory, offset: area.offset(address) }, len }
}
