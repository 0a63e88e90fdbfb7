// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guest RAM in two views, and the rules that tie them together.
//!
//! Platform `none` has one host mapping, every other platform two, one per view.
//!
//! On SEV both show one content: a page is present in at most one view; accessing it through the other waits on a
//! userfault, which moves the contents, encrypted or decrypted, or first stops the vCPU if the guest declared the
//! other view. SEV-SNP, TDX and VBS have two contents and a state per page: see [`protected`].

pub mod cipher;
mod counters;
mod declaration;
pub mod dma;
mod dma_slices;
mod enforcement;
mod error;
mod handler;
pub mod history;
pub mod image;
mod mismatch;
pub mod page_set;
mod pending;
pub mod protected;
mod racing;
pub mod ram;
mod refusal;
pub mod state;
pub mod userfaultfd;
pub mod view;

use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use types::{AccessKind, Mode, View};

use self::cipher::{PAGE, PageCipher};
pub use self::counters::MemoryCounters;
pub use self::error::MemoryError;
pub use self::handler::FaultHandler;
use self::history::Watch;
pub use self::mismatch::Mismatch;
use self::pending::Pending;
use self::protected::{Architecture, Protection};
use self::ram::Ram;
use self::state::{AliasState, Owner};
use self::userfaultfd::Userfaultfd;
use self::view::Mapping;
use crate::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};
use crate::marker::{self, Tag};
use crate::x86::walk::PhysicalMemory;

/// How many views, and what connects them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// One view only (platform `none`).
    OneView,
    /// Two views of one content, connected by the memory key made of this seed (SEV).
    EncryptedAlias {
        /// Key seed.
        seed: u64,
    },
    /// Two views with contents of their own, and a state per page (SEV-SNP, TDX, VBS).
    SeparateBacking {
        /// The architecture that defines the states.
        architecture: Architecture,
        /// What a mismatch leads to.
        mode: Mode,
    },
}

/// A KVM memory slot to be made.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// Which view the slot shows.
    pub view: View,
    /// First GPA, without any encryption bit.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
    /// Host virtual address.
    pub hva: u64,
}

/// All RAM of one guest.
#[derive(Debug)]
pub struct GuestMemory {
    ram: Ram,
    private: Mapping,
    scheme: Scheme,
}

/// What ties the views together.
#[derive(Debug)]
enum Scheme {
    OneView,
    EncryptedAlias(Box<Encryption>),
    SeparateBacking(Box<Protection>),
}

#[derive(Debug)]
struct Encryption {
    shared: Mapping,
    cipher: PageCipher,
    uffd: Userfaultfd,
    pages: Mutex<Pages>,
}

#[derive(Debug)]
struct Pages {
    states: Vec<AliasState>,
    /// 2 MiB chunks of the private view that are registered; the shared view always is.
    registered: Vec<bool>,
    map_gpa_range_enabled: bool,
    pending: Pending,
    /// Kernel pages written through a view not declared yet: a conversion in place, or a mismatch.
    provisional: HashSet<u64>,
    /// Of them, pages that the guest declared afterwards: conversions.
    confirmed: Vec<u64>,
    counters: MemoryCounters,
    watch: Watch,
    /// First failure inside the fault handler; the guest cannot go on after it.
    failed: Option<MemoryError>,
}

impl PhysicalMemory for GuestMemory {
    fn load(&self, view: View, gpa: u64, buffer: &mut [u8]) -> bool {
        self.read(view, gpa, buffer).is_ok()
    }

    fn store_admitted(&self, view: View, gpa: u64, bytes: &[u8]) -> bool {
        self.state(gpa).is_none_or(|state| state.admits(view)) && self.store(view, gpa, bytes).is_ok()
    }
}

impl GuestMemory {
    /// Reserves RAM and, with two views, begins to enforce them.
    pub fn new(ram: Ram, content: Content) -> Result<Self, MemoryError> {
        Self::make(ram, content, true)
    }

    /// The same states and contents without enforcement: for tests of page states without a vCPU.
    pub fn unenforced(ram: Ram, content: Content) -> Result<Self, MemoryError> {
        Self::make(ram, content, false)
    }

