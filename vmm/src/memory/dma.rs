// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guest memory as a device of the host reaches it.
//!
//! Such a device has neither the guest's key nor a private view: it reaches what the guest has made shared. Anything else is
//! recorded, in every mode, and ends as it does on a host:
//! - SEV: the device reads and writes ciphertext (AMD APM volume 2 §15.34.5: only accesses by the guest use its key).
//! - SEV-SNP, TDX: with `guest_memfd` a page has a shared and a private backing (`Documentation/virt/kvm/api.rst`,
//!   `KVM_SET_USER_MEMORY_REGION2`), a device in user space has the shared one mapped, and converting a page discards that
//!   (QEMU, `accel/kvm/kvm-all.c:kvm_convert_memory`): a read gives zeros, a write is lost to the guest.
//! - VBS: no public source describes it; as on SEV-SNP.
//! - An address with the encryption bit in it, or outside RAM, is no memory to the host: a read gives zeros, a write is lost.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::iter;

use types::{AccessKind, AccessTarget, PageState, View};
use vm_memory::guest_memory::{Error, GuestMemorySliceIterator};
use vm_memory::{GuestAddress, GuestMemoryMmap, Permissions, VolatileSlice};

use super::cipher::PAGE;
pub use super::dma_slices::DmaSlices;
use super::{GuestMemory, MemoryError, Scheme};
use crate::layout::PAGE_SIZE;

/// Forbidden accesses kept of one stop of the guest: a single request can have as many as it has pages.
pub const MOST_FORBIDDEN: usize = 1024;

/// An access by a device to what is not shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForbiddenDma {
    /// Guest physical address of the first byte, without the encryption bit.
    pub gpa: u64,
    /// Bytes, all of one page.
    pub len: usize,
    /// The view that the address selects.
    pub view: View,
    /// What the device did.
    pub kind: AccessKind,
    /// What is there.
    pub state: AccessTarget,
    /// First descriptor of the chain that has the address; `None` for the descriptor table and the rings.
    pub chain: Option<u16>,
}

/// What was forbidden during one stop of the guest.
#[derive(Debug, Default)]
pub struct Forbidden {
    /// The first [`MOST_FORBIDDEN`], oldest first.
    pub accesses: Vec<ForbiddenDma>,
    /// How many more there were.
    pub more: u64,
}

impl Forbidden {
    fn push(&mut self, access: ForbiddenDma) {
        if self.accesses.len() < MOST_FORBIDDEN {
            self.accesses.push(access);
        } else {
            self.more += 1;
        }
    }
}

/// Guest memory as a device reaches it, and what of its accesses was forbidden.
#[derive(Debug)]
pub struct DmaMemory<'a> {
    memory: &'a GuestMemory,
    /// The encryption bit, as a mask, and the view of addresses in which it is set.
    bit: Option<(u64, View)>,
    chain: Cell<Option<u16>>,
    forbidden: RefCell<Forbidden>,
    /// What a device finds where it has no memory.
    nothing: Box<UnsafeCell<[u8; PAGE]>>,
}

impl<'a> DmaMemory<'a> {
    /// For one stop of the guest: no page changes its state meanwhile. `bit`: the encryption bit, as a mask, and the view of
    /// addresses in which it is set.
    pub fn new(memory: &'a GuestMemory, bit: Option<(u64, View)>) -> Self {
        let nothing = Box::new(UnsafeCell::new([0; PAGE]));
        Self { memory, bit, chain: Cell::new(None), forbidden: RefCell::default(), nothing }
    }

    /// What is accessed from now on has its address from the chain that begins at this descriptor; `None`: from the queue's
    /// registers.
    pub fn set_chain(&self, head: Option<u16>) {
        self.chain.set(head);
    }

    /// How many accesses were forbidden until now.
    pub fn forbidden(&self) -> u64 {
        let forbidden = self.forbidden.borrow();
        forbidden.accesses.len() as u64 + forbidden.more
    }

    /// What is at an address, whether its encryption bit is set or not. Nothing is accessed.
    pub fn state(&self, address: u64) -> AccessTarget {
        let gpa = self.bit.map_or(address, |(mask, _)| address & !mask);
        self.memory.device_state(gpa)
    }

