// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is known of the running kernel: symbols, unwind tables, where it keeps task names.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::backtrace::{Backtrace, KernelMemory, Registers, Unwinder};
use super::task::TaskNames;
use crate::boot::image::{SymbolTable, Vmlinux};
use crate::stored::{Reader, StoredError, Writer};

/// Symbols, unwind tables and task names of a kernel image, read on first use, as many runs need none.
#[derive(Debug)]
pub struct KernelNames {
    source: Source,
    data: OnceLock<NameData>,
}

/// Where names come from on first use.
enum Source {
    /// From the image: that takes seconds on an emulated processor.
    Image(Arc<Vmlinux<'static>>),
    /// From a place that the caller knows, where they were stored.
    Load(Box<dyn Fn() -> NameData + Send + Sync>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image(_) => "Image",
            Self::Load(_) => "Load",
        })
    }
}

/// The names of one kernel, found in its image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameData {
    symbols: Option<SymbolTable>,
    unwinder: Unwinder,
    tasks: Option<TaskNames>,
    /// Where the image is loaded.
    parts: Vec<Part>,
}

/// A part of the image as it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    /// Its first virtual address.
    address: u64,
    /// Its first guest physical address.
    gpa: u64,
    /// Bytes.
    len: u64,
}

impl NameData {
    /// Finds all names in an image.
    pub fn find(image: &Vmlinux<'_>) -> Self {
        let symbols = image.symbol_table();
        let tasks = symbols.as_ref().and_then(|symbols| TaskNames::of(image, symbols));
        let parts = image.facts.segments.iter();
        let parts =
            parts.map(|segment| Part { address: segment.vaddr, gpa: segment.paddr, len: segment.memsz });
        Self { unwinder: Unwinder::new(image), tasks, symbols, parts: parts.collect() }
    }

    /// As bytes to keep.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        to.option(self.symbols.as_ref(), |to, symbols| symbols.encode(to));
        self.unwinder.encode(&mut to);
        to.option(self.tasks, |to, tasks| tasks.encode(to));
        let words: Vec<u64> = self.parts.iter().flat_map(|part| [part.address, part.gpa, part.len]).collect();
        to.u64s(words.into_iter());
        to.into_bytes()
    }

    /// Takes kept bytes back.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredError> {
        let mut from = Reader::new(bytes);
        let symbols = from.option("symbols", SymbolTable::decode)?;
        let unwinder = Unwinder::decode(&mut from)?;
        let tasks = from.option("place of task names", TaskNames::decode)?;
        let words: Vec<u64> = from.u64s("parts of the kernel")?.collect();
        let (parts, []) = words.as_chunks() else {
            return Err(StoredError::Malformed("parts of the kernel"));
        };
        let parts = parts.iter().map(|&[address, gpa, len]| Part { address, gpa, len }).collect();
        from.end()?;
        Ok(Self { symbols, unwinder, tasks, parts })
    }

    /// Symbols: of the ELF file, or recovered from the image's own kallsyms; `None` if it has neither.
    pub fn symbols(&self) -> Option<&SymbolTable> {
        self.symbols.as_ref()
    }

    /// `function+0x12` for an address in the kernel's code; `None` for any other: no name is better than a wrong one.
    pub fn name(&self, address: u64) -> Option<String> {
        if !self.unwinder.is_code(address) {
            return None;
        }
        self.symbols()?.resolve(address).map(|symbol| symbol.to_string())
    }
}

impl KernelNames {
    /// Names of the kernel in `image`, found on first use.
    pub fn new(image: Arc<Vmlinux<'static>>) -> Self {
        Self { source: Source::Image(image), data: OnceLock::new() }
    }

    /// Names that were found before: `load` gets them on first use.
    pub fn stored(load: impl Fn() -> NameData + Send + Sync + 'static) -> Self {
        Self { source: Source::Load(Box::new(load)), data: OnceLock::new() }
    }

    /// The same of a kernel that is `by` bytes higher in physical memory, at the same virtual addresses.
    #[must_use]
    pub fn moved(&self, by: u64) -> Self {
        let mut data = self.data().clone();
        for part in &mut data.parts {
            part.gpa = part.gpa.wrapping_add(by);
        }
        let known = data.clone();
        Self { source: Source::Load(Box::new(move || known.clone())), data: OnceLock::from(data) }
    }

    fn data(&self) -> &NameData {
        self.data.get_or_init(|| match &self.source {
            Source::Image(image) => NameData::find(image),
            Source::Load(load) => load(),
        })
    }

    /// Symbols: of the ELF file, or recovered from the image's own kallsyms; `None` if it has neither.
    pub fn symbols(&self) -> Option<&SymbolTable> {
        self.data().symbols()
    }

