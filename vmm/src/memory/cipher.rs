// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the memory controller's encryption engine does to one page: AES-XTS, tweaked by GPA.

use std::fmt;

use aes::Aes128;
use aes::cipher::{Array, KeyInit, consts::U16};
use xts_mode::{Xts128, get_tweak_default};

use crate::layout::PAGE_SIZE;

/// Bytes of a page.
pub const PAGE: usize = PAGE_SIZE as usize;

/// One guest's memory key.
///
/// AMD APM volume 2 §15.34 "Secure Encrypted Virtualization" names AES and a physical-address tweak without
/// giving the mode; XTS per 4 KiB page keeps what matters here: each 16-byte block depends on the key and on
/// its own GPA, so equal plaintext at two addresses looks different and one wrong write garbles 16 bytes.
pub struct PageCipher {
    xts: Xts128<Aes128>,
}

impl PageCipher {
    /// A key derived from `seed`; the same seed gives the same ciphertext.
    pub fn new(seed: u64) -> Self {
        let half = |salt: u8| {
            let mut key = [salt; 16];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            Aes128::new(&Array::<u8, U16>::from(key))
        };
        Self { xts: Xts128::new(half(0x5a), half(0xa5)) }
    }

    /// What memory holds when `page` is written through the private view of `gpa`.
    pub fn encrypt(&self, gpa: u64, page: &mut [u8; PAGE]) {
        self.xts.encrypt_sector(page, get_tweak_default(u128::from(gpa / PAGE_SIZE)));
    }

    /// What the private view of `gpa` shows when memory holds `page`.
    pub fn decrypt(&self, gpa: u64, page: &mut [u8; PAGE]) {
        self.xts.decrypt_sector(page, get_tweak_default(u128::from(gpa / PAGE_SIZE)));
    }
}

impl fmt::Debug for PageCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageCipher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_plaintext_differs_by_address_and_key() {
        let plain = [7u8; PAGE];
        let at = |seed, gpa| {
            let mut page = plain;
            PageCipher::new(seed).encrypt(gpa, &mut page);
            page
        };
        assert_ne!(at(1, 0x1000), at(1, 0x2000));
        assert_ne!(at(1, 0x1000), at(2, 0x1000));
        assert_eq!(at(1, 0x1000), at(1, 0x1000));
    }

    #[test]
    fn a_write_through_the_wrong_view_garbles_one_block_only() {
        let cipher = PageCipher::new(3);
        let mut page = [0x11u8; PAGE];
        cipher.encrypt(0x5000, &mut page);
        page[100] ^= 1;
        cipher.decrypt(0x5000, &mut page);
        let garbled: Vec<usize> =
            (0..PAGE / 16).filter(|b| page[b * 16..b * 16 + 16] != [0x11; 16]).collect();
        assert_eq!(garbled, [100 / 16]);
    }

    proptest::proptest! {
        #[test]
        fn decrypt_undoes_encrypt(seed: u64, gpa in 0u64..1 << 36, fill: u8) {
            let cipher = PageCipher::new(seed);
            let mut page = [fill; PAGE];
            cipher.encrypt(gpa & !0xfff, &mut page);
            proptest::prop_assert_ne!(page, [fill; PAGE]);
            cipher.decrypt(gpa & !0xfff, &mut page);
            proptest::prop_assert_eq!(page, [fill; PAGE]);
        }
    }
}
