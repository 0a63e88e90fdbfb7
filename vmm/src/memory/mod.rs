//! Guest RAM in two views, and the rules that tie them together.
//!
//! Platform `none` has one host mapping. On SEV there are two, one per view, and a page is present in at most
//! one of them; touching it through the other waits on a userfault, which moves the contents, encrypted or
//! decrypted, or first stops the vCPU if the guest's own claim forbids the touch.

pub mod cipher;
mod handler;
pub mod ram;
pub mod state;
pub mod userfaultfd;
pub mod view;

use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::cipher::{PAGE, PageCipher};
pub use self::handler::FaultHandler;
use self::ram::{Ram, RamError};
pub use self::state::AccessKind;
use self::state::{Owner, PageState, Touch};
use self::userfaultfd::{PageFault, Userfaultfd};
use self::view::Mapping;
pub use self::view::View;
use crate::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};

/// Pages moved for one fault at most.
const FOLLOW: u64 = 64;

/// Why guest memory could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// RAM size out of range.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The host gave no address space.
    #[error("reserving {mib} MiB of address space for guest RAM: {source}; free memory or raise `ulimit -v`")]
    Reserve {
        /// MiB asked for.
        mib: u64,
        /// The host's answer.
        source: io::Error,
    },
    /// No userfaultfd, so views cannot be told apart.
    #[error(
        "opening userfaultfd, which tells the two memory views apart: {0}; run as root, or `sysctl vm.unprivileged_userfaultfd=1`, or allow access to /dev/userfaultfd (kernel config USERFAULTFD)"
    )]
    Userfaultfd(io::Error),
    /// A request named memory that is not there.
    #[error("guest address {gpa:#x} (+{len:#x}) is not RAM of this guest")]
    NotRam {
        /// First GPA.
        gpa: u64,
        /// Bytes.
        len: usize,
    },
    /// The host refused to move a page between views.
    #[error("moving the page at GPA {gpa:#x} to the {view} view: {source}")]
    Move {
        /// Page.
        gpa: u64,
        /// Target view.
        view: View,
        /// The host's answer.
        source: io::Error,
    },
}

/// How many views, and what connects them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// One view only (platform `none`).
    OneView,
    /// Two views of one content, connected by the memory key made of this seed (SEV).
    OneContent {
        /// Key seed.
        seed: u64,
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

/// A touch the guest's claim forbids, held back at its instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// GPA of the page, without any encryption bit.
    pub gpa: u64,
    /// View used.
    pub view: View,
    /// View the page is declared for.
    pub declared: View,
    /// What the touch does.
    pub kind: AccessKind,
}

/// What enforcement did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryCounters {
    /// Userfaults taken.
    pub faults: u64,
    /// Pages moved between views because the guest had declared it.
    pub declared_moves: u64,
    /// Pages moved because the guest began to write them through the other view.
    pub implicit_moves: u64,
    /// Touches the guest's claim forbids.
    pub mismatches: u64,
    /// Pages the guest declared shared or private.
    pub declared_pages: u64,
}

/// All RAM of one guest.
#[derive(Debug)]
pub struct GuestMemory {
    ram: Ram,
    private: Mapping,
    encryption: Option<Encryption>,
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
    states: Vec<PageState>,
    /// 2 MiB chunks of the private view that are registered; the shared view always is.
    registered: Vec<bool>,
    announces: bool,
    pending: Option<Mismatch>,
    /// Kernel pages written through a view not declared yet: a conversion in place, or a mismatch.
    provisional: HashSet<u64>,
    /// Those whose declaration followed.
    settled: Vec<u64>,
    counters: MemoryCounters,
    /// First failure inside the fault handler; the guest cannot go on after it.
    failed: Option<MemoryError>,
}

impl std::fmt::Debug for PageCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageCipher")
    }
}