    /// Why names are missing, where they are.
    pub fn unavailable(&self) -> Option<&'static str> {
        let known = self.data();
        match (&known.symbols, &known.tasks) {
            (None, _) => Some(
                "the image has no symbols that copra can read (CONFIG_KALLSYMS), so functions and tasks have no names",
            ),
            (Some(_), None) => Some(
                "the image's symbols lack the current task's (CONFIG_KALLSYMS_ALL), so tasks have no names",
            ),
            _ => None,
        }
    }

    /// `function+0x12` for an address in the kernel's code; `None` for any other: no name is better than a wrong one.
    pub fn name(&self, address: u64) -> Option<String> {
        self.data().name(address)
    }

    /// The guest physical address of a variable or function of the image, where its loader put it.
    pub fn physical_of(&self, symbol: &str) -> Option<u64> {
        self.physical_of_address(self.symbols()?.address_of(symbol)?)
    }

    /// The guest physical address of a virtual one in the image, where its loader put it.
    pub fn physical_of_address(&self, address: u64) -> Option<u64> {
        self.data().parts.iter().find_map(|part| {
            let offset = address.checked_sub(part.address)?;
            (offset < part.len).then(|| part.gpa + offset)
        })
    }

    /// The kernel functions on the stack.
    pub fn backtrace(&self, memory: &dyn KernelMemory, registers: Registers) -> Backtrace {
        self.data().unwinder.backtrace(memory, registers)
    }

    /// The frames with names, one line each.
    pub fn frames(&self, trace: &Backtrace) -> Vec<String> {
        let Some(symbols) = self.symbols() else {
            return trace.addresses().map(|address| format!("{address:#x}")).collect();
        };
        trace.frames.iter().map(|frame| frame.with(symbols).to_string().trim_end().to_owned()).collect()
    }

    /// Name of the task that runs, given the kernel's GS base.
    pub fn task(&self, memory: &dyn KernelMemory, gs_base: u64) -> Option<String> {
        self.data().tasks?.current(memory, gs_base)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::boot::image::{extract_vmlinux, synth};

    fn found() -> NameData {
        let table = [0_u8; 8];
        let entries = [0_u8; 12];
        let code = synth::VIRTUAL + synth::TEXT;
        let file = synth::elf_with_sections(&[
            (".text", code, 6, &[0x90; 0x100]),
            (".orc_unwind_ip", code + 0x1000, 2, &table),
            (".orc_unwind", code + 0x1100, 2, &entries),
        ]);
        NameData::find(&extract_vmlinux(&file).unwrap())
    }

    #[test]
    fn stored_names_are_those_that_were_found() {
        let found = found();
        assert!(found.symbols().is_some_and(|symbols| symbols.len() == 3));
        assert!(found.unwinder.has_orc());
        let back = NameData::decode(&found.encode()).unwrap();
        assert_eq!(back, found);
        let code = synth::VIRTUAL + synth::TEXT + synth::ENTRY;
        assert_eq!(back.name(code + 1).as_deref(), Some("startup_64+0x1"));
        assert_eq!(back.symbols().unwrap().address_of("startup_64"), Some(code));
    }

    #[test]
    fn names_are_loaded_on_first_use_and_once() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let loads = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&loads);
        let names = KernelNames::stored(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            found()
        });
        assert_eq!(loads.load(Ordering::Relaxed), 0);
        assert!(names.physical_of_address(synth::VIRTUAL + synth::TEXT).is_some());
        assert_eq!(names.physical_of("startup_64"), Some(synth::TEXT + synth::ENTRY));
        assert!(names.symbols().is_some());
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    proptest! {
        #[test]
        fn any_table_comes_back(entries in prop::collection::vec((any::<u64>(), 0u8..4, "[a-z]{1,8}"), 0..50)) {
            let kinds = ["t", "T", "d", "B"];
            let line = |(address, kind, name): &(u64, u8, String)| format!("{address:x} {} {name}\n", kinds[usize::from(*kind)]);
            let map: String = entries.iter().map(line).collect();
            let data = NameData { symbols: Some(SymbolTable::from_map(&map)), unwinder: found().unwinder, tasks: None, parts: found().parts };
            prop_assert_eq!(NameData::decode(&data.encode()), Ok(data));
        }

        #[test]
        fn damage_does_no_harm(at: prop::sample::Index, value: u8, keep: prop::sample::Index, address: u64) {
            let mut bytes = found().encode();
            let length = bytes.len();
            let at = at.index(length);
            bytes[at] = value;
            if let Ok(data) = NameData::decode(&bytes) {
                let _ = (data.name(address), data.symbols().map(|symbols| symbols.address_of("_end")));
            }
            bytes.truncate(keep.index(length));
            prop_assert!(NameData::decode(&bytes).is_err());
        }
    }
}
