//! Mappings that policy `mmap-zeros` makes of its own memory: zeros where read(2) gives zeros, the task's to write.
//!
//! They are mappings like any other (`mm/memory.c:vma_set_anonymous`, `mm/shmem.c:shmem_zero_setup`), so the ways through
//! the kernel end where they end, and go by `mm/gup.c:check_vma_flags`.

use super::PAGE;
use super::prediction::{Effect, Piece, Source};
use super::task::Mapping;

/// Who asks for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// /proc/PID/mem and ptrace(2): `FOLL_FORCE`.
    Forced,
    /// `process_vm_readv(2)` and `process_vm_writev(2)`.
    Plain,
}

/// The effect of making one.
pub fn fresh(map: u8, mapping: &Mapping) -> Effect {
    Effect::Fresh { map, pages: mapping.len / PAGE }
}

/// Bytes of `[offset, offset + len)` that can be reached; nothing of a page that may not be.
pub fn reach(mapping: &Mapping, offset: u64, len: u64, write: bool, asker: Asker) -> u64 {
    let may = match (write, asker) {
        // A write that is forced makes a copy of a private page, whatever its protection, but not of a shared one.
        (true, Asker::Forced) => mapping.stores || !mapping.shared,
        (true, Asker::Plain) => mapping.stores,
        (false, Asker::Forced) => true,
        // `VM_READ` itself, though the processor could read what may be written.
        (false, Asker::Plain) => mapping.reads,
    };
    if may { mapping.len.saturating_sub(offset).min(len) } else { 0 }
}

/// Where the bytes of such a mapping come from.
pub fn piece(map: u8, offset: u64, len: u64) -> Piece {
    Piece { source: Source::Copy { map, offset }, len }
}
