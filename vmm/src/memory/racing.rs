// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copies out of and into memory that a guest may be writing at the same time: relaxed atomics of the widest size that
//! fits, so that the race is one the language allows. Bytes of different moments may be mixed, as on hardware.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::layout::PAGE_SIZE;

const WORD: usize = size_of::<u64>();

/// How many bytes lie before the first aligned word, and how many after the last one.
fn parts(address: usize, len: usize) -> (usize, usize) {
    let head = address.wrapping_neg() % WORD;
    if head >= len { (len, 0) } else { (head, (len - head) % WORD) }
}

/// Copies `to.len()` bytes from `from`.
///
/// # Safety
/// `from` is valid for reads of that length, and nothing in this process accesses the bytes except atomically.
pub(super) unsafe fn read(from: *mut u8, to: &mut [u8]) {
    let (head, tail) = parts(from as usize, to.len());
    let words = head..to.len() - tail;
    // SAFETY: `at` is below the length the caller vouches for.
    let byte = |at: usize| unsafe { AtomicU8::from_ptr(from.add(at)) }.load(Ordering::Relaxed);
    for at in (0..head).chain(words.end..to.len()) {
        to[at] = byte(at);
    }
    for (index, chunk) in to[words].chunks_exact_mut(WORD).enumerate() {
        // SAFETY: the word lies in the caller's range, and `head` bytes from its start on addresses are aligned.
        let word = unsafe { AtomicU64::from_ptr(from.add(head + index * WORD).cast()) };
        chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
}

/// Copies `from` to `to`.
///
/// # Safety
/// `to` is valid for writes of that length, and nothing in this process accesses the bytes except atomically.
pub(super) unsafe fn write(to: *mut u8, from: &[u8]) {
    let (head, tail) = parts(to as usize, from.len());
    let words = head..from.len() - tail;
    for at in (0..head).chain(words.end..from.len()) {
        // SAFETY: `at` is below the length the caller vouches for.
        unsafe { AtomicU8::from_ptr(to.add(at)) }.store(from[at], Ordering::Relaxed);
    }
    for (index, chunk) in from[words].chunks_exact(WORD).enumerate() {
        let word = u64::from_ne_bytes(std::array::from_fn(|at| chunk[at]));
        // SAFETY: the word lies in the caller's range, and `head` bytes from its start on addresses are aligned.
        unsafe { AtomicU64::from_ptr(to.add(head + index * WORD).cast()) }.store(word, Ordering::Relaxed);
    }
}

/// Bytes of a page.
const PAGE: usize = PAGE_SIZE as usize;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// Two pages hold the same bytes.
///
/// # Safety
/// Both are valid for reads of a page.
pub(super) unsafe fn equal_pages(a: *const u8, b: *const u8) -> bool {
    // SAFETY: the caller vouches for both pages. C's functions know no data races: bytes of different moments may be mixed.
    unsafe { libc::memcmp(a.cast(), b.cast(), PAGE) == 0 }
}

/// A page holds nothing but zeros.
///
/// # Safety
/// It is valid for reads of a page.
pub(super) unsafe fn is_zero_page(page: *const u8) -> bool {
    // SAFETY: the caller vouches for the page.
    unsafe { equal_pages(page, ZEROS.as_ptr()) }
}

/// Copies a page onto another one.
///
/// # Safety
/// `from` is valid for reads, `to` for writes of a page, and they do not overlap.
pub(super) unsafe fn copy_page(from: *const u8, to: *mut u8) {
    // SAFETY: the caller vouches for both pages. As above.
    unsafe { libc::memcpy(to.cast(), from.cast(), PAGE) };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_part_of_memory_is_copied_and_no_more(start in 0usize..40, len in 0usize..40) {
            let mut words = [0u64; 16];
            let memory = words.as_mut_ptr().cast::<u8>();
            let bytes: Vec<u8> = (1..).take(len).collect();
            // SAFETY: 128 bytes, of which 80 at most are used.
            unsafe { super::write(memory.add(start), &bytes) };
            let mut back = vec![0; len];
            // SAFETY: as above.
            unsafe { super::read(memory.add(start), &mut back) };
            prop_assert_eq!(&back, &bytes);
            let all: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            prop_assert_eq!(all.iter().filter(|byte| **byte != 0).count(), len);
            prop_assert_eq!(&all[start..start + len], &bytes[..]);
        }
    }
}
