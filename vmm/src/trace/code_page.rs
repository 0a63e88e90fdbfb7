// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page of code that user mode executes, known by its bytes. Where a program was mapped from is in the guest's
//! `struct vm_area_struct`, whose layout differs from kernel to kernel; that a page of code has the bytes of a page of a
//! file is certain on every kernel.

use sha2::{Digest, Sha256};

use crate::layout::PAGE_SIZE;

/// The bytes of one page.
pub type PageBytes = [u8; PAGE_SIZE as usize];

/// The SHA-256 of a page of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodePage([u8; 32]);

impl CodePage {
    /// Of these bytes.
    pub fn of(bytes: &PageBytes) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// The page seen last: a program that reads memory in a loop makes many events from one page.
#[derive(Debug, Default)]
pub struct LastCodePage(Option<(Box<PageBytes>, CodePage)>);

impl LastCodePage {
    /// The digest of `bytes`, computed only where they differ from those of the call before.
    pub fn digest(&mut self, bytes: &PageBytes) -> CodePage {
        match &self.0 {
            Some((last, page)) if **last == *bytes => *page,
            _ => {
                let page = CodePage::of(bytes);
                self.0 = Some((Box::new(*bytes), page));
                page
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_the_bytes_given_now() {
        let (one, mut other) = ([0x90; 4096], [0x90; 4096]);
        other[4095] = 0xc3;
        let mut last = LastCodePage::default();
        for bytes in [&one, &one, &other, &one, &other, &other] {
            assert_eq!(last.digest(bytes), CodePage::of(bytes));
        }
        assert_ne!(CodePage::of(&one), CodePage::of(&other));
    }
}
