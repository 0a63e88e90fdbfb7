// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Access to mappings of /dev/mem through the kernel: /proc/PID/mem, `process_vm_readv(2)`, ptrace(2).

use protocol::{Call, Refusal, Via};
use types::{Errno, Signal, View};

use super::anonymous::{self, GupFlags};
use super::op::Through;
use super::page::PAGE;
use super::prediction::{Effect, Outcome, Piece, Prediction, Source};
use super::process::can_fork;
use super::reason::{Reason, note};
use super::remap::ioremap;
use super::space::Area;
use super::task::Task;
use super::world::World;

/// Bytes of a word of ptrace(2).
const WORD: u64 = 8;

/// A read of a mapping through the kernel.
pub fn fetch(world: &World, task: &Task, through: Through, slot: u8, offset: u64, len: u32) -> Prediction {
    let address = match prepare(world, task, through, slot, false) {
        Ok(start) => start.wrapping_add(offset),
        Err(outcome) => return Prediction::plain(outcome),
    };
    let (mut effects, mut pieces, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    let mut take = |part: Part<'_>, len| match part {
        Part::Physical { gpa, view } => {
            effects.push(Effect::Read { gpa, len, view });
            pieces.push(Piece { source: Source::Physical { gpa, view }, len });
        }
        Part::Own { area, address } => pieces.push(anonymous::piece(area, address, len)),
    };
    let target = Target { world, task, write: false };
    let outcome = match target.go(through, address, u64::from(len), &mut take, &mut reasons) {
        Ok(value) => Outcome::Bytes { value, pieces },
        Err(end) => end.outcome(),
    };
    Prediction { outcome, effects, reasons }
}

/// A write of a mapping through the kernel.
pub fn put(world: &World, task: &Task, through: Through, slot: u8, offset: u64, data: &[u8]) -> Prediction {
    let address = match prepare(world, task, through, slot, true) {
        Ok(start) => start.wrapping_add(offset),
        Err(outcome) => return Prediction::plain(outcome),
    };
    let (mut effects, mut reasons) = (Vec::new(), Vec::new());
    let mut done = 0;
    let mut give = |part: Part<'_>, len: u64| {
        let data = data[done..done + len as usize].to_vec();
        done += len as usize;
        match part {
            Part::Physical { gpa, view } => effects.push(Effect::Write { gpa, data, view }),
            // A child's writes remain in its copies of private pages.
            Part::Own { area, .. } if through.forks() && !area.shared => {}
            Part::Own { area, address } => {
                effects.push(Effect::WriteCopy { memory: area.memory, offset: area.offset(address), data });
            }
        }
    };
    let target = Target { world, task, write: true };
    let per = if through == Through::Ptrace { WORD } else { 1 };
    let outcome = match target.go(through, address, data.len() as u64, &mut give, &mut reasons) {
        Ok(value) => Outcome::Value(value / per),
        Err(end) => end.outcome(),
    };
    Prediction { outcome, effects, reasons }
}

/// How an access ends that does not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Errno(Errno),
    Oops,
}

impl End {
    const fn outcome(self) -> Outcome {
        match self {
            Self::Errno(errno) => Outcome::failed(errno),
            // `arch/x86/kernel/dumpstack.c:oops_end()`, `make_task_dead(SIGKILL)`.
            Self::Oops => Outcome::Oops { signal: Signal::SIGKILL },
        }
    }
}

/// Where the mapping begins.
fn prepare(world: &World, task: &Task, through: Through, slot: u8, write: bool) -> Result<u64, Outcome> {
    let slot = task.process.maps.get(&slot).ok_or(Outcome::Refused(Refusal::Map))?;
    let credentials = &task.process.credentials;
    // `fs/proc/base.c:task_dump_owner()`: /proc/PID/mem is root's once the user has changed.
    if through == Through::ProcMem(Via::Itself)
        && !credentials.dumpable
        && !credentials.may_open(6, 0, if write { 6 } else { 4 })
    {
        return Err(Outcome::Failed { errno: Errno::EACCES, call: Call::Open });
    }
    if through.forks() && !can_fork(world, task) {
        return Err(Outcome::Failed { errno: Errno::ENOMEM, call: Call::Child });
    }
    Ok(slot.address)
}

/// The end of an access part.
enum Part<'a> {
    /// Physical memory, through a view.
    Physical { gpa: u64, view: View },
    /// Anonymous memory of the mapping.
    Own { area: &'a Area, address: u64 },
}

/// Takes or gives the bytes of a part, so many of them.
type MoveBytes<'a> = dyn FnMut(Part<'_>, u64) + 'a;

/// The memory of a process that is read or written through the kernel.
#[derive(Clone, Copy)]
struct Target<'a> {
    world: &'a World,
    task: &'a Task,
    write: bool,
}

