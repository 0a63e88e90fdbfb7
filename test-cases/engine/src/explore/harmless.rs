// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which operations may be chosen: those whose every effect can be undone, costs little, and can be known.

mod mappings;

use std::ops::Range;

use types::{Platform, View};
use vmm::layout;
use vmm::memory::ram::Ram;

use super::generate::{MOST_PAGES, TEXT};
use super::sequence::RESIDUE;
use model::{Effect, Node, Op, Outcome, PAGE, Prediction, Task, World, kcore};

/// Most bytes of a device in one operation: every eight of them cost an exit.
const MOST_DEVICE: u64 = 96;
/// From here on no device decodes a port.
pub const FIRST_PORT: u64 = 0x1000;
/// `MSR_IA32_TSC`: a register that may be read at any time and holds no secret.
pub const TIME_STAMP_COUNTER: u64 = 0x10;
/// Vendor and device of a PCI device, which cannot be changed.
const IDENTITY: u64 = 4;
/// What KVM keeps for itself on Intel hosts.
const KVM_PAGES: Range<u64> = layout::KVM_IDENTITY_MAP..layout::KVM_TSS + 3 * PAGE;

/// Judges operations.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// The guest.
    pub world: &'a World,
    /// Where its memory is.
    pub ram: Ram,
}

