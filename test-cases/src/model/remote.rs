//! Mappings of /dev/mem reached through the kernel: /proc/PID/mem, `process_vm_readv(2)`, ptrace(2).

use protocol::{Call, Refusal, Via};
use vmm::memory::View;

use super::PAGE;
use super::op::Through;
use super::own::{self, Asker};
use super::prediction::{Effect, Outcome, Piece, Prediction, Source, first};
use super::remap::ioremap;
use super::task::{Mapping, Task};
use super::world::World;
use crate::codes::{Errno, Signal};

/// Bytes of a word of ptrace(2).
const WORD: u64 = 8;

/// A read of a mapping through the kernel.
pub fn fetch(world: &World, task: &Task, through: Through, slot: u8, offset: u64, len: u32) -> Prediction {
    let len = u64::from(len);
    let mapping = match prepare(world, task, through, slot, false) {
        Ok(mapping) => mapping,
        Err(outcome) => return Prediction::plain(outcome),
    };
    if mapping.own {
        let outcome = match own_memory(through, mapping, offset, len, false) {
            Ok(value) => Outcome::Bytes { value, pieces: first(vec![own::piece(slot, offset, len)], value) },
            Err(end) => end.outcome(),
        };
        return Prediction::plain(outcome);
    }
    let mut effects = Vec::new();
    let mut pieces = Vec::new();
    let mut take = |gpa, len, view| {
        effects.push(Effect::Read { gpa, len, view });
        pieces.push(Piece { source: Source::Physical { gpa, view }, len });
    };
    let target = Target { world, task, mapping, write: false };
    let result = match through {
        Through::ProcMem(_) => target.mem_rw(offset, len, &mut take),
        Through::ProcessVm(_) => process_vm(len),
        Through::Ptrace => target.words(offset, len, &mut take),
    };
    let outcome = match result {
        Ok(value) => Outcome::Bytes { value, pieces },
        Err(end) => end.outcome(),
    };
    Prediction { outcome, effects }
}

/// A write of a mapping through the kernel.
pub fn put(world: &World, task: &Task, through: Through, slot: u8, offset: u64, data: &[u8]) -> Prediction {
    let len = data.len() as u64;
    let mapping = match prepare(world, task, through, slot, true) {
        Ok(mapping) => mapping,
        Err(outcome) => return Prediction::plain(outcome),
    };
    if mapping.own {
        let result = own_memory(through, mapping, offset, len, true);
        let there = own::reach(mapping, offset, len, true, asker(through));
        // A child's writes stay in its copies of private pages.
        let stays = through.forks() && !mapping.shared;
        let data = data[..there as usize].to_vec();
        let effects = if stays || there == 0 {
            Vec::new()
        } else {
            vec![Effect::WriteCopy { map: slot, offset, data }]
        };
        let per = if through == Through::Ptrace { WORD } else { 1 };
        let outcome = result.map_or_else(End::outcome, |value| Outcome::Value(value / per));
        return Prediction { outcome, effects };
    }
    let mut effects = Vec::new();
    let mut done = 0;
    let mut give = |gpa, len: u64, view| {
        let data = data[done..done + len as usize].to_vec();
        done += len as usize;
        effects.push(Effect::Write { gpa, data, view });
    };
    let target = Target { world, task, mapping, write: true };
    let result = match through {
        Through::ProcMem(_) => target.mem_rw(offset, len, &mut give),
        Through::ProcessVm(_) => process_vm(len),
        Through::Ptrace => target.words(offset, len, &mut give).map(|len| len / WORD),
    };
    let outcome = match result {
        Ok(value) => Outcome::Value(value),
        Err(end) => end.outcome(),
    };
    Prediction { outcome, effects }
}

/// How an access ends that does not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Errno(i32),
    Oops,
}

impl End {
    const fn outcome(self) -> Outcome {
        match self {
            Self::Errno(errno) => Outcome::failed(errno),
            // `arch/x86/kernel/dumpstack.c:oops_end()`, `make_task_dead(SIGKILL)`.
            Self::Oops => Outcome::Oops { signal: Signal(libc::SIGKILL) },
        }
    }
}

/// What one access came to.
enum Access {
    Moved,
    Nothing,
    Oops,
}

fn prepare<'a>(
    world: &World,
    task: &'a Task,
    through: Through,
    slot: u8,
    write: bool,
) -> Result<&'a Mapping, Outcome> {
    let mapping = task.maps.get(&slot).ok_or(Outcome::Refused(Refusal::Map))?;
    // `fs/proc/base.c:task_dump_owner()`: /proc/PID/mem is root's once the user has changed.
    if through == Through::ProcMem(Via::Itself)
        && !task.credentials.dumpable
        && !task.credentials.may_open(6, 0, if write { 6 } else { 4 })
    {
        return Err(Outcome::Failed { errno: Errno(libc::EACCES), call: Call::Open });
    }
    if through.forks() && !can_fork(world, task) {
        return Err(Outcome::Failed { errno: Errno(libc::ENOMEM), call: Call::Child });
    }
    Ok(mapping)
}