    /// The accesses that were forbidden.
    pub fn into_forbidden(self) -> Forbidden {
        self.forbidden.into_inner()
    }

    /// The `len` bytes at `address`, all of one page.
    fn part(&self, address: u64, len: usize, kind: AccessKind) -> Result<VolatileSlice<'_>, Error> {
        let encrypted = self.bit.filter(|(mask, _)| address & mask != 0);
        let (gpa, view) = encrypted.map_or((address, View::Shared), |(mask, view)| (address & !mask, view));
        let failed = |error: MemoryError| Error::IOError(std::io::Error::other(error));
        let found = self.memory.device_part(gpa, len, kind, encrypted.is_some()).map_err(failed)?;
        if let Err(state) = found.state {
            let chain = self.chain.get();
            self.forbidden.borrow_mut().push(ForbiddenDma { gpa, len, view, kind, state, chain });
        }
        let pointer = found.pointer.unwrap_or_else(|| {
            let nothing: *mut [u8; PAGE] = self.nothing.get();
            // SAFETY: only this thread has the page, and slices that were given out access it through raw pointers.
            unsafe { nothing.write([0; PAGE]) };
            nothing.cast()
        });
        // SAFETY: the pointer is valid for `len` bytes, which do not cross a page, of the mapping or of `nothing`, as long as
        // `self` lives; the guest does not run meanwhile.
        Ok(unsafe { VolatileSlice::new(pointer, len) })
    }
}

/// Where a device finds bytes.
struct Found {
    /// Allowed, or what is there instead of shared memory.
    state: Result<(), AccessTarget>,
    /// The bytes; `None` if the device has nothing there.
    pointer: Option<*mut u8>,
}

impl GuestMemory {
    /// What a device finds at a plain address. Without encryption it reaches all RAM, which is then shared.
    fn device_state(&self, gpa: u64) -> AccessTarget {
        let Some(offset) = self.ram.offset(gpa & !(PAGE_SIZE - 1)) else { return AccessTarget::Device };
        let state = match &self.scheme {
            Scheme::OneView => Some(PageState::Shared),
            Scheme::EncryptedAlias(encryption) => {
                let pages = encryption.lock();
                pages.states.get((offset / PAGE_SIZE) as usize).map(|state| state.declared().into())
            }
            Scheme::SeparateBacking(protection) => protection.lock().state(offset),
        };
        state.map_or(AccessTarget::Device, AccessTarget::Page)
    }

    fn device_part(
        &self,
        gpa: u64,
        len: usize,
        kind: AccessKind,
        encrypted: bool,
    ) -> Result<Found, MemoryError> {
        let page = gpa & !(PAGE_SIZE - 1);
        let Some(offset) = self.ram.offset(page) else {
            return Ok(Found { state: Err(AccessTarget::Device), pointer: None });
        };
        if encrypted {
            let state = self.state(gpa).unwrap_or(PageState::Private);
            return Ok(Found { state: Err(AccessTarget::Page(state)), pointer: None });
        }
        let (mapping, state) = match &self.scheme {
            Scheme::OneView => (&self.private, Ok(())),
            Scheme::EncryptedAlias(encryption) => {
                let mut pages = encryption.lock();
                let index = (offset / PAGE_SIZE) as usize;
                let before = pages.states[index];
                if before.content() != View::Shared {
                    self.move_page(encryption, &mut pages, offset, View::Shared)?;
                    // As if the guest reported its conversions: a device's write declares nothing.
                    pages.states[index].access(View::Shared, kind, self.owner(gpa), true);
                }
                let private = AccessTarget::Page(PageState::Private);
                (&encryption.shared, if before.declared() == View::Shared { Ok(()) } else { Err(private) })
            }
            Scheme::SeparateBacking(protection) => {
                let mut states = protection.lock();
                self.give_back(protection, &mut states, offset)?;
                match states.state(offset) {
                    Some(PageState::Shared) => (&protection.shared, Ok(())),
                    state => {
                        let state = state.map_or(AccessTarget::Device, AccessTarget::Page);
                        return Ok(Found { state: Err(state), pointer: None });
                    }
                }
            }
        };
        let at = offset + gpa % PAGE_SIZE;
        if kind == AccessKind::Write {
            mapping.note_change(at, len);
        }
        Ok(Found { state, pointer: mapping.pointer(at, len) })
    }
}