impl Judge<'_> {
    /// Whether all that it does can be undone, costs little, and can be known.
    pub fn is_harmless(&self, task: &Task, after: &Task, op: &Op, prediction: &Prediction) -> bool {
        if let (
            Op::Mmap { len, offset, file, .. } | Op::MmapOver { len, offset, file, .. },
            Outcome::Value(_),
        ) = (op, &prediction.outcome)
        {
            let alias = self.world.without_bit(*offset) != *offset;
            let uncached = task.file(*file).is_some_and(|file| file.uncached);
            // The kernel never frees the memtype entry: of the RAM of an alias, or of a range that ends there.
            let unforgettable =
                alias && uncached || self.world.without_bit(offset + len.next_multiple_of(PAGE)) == 0;
            if *len > MOST_PAGES * PAGE || unforgettable {
                return false;
            }
        }
        if !mappings::are_known(self.world, task, after, op, prediction) {
            return false;
        }
        if matches!(prediction.outcome, Outcome::Oops { .. }) || !self.is_known(task, op, prediction) {
            return false;
        }
        // How much an access over the end of a mapping accesses before it faults depends on the processor.
        if let Outcome::Signal { address, .. } = &prediction.outcome
            && address.is_multiple_of(PAGE)
            && is_unaligned(op)
            && self.world.platform.is_confidential()
        {
            return false;
        }
        if let Op::Read { file, at, .. } | Op::Write { file, at, .. } = op
            && let Some(file) = task.file(*file).filter(|file| file.node == Node::Port)
            && at.unwrap_or(file.position) < FIRST_PORT
        {
            return false;
        }
        let device: u64 = prediction.effects.iter().map(|effect| self.device_bytes(effect)).sum();
        device <= MOST_DEVICE && prediction.effects.iter().all(|effect| self.may(effect))
    }

    /// Of the files besides /dev/mem only operations that the model predicts and that change nothing.
    fn is_known(&self, task: &Task, op: &Op, prediction: &Prediction) -> bool {
        let node = |file: &u8| task.file(*file).map_or(Node::Mem, |file| file.node);
        let at = |file: &u8, at: &Option<u64>| at.or_else(|| Some(task.file(*file)?.position)).unwrap_or(0);
        let odd = !(libc::O_ACCMODE | libc::O_CLOEXEC | libc::O_SYNC | libc::O_DIRECT | libc::O_DIRECTORY);
        match op {
            Op::Open { node, flags, .. } => !node.is_neighbour() || flags & odd == 0,
            Op::Lseek { file, .. } => !node(file).is_neighbour(),
            Op::Read { file, at: offset, len, .. } => match node(file) {
                Node::Kcore => at(file, offset).saturating_add(*len) <= kcore::HEADER,
                Node::Msr => at(file, offset) == TIME_STAMP_COUNTER,
                _ => true,
            },
            Op::Write { file, at: offset, data, .. } => match (node(file), &prediction.outcome) {
                (Node::Msr, Outcome::Value(1..)) => false,
                (Node::Config, Outcome::Value(1..)) => {
                    at(file, offset).saturating_add(data.len() as u64) <= IDENTITY
                }
                _ => true,
            },
            // On the others hardware has the kernel decide, and the kernel refuses; nothing here makes it so.
            Op::PortIn { port, width } => {
                matches!(self.world.platform, Platform::None | Platform::Sev)
                    && u64::from(*port) >= FIRST_PORT
                    && u64::from(*port) + *width as u64 <= 1 << 16
            }
            // Another task's memory is another question once the user has changed
            // (`kernel/ptrace.c:__ptrace_may_access()`).
            Op::Fetch { through, .. } | Op::Put { through, .. } => {
                task.process.credentials.dumpable || !through.forks()
            }
            _ => true,
        }
    }

    fn device_bytes(&self, effect: &Effect) -> u64 {
        match effect {
            Effect::Read { gpa, len, .. } if !self.is_all_memory(*gpa, *len) => *len,
            Effect::Write { gpa, data, .. } if !self.is_all_memory(*gpa, data.len() as u64) => {
                data.len() as u64
            }
            _ => 0,
        }
    }

    fn is_all_memory(&self, gpa: u64, len: u64) -> bool {
        self.world.is_memory(gpa) && self.world.is_memory(gpa + len.max(1) - 1)
    }

    fn may(&self, effect: &Effect) -> bool {
        // The kernel never frees the memtype entry of a mapping that ends where the encryption bit begins.
        let end = match effect {
            Effect::Read { gpa, len, .. } => (gpa + len).next_multiple_of(PAGE),
            Effect::Write { gpa, data, .. } => (gpa + data.len() as u64).next_multiple_of(PAGE),
            Effect::Copied { .. }
            | Effect::Fresh { .. }
            | Effect::Duplicated { .. }
            | Effect::WriteCopy { .. } => PAGE,
        };
        if end != 0 && self.world.without_bit(end) == 0 {
            return false;
        }
        match effect {
            // The kernel runs in its text, so there only what needs no other view is left alone.
            Effect::Read { gpa, view: View::Shared, .. } if TEXT.contains(gpa) => false,
            Effect::Read { gpa, len, .. } => pages(*gpa, *len).all(|page| self.may_read(page)),
            Effect::Write { gpa, data, .. } => {
                let last = gpa + (data.len() as u64).max(1) - 1;
                pages(*gpa, data.len() as u64).all(|page| self.may_store(page.max(*gpa), last))
            }
            Effect::Copied { .. }
            | Effect::Fresh { .. }
            | Effect::Duplicated { .. }
            | Effect::WriteCopy { .. } => true,
        }
    }

    fn may_read(&self, page: u64) -> bool {
        let ram = self.ram;
        let known = page < layout::HIGH_MEMORY
            || TEXT.contains(&page)
            || (ram.reserved()..ram.low_end()).contains(&page);
        if self.world.is_memory(page) { known } else { !KVM_PAGES.contains(&page) }
    }

    /// Firmware's pages with their markers, unused RAM, devices without state.
    fn may_store(&self, first: u64, last: u64) -> bool {
        let ram = self.ram;
        let spare = [
            0..PAGE,
            RESIDUE,
            layout::EBDA..layout::VGA,
            layout::ROM..layout::HIGH_MEMORY,
            ram.reserved()..ram.acpi(),
        ];
        if self.world.is_memory(first) {
            let last = last.min(first | (PAGE - 1));
            return spare.iter().any(|range| range.contains(&first) && range.contains(&last));
        }
        let processors =
            [View::Private, View::Shared].iter().any(|view| self.world.is_interrupt_controller(first, *view));
        !processors && !KVM_PAGES.contains(&first)
    }
}

fn is_unaligned(op: &Op) -> bool {
    let (Op::Load { offset, width, .. } | Op::Store { offset, width, .. }) = op else { return false };
    !offset.is_multiple_of(*width as u64)
}

fn pages(gpa: u64, len: u64) -> impl Iterator<Item = u64> {
    (gpa / PAGE..=(gpa + len.max(1) - 1) / PAGE).map(|page| page * PAGE)
}