    fn make(ram: Ram, content: Content, enforced: bool) -> Result<Self, MemoryError> {
        let reserve = || {
            Mapping::new(ram.mapped_size())
                .map_err(|source| MemoryError::Reserve { mib: ram.mapped_size() >> 20, source })
        };
        let private = reserve()?;
        let scheme = match content {
            Content::OneView => Scheme::OneView,
            Content::EncryptedAlias { seed } => {
                let shared = reserve()?;
                let uffd = Userfaultfd::open().map_err(MemoryError::Userfaultfd)?;
                uffd.register(shared.base(), shared.len() as u64).map_err(MemoryError::Userfaultfd)?;
                let pages = Pages {
                    states: vec![AliasState::INITIAL; (ram.mapped_size() / PAGE_SIZE) as usize],
                    registered: vec![false; (ram.mapped_size() / LARGE_PAGE_SIZE) as usize],
                    map_gpa_range_enabled: false,
                    pending: Pending::default(),
                    provisional: HashSet::new(),
                    confirmed: Vec::new(),
                    counters: MemoryCounters::default(),
                    watch: Watch::default(),
                    failed: None,
                };
                let cipher = PageCipher::new(seed);
                Scheme::EncryptedAlias(Box::new(Encryption {
                    shared,
                    cipher,
                    uffd,
                    pages: Mutex::new(pages),
                }))
            }
            Content::SeparateBacking { architecture, mode } => {
                let open = || Userfaultfd::open().map_err(MemoryError::Userfaultfd);
                let uffd = if enforced { Some(open()?) } else { None };
                Scheme::SeparateBacking(Box::new(Protection::new(architecture, mode, reserve()?, uffd)?))
            }
        };
        Ok(Self { ram, private, scheme })
    }

    /// Where RAM lies.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// Memory slots of every view.
    pub fn slots(&self) -> Vec<Slot> {
        let views = [(View::Private, Some(&self.private)), (View::Shared, self.shared())];
        views
            .into_iter()
            .filter_map(|(view, mapping)| mapping.map(|m| (view, m.base())))
            .flat_map(|(view, base)| {
                self.ram.backed().into_iter().map(move |(gpa, len)| {
                    let offset = self.ram.offset(gpa).unwrap_or(gpa);
                    Slot { view, gpa, len, hva: base + offset }
                })
            })
            .collect()
    }

    /// Copies what `view` shows at `gpa` right now, moving nothing.
    pub fn read(&self, view: View, gpa: u64, buffer: &mut [u8]) -> Result<(), MemoryError> {
        self.for_each_page(gpa, buffer.len(), |offset, range| {
            let start = (gpa + range.start as u64) % PAGE_SIZE;
            self.part_as_seen(view, offset + start, &mut buffer[range]);
            Ok(())
        })
    }

