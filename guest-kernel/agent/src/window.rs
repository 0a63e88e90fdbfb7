// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory shared with the worker and, if the kernel shows page frame numbers, with the host.

use core::sync::atomic::Ordering::Relaxed;

use protocol::check::digest;
use protocol::window::{DOWN_PAGES, Directory, MAGIC, PAGE, UP_PAGES, stamp};
use protocol::{Error, Hello};

use crate::syscall::{self, File, Result};

const PAGES: usize = 1 + DOWN_PAGES + UP_PAGES;

/// The window.
pub struct Window {
    /// Its first page.
    pub directory: &'static Directory,
    down: *mut u8,
    up: *mut u8,
    pagemap: Option<File>,
    /// The memory as a file, if the kernel has such files.
    file: Option<File>,
    is_init: bool,
    reported_frame: u64,
    /// The last order taken.
    order: u64,
}

impl Window {
    /// Takes memory, in place for good, and looks whether it can be shown to the host.
    pub fn new(is_init: bool) -> Result<Self> {
        let flags = syscall::MAP_SHARED | syscall::MAP_POPULATE;
        // As a file, so that a worker that executes itself can map it again.
        let file = syscall::memory_file(PAGES * PAGE).ok();
        let start = match file {
            Some(file) => syscall::map_file(file, PAGES * PAGE, flags)?,
            None => syscall::memory(PAGES * PAGE, flags)?,
        }
        .as_mut_ptr();
        let address = start as u64;
        let _ = syscall::mlock(address, PAGES * PAGE);
        // SAFETY: page-aligned, zeroed, never unmapped, and made of atomics only.
        let directory = unsafe { &*(address as *const Directory) };
        let mut key = [0; 8];
        syscall::random(&mut key);
        // SAFETY: reading the time stamp counter has no side effect.
        let time = unsafe { core::arch::x86_64::_rdtsc() };
        directory.magic.store(MAGIC, Relaxed);
        directory.key.store(u64::from_le_bytes(key) ^ time.rotate_left(32), Relaxed);
        directory.pages.store((DOWN_PAGES | UP_PAGES << 32) as u64, Relaxed);
        let pagemap = syscall::open(c"/proc/self/pagemap", syscall::O_CLOEXEC, 0).ok();
        Ok(Self {
            directory,
            down: start.wrapping_add(PAGE),
            up: start.wrapping_add((1 + DOWN_PAGES) * PAGE),
            pagemap,
            file,
            is_init,
            reported_frame: 0,
            order: 0,
        })
    }

    /// The same memory in a worker that has executed itself.
    pub fn attach(file: File) -> Result<Self> {
        let start = syscall::map_file(file, PAGES * PAGE, syscall::MAP_SHARED)?.as_mut_ptr();
        let address = start as u64;
        // SAFETY: page-aligned, never unmapped, and made of atomics only.
        let directory = unsafe { &*(address as *const Directory) };
        Ok(Self {
            directory,
            down: start.wrapping_add(PAGE),
            up: start.wrapping_add((1 + DOWN_PAGES) * PAGE),
            pagemap: None,
            file: Some(file),
            is_init: false,
            reported_frame: 0,
            order: 0,
        })
    }

    /// The memory as a file.
    pub fn file(&self) -> Option<File> {
        self.file
    }

    /// The down half. The host writes to it only while the guest does not run, the supervisor only while the worker
    /// waits.
    pub fn down(&self) -> &[u8] {
        // SAFETY: mapped for good, and it is not written while it is borrowed.
        unsafe { core::slice::from_raw_parts(self.down, DOWN_PAGES * PAGE) }
    }

