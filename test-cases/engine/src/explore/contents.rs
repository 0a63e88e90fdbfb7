// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The expected contents of memory after each operation of a sequence, byte by byte, as far as known.

use std::collections::BTreeMap;

use types::{PageState, Platform, View};
use vmm::device::pci::TestDevice;
use vmm::machine::Machine;

use model::{Effect, PAGE, Piece, Source, World};

/// A block of the memory cipher: one wrong write garbles all of it.
const BLOCK: usize = 16;

type Bytes = Vec<Option<u8>>;

/// Memory as the sequence has left it. `None`: not known, so not compared.
#[derive(Debug, Default)]
pub struct Memory {
    pages: BTreeMap<u64, Page>,
    copies: BTreeMap<(u32, u64), Bytes>,
}

/// Each view is read when it is first needed: on SEV that costs a page's worth of encryption.
#[derive(Debug, Default)]
struct Page {
    private: Option<Bytes>,
    shared: Option<Bytes>,
    written: bool,
}

impl Page {
    fn view(&mut self, world: &World, machine: &Machine, start: u64, view: View) -> &mut Bytes {
        let bytes = match view {
            View::Private => &mut self.private,
            View::Shared => &mut self.shared,
        };
        bytes.get_or_insert_with(|| {
            if world.is_interrupt_controller(start, view) {
                return vec![None; PAGE as usize];
            }
            let mut bytes = [0; PAGE as usize];
            machine.truth(view, start, &mut bytes);
            bytes.iter().copied().map(Some).collect()
        })
    }
}

impl Memory {
    /// The bytes of pieces at present.
    pub fn read(&mut self, world: &World, machine: &Machine, pieces: &[Piece]) -> Bytes {
        let mut bytes = Vec::new();
        for piece in pieces {
            let len = piece.len as usize;
            match piece.source {
                Source::Zeros => bytes.extend(std::iter::repeat_n(Some(0), len)),
                Source::Unknown => bytes.extend(std::iter::repeat_n(None, len)),
                Source::Configuration { offset } => {
                    let byte =
                        |at| u8::try_from(at).ok().map(|at| machine.configuration(TestDevice::Bar32, at));
                    bytes.extend((offset..offset + piece.len).map(byte));
                }
                Source::Floating => bytes.extend(std::iter::repeat_n(Some(0xff), len)),
                Source::Physical { gpa, view } => {
                    for gpa in gpa..gpa + piece.len {
                        bytes.push(self.byte(world, machine, gpa, view));
                    }
                }
                Source::Untouched => bytes.extend(std::iter::repeat_n(Some(protocol::UNTOUCHED), len)),
                Source::Copy { memory, offset } => {
                    for at in offset..offset + piece.len {
                        let copy = self.copies.get(&(memory, at / PAGE));
                        bytes.push(copy.and_then(|copy| copy[(at % PAGE) as usize]));
                    }
                }
            }
        }
        bytes
    }

    /// What an effect leaves.
    pub fn apply(&mut self, world: &World, machine: &Machine, effect: &Effect) {
        match effect {
            Effect::Read { .. } => {}
            Effect::Write { gpa, data, view } => {
                for (gpa, byte) in (*gpa..).zip(data) {
                    self.write(world, machine, gpa, *view, *byte);
                }
            }
            Effect::Copied { memory, page, gpa, view } => {
                let copy = (*gpa..gpa + PAGE).map(|gpa| self.byte(world, machine, gpa, *view)).collect();
                self.copies.insert((*memory, *page), copy);
            }
            Effect::Fresh { memory, pages } => {
                for page in 0..*pages {
                    self.copies.insert((*memory, page), vec![Some(0); PAGE as usize]);
                }
            }
            Effect::Duplicated { from, to } => {
                let pages = self.copies.range((*from, 0)..=(*from, u64::MAX));
                let pages: Vec<_> = pages.map(|((_, page), bytes)| ((*to, *page), bytes.clone())).collect();
                self.copies.extend(pages);
            }
            Effect::WriteCopy { memory, offset, data } => {
                for (at, byte) in (*offset..).zip(data) {
                    if let Some(copy) = self.copies.get_mut(&(*memory, at / PAGE)) {
                        copy[(at % PAGE) as usize] = Some(*byte);
                    }
                }
            }
        }
    }

    fn byte(&mut self, world: &World, machine: &Machine, gpa: u64, view: View) -> Option<u8> {
        let start = gpa & !(PAGE - 1);
        let page = self.pages.entry(start).or_default();
        page.view(world, machine, start, view)[(gpa % PAGE) as usize]
    }

    fn write(&mut self, world: &World, machine: &Machine, gpa: u64, view: View, byte: u8) {
        let at = (gpa % PAGE) as usize;
        let one_content = !world.is_memory(gpa) || world.platform == Platform::None;
        let admitted = match world.page_state(gpa) {
            PageState::Private => view == View::Private,
            PageState::Shared => view == View::Shared,
            PageState::Unaccepted => false,
        };
        // Where nothing answers, nothing is kept.
        let kept = world.is_memory(gpa) || keeps(machine, gpa);
        let start = gpa & !(PAGE - 1);
        let page = self.pages.entry(start).or_default();
        if !page.written {
            // What the other view shows must be known from before.
            page.view(world, machine, start, view.other());
            page.written = true;
        }
        page.view(world, machine, start, view);
        let (Some(private), Some(shared)) = (&mut page.private, &mut page.shared) else { return };
        let (this, other) = match view {
            View::Private => (private, shared),
            View::Shared => (shared, private),
        };
        if one_content {
            if kept {
                this[at] = Some(byte);
                other[at] = Some(byte);
            }
        } else if world.platform == Platform::Sev {
            this[at] = Some(byte);
            let block = at / BLOCK * BLOCK;
            other[block..block + BLOCK].fill(None);
        } else {
            // A page mapped for one access loses its contents, but not before the next KVM_RUN.
            this[at] = admitted.then_some(byte);
        }
    }
}

/// A device keeps what is stored there: it does not float high.
fn keeps(machine: &Machine, gpa: u64) -> bool {
    let mut cell = [0; BLOCK];
    machine.truth(View::Private, gpa & !(BLOCK as u64 - 1), &mut cell);
    cell != [0xff; BLOCK]
}
