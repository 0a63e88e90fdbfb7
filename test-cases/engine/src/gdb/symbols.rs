// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An ELF file with a kernel's symbols at the addresses it runs at, for gdb: stock kernels have their symbols in kallsyms only, which
//! gdb does not read.
//!
//! The addresses are those the kernel was linked for: it is entered at its own 64-bit entry, without the decompressor that would
//! move it (`arch/x86/boot/compressed/kaslr.c:choose_random_location`).

use object::elf;
use object::write::elf::{FileHeader, SectionHeader, Sym, Writer};
use vmm::boot::image::SymbolTable;

/// Addresses of the kernel; what is below are offsets, as those of per-CPU variables.
const KERNEL_HALF: u64 = 1 << 63;

/// Why there is no such file.
#[derive(Debug, thiserror::Error)]
#[error("writing symbols for gdb: {0}")]
pub struct SymbolFileError(#[from] object::write::Error);

/// The file. Its sections have addresses and no contents, so that gdb reads those from the guest.
pub fn write(symbols: &SymbolTable) -> Result<Vec<u8>, SymbolFileError> {
    let address = |name: &str| symbols.address_of(name);
    let all: Vec<(u64, &str)> = symbols.iter().collect();
    let kernel = || all.iter().map(|(address, _)| *address).filter(|address| *address >= KERNEL_HALF);
    let start = address("_text").or_else(|| kernel().min()).unwrap_or(KERNEL_HALF);
    let end = address("_end").or_else(|| kernel().max()).unwrap_or(start).max(start);
    // Code of the kernel and of its start, with data between.
    let code = [(".text", "_text", "_etext"), (".init.text", "_sinittext", "_einittext")];
    let mut parts = Vec::new();
    let mut done = start;
    for (name, from, to) in code {
        let Some((from, to)) = address(from).zip(address(to)).filter(|(from, to)| (done..*to).contains(from))
        else {
            continue;
        };
        parts.extend((from > done).then_some((".data", done..from, elf::SectionFlags(0))));
        parts.push((name, from..to, elf::SHF_EXECINSTR));
        done = to;
    }
    // A symbol at the very end is in it too.
    parts.push((".data", done..end.saturating_add(1).max(done), elf::SectionFlags(0)));
    let part_of = |at: u64| parts.iter().position(|(_, range, _)| range.contains(&at));

    let mut bytes = Vec::new();
    let mut writer = Writer::new(object::Endianness::Little, true, &mut bytes);
    writer.reserve_file_header();
    let names: Vec<_> = all.iter().map(|(_, name)| writer.add_string(name.as_bytes())).collect();
    writer.reserve_null_section_index();
    let sections: Vec<_> = parts.iter().map(|(name, ..)| writer.add_section_name(name.as_bytes())).collect();
    let indices: Vec<_> = sections.iter().map(|_| writer.reserve_section_index()).collect();
    writer.reserve_symtab_section_index();
    writer.reserve_strtab_section_index();
    writer.reserve_shstrtab_section_index();
    writer.reserve_null_symbol_index();
    for _ in &all {
        writer.reserve_symbol_index(None);
    }
    writer.reserve_symtab();
    writer.reserve_strtab()?;
    writer.reserve_shstrtab()?;
    writer.reserve_section_headers();

    writer.write_file_header(&FileHeader {
        os_abi: elf::ELFOSABI_NONE,
        abi_version: 0,
        e_type: elf::ET_EXEC,
        e_machine: elf::EM_X86_64,
        e_entry: start,
        e_flags: elf::FileFlags(0),
    })?;
    writer.write_null_symbol();
    for ((at, _), name) in all.iter().zip(&names) {
        let section = part_of(*at);
        let is_code = section.is_some_and(|index| parts[index].2 == elf::SHF_EXECINSTR);
        let kind = if is_code { elf::STT_FUNC } else { elf::STT_OBJECT };
        writer.write_symbol(&Sym {
            section: section.map(|index| indices[index].0),
            st_name: writer.string_offset(Some(*name)),
            st_info: elf::SymbolInfo::new(elf::STB_GLOBAL, kind),
            st_other: elf::SymbolOther(0),
            st_shndx: if section.is_some() { elf::SHN_UNDEF } else { elf::SHN_ABS },
            st_value: *at,
            st_size: 0,
        });
    }
    writer.write_strtab();
    writer.write_shstrtab();
    writer.write_null_section_header();
    for ((_, range, executable), name) in parts.iter().zip(sections) {
        writer.write_section_header(&SectionHeader {
            sh_name: writer.section_name_offset(Some(name)),
            sh_type: elf::SHT_NOBITS,
            sh_flags: elf::SHF_ALLOC | *executable,
            sh_addr: range.start,
            sh_offset: 0,
            sh_size: range.end - range.start,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: 1,
            sh_entsize: 0,
        });
    }
    // All symbols are global: the first of these follows the null symbol.
    writer.write_symtab_section_header(1);
    writer.write_strtab_section_header();
    writer.write_shstrtab_section_header();
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use object::{Object, ObjectSection, ObjectSymbol, SymbolKind, SymbolSection};

    use super::*;

    #[test]
    fn every_symbol_has_its_address_kind_and_section() {
        let map = "0000000000000008 A cpu_number\n\
            ffffffff81000000 T _text\nffffffff81000040 T read_mem\nffffffff81001000 T _etext\n\
            ffffffff81002000 D some_data\nffffffff81003000 T _sinittext\nffffffff81003010 t setup\n\
            ffffffff81004000 T _einittext\nffffffff81005000 B _end\n";
        let file = write(&SymbolTable::from_map(map)).unwrap();
        let file = object::File::parse(&*file).unwrap();
        let symbol = |name: &str| file.symbols().find(|symbol| symbol.name() == Ok(name)).unwrap();
        assert_eq!(file.symbols().count(), 9);
        let section = |name: &str| match symbol(name).section() {
            SymbolSection::Section(index) => file.section_by_index(index).unwrap().name().unwrap().to_owned(),
            other => format!("{other:?}"),
        };
        let found = |name: &str| (symbol(name).address(), symbol(name).kind(), section(name));
        assert_eq!(found("read_mem"), (0xffff_ffff_8100_0040, SymbolKind::Text, ".text".to_owned()));
        assert_eq!(found("setup"), (0xffff_ffff_8100_3010, SymbolKind::Text, ".init.text".to_owned()));
        assert_eq!(found("some_data"), (0xffff_ffff_8100_2000, SymbolKind::Data, ".data".to_owned()));
        assert_eq!(section("_end"), ".data");
        assert_eq!(found("cpu_number"), (8, SymbolKind::Data, "Absolute".to_owned()));
        let text = file.section_by_name(".text").unwrap();
        assert_eq!((text.address(), text.size()), (0xffff_ffff_8100_0000, 0x1000));
        let ranges = file.sections().filter(|s| s.address() != 0).map(|s| (s.address(), s.size()));
        let mut ranges: Vec<_> = ranges.collect();
        ranges.sort_unstable();
        assert_eq!(ranges.len(), 4);
        assert!(ranges.windows(2).all(|two| two[0].0 + two[0].1 == two[1].0), "no overlap: {ranges:x?}");
        assert!(text.data().unwrap().is_empty(), "gdb is to read the guest");
    }
}