    fn down_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped for good; `self` is borrowed exclusively and the worker waits.
        unsafe { core::slice::from_raw_parts_mut(self.down, DOWN_PAGES * PAGE) }
    }

    /// The up half. Written by the worker while it executes, by the supervisor while the worker waits or has ended.
    pub fn up(&mut self) -> &mut [u8] {
        // SAFETY: mapped for good; `self` is borrowed exclusively and the other process does not access it meanwhile.
        unsafe { core::slice::from_raw_parts_mut(self.up, UP_PAGES * PAGE) }
    }

    /// Looks up where the pages are, counts the notification line, stamps the down half. False if the host cannot be shown.
    pub fn prepare(&mut self) -> bool {
        let directory = self.directory;
        let notifications = directory.notifications.load(Relaxed).wrapping_add(1);
        directory.notifications.store(notifications, Relaxed);
        if !self.look_up() {
            return false;
        }
        let key = directory.key.load(Relaxed);
        for (index, page) in self.down_mut().chunks_mut(PAGE).enumerate() {
            if let Some(place) = page.first_chunk_mut() {
                *place = stamp(key, notifications, index);
            }
        }
        true
    }

    fn look_up(&mut self) -> bool {
        const PRESENT: u64 = 1 << 63;
        const FRAME_NUMBER: u64 = (1 << 55) - 1;
        let first = core::ptr::from_ref(self.directory) as u64 / PAGE as u64;
        let mut entries = [0; PAGES * 8];
        if self.is_init {
            let Some(pagemap) = self.pagemap else { return false };
            if syscall::pread(pagemap, &mut entries, first * 8) != Ok(entries.len()) {
                return false;
            }
        }
        let (entries, _) = entries.as_chunks::<8>();
        for (index, entry) in entries.iter().enumerate() {
            let entry = u64::from_le_bytes(*entry);
            let number = if !self.is_init {
                // A test reads our memory through /proc: for it, addresses are virtual.
                first + index as u64
            } else if entry & PRESENT != 0 {
                entry & FRAME_NUMBER
            } else {
                0
            };
            if number == 0 {
                return false;
            }
            match index.checked_sub(1) {
                None => self.reported_frame = number,
                Some(index) => self.directory.frame_numbers[index].store(number, Relaxed),
            }
        }
        true
    }

    /// Frame number of the directory page as of the last [`Window::prepare`].
    pub fn frame_number(&self) -> u64 {
        self.reported_frame
    }

    /// The report of the window to the host.
    pub fn hello(&self, usable: bool, notifies: bool) -> Hello {
        let key = self.directory.key.load(Relaxed) as u32;
        let window = usable.then_some(protocol::WindowAddress { frame_number: self.reported_frame, key });
        Hello { is_init: self.is_init, notifies, window }
    }

    /// Whether the host has put another batch into the down half without a frame; it is to be executed then.
    pub fn take_order(&mut self) -> bool {
        let order = self.directory.order.load(Relaxed);
        core::mem::replace(&mut self.order, order) != order
    }

    /// The results are those of the order that was taken.
    pub fn answer_order(&self) {
        self.directory.answered.store(self.order, Relaxed);
    }

    /// The directory, the batch to execute, and the place for its results.
    pub fn split(&mut self) -> (&'static Directory, &[u8], &mut [u8]) {
        let len = (self.directory.down_len.load(Relaxed) as usize).min(DOWN_PAGES * PAGE);
        // SAFETY: two ranges that do not overlap, mapped for good; `self` is borrowed exclusively, and supervisor and
        // host wait while the worker executes.
        unsafe {
            (
                self.directory,
                core::slice::from_raw_parts(self.down, len),
                core::slice::from_raw_parts_mut(self.up, UP_PAGES * PAGE),
            )
        }
    }

    /// The results.
    pub fn results(&self) -> &[u8] {
        // SAFETY: mapped for good, and the worker waits or has ended.
        let up = unsafe { core::slice::from_raw_parts(self.up, UP_PAGES * PAGE) };
        up.get(..self.up_len()).unwrap_or_default()
    }

    /// Low byte of the notification line counter.
    pub fn sequence(&self) -> u8 {
        self.directory.notifications.load(Relaxed) as u8
    }

    /// Length of the results.
    pub fn up_len(&self) -> usize {
        self.directory.up_len.load(Relaxed) as usize
    }

    /// Computes the results' digest for the host.
    pub fn seal(&self) {
        self.directory.up_digest.store(digest(self.results()), Relaxed);
    }

    /// Takes a payload that came over the serial port.
    pub fn fill_down(&mut self, payload: &[u8]) -> core::result::Result<(), Error> {
        let place = self.down_mut().get_mut(..payload.len()).ok_or(Error::TooLong)?;
        place.copy_from_slice(payload);
        self.directory.down_len.store(payload.len() as u64, Relaxed);
        Ok(())
    }

    /// The payload the host wrote.
    pub fn check_down(&self) -> core::result::Result<(), Error> {
        let len = self.directory.down_len.load(Relaxed) as usize;
        let payload = self.down().get(..len).ok_or(Error::TooLong)?;
        if digest(payload) == self.directory.down_digest.load(Relaxed) {
            Ok(())
        } else {
            Err(Error::PayloadCheck)
        }
    }

    /// The payload of the batch.
    pub fn batch(&self) -> &[u8] {
        self.down().get(..self.directory.down_len.load(Relaxed) as usize).unwrap_or_default()
    }
}
