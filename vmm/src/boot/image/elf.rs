// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ELF vmlinux: gABI (System V Application Binary Interface, "Object Files") and its x86-64 supplement.

use std::mem::{offset_of, size_of};
use std::ops::Range;

use thiserror::Error;
use zerocopy::FromBytes;

use super::symbols::{RawSymbol, SymbolTable};
use abi::{Elf64Ehdr, Elf64Nhdr, Elf64Phdr, Elf64Shdr, Elf64Sym};

mod abi;
mod linked;
mod sections;

pub use linked::Section;
pub use sections::{CodeSection, code_sections, is_module};

const ELFMAG: &[u8] = b"\x7fELF";
/// gABI `e_ident[EI_CLASS]`: offset of the class.
const EI_CLASS: usize = 4;
/// gABI `e_ident[EI_DATA]`: offset of the byte order.
const EI_DATA: usize = 5;
const ELFCLASS32: u8 = 1;
const ELFCLASS64: u8 = 2;
const ELFDATA2LSB: u8 = 1;
const ELFDATA2MSB: u8 = 2;
const ET_REL: u16 = 1;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
/// `elf.h`: `NT_GNU_BUILD_ID`.
const NT_GNU_BUILD_ID: u32 = 3;
/// gABI: notes' parts are padded to this.
const NOTE_ALIGN: usize = 4;
const SHT_SYMTAB: u32 = 2;
const SHN_UNDEF: u16 = 0;
/// gABI, `ELF64_ST_TYPE`.
const STT_MASK: u8 = 0xf;
/// More than this in one kernel is nonsense; the kernel's linker scripts make five.
const MAX_PROGRAM_HEADERS: u16 = 64;

/// Why an ELF file is of no use as a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ElfError {
    /// Not for this processor, not for this mode.
    #[error("cannot boot this ELF file: it is {what}; give a vmlinux built for x86-64")]
    WrongKind {
        /// What it is, as "an aarch64 ELF".
        what: String,
    },
    /// The file ends too early.
    #[error(
        "cannot boot this ELF file: it ends at byte {len}, but {part} needs bytes {start} to {end}; fetch \
         or build it again"
    )]
    Truncated {
        /// How long the file is.
        len: u64,
        /// What is cut off.
        part: String,
        /// Where that begins.
        start: u64,
        /// Where it would end.
        end: u64,
    },
    /// A header contradicts itself.
    #[error("cannot boot this ELF file: {what}; it is damaged or no kernel, build it again")]
    Malformed {
        /// The contradiction.
        what: String,
    },
    /// There is nothing to load.
    #[error(
        "cannot boot this ELF file: it has no PT_LOAD segment, so it is no kernel (debug information \
         only?); give the vmlinux itself"
    )]
    NothingToLoad,
    /// Execution would begin outside the image.
    #[error(
        "cannot boot this ELF file: its entry {entry:#x} is a physical address in none of its \
         segments ({segments}); give an x86-64 Linux vmlinux"
    )]
    Entry {
        /// The entry.
        entry: u64,
        /// The segments' physical ranges.
        segments: String,
    },
}

/// A `PT_LOAD` segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where its bytes are in the file.
    pub offset: u64,
    /// Virtual address.
    pub vaddr: u64,
    /// Guest physical address to load it at.
    pub paddr: u64,
    /// How many bytes come from the file.
    pub filesz: u64,
    /// How many bytes it takes in memory; zeros follow the file's.
    pub memsz: u64,
    /// Whether it holds code.
    pub executable: bool,
    /// Whether it is written to.
    pub writable: bool,
}

impl Segment {
    /// The physical addresses it takes.
    pub fn physical(&self) -> Range<u64> {
        self.paddr..self.paddr + self.memsz
    }

    /// Bytes of the file are at a physical address in it.
    fn holds(&self, physical: u64) -> bool {
        physical.checked_sub(self.paddr).is_some_and(|offset| offset < self.filesz)
    }
}

/// Facts from an ELF vmlinux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElfFacts {
    /// Physical address of the 64-bit entry (arch/x86/kernel/vmlinux.lds.S: `phys_startup_64`).
    pub entry: u64,
    /// What to load, in the file's order; none is empty, and there is at least one.
    pub segments: Vec<Segment>,
    /// The linker's hash of the contents (`ld --build-id`).
    pub build_id: Option<Vec<u8>>,
}

/// Whether this is an ELF file of any kind.
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(ELFMAG)
}