    /// Writes plaintext at `gpa`, as the loader or firmware would: through the private view.
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.store(View::Private, gpa, bytes)
    }

    /// Stores at `gpa` through `view`, as the guest would, without a check for mismatches. Where the platform keeps two
    /// contents, pages whose state does not admit the view stay unchanged.
    pub fn store(&self, view: View, gpa: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.for_each_page(gpa, bytes.len(), |offset, range| {
            let mut mapping = &self.private;
            let _guard;
            match &self.scheme {
                Scheme::OneView => {}
                Scheme::EncryptedAlias(encryption) => {
                    mapping = self.mapping(encryption, view);
                    let mut pages = encryption.lock();
                    let index = (offset / PAGE_SIZE) as usize;
                    if pages.states[index].content() != view {
                        self.move_page(encryption, &mut pages, offset, view)?;
                        pages.states[index].access(view, AccessKind::Write, Owner::Kernel, true);
                    }
                }
                Scheme::SeparateBacking(protection) => {
                    let mut state = protection.lock();
                    if let Some(page) = state.refused_page(view, offset) {
                        let start = ((gpa + range.start as u64) % PAGE_SIZE) as usize;
                        page[start..start + range.len()].copy_from_slice(&bytes[range]);
                        return Ok(());
                    }
                    let admitted = state.state(offset).is_some_and(|s| s.admits(view));
                    if !admitted && !state.is_mapped_temporarily(view, offset) {
                        // The page is not present in this view.
                        return Ok(());
                    }
                    mapping = self.view_mapping(protection, view);
                    _guard = state;
                }
            }
            let start = (gpa + range.start as u64) % PAGE_SIZE;
            mapping.write(offset + start, &bytes[range]);
            Ok(())
        })
    }

    /// Host pointer to plaintext RAM at `gpa`, for the kernel loader. Only before the guest runs.
    pub fn loader_pointer(&self, gpa: u64, len: usize) -> Option<*mut u8> {
        self.private.pointer(self.ram.offset(gpa)?, len)
    }

    /// Bytes of host memory the guest's RAM takes at present, all views together.
    pub fn resident(&self) -> io::Result<u64> {
        let shared = self.shared().map_or(Ok(0), Mapping::resident)?;
        Ok(self.private.resident()? + shared)
    }

    /// What enforcement did so far.
    pub fn counters(&self) -> MemoryCounters {
        match &self.scheme {
            Scheme::OneView => MemoryCounters::default(),
            Scheme::EncryptedAlias(encryption) => encryption.lock().counters,
            Scheme::SeparateBacking(protection) => protection.lock().counters,
        }
    }

    fn uffd(&self) -> Option<&Userfaultfd> {
        match &self.scheme {
            Scheme::OneView => None,
            Scheme::EncryptedAlias(encryption) => Some(&encryption.uffd),
            Scheme::SeparateBacking(protection) => protection.uffd.as_ref(),
        }
    }

    /// Keeps the first failure of the fault handler.
    fn fail(&self, error: MemoryError) {
        match &self.scheme {
            Scheme::OneView => {}
            Scheme::EncryptedAlias(encryption) => _ = encryption.lock().failed.get_or_insert(error),
            Scheme::SeparateBacking(protection) => _ = protection.lock().failed.get_or_insert(error),
        }
    }

    fn shared(&self) -> Option<&Mapping> {
        match &self.scheme {
            Scheme::OneView => None,
            Scheme::EncryptedAlias(encryption) => Some(&encryption.shared),
            Scheme::SeparateBacking(protection) => Some(&protection.shared),
        }
    }

    fn encryption(&self) -> Option<&Encryption> {
        match &self.scheme {
            Scheme::EncryptedAlias(encryption) => Some(encryption),
            _ => None,
        }
    }

    fn protection(&self) -> Option<&Protection> {
        match &self.scheme {
            Scheme::SeparateBacking(protection) => Some(protection),
            _ => None,
        }
    }

    /// Part of a page. A page table walk reads eight bytes at a time, so no more than the part is read where possible.
    fn part_as_seen(&self, view: View, at: u64, part: &mut [u8]) {
        let encryption = match &self.scheme {
            Scheme::OneView => {
                self.private.read(at, part);
                return;
            }
            Scheme::EncryptedAlias(encryption) => encryption,
            Scheme::SeparateBacking(protection) => return self.protected_part(protection, view, at, part),
        };
        let pages = encryption.lock();
        let content = pages.states[(at / PAGE_SIZE) as usize].content();
        let mapping = self.mapping(encryption, content);
        if content == view {
            mapping.read(at, part);
            return;
        }
        let (offset, start) = (at & !(PAGE_SIZE - 1), (at % PAGE_SIZE) as usize);
        let mut page = [0; PAGE];
        mapping.read(offset, &mut page);
        match view {
            View::Shared => encryption.cipher.encrypt(self.ram.gpa(offset), &mut page),
            View::Private => encryption.cipher.decrypt(self.ram.gpa(offset), &mut page),
        }
        part.copy_from_slice(&page[start..start + part.len()]);
    }

    /// Where the state does not admit `view`: what an access would read if it completed.
    fn protected_part(&self, protection: &Protection, view: View, at: u64, part: &mut [u8]) {
        let mut state = protection.lock();
        if let Some(page) = state.refused_page(view, at) {
            let start = (at % PAGE_SIZE) as usize;
            part.copy_from_slice(&page[start..start + part.len()]);
            return;
        }
        let admitted = state.state(at).is_some_and(|s| s.admits(view));
        if admitted || state.is_mapped_temporarily(view, at & !(PAGE_SIZE - 1)) {
            self.view_mapping(protection, view).read(at, part);
        } else if view == View::Shared && state.permits_access(at, view) {
            marker::fill(Tag::Shared, self.ram.gpa(at), part);
        } else {
            part.fill(0);
        }
    }

    fn mapping<'a>(&'a self, encryption: &'a Encryption, view: View) -> &'a Mapping {
        match view {
            View::Private => &self.private,
            View::Shared => &encryption.shared,
        }
    }

    fn owner(&self, gpa: u64) -> Owner {
        if self.ram.is_firmware(gpa) { Owner::Firmware } else { Owner::Kernel }
    }

    /// Calls `f` with the mapping offset of each page of `[gpa, gpa + len)` and the part of the range in it.
    fn for_each_page(
        &self,
        gpa: u64,
        len: usize,
        mut f: impl FnMut(u64, std::ops::Range<usize>) -> Result<(), MemoryError>,
    ) -> Result<(), MemoryError> {
        let mut done = 0;
        while done < len {
            let at = gpa.checked_add(done as u64).ok_or(MemoryError::NotRam { gpa, len })?;
            let page = at & !(PAGE_SIZE - 1);
            let part = ((PAGE_SIZE - at % PAGE_SIZE) as usize).min(len - done);
            let offset = self.ram.offset(page).ok_or(MemoryError::NotRam { gpa, len })?;
            f(offset, done..done + part)?;
            done += part;
        }
        Ok(())
    }
}

impl Encryption {
    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
