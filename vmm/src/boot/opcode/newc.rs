// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Walks a cpio archive of the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).

/// Magic numbers: without and with a checksum, which Linux does not check either (`init/initramfs.c:do_header`).
const MAGIC: [&[u8]; 2] = [b"070701", b"070702"];
/// The header: the magic number and 13 numbers of 8 hexadecimal digits.
const HEADER: usize = 110;
/// Which of the numbers is the file's size.
const FILE_SIZE: usize = 6;
/// Which is the size of the name, its NUL included.
const NAME_SIZE: usize = 11;
/// Names and contents are padded to this.
const ALIGN: usize = 4;
/// What the last member is called.
const TRAILER: &[u8] = b"TRAILER!!!";

/// A file in an archive.
pub(super) struct Member<'a> {
    /// Its path.
    pub name: &'a [u8],
    /// Its contents.
    pub contents: &'a [u8],
}

/// Recognises an archive by its first bytes.
pub(super) fn is_archive(bytes: &[u8]) -> bool {
    MAGIC.iter().any(|magic| bytes.starts_with(magic))
}

/// The members before the trailer, and what follows that.
pub(super) fn walk(archive: &[u8]) -> Result<(Vec<Member<'_>>, &[u8]), String> {
    let mut members = Vec::new();
    let mut at = 0;
    loop {
        let (member, next) = member(archive, at).ok_or_else(|| format!("it is damaged at byte {at}"))?;
        at = next;
        if member.name == TRAILER {
            return Ok((members, archive.get(at..).unwrap_or_default()));
        }
        members.push(member);
    }
}

/// The member whose header is at `at`, and where the next one's does.
fn member(archive: &[u8], at: usize) -> Option<(Member<'_>, usize)> {
    let header = archive.get(at..at.checked_add(HEADER)?).filter(|header| is_archive(header))?;
    let name_size = number(header, NAME_SIZE)?;
    let name_end = (at + HEADER).checked_add(name_size)?;
    let name = archive.get(at + HEADER..name_end)?;
    let start = name_end.checked_next_multiple_of(ALIGN)?;
    let end = start.checked_add(number(header, FILE_SIZE)?)?;
    // The padding of the last name may be cut off if nothing follows.
    let contents = if start == end { &[] } else { archive.get(start..end)? };
    let name = &name[..name.iter().position(|&b| b == 0).unwrap_or(name.len())];
    Some((Member { name, contents }, end.checked_next_multiple_of(ALIGN)?))
}

fn number(header: &[u8], index: usize) -> Option<usize> {
    let at = MAGIC[0].len() + index * 8;
    let digits = std::str::from_utf8(header.get(at..at + 8)?).ok()?;
    // `from_str_radix` would take a sign.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| usize::from_str_radix(digits, 16).ok())?
}