/// Checks that an ELF file is for this processor and of a kind that can be started.
pub(super) fn check_header(bytes: &[u8]) -> Result<Elf64Ehdr, ElfError> {
    let wrong = |what: &str| ElfError::WrongKind { what: what.to_owned() };
    let cut_off = |end: usize| ElfError::Truncated {
        len: bytes.len() as u64,
        part: "the ELF header".to_owned(),
        start: 0,
        end: end as u64,
    };
    let ident = |at: usize| bytes.get(at).copied().ok_or_else(|| cut_off(size_of::<Elf64Ehdr>()));
    let (class, data) = (ident(EI_CLASS)?, ident(EI_DATA)?);
    // e_type and e_machine are at the same place in all classes, so the machine can always be named.
    let half = |at: usize| {
        let pair = [ident(at)?, ident(at + 1)?];
        Ok(if data == ELFDATA2MSB { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
    };
    let (kind, machine) = (half(offset_of!(Elf64Ehdr, e_type))?, half(offset_of!(Elf64Ehdr, e_machine))?);
    if machine != EM_X86_64 {
        return Err(wrong(&machine_name(machine)));
    }
    match class {
        ELFCLASS64 => {}
        ELFCLASS32 => return Err(wrong("32-bit (x32 ABI)")),
        _ => return Err(wrong(&format!("of unknown ELF class {class}"))),
    }
    if data != ELFDATA2LSB {
        return Err(wrong(if data == ELFDATA2MSB { "big-endian" } else { "of unknown byte order" }));
    }
    match kind {
        ET_EXEC | ET_DYN => {}
        ET_REL => return Err(wrong("a relocatable object (a .o file or a module), not a linked kernel")),
        ET_CORE => return Err(wrong("a core dump")),
        _ => return Err(wrong(&format!("of unknown ELF type {kind}"))),
    }
    let (header, _) = Elf64Ehdr::read_from_prefix(bytes).map_err(|_| cut_off(size_of::<Elf64Ehdr>()))?;
    Ok(header)
}

/// Names a machine, as "an aarch64 ELF".
fn machine_name(machine: u16) -> String {
    let name = match machine {
        3 => "an i386 (32-bit) ELF",
        8 => "a MIPS ELF",
        20 => "a 32-bit PowerPC ELF",
        21 => "a PowerPC64 ELF",
        22 => "an s390 ELF",
        40 => "a 32-bit ARM ELF",
        183 => "an aarch64 ELF",
        243 => "a RISC-V ELF",
        247 => "a BPF ELF",
        258 => "a LoongArch ELF",
        other => return format!("an ELF for machine number {other}"),
    };
    name.to_owned()
}

/// The part of the file that a header points to.
fn slice(bytes: &[u8], start: u64, size: u64, part: impl FnOnce() -> String) -> Result<&[u8], ElfError> {
    let end = start.saturating_add(size);
    usize::try_from(start)
        .ok()
        .zip(usize::try_from(end).ok())
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or_else(|| ElfError::Truncated { len: bytes.len() as u64, part: part(), start, end })
}

/// A table of equally long entries.
fn table<T: FromBytes>(
    bytes: &[u8],
    name: &str,
    start: u64,
    count: u16,
    entry_size: u16,
) -> Result<Vec<T>, ElfError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if usize::from(entry_size) != size_of::<T>() {
        let what =
            format!("an entry of its {name} table has {entry_size} bytes instead of {}", size_of::<T>());
        return Err(ElfError::Malformed { what });
    }
    let all = slice(bytes, start, u64::from(count) * u64::from(entry_size), || format!("its {name} table"))?;
    Ok(all.chunks_exact(size_of::<T>()).filter_map(|entry| T::read_from_bytes(entry).ok()).collect())
}

impl ElfFacts {
    /// Reads and checks all headers; that every segment is there, too.
    pub fn parse(bytes: &[u8]) -> Result<Self, ElfError> {
        if !is_elf(bytes) {
            let what = "no ELF file at all (the unpacked payload of a bzImage that was tampered with?)";
            return Err(ElfError::WrongKind { what: what.to_owned() });
        }
        let header = check_header(bytes)?;
        let count = header.e_phnum.get();
        if count > MAX_PROGRAM_HEADERS {
            return Err(ElfError::Malformed { what: format!("it claims to have {count} program headers") });
        }
        let headers: Vec<Elf64Phdr> =
            table(bytes, "program header", header.e_phoff.get(), count, header.e_phentsize.get())?;
        // Nothing of a section is needed to boot, but a file without its end is damaged.
        sections(bytes, &header)?;

        let mut segments = Vec::new();
        let mut build_id = None;
        for (index, header) in headers.iter().enumerate() {
            let (offset, filesz) = (header.p_offset.get(), header.p_filesz.get());
            let contents = || slice(bytes, offset, filesz, || format!("program header {index}"));
            match header.p_type.get() {
                PT_INTERP => {
                    let what = "a user-space program (it needs a dynamic linker)".to_owned();
                    return Err(ElfError::WrongKind { what });
                }
                PT_NOTE if build_id.is_none() => build_id = find_build_id(contents()?),
                PT_LOAD => {
                    contents()?;
                    if let Some(segment) = segment(index, header)? {
                        segments.push(segment);
                    }
                }
                _ => {}
            }
        }
        let facts = Self { entry: header.e_entry.get(), segments, build_id };
        facts.check_entry()?;
        Ok(facts)
    }

    /// The lowest physical address that is loaded.
    pub fn lowest(&self) -> u64 {
        self.segments.iter().map(|s| s.paddr).min().unwrap_or_default()
    }

    /// The first physical address after all segments: the kernel's `_end`, rounded up by the linker.
    pub fn highest(&self) -> u64 {
        self.segments.iter().map(|s| s.physical().end).max().unwrap_or_default()
    }

    /// The segments that hold code: those the file calls executable, and the one with the entry, which since Linux 7.x is
    /// called data (`.init.text` lies there; the kernel makes its own page tables).
    pub fn executable(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|s| s.executable || s.holds(self.entry))
    }

    /// The physical address of a virtual one in the image.
    pub fn physical_of(&self, vaddr: u64) -> Option<u64> {
        self.segments.iter().find_map(|s| {
            let offset = vaddr.checked_sub(s.vaddr)?;
            (offset < s.memsz).then(|| s.paddr + offset)
        })
    }

    /// Nothing can run if the entry's first byte is not in the file.
    fn check_entry(&self) -> Result<(), ElfError> {
        if self.segments.is_empty() {
            return Err(ElfError::NothingToLoad);
        }
        if self.segments.iter().any(|s| s.holds(self.entry)) {
            return Ok(());
        }
        let ranges: Vec<_> =
            self.segments.iter().map(|s| format!("{:#x}..{:#x}", s.paddr, s.paddr + s.filesz)).collect();
        let segments = if ranges.is_empty() { "it has none".to_owned() } else { ranges.join(", ") };
        Err(ElfError::Entry { entry: self.entry, segments })
    }
}

