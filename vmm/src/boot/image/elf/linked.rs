// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is linked where: sections by name, code, data. A stripped kernel keeps its section headers.

use std::ops::Range;

use zerocopy::FromBytes;

use super::abi::{Elf64Ehdr, Elf64Phdr, Elf64Shdr};
use crate::boot::image::Vmlinux;

/// gABI `SHT_NOBITS`: takes no room in the file.
const SHT_NOBITS: u32 = 8;
/// gABI `SHF_ALLOC`: is in memory when the kernel runs.
const SHF_ALLOC: u64 = 1 << 1;
/// gABI `SHF_EXECINSTR`: holds code.
const SHF_EXECINSTR: u64 = 1 << 2;

/// A section's contents and where they are linked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// Its virtual address.
    pub address: u64,
    /// What the file has of it.
    pub bytes: &'a [u8],
}

impl Vmlinux<'_> {
    /// The first section of that name, if it has contents.
    pub fn section(&self, name: &str) -> Option<Section<'_>> {
        let (header, sections) = self.sections()?;
        let contents = |section: &Elf64Shdr| {
            let start = usize::try_from(section.sh_offset.get()).ok()?;
            self.elf.get(start..start.checked_add(usize::try_from(section.sh_size.get()).ok()?)?)
        };
        let names = contents(sections.get(usize::from(header.e_shstrndx.get()))?)?;
        let is_named = |section: &&Elf64Shdr| {
            let rest = names.get(section.sh_name.get() as usize..).unwrap_or_default();
            rest.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
        };
        let found = sections.iter().find(is_named)?;
        let bytes = if found.sh_type.get() == SHT_NOBITS { None } else { contents(found) };
        Some(Section { address: found.sh_addr.get(), bytes: bytes? })
    }

    /// Where code may be, as virtual addresses. Segments are less exact than sections: the kernel's first is executable
    /// as a whole and holds `.rodata`, too (arch/x86/kernel/vmlinux.lds.S: `PHDRS`).
    pub fn code(&self) -> Vec<Range<u64>> {
        let code = |section: &Elf64Shdr| {
            let flags = section.sh_flags.get();
            let start = section.sh_addr.get();
            let end = start.checked_add(section.sh_size.get())?;
            (flags & SHF_ALLOC != 0 && flags & SHF_EXECINSTR != 0).then_some(start..end)
        };
        let sections = self.sections().map(|(_, sections)| sections).unwrap_or_default();
        let found: Vec<_> = sections.iter().filter_map(code).collect();
        if found.is_empty() {
            self.facts.executable().map(|s| s.vaddr..s.vaddr.saturating_add(s.memsz)).collect()
        } else {
            found
        }
    }

    /// What the image has in memory from a virtual address on, to the end of its segment.
    pub fn data_from(&self, address: u64) -> Option<&[u8]> {
        self.facts.segments.iter().find_map(|segment| {
            let offset = usize::try_from(address.checked_sub(segment.vaddr)?).ok()?;
            self.segment_bytes(segment).get(offset..).filter(|bytes| !bytes.is_empty())
        })
    }

    /// The parts of the file that booting and naming need: headers, what program headers name, sections' names. The rest
    /// is debug information and the file's own symbol table.
    pub fn needed(&self) -> Vec<Range<usize>> {
        let part = |start: u64, size: u64| {
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            start..start.saturating_add(usize::try_from(size).unwrap_or(usize::MAX))
        };
        let Some((header, sections)) = self.sections() else { return vec![part(0, u64::MAX)] };
        let count = |number: u16, size: u16| u64::from(number) * u64::from(size);
        let table = (header.e_phoff.get(), header.e_phnum.get(), header.e_phentsize.get());
        let programs: Vec<Elf64Phdr> =
            super::table(&self.elf, "program header", table.0, table.1, table.2).unwrap_or_default();
        let mut needed = vec![
            part(0, size_of::<Elf64Ehdr>() as u64),
            part(table.0, count(table.1, table.2)),
            part(header.e_shoff.get(), count(header.e_shnum.get(), header.e_shentsize.get())),
        ];
        needed.extend(programs.iter().map(|header| part(header.p_offset.get(), header.p_filesz.get())));
        let names = sections.get(usize::from(header.e_shstrndx.get()));
        needed.extend(names.map(|names| part(names.sh_offset.get(), names.sh_size.get())));
        needed
    }

    /// The header and all section headers; `None` if a caller exchanged the file for a broken one.
    fn sections(&self) -> Option<(Elf64Ehdr, Vec<Elf64Shdr>)> {
        let (header, _) = Elf64Ehdr::read_from_prefix(&self.elf).ok()?;
        let sections = super::sections(&self.elf, &header).ok()?;
        Some((header, sections))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::image::{extract_vmlinux, synth};

    #[test]
    fn elf_sections() {
        let text = [0x90; 32];
        let code = synth::VIRTUAL + synth::TEXT;
        let file = synth::elf_with_sections(&[
            (".text", code, 6, &text),
            (".orc", code + 0x1000, 2, b"tables"),
            (".or", 0, 0, b"no code"),
            (".debug_code", 0, 4, b"not loaded"),
        ]);
        let kernel = extract_vmlinux(&file).unwrap();
        assert_eq!(kernel.section(".orc"), Some(Section { address: code + 0x1000, bytes: b"tables" }));
        assert_eq!(kernel.section(".or").unwrap().bytes, b"no code");
        assert_eq!(kernel.section(".o"), None);
        assert_eq!(kernel.code(), [Range { start: code, end: code + 32 }]);
        assert_eq!(kernel.data_from(code).unwrap().len(), 0x2000);
        assert_eq!(kernel.data_from(code + 0x1fff).unwrap().len(), 1);
        assert_eq!(kernel.data_from(code + 0x2000), None);
        assert!(kernel.symbols().unwrap().is_some());

        // Without sections, segments must do.
        let mut file = synth::elf();
        synth::put(&mut file, 60, &[0, 0]);
        let kernel = extract_vmlinux(&file).unwrap();
        assert_eq!(kernel.section(".text"), None);
        assert_eq!(kernel.code(), [Range { start: code, end: code + 0x2000 }]);
    }
}