/// `arch/x86/mm/pat/memtype.c:track_pfn_copy()`: a private mapping whose first page has become a copy no longer tells its
/// caching, and fork(2) of the whole task fails: EINVAL there, ENOMEM to the caller (`kernel/fork.c:copy_mm`). Since 6.16 the
/// copies share the entry.
fn can_fork(world: &World, task: &Task) -> bool {
    world.shares_tracking() || !task.maps.values().any(|mapping| mapping.copied.contains(&0))
}

/// `mm/process_vm_access.c`: pages of a `VM_PFNMAP` mapping cannot be pinned (`mm/gup.c:check_vma_flags`).
fn process_vm(len: u64) -> Result<u64, End> {
    if len == 0 { Ok(0) } else { Err(End::Errno(libc::EFAULT)) }
}

fn asker(through: Through) -> Asker {
    if matches!(through, Through::ProcessVm(_)) { Asker::Plain } else { Asker::Forced }
}

/// The same through a mapping with memory of its own: how much can be reached.
fn own_memory(through: Through, mapping: &Mapping, offset: u64, len: u64, write: bool) -> Result<u64, End> {
    let there = own::reach(mapping, offset, len, write, asker(through));
    match through {
        _ if len == 0 => Ok(0),
        Through::ProcMem(_) if there == 0 => Err(End::Errno(libc::EIO)),
        Through::ProcessVm(_) if there == 0 => Err(End::Errno(libc::EFAULT)),
        Through::Ptrace if there < len => Err(End::Errno(libc::EIO)),
        _ => Ok(there),
    }
}

/// Takes or gives the bytes of a stretch of physical memory, through a view.
type MoveBytes<'a> = dyn FnMut(u64, u64, View) + 'a;

/// A mapping somebody reads or writes through the kernel.
#[derive(Clone, Copy)]
struct Target<'a> {
    world: &'a World,
    task: &'a Task,
    mapping: &'a Mapping,
    write: bool,
}

impl Target<'_> {
    /// `fs/proc/base.c:mem_rw()`: a page's length at a time, wherever it begins.
    fn mem_rw(self, offset: u64, len: u64, move_bytes: &mut MoveBytes<'_>) -> Result<u64, End> {
        let mut copied = 0;
        while copied < len {
            let moved = self.access_vm(offset + copied, PAGE.min(len - copied), move_bytes)?;
            if moved == 0 {
                return if copied == 0 { Err(End::Errno(libc::EIO)) } else { Ok(copied) };
            }
            copied += moved;
        }
        Ok(copied)
    }

    /// `kernel/ptrace.c:generic_ptrace_peekdata()` and its like: word by word, and the agent stops at the first error.
    fn words(self, offset: u64, len: u64, move_bytes: &mut MoveBytes<'_>) -> Result<u64, End> {
        for at in (0..len).step_by(WORD as usize) {
            if self.access_vm(offset + at, WORD, move_bytes)? < WORD {
                return Err(End::Errno(libc::EIO));
            }
        }
        Ok(len)
    }

    /// `mm/memory.c:__access_remote_vm()`: until something gives nothing. How much was moved.
    fn access_vm(self, offset: u64, len: u64, move_bytes: &mut MoveBytes<'_>) -> Result<u64, End> {
        let mut moved = 0;
        while moved < len {
            let at = offset + moved;
            let rest = len - moved;
            let part = if self.world.bounds_access() { rest.min(PAGE - at % PAGE) } else { rest };
            match self.access(at, part, move_bytes) {
                Access::Moved => moved += part,
                Access::Nothing => break,
                Access::Oops => return Err(End::Oops),
            }
        }
        Ok(moved)
    }

    /// `mm/memory.c:generic_access_phys()`: the page at `offset` is looked up, and *all* `len` bytes are taken from what follows
    /// it physically: before 7.0 neither it nor its caller asks where the mapping ends. So up to a page beyond it is reached
    /// that no `range_is_allowed()` was asked about.
    ///
    /// The mapping made for it is `ioremap_prot()`, of which only the caching counts: it is decrypted, whatever the user's own
    /// mapping is. Memory that cannot be mapped so gives nothing: RAM, and with it the copies private mappings make.
    fn access(self, offset: u64, len: u64, move_bytes: &mut MoveBytes<'_>) -> Access {
        let Self { world, task, mapping, write } = self;
        let inside = offset < mapping.len && !mapping.is_copied(offset);
        if !inside || write && !mapping.is_writable() {
            return Access::Nothing;
        }
        let gpa = mapping.gpa(offset);
        let page = gpa & !(PAGE - 1);
        let mapped = (len + gpa % PAGE).next_multiple_of(PAGE);
        let Some(view) = ioremap(world, &task.types, page, mapped, mapping.mode, false) else {
            return Access::Nothing;
        };
        // `__ioremap_caller()` asks phys_addr_valid() for the first address only: what lies beyond the last one the processor
        // has gets page table entries with reserved bits set, and the copy faults on them with the page table locked.
        if !world.is_valid(gpa + len - 1) {
            return Access::Oops;
        }
        move_bytes(gpa, len, view);
        Access::Moved
    }
}