/// A load segment, unless it is empty.
fn segment(index: usize, header: &Elf64Phdr) -> Result<Option<Segment>, ElfError> {
    let (filesz, memsz) = (header.p_filesz.get(), header.p_memsz.get());
    if filesz > memsz {
        let what =
            format!("program header {index} has {filesz} bytes in the file but only {memsz} in memory");
        return Err(ElfError::Malformed { what });
    }
    for (name, address) in [("physical", header.p_paddr.get()), ("virtual", header.p_vaddr.get())] {
        if address.checked_add(memsz).is_none() {
            let what = format!(
                "program header {index} has {memsz} bytes at {name} address {address:#x}, beyond 2^64"
            );
            return Err(ElfError::Malformed { what });
        }
    }
    let flags = header.p_flags.get();
    let segment = Segment {
        offset: header.p_offset.get(),
        vaddr: header.p_vaddr.get(),
        paddr: header.p_paddr.get(),
        filesz,
        memsz,
        executable: flags & PF_X != 0,
        writable: flags & PF_W != 0,
    };
    Ok((memsz > 0).then_some(segment))
}

/// All section headers.
fn sections(bytes: &[u8], header: &Elf64Ehdr) -> Result<Vec<Elf64Shdr>, ElfError> {
    table(bytes, "section header", header.e_shoff.get(), header.e_shnum.get(), header.e_shentsize.get())
}

/// Walks notes; a damaged one ends the walk, since nothing depends on it.
fn find_build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    loop {
        let (header, rest) = Elf64Nhdr::read_from_prefix(notes).ok()?;
        let (name_size, desc_size) = (header.n_namesz.get() as usize, header.n_descsz.get() as usize);
        let name = rest.get(..name_size)?;
        let rest = rest.get(name_size.next_multiple_of(NOTE_ALIGN)..)?;
        let desc = rest.get(..desc_size)?;
        if header.n_type.get() == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return Some(desc.to_vec());
        }
        notes = rest.get(desc_size.next_multiple_of(NOTE_ALIGN)..)?;
    }
}

/// The symbol table, if there is one.
pub fn symbols(bytes: &[u8]) -> Result<Option<SymbolTable>, ElfError> {
    let sections = sections(bytes, &check_header(bytes)?)?;
    let Some(symtab) = sections.iter().find(|s| s.sh_type.get() == SHT_SYMTAB) else {
        return Ok(None);
    };
    let missing = || ElfError::Malformed { what: "its symbol table has no string table".to_owned() };
    let strtab = sections.get(symtab.sh_link.get() as usize).ok_or_else(missing)?;
    let part = |header: &Elf64Shdr, name: &str| {
        slice(bytes, header.sh_offset.get(), header.sh_size.get(), || format!("its {name}"))
    };
    let entries = part(symtab, "symbol table")?.chunks_exact(size_of::<Elf64Sym>());
    let raw = entries
        .filter_map(|entry| Elf64Sym::read_from_bytes(entry).ok())
        .filter(|symbol| symbol.st_shndx.get() != SHN_UNDEF)
        .map(|symbol| RawSymbol {
            address: symbol.st_value.get(),
            size: symbol.st_size.get(),
            kind: symbol.st_info & STT_MASK,
            name: symbol.st_name.get(),
        });
    Ok(Some(SymbolTable::new(raw, part(strtab, "string table")?.to_vec())))
}
