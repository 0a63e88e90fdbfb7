// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mappings of anonymous memory that policy `mmap-zeros` makes: they read as zeros where read(2) gives zeros.
//!
//! They are mappings like any other (`mm/memory.c:vma_set_anonymous`, `mm/shmem.c:shmem_zero_setup`), so accesses through
//! the kernel end where the mapping ends, and `mm/gup.c:check_vma_flags` applies.

use super::page::PAGE;
use super::prediction::{Effect, Piece, Source};
use super::space::{Area, READ, WRITE};

/// The `FOLL_*` flags with which the kernel gets a page of another task (`mm/gup.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GupFlags {
    /// /proc/PID/mem and ptrace(2): `FOLL_FORCE`.
    Force,
    /// `process_vm_readv(2)` and `process_vm_writev(2)`.
    Plain,
}

/// The effect of mapping one.
pub const fn fresh(area: &Area) -> Effect {
    Effect::Fresh { memory: area.memory, pages: area.len / PAGE }
}

/// Whether `get_user_pages_remote()` gets a page of it (`mm/gup.c:check_vma_flags`).
pub const fn is_reached(area: &Area, write: bool, flags: GupFlags) -> bool {
    match (write, flags) {
        // A write with `FOLL_FORCE` copies a private page whatever its protection, but not a shared one.
        (true, GupFlags::Force) => area.prot & WRITE != 0 || !area.shared,
        (true, GupFlags::Plain) => area.prot & WRITE != 0,
        (false, GupFlags::Force) => true,
        // `VM_READ` itself, though the processor could read what may be written.
        (false, GupFlags::Plain) => area.prot & READ != 0,
    }
}

/// The source of bytes at an address of such a mapping, or of a copy.
pub const fn piece(area: &Area, address: u64, len: u64) -> Piece {
    Piece { source: Source::Copy { memory: area.memory, offset: area.offset(address) }, len }
}
