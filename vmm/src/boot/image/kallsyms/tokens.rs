// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The 256 texts that the bytes of a compressed name represent: `kallsyms_token_table` and `kallsyms_token_index`.

use super::bytes_at;

/// scripts/kallsyms.c: `insert_real_symbols_in_table`: a character that occurs in a name represents itself, and all
/// digits occur in every kernel's names.
const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";
/// How far apart one may look without missing `DIGITS`: they cover two neighbouring bytes looked at.
const STRIDE: usize = DIGITS.len() - 4;
/// What may look like digits and be something else; more is no kernel.
const MAX_CANDIDATES: usize = 64;
/// include/linux/kallsyms.h: `KSYM_NAME_LEN`. A token is part of a name.
const MAX_TOKEN: usize = 512;
/// One per byte.
const COUNT: usize = 256;

/// The texts.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    /// NUL-terminated texts, one after the other.
    table: &'a [u8],
    /// Where each begins.
    index: [u16; COUNT],
    /// Where the table begins in the data searched.
    pub start: usize,
    /// Where the index ends.
    pub end: usize,
}

impl<'a> Tokens<'a> {
    /// All that look like them.
    pub fn find(data: &'a [u8], align: usize) -> impl Iterator<Item = Self> {
        digits(data).take(MAX_CANDIDATES).filter_map(move |digits| Self::around(data, digits, align))
    }

    /// The text that a byte represents.
    pub fn get(&self, code: u8) -> &'a [u8] {
        let rest = self.table.get(usize::from(self.index[usize::from(code)])..).unwrap_or_default();
        &rest[..rest.iter().position(|&b| b == 0).unwrap_or_default()]
    }

    /// Follows the table from the digits to its end; the index behind it must agree with all of the table.
    fn around(data: &'a [u8], digits: usize, align: usize) -> Option<Self> {
        let mut table_end = digits;
        for _ in usize::from(b'0')..COUNT {
            table_end = after_text(data, table_end)?;
        }
        let index_at = table_end.next_multiple_of(align);
        let mut index = [0; COUNT];
        for (number, entry) in index.iter_mut().enumerate() {
            *entry = u16::from_le_bytes(bytes_at(data, index_at + number * size_of::<u16>())?);
        }
        let start = digits.checked_sub(usize::from(index[usize::from(b'0')]))?;
        let mut at = start;
        for &entry in &index {
            if at != start + usize::from(entry) {
                return None;
            }
            at = after_text(data, at)?;
        }
        let whole = at == table_end && start.is_multiple_of(align);
        let table = data.get(start..table_end)?;
        whole.then_some(Self { table, index, start, end: index_at + size_of_val(&index) })
    }
}

/// Where the text after this one begins.
fn after_text(data: &[u8], at: usize) -> Option<usize> {
    let rest = data.get(at..)?;
    let length = rest[..rest.len().min(MAX_TOKEN)].iter().position(|&b| b == 0)?;
    Some(at + length + 1)
}

/// Where digits are as in the table; some are named twice.
fn digits(data: &[u8]) -> impl Iterator<Item = usize> {
    (0..data.len()).step_by(STRIDE).filter_map(|at| {
        let start = match bytes_at(data, at)? {
            [digit @ b'0'..=b'9', 0] => at.checked_sub(2 * usize::from(digit - b'0'))?,
            [0, digit @ b'0'..=b'9'] => (at + 1).checked_sub(2 * usize::from(digit - b'0'))?,
            _ => return None,
        };
        data.get(start..)?.starts_with(DIGITS).then_some(start)
    })
}