/// The parts of a range, one for each page.
struct Parts<'m, 'a> {
    memory: &'m DmaMemory<'a>,
    at: u64,
    left: usize,
    kind: AccessKind,
}

impl<'m> Iterator for Parts<'m, '_> {
    type Item = Result<VolatileSlice<'m>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let to_end = (PAGE_SIZE - self.at % PAGE_SIZE) as usize;
        let len = self.left.min(to_end);
        let part = self.memory.part(self.at, len, self.kind);
        let next = self.at.checked_add(len as u64);
        (self.at, self.left) = match next {
            Some(next) if part.is_ok() => (next, self.left - len),
            _ => (self.at, 0),
        };
        Some(part)
    }
}

impl iter::FusedIterator for Parts<'_, '_> {}
impl<'m> GuestMemorySliceIterator<'m, ()> for Parts<'m, '_> {}

impl vm_memory::GuestMemory for DmaMemory<'_> {
    type PhysicalMemory = GuestMemoryMmap;
    type Bitmap = ();

    /// Any range can be accessed; what is not shared memory is recorded when that is done.
    fn check_range(&self, addr: GuestAddress, count: usize, _: Permissions) -> bool {
        addr.0.checked_add(count as u64).is_some()
    }

    fn get_slices(
        &self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'_, ()>, Error> {
        let kind = if access.has_write() { AccessKind::Write } else { AccessKind::Read };
        Ok(Parts { memory: self, at: addr.0, left: count, kind })
    }
}

#[cfg(test)]
mod tests {
    use types::Mode;
    use vm_memory::Bytes;

    use super::super::protected::{Architecture, Cause};
    use super::super::ram::Ram;
    use super::super::{Content, GuestMemory};
    use super::*;

    const RAM: u64 = 192 << 20;
    const AT: u64 = 0x40_0000;
    const BIT: u64 = 1 << 47;

    fn memory(content: Content) -> GuestMemory {
        GuestMemory::unenforced(Ram::new(RAM).unwrap(), content).unwrap()
    }

    fn snp() -> GuestMemory {
        memory(Content::SeparateBacking { architecture: Architecture::Snp, mode: Mode::Faithful })
    }

    fn forbidden(gpa: u64, len: usize, kind: AccessKind, state: AccessTarget) -> ForbiddenDma {
        ForbiddenDma { gpa, len, view: View::Shared, kind, state, chain: None }
    }

    #[test]
    fn without_encryption_a_device_reaches_all_memory() {
        let memory = memory(Content::OneView);
        memory.write(AT, b"before").unwrap();
        let dma = DmaMemory::new(&memory, None);
        let mut read = [0; 6];
        dma.read_slice(&mut read, GuestAddress(AT)).unwrap();
        assert_eq!(&read, b"before");
        let across = AT + PAGE_SIZE - 3;
        dma.write_slice(b"across", GuestAddress(across)).unwrap();
        assert_eq!(dma.into_forbidden().accesses, []);
        memory.read(View::Private, across, &mut read).unwrap();
        assert_eq!(&read, b"across");
    }

    #[test]
    fn a_private_page_is_zeros_to_a_device_and_keeps_its_bytes() {
        let memory = snp();
        memory.write(AT + PAGE_SIZE, b"secret").unwrap();
        memory.apply(AT, 1, Cause::MakeShared).unwrap();
        let dma = DmaMemory::new(&memory, None);
        dma.write_slice(b"text", GuestAddress(AT + PAGE_SIZE - 4)).unwrap();
        dma.set_chain(Some(7));
        dma.write_slice(b"lost", GuestAddress(AT + PAGE_SIZE)).unwrap();
        let mut read = [0xaa; 10];
        dma.read_slice(&mut read, GuestAddress(AT + PAGE_SIZE - 4)).unwrap();
        assert_eq!(&read, b"text\0\0\0\0\0\0");
        let private = AccessTarget::Page(PageState::Private);
        let mut expected = [
            forbidden(AT + PAGE_SIZE, 4, AccessKind::Write, private),
            forbidden(AT + PAGE_SIZE, 6, AccessKind::Read, private),
        ];
        for access in &mut expected {
            access.chain = Some(7);
        }
        assert_eq!(dma.into_forbidden().accesses, expected);
        let mut kept = [0; 6];
        memory.read(View::Private, AT + PAGE_SIZE, &mut kept).unwrap();
        assert_eq!(&kept, b"secret");
    }