impl GuestMemory {
    /// Reserves RAM and, with two views, begins to enforce them.
    pub fn new(ram: Ram, content: Content) -> Result<Self, MemoryError> {
        let reserve = || {
            Mapping::new(ram.mapped_size())
                .map_err(|source| MemoryError::Reserve { mib: ram.mapped_size() >> 20, source })
        };
        let private = reserve()?;
        let encryption = match content {
            Content::OneView => None,
            Content::OneContent { seed } => {
                let shared = reserve()?;
                let uffd = Userfaultfd::open().map_err(MemoryError::Userfaultfd)?;
                uffd.register(shared.base(), shared.len() as u64).map_err(MemoryError::Userfaultfd)?;
                let pages = Pages {
                    states: vec![PageState::INITIAL; (ram.mapped_size() / PAGE_SIZE) as usize],
                    registered: vec![false; (ram.mapped_size() / LARGE_PAGE_SIZE) as usize],
                    announces: false,
                    pending: None,
                    provisional: HashSet::new(),
                    settled: Vec::new(),
                    counters: MemoryCounters::default(),
                    failed: None,
                };
                Some(Encryption { shared, cipher: PageCipher::new(seed), uffd, pages: Mutex::new(pages) })
            }
        };
        Ok(Self { ram, private, encryption })
    }

