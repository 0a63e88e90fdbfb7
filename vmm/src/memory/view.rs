// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One host mapping of all guest RAM: what one view of memory, private or shared, looks at.

use std::io;

use super::page_set::{PageSet, TouchedPages};
use super::racing;
use super::userfaultfd::Userfaultfd;
use crate::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};

/// Anonymous memory, reserved whole and populated on access, aligned for huge pages.
#[derive(Debug)]
pub struct Mapping {
    base: *mut u8,
    len: usize,
    reserved: *mut libc::c_void,
    reserved_len: usize,
    /// Pages that this process changed: KVM's dirty log has only what vCPUs and KVM itself write.
    touched: TouchedPages,
}

// SAFETY: the mapping is plain memory; who may access which page when is decided by `GuestMemory`'s lock
// and by KVM, exactly as with any VMM's guest RAM.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves `len` bytes, a multiple of the page size.
    pub fn new(len: u64) -> io::Result<Self> {
        let reserved_len = (len + LARGE_PAGE_SIZE) as usize;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice replaces no other mapping.
        let reserved = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                reserved_len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if reserved == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let aligned = (reserved as u64).next_multiple_of(LARGE_PAGE_SIZE);
        let touched = TouchedPages::new(len.div_ceil(PAGE_SIZE) as usize);
        let mapping = Self { base: aligned as *mut u8, len: len as usize, reserved, reserved_len, touched };
        // Huge pages are a matter of speed only, so a refusal is no error.
        // SAFETY: the range lies in the mapping made above.
        let _ = unsafe { libc::madvise(mapping.base.cast(), mapping.len, libc::MADV_HUGEPAGE) };
        Ok(mapping)
    }

    /// Host virtual address of the first byte.
    pub fn base(&self) -> u64 {
        self.base as u64
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pointer to the byte at `offset`, if `len` bytes from there lie inside.
    pub fn pointer(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let end = usize::try_from(offset).ok()?.checked_add(len)?;
        // SAFETY: `offset <= end <= self.len`, so the result stays inside the mapping.
        (end <= self.len).then(|| unsafe { self.base.add(offset as usize) })
    }

    /// Copies out; accessing these pages must not wait on a userfault.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let Some(from) = self.pointer(offset, buffer.len()) else { return false };
        // SAFETY: `from` is valid for the length while `self` lives, and every access to it in this process is atomic.
        unsafe { racing::read(from, buffer) };
        true
    }

    /// Copies in; accessing these pages must not wait on a userfault.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(to) = self.pointer(offset, bytes.len()) else { return false };
        self.note_change(offset, bytes.len());
        // SAFETY: `to` is valid for the length while `self` lives, and every access to it in this process is atomic.
        unsafe { racing::write(to, bytes) };
        true
    }

    /// Drops the contents of the pages; they are missing afterwards.
    pub fn discard(&self, offset: u64, len: usize) -> io::Result<()> {
        self.note_change(offset, len);
        self.madvise(offset, len, libc::MADV_DONTNEED)
    }

    /// Puts copies of `pages` at `offset`, where pages are missing, and wakes the threads that wait for them.
    pub fn put(&self, uffd: &Userfaultfd, offset: u64, pages: &[u8]) -> io::Result<()> {
        self.pointer(offset, pages.len()).ok_or_else(out_of_range)?;
        self.note_change(offset, pages.len());
        uffd.copy(self.base() + offset, pages)
    }

    /// Takes the pages that this process changed since the last call.
    pub fn take_touched(&self) -> PageSet {
        self.touched.take()
    }

    /// Notes that this process changes these bytes.
    pub fn note_change(&self, offset: u64, len: usize) {
        let first = offset / PAGE_SIZE;
        let end = (offset + len as u64).div_ceil(PAGE_SIZE);
        self.touched.insert(first as usize, (end - first) as usize);
    }

    /// The page at `offset` holds the same bytes in both mappings; accessing it must not wait on a userfault.
    pub fn page_equals(&self, offset: u64, other: &Self) -> bool {
        let pages = self.pointer(offset, PAGE_SIZE as usize).zip(other.pointer(offset, PAGE_SIZE as usize));
        // SAFETY: both pointers are valid for a page while the mappings live.
        pages.is_some_and(|(a, b)| unsafe { racing::equal_pages(a, b) })
    }

    /// The page at `offset` holds nothing but zeros; accessing it must not wait on a userfault.
    pub fn page_is_zero(&self, offset: u64) -> bool {
        let page = self.pointer(offset, PAGE_SIZE as usize);
        // SAFETY: the pointer is valid for a page while the mapping lives.
        page.is_some_and(|page| unsafe { racing::is_zero_page(page) })
    }

    /// Copies the page at `offset` of another mapping; accessing neither must wait on a userfault. Returns whether both
    /// have such a page.
    pub fn copy_page(&self, offset: u64, from: &Self) -> bool {
        let pages = from.pointer(offset, PAGE_SIZE as usize).zip(self.pointer(offset, PAGE_SIZE as usize));
        let Some((from, to)) = pages else { return false };
        self.note_change(offset, PAGE_SIZE as usize);
        // SAFETY: both pointers are valid for a page while the mappings live, and the mappings are two.
        unsafe { racing::copy_page(from, to) };
        true
    }

    /// Sets the page at `offset`; accessing it must not wait on a userfault. Returns whether there is such a page.
    pub fn set_page(&self, offset: u64, page: &[u8; PAGE_SIZE as usize]) -> bool {
        let Some(to) = self.pointer(offset, PAGE_SIZE as usize) else { return false };
        self.note_change(offset, PAGE_SIZE as usize);
        // SAFETY: `to` is valid for a page while the mapping lives, and the mapping does not overlap `page`.
        unsafe { racing::copy_page(page.as_ptr(), to) };
        true
    }

    /// Makes every page present, without changing any that already is.
    pub fn populate(&self, offset: u64, len: usize) -> io::Result<()> {
        self.madvise(offset, len, libc::MADV_POPULATE_WRITE)
    }

    /// Bytes of it that take host memory at present.
    pub fn resident(&self) -> io::Result<u64> {
        Ok(self.resident_pages()?.len() as u64 * PAGE_SIZE)
    }

    /// Pages that take host memory at present. A page that is not among them is missing, or holds zeros.
    pub fn resident_pages(&self) -> io::Result<PageSet> {
        let mut pages = vec![0u8; self.len.div_ceil(PAGE_SIZE as usize)];
        // SAFETY: the range is this mapping, and `pages` has a byte for each page of it.
        if unsafe { libc::mincore(self.base.cast(), self.len, pages.as_mut_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut resident = PageSet::new(pages.len());
        for (page, _) in pages.iter().enumerate().filter(|(_, flags)| **flags & 1 != 0) {
            resident.insert(page);
        }
        Ok(resident)
    }

    /// Makes the pages accessible or inaccessible to this process and to KVM; their contents stay.
    pub fn set_accessible(&self, offset: u64, len: usize, accessible: bool) -> io::Result<()> {
        let at = self.pointer(offset, len).ok_or_else(out_of_range)?;
        let protection = if accessible { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_NONE };
        // SAFETY: the range lies inside this mapping.
        if unsafe { libc::mprotect(at.cast(), len, protection) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn madvise(&self, offset: u64, len: usize, advice: libc::c_int) -> io::Result<()> {
        let at = self.pointer(offset, len).ok_or_else(out_of_range)?;
        // SAFETY: the range lies inside this mapping.
        if unsafe { libc::madvise(at.cast(), len, advice) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, unmapped once.
        unsafe { libc::munmap(self.reserved, self.reserved_len) };
    }
}

fn out_of_range() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidInput)
}
