// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ELF structures as the gABI lays them out, under its names.
#![expect(clippy::struct_field_names, reason = "the standard's names")]

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// gABI, "ELF Header".
#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(in crate::boot::image) struct Elf64Ehdr {
    pub e_ident: [u8; 16],
    pub e_type: U16,
    pub e_machine: U16,
    pub e_version: U32,
    pub e_entry: U64,
    pub e_phoff: U64,
    pub e_shoff: U64,
    pub e_flags: U32,
    pub e_ehsize: U16,
    pub e_phentsize: U16,
    pub e_phnum: U16,
    pub e_shentsize: U16,
    pub e_shnum: U16,
    pub e_shstrndx: U16,
}

/// gABI, "Program Header".
#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(in crate::boot::image) struct Elf64Phdr {
    pub p_type: U32,
    pub p_flags: U32,
    pub p_offset: U64,
    pub p_vaddr: U64,
    pub p_paddr: U64,
    pub p_filesz: U64,
    pub p_memsz: U64,
    pub p_align: U64,
}

/// gABI, "Section Header".
#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(in crate::boot::image) struct Elf64Shdr {
    pub sh_name: U32,
    pub sh_type: U32,
    pub sh_flags: U64,
    pub sh_addr: U64,
    pub sh_offset: U64,
    pub sh_size: U64,
    pub sh_link: U32,
    pub sh_info: U32,
    pub sh_addralign: U64,
    pub sh_entsize: U64,
}

/// gABI, "Symbol Table".
#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(in crate::boot::image) struct Elf64Sym {
    pub st_name: U32,
    pub st_info: u8,
    pub st_other: u8,
    pub st_shndx: U16,
    pub st_value: U64,
    pub st_size: U64,
}

/// gABI, "Note Section".
#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(in crate::boot::image) struct Elf64Nhdr {
    pub n_namesz: U32,
    pub n_descsz: U32,
    pub n_type: U32,
}

const _: () = {
    assert!(offset_of!(Elf64Ehdr, e_machine) == 18 && offset_of!(Elf64Ehdr, e_entry) == 24);
    assert!(offset_of!(Elf64Ehdr, e_phnum) == 56 && size_of::<Elf64Ehdr>() == 64);
    assert!(offset_of!(Elf64Phdr, p_offset) == 8 && offset_of!(Elf64Phdr, p_memsz) == 40);
    assert!(size_of::<Elf64Phdr>() == 56 && size_of::<Elf64Shdr>() == 64);
    assert!(offset_of!(Elf64Shdr, sh_offset) == 24 && offset_of!(Elf64Shdr, sh_link) == 40);
    assert!(offset_of!(Elf64Sym, st_value) == 8 && size_of::<Elf64Sym>() == 24);
    assert!(size_of::<Elf64Nhdr>() == 12);
};