    /// Where RAM lies.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// Memory slots of every view.
    pub fn slots(&self) -> Vec<Slot> {
        let views = [
            (View::Private, Some(&self.private)),
            (View::Shared, self.encryption.as_ref().map(|e| &e.shared)),
        ];
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
            let mut page = [0u8; PAGE];
            self.page_as_seen(view, offset, &mut page);
            let start = ((gpa + range.start as u64) % PAGE_SIZE) as usize;
            let len = range.len();
            buffer[range].copy_from_slice(&page[start..start + len]);
            Ok(())
        })
    }

    /// Writes plaintext at `gpa`, as the loader or firmware would: through the private view.
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.store(View::Private, gpa, bytes)
    }

    /// Stores at `gpa` through `view`, as the guest would, without judging it.
    pub fn store(&self, view: View, gpa: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.for_each_page(gpa, bytes.len(), |offset, range| {
            let mut mapping = &self.private;
            if let Some(encryption) = &self.encryption {
                mapping = self.mapping(encryption, view);
                let mut pages = encryption.lock();
                let index = (offset / PAGE_SIZE) as usize;
                if pages.states[index].content() != view {
                    self.move_page(encryption, &mut pages, offset, view)?;
                    pages.states[index].touch(view, AccessKind::Write, Owner::Kernel, true);
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

    /// From now on this guest declares its conversions itself.
    pub fn guest_announces(&self) {
        if let Some(encryption) = &self.encryption {
            encryption.lock().announces = true;
        }
    }

    /// The guest declares `[gpa, gpa + pages × 4 KiB)`; pages that are not RAM are passed over.
    pub fn declare(&self, gpa: u64, page_count: u64, view: View) {
        let Some(encryption) = &self.encryption else { return };
        let mut pages = encryption.lock();
        pages.announces = true;
        let end = gpa.saturating_add(page_count.saturating_mul(PAGE_SIZE)).min(self.ram.end());
        let mut at = gpa & !(PAGE_SIZE - 1);
        while at < end {
            if let Some(offset) = self.ram.offset(at) {
                let state = &mut pages.states[(offset / PAGE_SIZE) as usize];
                state.declare(view);
                let in_view = state.content() == view;
                pages.counters.declared_pages += 1;
                // `arch/x86/mm/mem_encrypt_amd.c:__sme_early_enc_dec` rewrites a page through the other view and
                // declares it afterwards.
                if pages.provisional.remove(&at) && in_view {
                    pages.settled.push(at);
                    pages.counters.mismatches -= 1;
                    pages.counters.implicit_moves += 1;
                }
            } else if at < crate::layout::HIGH_RAM && at >= self.ram.low_end() {
                at = crate::layout::HIGH_RAM;
                continue;
            }
            at += PAGE_SIZE;
        }
    }

    /// Pages whose mismatch turned out to be the first half of a conversion: written through the other view,
    /// left alone, then declared for it.
    pub fn take_settled(&self) -> Vec<u64> {
        self.encryption.as_ref().map(|e| std::mem::take(&mut e.lock().settled)).unwrap_or_default()
    }

    /// The view the guest claims for the page at `gpa`.
    pub fn declared(&self, gpa: u64) -> Option<View> {
        let offset = self.ram.offset(gpa)?;
        Some(match &self.encryption {
            None => View::Private,
            Some(e) => e.lock().states[(offset / PAGE_SIZE) as usize].declared(),
        })
    }

    /// What enforcement did so far.
    pub fn counters(&self) -> MemoryCounters {
        self.encryption.as_ref().map(|e| e.lock().counters).unwrap_or_default()
    }

    /// The touch held back at its instruction, if there is one.
    pub fn pending(&self) -> Option<Mismatch> {
        self.encryption.as_ref()?.lock().pending
    }

    /// The first failure of the fault handler, if any.
    pub fn take_failure(&self) -> Option<MemoryError> {
        self.encryption.as_ref()?.lock().failed.take()
    }

    /// Lets the touch held back go on, as hardware would: the contents follow it.
    pub fn release(&self) -> Result<(), MemoryError> {
        let Some(encryption) = &self.encryption else { return Ok(()) };
        let mut pages = encryption.lock();
        let Some(mismatch) = pages.pending.take() else { return Ok(()) };
        let Some(offset) = self.ram.offset(mismatch.gpa) else { return Ok(()) };
        self.mapping(encryption, mismatch.view)
            .forbid(offset, PAGE, false)
            .map_err(|source| MemoryError::Move { gpa: mismatch.gpa, view: mismatch.view, source })?;
        if mismatch.kind == AccessKind::Write && self.owner(mismatch.gpa) == Owner::Kernel {
            pages.provisional.insert(mismatch.gpa);
        }
        self.settle(encryption, &mut pages, offset, mismatch.view, mismatch.kind)
    }

    /// Answers one userfault: moves the page, or holds the touch back for [`Self::release`].
    fn on_fault(&self, fault: PageFault) {
        let Some(encryption) = &self.encryption else { return };
        let mut pages = encryption.lock();
        pages.counters.faults += 1;
        let Some((view, offset)) = self.locate(encryption, fault.address) else { return };
        let kind = if fault.write { AccessKind::Write } else { AccessKind::Read };
        let gpa = self.ram.gpa(offset);
        let state = pages.states[(offset / PAGE_SIZE) as usize];
        let touch = state.judge(view, kind, self.owner(gpa), pages.announces);
        let outcome = if touch == Touch::Mismatch && pages.pending.is_none() {
            pages.counters.mismatches += 1;
            pages.pending = Some(Mismatch { gpa, view, declared: state.declared(), kind });
            self.mapping(encryption, view)
                .forbid(offset, PAGE, true)
                .and_then(|()| encryption.uffd.wake(fault.address, PAGE_SIZE))
                .map_err(|source| MemoryError::Move { gpa, view, source })
        } else {
            self.settle(encryption, &mut pages, offset, view, kind)
        };
        if let Err(error) = outcome {
            pages.failed.get_or_insert(error);
            // Whoever waits must not wait for ever; without its page KVM_RUN fails and the error is told.
            let _ = self.mapping(encryption, view).forbid(offset, PAGE, true);
            let _ = encryption.uffd.wake(fault.address, PAGE_SIZE);
        }
    }

    fn settle(
        &self,
        encryption: &Encryption,
        pages: &mut Pages,
        offset: u64,
        view: View,
        kind: AccessKind,
    ) -> Result<(), MemoryError> {
        let gpa = self.ram.gpa(offset);
        let index = (offset / PAGE_SIZE) as usize;
        let announces = pages.announces;
        if pages.states[index].content() == view {
            let hva = self.mapping(encryption, view).base() + offset;
            match encryption.uffd.copy(hva, &[0; PAGE]) {
                Err(e) if e.raw_os_error() == Some(libc::EEXIST) => encryption.uffd.wake(hva, PAGE_SIZE),
                other => other,
            }
            .map_err(|source| MemoryError::Move { gpa, view, source })?;
            return Ok(());
        }
        self.move_page(encryption, pages, offset, view)?;
        match pages.states[index].touch(view, kind, self.owner(gpa), announces) {
            Touch::Declared => {
                pages.counters.declared_moves += 1;
                pages.provisional.remove(&gpa);
                self.follow(encryption, pages, offset, view)?;
            }
            Touch::Implicit => pages.counters.implicit_moves += 1,
            Touch::Here | Touch::Mismatch => {}
        }
        Ok(())
    }

    /// Moves the neighbours that are declared for `view` and stand in the other: their contents would follow on
    /// the first touch anyway, and a fault costs far more than a page.
    fn follow(
        &self,
        encryption: &Encryption,
        pages: &mut Pages,
        offset: u64,
        view: View,
    ) -> Result<(), MemoryError> {
        for next in 1..FOLLOW {
            let offset = offset + next * PAGE_SIZE;
            let index = (offset / PAGE_SIZE) as usize;
            match pages.states.get(index) {
                Some(state) if state.declared() == view && state.content() != view => {}
                _ => break,
            }
            self.move_page(encryption, pages, offset, view)?;
            pages.states[index].touch(view, AccessKind::Read, Owner::Kernel, true);
            pages.counters.declared_moves += 1;
        }
        Ok(())
    }

    /// Takes the page out of the view it stands in and puts it, transformed, into `to`.
    fn move_page(
        &self,
        encryption: &Encryption,
        pages: &mut Pages,
        offset: u64,
        to: View,
    ) -> Result<(), MemoryError> {
        let gpa = self.ram.gpa(offset);
        let failed = |source| MemoryError::Move { gpa, view: to, source };
        let mut page = [0u8; PAGE];
        let from = self.mapping(encryption, to.other());
        from.read(offset, &mut page);
        match to {
            View::Shared => encryption.cipher.encrypt(gpa, &mut page),
            View::Private => encryption.cipher.decrypt(gpa, &mut page),
        }
        let chunk = (offset / LARGE_PAGE_SIZE) as usize;
        if !pages.registered[chunk] {
            // Whole 2 MiB chunks bound the number of mappings. Populated first, so that what is missing in a
            // registered chunk stands in the other view, always.
            let start = chunk as u64 * LARGE_PAGE_SIZE;
            self.private.populate(start, LARGE_PAGE_SIZE as usize).map_err(failed)?;
            encryption.uffd.register(self.private.base() + start, LARGE_PAGE_SIZE).map_err(failed)?;
            pages.registered[chunk] = true;
        }
        from.discard(offset, PAGE).map_err(failed)?;
        encryption.uffd.copy(self.mapping(encryption, to).base() + offset, &page).map_err(failed)
    }

    fn page_as_seen(&self, view: View, offset: u64, page: &mut [u8; PAGE]) {
        let page_offset = offset & !(PAGE_SIZE - 1);
        let Some(encryption) = &self.encryption else {
            self.private.read(page_offset, page);
            return;
        };
        let pages = encryption.lock();
        let content = pages.states[(offset / PAGE_SIZE) as usize].content();
        self.mapping(encryption, content).read(page_offset, page);
        let gpa = self.ram.gpa(page_offset);
        match (content, view) {
            (View::Private, View::Shared) => encryption.cipher.encrypt(gpa, page),
            (View::Shared, View::Private) => encryption.cipher.decrypt(gpa, page),
            _ => {}
        }
    }

    fn mapping<'a>(&'a self, encryption: &'a Encryption, view: View) -> &'a Mapping {
        match view {
            View::Private => &self.private,
            View::Shared => &encryption.shared,
        }
    }

    fn locate(&self, encryption: &Encryption, address: u64) -> Option<(View, u64)> {
        [(View::Private, &self.private), (View::Shared, &encryption.shared)].into_iter().find_map(
            |(view, m)| {
                let offset = address.checked_sub(m.base())?;
                (offset < m.len() as u64).then_some((view, offset))
            },
        )
    }

    fn owner(&self, gpa: u64) -> Owner {
        if self.ram.is_firmware(gpa) { Owner::Firmware } else { Owner::Kernel }
    }

    /// Calls `f` with the mapping offset of each page `[gpa, gpa + len)` touches and the part of the range in it.
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
