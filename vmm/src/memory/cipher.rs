// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the memory controller's encryption engine does to one page: AES-XTS, tweaked by GPA.

use std::fmt;

use aes::Aes128;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, consts::U16};

use crate::layout::PAGE_SIZE;

/// Bytes of a page.
pub const PAGE: usize = PAGE_SIZE as usize;

/// One guest's memory key.
///
/// AMD APM volume 2 §15.34 "Secure Encrypted Virtualization" names AES and a physical-address tweak without
/// giving the mode; XTS per 4 KiB page keeps what matters here: each 16-byte block depends on the key and on
/// its own GPA, so equal plaintext at two addresses looks different and one wrong write garbles 16 bytes.
pub struct PageCipher {
    data: Aes128,
    tweak: Aes128,
}

/// Bytes of a block of AES.
const BLOCK: usize = 16;
/// x^128 in the field that the tweaks are in (IEEE 1619 §5.2).
const POLYNOMIAL: u128 = 0x87;

type Block = Array<u8, U16>;

impl PageCipher {
    /// A key derived from `seed`; the same seed gives the same ciphertext.
    pub fn new(seed: u64) -> Self {
        let half = |salt: u8| {
            let mut key = [salt; 16];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            Aes128::new(&Array::<u8, U16>::from(key))
        };
        Self { data: half(0x5a), tweak: half(0xa5) }
    }

    /// What memory holds when `page` is written through the private view of `gpa`.
    pub fn encrypt(&self, gpa: u64, page: &mut [u8; PAGE]) {
        self.tweaked(gpa, page, |blocks| self.data.encrypt_blocks(blocks));
    }

    /// What the private view of `gpa` shows when memory holds `page`.
    pub fn decrypt(&self, gpa: u64, page: &mut [u8; PAGE]) {
        self.tweaked(gpa, page, |blocks| self.data.decrypt_blocks(blocks));
    }

    /// XTS of one sector: each block is combined with its tweak before and after the cipher, here all blocks at once, as a boot
    /// moves a thousand pages.
    fn tweaked(&self, gpa: u64, page: &mut [u8; PAGE], cipher: impl Fn(&mut [Block])) {
        let mut first = Block::from(u128::from(gpa / PAGE_SIZE).to_le_bytes());
        self.tweak.encrypt_block(&mut first);
        let mut tweak = u128::from_le_bytes(first.into());
        let tweaks: [u128; PAGE / BLOCK] = std::array::from_fn(|_| {
            let now = tweak;
            tweak = (tweak << 1) ^ (POLYNOMIAL * (tweak >> 127));
            now
        });
        let (blocks, _) = Block::slice_as_chunks_mut(page.as_mut_slice());
        combine(blocks, &tweaks);
        cipher(blocks);
        combine(blocks, &tweaks);
    }
}

fn combine(blocks: &mut [Block], tweaks: &[u128]) {
    for (block, tweak) in blocks.iter_mut().zip(tweaks) {
        let mixed = u128::from_le_bytes((*block).into()) ^ tweak;
        *block = Block::from(mixed.to_le_bytes());
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
        fn it_is_xts_as_another_implementation_has_it(seed: u64, gpa in 0u64..1 << 52, bytes: [u8; 32]) {
            let key = |salt: u8| {
                let mut key = [salt; 16];
                key[..8].copy_from_slice(&seed.to_le_bytes());
                Aes128::new(&Array::<u8, U16>::from(key))
            };
            let other = xts_mode::Xts128::new(key(0x5a), key(0xa5));
            let plain: [u8; PAGE] = std::array::from_fn(|at| bytes[at % 32] ^ (at / 32) as u8);
            let (mut ours, mut theirs) = (plain, plain);
            PageCipher::new(seed).encrypt(gpa, &mut ours);
            other.encrypt_sector(&mut theirs, xts_mode::get_tweak_default(u128::from(gpa / PAGE_SIZE)));
            proptest::prop_assert!(ours == theirs);
        }

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
