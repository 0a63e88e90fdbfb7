// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is known of the running kernel: symbols, unwind tables, where it keeps task names.

use std::sync::{Arc, OnceLock};

use super::backtrace::{Backtrace, KernelMemory, Registers, Unwinder};
use super::task::TaskNames;
use crate::boot::image::{SymbolTable, Vmlinux};

/// Symbols, unwind tables and task names of a kernel image, read on first use, as many runs need none.
#[derive(Debug)]
pub struct KernelNames {
    image: Arc<Vmlinux<'static>>,
    data: OnceLock<KernelData>,
}

#[derive(Debug)]
struct KernelData {
    symbols: Option<SymbolTable>,
    unwinder: Unwinder,
    tasks: Option<TaskNames>,
}

impl KernelNames {
    /// Names of the kernel in `image`.
    pub fn new(image: Arc<Vmlinux<'static>>) -> Self {
        Self { image, data: OnceLock::new() }
    }

    fn data(&self) -> &KernelData {
        self.data.get_or_init(|| {
            let symbols = self.image.symbol_table();
            let tasks = symbols.as_ref().and_then(|symbols| TaskNames::of(&self.image, symbols));
            KernelData { unwinder: Unwinder::new(&self.image), tasks, symbols }
        })
    }

    /// Symbols: of the ELF file, or recovered from the image's own kallsyms; `None` if it has neither.
    pub fn symbols(&self) -> Option<&SymbolTable> {
        self.data().symbols.as_ref()
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
        if !self.data().unwinder.is_code(address) {
            return None;
        }
        self.symbols()?.resolve(address).map(|symbol| symbol.to_string())
    }

    /// The guest physical address of a variable or function of the image, where its loader put it.
    pub fn physical_of(&self, symbol: &str) -> Option<u64> {
        self.image.facts.physical_of(self.symbols()?.address_of(symbol)?)
    }

    /// The guest physical address of a virtual one in the image, where its loader put it.
    pub fn physical_of_address(&self, address: u64) -> Option<u64> {
        self.image.facts.physical_of(address)
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