impl Target<'_> {
    fn go(
        self,
        through: Through,
        address: u64,
        len: u64,
        move_bytes: &mut MoveBytes<'_>,
        reasons: &mut Vec<Reason>,
    ) -> Result<u64, End> {
        match through {
            Through::ProcMem(_) => self.mem_rw(address, len, move_bytes, reasons),
            Through::ProcessVm(_) => self.process_vm(address, len, move_bytes, reasons),
            Through::Ptrace => self.words(address, len, move_bytes, reasons),
        }
    }

    /// `fs/proc/base.c:mem_rw()`: a page's length at a time, wherever it begins.
    fn mem_rw(
        self,
        address: u64,
        len: u64,
        move_bytes: &mut MoveBytes<'_>,
        reasons: &mut Vec<Reason>,
    ) -> Result<u64, End> {
        let mut copied = 0;
        while copied < len {
            let moved = self.access_vm(address + copied, PAGE.min(len - copied), move_bytes, reasons)?;
            if moved == 0 {
                return if copied == 0 { Err(End::Errno(Errno::EIO)) } else { Ok(copied) };
            }
            copied += moved;
        }
        Ok(copied)
    }

    /// `mm/process_vm_access.c`: page by page, and pages of a `VM_PFNMAP` mapping cannot be pinned
    /// (`mm/gup.c:check_vma_flags`).
    fn process_vm(
        self,
        address: u64,
        len: u64,
        move_bytes: &mut MoveBytes<'_>,
        reasons: &mut Vec<Reason>,
    ) -> Result<u64, End> {
        let mut moved = 0;
        while moved < len {
            let at = address + moved;
            let part = (PAGE - at % PAGE).min(len - moved);
            let area = self.task.process.space.at(at);
            let Some(area) =
                area.filter(|area| area.own && anonymous::is_reached(area, self.write, GupFlags::Plain))
            else {
                note(reasons, Reason::NotPinned);
                break;
            };
            note(reasons, Reason::Pinned);
            move_bytes(Part::Own { area, address: at }, part);
            moved += part;
        }
        if moved == 0 && len > 0 { Err(End::Errno(Errno::EFAULT)) } else { Ok(moved) }
    }

    /// `kernel/ptrace.c:generic_ptrace_peekdata()` and its like: word by word, and the agent stops at the first error.
    fn words(
        self,
        address: u64,
        len: u64,
        move_bytes: &mut MoveBytes<'_>,
        reasons: &mut Vec<Reason>,
    ) -> Result<u64, End> {
        for at in (0..len).step_by(WORD as usize) {
            if self.access_vm(address + at, WORD, move_bytes, reasons)? < WORD {
                return Err(End::Errno(Errno::EIO));
            }
        }
        Ok(len)
    }

    /// `mm/memory.c:__access_remote_vm()`: until something gives nothing. How much was moved.
    fn access_vm(
        self,
        address: u64,
        len: u64,
        move_bytes: &mut MoveBytes<'_>,
        reasons: &mut Vec<Reason>,
    ) -> Result<u64, End> {
        let mut moved = 0;
        while moved < len {
            let at = address + moved;
            let (rest, in_page) = (len - moved, (len - moved).min(PAGE - at % PAGE));
            let Some(area) = self.task.process.space.at(at) else { break };
            let part = if area.own || self.world.bounds_access() { in_page } else { rest };
            let part_reached = if area.own {
                note(reasons, Reason::Pinned);
                anonymous::is_reached(area, self.write, GupFlags::Force)
                    .then_some(Part::Own { area, address: at })
            } else {
                note(reasons, Reason::AccessPhys);
                self.access(area, at, part, reasons)?
            };
            let Some(part_reached) = part_reached else { break };
            move_bytes(part_reached, part);
            moved += part;
        }
        Ok(moved)
    }

    /// `mm/memory.c:generic_access_phys()`: the page at the address is looked up, and *all* `len` bytes are taken from what
    /// follows it physically: before 7.0 neither it nor its caller checks where the mapping ends. So up to a page beyond it is
    /// accessed without a check by `range_is_allowed()`.
    ///
    /// The mapping made for it is `ioremap_prot()`, of which only the caching counts: it is decrypted, whatever the user's own
    /// mapping is. Memory that cannot be mapped so gives nothing: RAM, and with it the copies private mappings make. The
    /// protection counts for writes only, and only by the page table entry at the address.
    fn access(
        self,
        area: &Area,
        address: u64,
        len: u64,
        reasons: &mut Vec<Reason>,
    ) -> Result<Option<Part<'static>>, End> {
        let Self { world, task, write } = self;
        if write && !area.is_writable(address) {
            note(reasons, Reason::NotWritable);
            return Ok(None);
        }
        if area.is_copied(address) {
            note(reasons, Reason::IoremapRam);
            return Ok(None);
        }
        let gpa = area.gpa(address);
        let page = gpa & !(PAGE - 1);
        let mapped = (len + gpa % PAGE).next_multiple_of(PAGE);
        let view = match ioremap(world, &task.types, page, mapped, area.mode, None) {
            Ok((view, reason)) => {
                note(reasons, reason);
                view
            }
            Err(reason) => {
                note(reasons, reason);
                return Ok(None);
            }
        };
        // `__ioremap_caller()` calls phys_addr_valid() for the first address only: what lies beyond the last one the processor
        // has gets page table entries with reserved bits set, and the copy faults on them with the page table locked.
        if !world.is_valid(gpa + len - 1) {
            note(reasons, Reason::ReservedBits);
            return Err(End::Oops);
        }
        Ok(Some(Part::Physical { gpa, view }))
    }
}
