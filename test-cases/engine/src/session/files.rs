// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files a guest starts with, and which of them a page of code that user mode executes is from.

use std::collections::HashMap;
use std::sync::OnceLock;

use guest_kernel::cache::hash_bytes;
use guest_kernel::initramfs;
use vmm::layout::PAGE_SIZE;
use vmm::trace::Instruction;
use vmm::trace::code_page::{CodePage, PageBytes};

/// What every ELF file begins with.
const ELF: &[u8] = b"\x7fELF";
/// The agent's path in the archive, and the name it has in reports.
const AGENT: (&str, &str) = ("init", "agent");

/// The initramfs of a guest. It is searched for code at the first question: many a run has none.
#[derive(Debug)]
pub struct GuestFiles {
    archive: Vec<u8>,
    hash: OnceLock<String>,
    pages: OnceLock<HashMap<CodePage, Origin>>,
}

/// Where a page's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// In one place: a file's name, and the offset in it.
    One(String, u64),
    /// In several places, so that it cannot be determined which was mapped.
    Several,
}

impl GuestFiles {
    /// The files of an uncompressed cpio archive.
    pub fn new(archive: Vec<u8>) -> Self {
        Self { archive, hash: OnceLock::new(), pages: OnceLock::new() }
    }

    /// The archive, for the guest to unpack.
    pub fn archive(&self) -> &[u8] {
        &self.archive
    }

    /// The archive's hash, in hexadecimal. It is computed once: the archive has megabytes.
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| hash_bytes(&self.archive))
    }

    /// `busybox+0x1a2c0`, file and offset, for an instruction of a program: only where its whole page of code has the
    /// bytes of exactly one page of the ELF files here. `None` for any other: no name is better than a wrong one.
    pub fn name(&self, at: &Instruction) -> Option<String> {
        let pages = self.pages.get_or_init(|| pages(initramfs::files(&self.archive)));
        match pages.get(&at.user_code?)? {
            // A file is mapped in whole pages, so an address and its offset in the file agree in their low bits.
            Origin::One(file, offset) => Some(format!("{file}+{:#x}", offset + at.rip % PAGE_SIZE)),
            Origin::Several => None,
        }
    }
}

/// Every page of the ELF files. The kernel fills the last page of a file with zeros.
fn pages<'a>(files: impl Iterator<Item = (String, &'a [u8])>) -> HashMap<CodePage, Origin> {
    let mut found = HashMap::new();
    for (path, content) in files.filter(|(_, content)| content.starts_with(ELF)) {
        let name = match path.rsplit('/').next() {
            _ if path == AGENT.0 => AGENT.1,
            Some(name) => name,
            None => &path,
        };
        for (index, bytes) in content.chunks(PAGE_SIZE as usize).enumerate() {
            let mut page: PageBytes = [0; PAGE_SIZE as usize];
            page[..bytes.len()].copy_from_slice(bytes);
            found
                .entry(CodePage::of(&page))
                .and_modify(|origin| *origin = Origin::Several)
                .or_insert_with(|| Origin::One(name.to_owned(), index as u64 * PAGE_SIZE));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use guest_kernel::initramfs::Initramfs;
    use proptest::prelude::*;

    use super::*;

    const PAGE: usize = PAGE_SIZE as usize;

    /// An ELF file with a page full of each of these bytes, and one that is not whole.
    fn elf(pages: &[u8]) -> Vec<u8> {
        let mut file: Vec<u8> = pages.iter().flat_map(|byte| [*byte; PAGE]).collect();
        file[..ELF.len()].copy_from_slice(ELF);
        file.extend_from_slice(b"end");
        file
    }

    fn page(bytes: &[u8]) -> CodePage {
        let mut page = [0; PAGE];
        page[..bytes.len()].copy_from_slice(bytes);
        CodePage::of(&page)
    }

    fn at(rip: u64, user_code: Option<CodePage>) -> Instruction {
        let (cpl, task, backtrace) = (if user_code.is_some() { 3 } else { 0 }, None, None);
        Instruction {
            vcpu: types::VcpuId::BOOT,
            rip,
            cpl,
            cr3: 0,
            rsp: 0,
            exact: true,
            task,
            backtrace,
            open_log_lines: None,
            user_code,
        }
    }

    fn guest(files: &[(&str, &[u8])]) -> GuestFiles {
        let add = |archive: Initramfs, (path, content): &(&str, &[u8])| archive.program(path, content);
        GuestFiles::new(files.iter().fold(Initramfs::new(), add).build().unwrap())
    }

    #[test]
    fn code_is_named_by_file_and_offset_wherever_it_is_mapped() {
        let busybox = elf(&[1, 2, 3]);
        let files = guest(&[("bin/busybox", &busybox)]);
        let second = page(&busybox[PAGE..2 * PAGE]);
        for rip in [0x40_12c0, 0x7f12_3456_72c0] {
            assert_eq!(files.name(&at(rip, Some(second))).as_deref(), Some("busybox+0x12c0"));
        }
        let last = page(&busybox[3 * PAGE..]);
        assert_eq!(files.name(&at(0x40_1000, Some(last))).as_deref(), Some("busybox+0x3000"));
        let agent = page(&guest_kernel::agent::ELF[PAGE..2 * PAGE]);
        assert_eq!(files.name(&at(0x40_1004, Some(agent))).as_deref(), Some("agent+0x1004"));
    }

    #[test]
    fn what_is_not_known_for_certain_has_no_name() {
        let (one, mut other) = (elf(&[1, 2, 3]), elf(&[4, 2, 5]));
        let files = guest(&[("bin/one", &one), ("bin/other", &other), ("bin/text", &[7; PAGE])]);
        assert_eq!(files.name(&at(0x1000, Some(page(&one[PAGE..2 * PAGE])))), None, "of two files");
        assert!(files.name(&at(0x1000, Some(page(&other[..PAGE])))).is_some());
        other[17] ^= 1;
        assert_eq!(files.name(&at(0x1000, Some(page(&other[..PAGE])))), None, "changed code");
        assert_eq!(files.name(&at(0x1000, Some(page(&[7; PAGE])))), None, "no ELF file");
        assert_eq!(files.name(&at(0x1000, None)), None, "kernel mode");
        assert_eq!(GuestFiles::new(Vec::new()).name(&at(0x1000, Some(page(&[])))), None, "no files");
    }

    proptest! {
        /// A user's archive may be anything.
        #[test]
        fn any_archive_is_searched_to_its_end(cut in 0usize..20_000, at_byte in 0usize..20_000, byte: u8) {
            let mut archive = guest(&[("bin/one", &elf(&[1, 2]))]).archive().to_vec();
            let len = archive.len();
            archive[at_byte % len] = byte;
            archive.truncate(len - cut % len);
            let _ = GuestFiles::new(archive).name(&at(0, Some(page(&[]))));
        }
    }
}