    #[test]
    fn an_address_with_the_encryption_bit_or_outside_ram_is_no_memory() {
        let memory = snp();
        memory.apply(AT, 1, Cause::MakeShared).unwrap();
        let dma = DmaMemory::new(&memory, Some((BIT, View::Private)));
        let mut read = [0xaa; 4];
        dma.read_slice(&mut read, GuestAddress(AT | BIT)).unwrap();
        assert_eq!(read, [0; 4]);
        dma.write_slice(b"text", GuestAddress(RAM + (1 << 40))).unwrap();
        let shared = AccessTarget::Page(PageState::Shared);
        let with_bit = ForbiddenDma { view: View::Private, ..forbidden(AT, 4, AccessKind::Read, shared) };
        let outside = forbidden(RAM + (1 << 40), 4, AccessKind::Write, AccessTarget::Device);
        assert_eq!(dma.into_forbidden().accesses, [with_bit, outside]);
    }

    #[test]
    fn a_device_of_a_sev_guest_reads_ciphertext_of_a_private_page() {
        // Without userfaultfd nothing can be enforced, and this scheme cannot be made.
        let Ok(memory) = GuestMemory::unenforced(Ram::new(RAM).unwrap(), Content::EncryptedAlias { seed: 1 })
        else {
            println!("SKIPPED: no userfaultfd here");
            return;
        };
        memory.write(AT, b"secret").unwrap();
        let dma = DmaMemory::new(&memory, None);
        let (mut seen, mut cipher) = ([0; 6], [0; 6]);
        memory.read(View::Shared, AT, &mut cipher).unwrap();
        dma.read_slice(&mut seen, GuestAddress(AT)).unwrap();
        assert_eq!(seen, cipher);
        assert_ne!(&seen, b"secret");
        let private = AccessTarget::Page(PageState::Private);
        assert_eq!(dma.into_forbidden().accesses, [forbidden(AT, 6, AccessKind::Read, private)]);
        memory.read(View::Private, AT, &mut seen).unwrap();
        assert_eq!(&seen, b"secret");
    }

    #[test]
    fn the_state_of_a_page_is_found_without_an_access() {
        let (memory, plain) = (snp(), memory(Content::OneView));
        memory.apply(AT, 1, Cause::MakeShared).unwrap();
        let dma = DmaMemory::new(&memory, Some((BIT, View::Private)));
        let page = AccessTarget::Page;
        assert_eq!(dma.state(AT + 5), page(PageState::Shared));
        assert_eq!(dma.state(AT | BIT), page(PageState::Shared));
        assert_eq!(dma.state(AT + PAGE_SIZE), page(PageState::Private));
        assert_eq!([RAM + (1 << 40), u64::MAX].map(|gpa| dma.state(gpa)), [AccessTarget::Device; 2]);
        assert_eq!((dma.forbidden(), dma.into_forbidden().accesses), (0, vec![]));
        assert_eq!(DmaMemory::new(&plain, None).state(AT), page(PageState::Shared));
    }

    #[test]
    fn forbidden_accesses_beyond_the_bound_are_counted_only() {
        let memory = snp();
        let dma = DmaMemory::new(&memory, None);
        let pages = MOST_FORBIDDEN + 7;
        dma.write_slice(&vec![1; pages * PAGE], GuestAddress(AT)).unwrap();
        let forbidden = dma.into_forbidden();
        assert_eq!((forbidden.accesses.len(), forbidden.more), (MOST_FORBIDDEN, 7));
    }

    #[test]
    fn what_a_device_wrote_is_restored() {
        let memory = memory(Content::OneView);
        let image = memory.save().unwrap();
        memory.forget_touched();
        DmaMemory::new(&memory, None).write_slice(b"text", GuestAddress(AT)).unwrap();
        let mut dirty = super::super::page_set::PageSet::new(image.pages());
        memory.restore(&image, &mut dirty, false).unwrap();
        let mut read = [1; 4];
        memory.read(View::Private, AT, &mut read).unwrap();
        assert_eq!(read, [0; 4]);
    }
}
