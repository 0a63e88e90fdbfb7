// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sections that hold code. Booting does not need them; finding instructions does.

use std::mem::size_of;
use std::ops::Range;

use zerocopy::FromBytes;

use super::abi::{Elf64Ehdr, Elf64Shdr};
use super::{
    EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, EM_X86_64, ET_REL, ElfError, is_elf, sections, slice,
};

/// gABI `sh_type`: takes no space in the file.
const SHT_NOBITS: u32 = 8;
/// gABI `sh_flags`: `SHF_EXECINSTR`.
const SHF_EXECINSTR: u64 = 4;
/// Names that are longer are cut off.
const MAX_NAME: usize = 64;

/// A section of instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeSection {
    /// Its name; empty if the file has none.
    pub name: String,
    /// Where it is in the file, which is that long.
    pub file: Range<usize>,
}

/// The sections that hold code, in the file's order, of a linked kernel or a relocatable module; none if the section
/// headers are gone.
pub fn code_sections(bytes: &[u8]) -> Result<Vec<CodeSection>, ElfError> {
    let (header, _) = Elf64Ehdr::read_from_prefix(bytes).map_err(|_| ElfError::Truncated {
        len: bytes.len() as u64,
        part: "the ELF header".to_owned(),
        start: 0,
        end: size_of::<Elf64Ehdr>() as u64,
    })?;
    let all = sections(bytes, &header)?;
    let names = all.get(usize::from(header.e_shstrndx.get())).map_or(&[][..], |s| {
        // Names are for people only: a file without them is as good.
        slice(bytes, s.sh_offset.get(), s.sh_size.get(), String::new).unwrap_or_default()
    });
    let mut found = Vec::new();
    for section in all.iter().filter(|s| is_code(s)) {
        let (start, size) = (section.sh_offset.get(), section.sh_size.get());
        let name = name(names, section.sh_name.get());
        let contents = slice(bytes, start, size, || format!("its section {name:?}"))?;
        let start = start as usize;
        found.push(CodeSection { file: start..start + contents.len(), name });
    }
    Ok(found)
}

/// Whether this is a module: an object for this processor that is not linked yet.
pub fn is_module(bytes: &[u8]) -> bool {
    is_elf(bytes)
        && Elf64Ehdr::read_from_prefix(bytes).is_ok_and(|(header, _)| {
            header.e_ident[EI_CLASS] == ELFCLASS64
                && header.e_ident[EI_DATA] == ELFDATA2LSB
                && header.e_machine.get() == EM_X86_64
                && header.e_type.get() == ET_REL
        })
}

fn is_code(section: &Elf64Shdr) -> bool {
    section.sh_flags.get() & SHF_EXECINSTR != 0
        && section.sh_type.get() != SHT_NOBITS
        && section.sh_size.get() != 0
}

fn name(names: &[u8], at: u32) -> String {
    let rest = names.get(at as usize..).unwrap_or_default();
    let end = rest.iter().take(MAX_NAME).position(|&b| b == 0).unwrap_or(rest.len().min(MAX_NAME));
    String::from_utf8_lossy(&rest[..end]).into_owned()
}
