// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way from one kernel to the next, with two stops.
//!
//! The first is where the kernel gives the machine away: it calls `machine_kexec()`, after it has shut down what it uses
//! (`kernel/kexec_core.c:kernel_kexec`, `kernel/crash_core.c:__crash_kexec`). The second is the end of purgatory, which jumps to the
//! next kernel's decompressor: there copra unpacks the kernel itself, as it does with the first, so that the instructions of its
//! platform are rewritten.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use types::PageState;
use vmm::boot::next_kernel::ENTRY_64;
use vmm::layout::{HIGH_MEMORY, PAGE_SIZE};
use vmm::machine::Machine;
use vmm::machine::debug::{BreakpointError, DebugStop};
use vmm::machine::kimage::{LoadedKernel, PurgatoryEnd};
use vmm::trace::event_log::EventCursor;

use crate::guest::LazyImage;
use crate::session::{DebugNext, DebugPoint, Debugger};

/// The function that is called at the first stop.
pub const FUNCTION: &str = "machine_kexec";
/// The code that it copies to a page of its own, which puts the next kernel into its place
/// (`arch/x86/kernel/relocate_kernel_64.S`).
pub const RELOCATOR: &str = "relocate_kernel";
/// Bytes by which a copy is recognized.
const RECOGNIZED: usize = 32;
/// The first symbol of purgatory, which checks the next kernel in its place (`arch/x86/purgatory/purgatory.c`).
pub const PURGATORY: &str = "purgatory_start";
/// Purgatory has no more bytes of code.
const PURGATORY_LEN: u64 = 0x1_0000;

/// What was found on the way.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// Pages that the next kernel takes for private and that are not, if it knows the table of unaccepted memory, and if it does not;
    /// `None` if the first stop was not reached.
    pub pages: Option<[Vec<(u64, PageState)>; 2]>,
    /// Whether it knows the table; `None` if the second stop was not reached.
    pub knows_table: Option<bool>,
    /// The forbidden accesses up to there.
    pub entered: Option<EventCursor>,
    /// Why it was not reached.
    pub no_entry: Option<String>,
    /// Names of code that is in no kernel's image: of purgatory, and of the copy of the relocator.
    pub names: BTreeMap<u64, String>,
    end: Option<PurgatoryEnd>,
    /// Where purgatory is entered.
    purgatory: u64,
    /// The first bytes of the relocator.
    relocator: [u8; RECOGNIZED],
}

impl Found {
    /// Names the instruction that the guest is at, if it is of such code. Physical memory is mapped to itself there.
    fn name_code(&mut self, machine: &Machine, rip: u64) {
        if self.pages.is_none() || rip > u64::MAX / 2 || self.names.contains_key(&rip) {
            return;
        }
        let page = rip & !(PAGE_SIZE - 1);
        let mut code = [0; RECOGNIZED];
        let name = if (self.purgatory..self.purgatory + PURGATORY_LEN).contains(&rip) {
            format!("{PURGATORY}+{:#x}", rip - self.purgatory)
        } else if machine.read_virtual(page, &mut code) == code.len() && code == self.relocator {
            format!("{RELOCATOR}+{:#x}", rip - page)
        } else {
            return;
        };
        self.names.insert(rip, name);
    }
}

/// The stops of one guest.
#[derive(Debug)]
pub(super) struct Jump {
    function: u64,
    relocator: Option<u64>,
    image: Arc<LazyImage>,
    found: Mutex<Found>,
}

impl Jump {
    /// `function`, `relocator`: where the kernel has the first stop, and the code that it copies. `image`: the next kernel.
    pub(super) fn new(function: u64, relocator: Option<u64>, image: Arc<LazyImage>) -> Self {
        Self { function, relocator, image, found: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found.
    pub(super) fn found(&self) -> Found {
        self.lock().clone()
    }

    /// Names the code that the guest is at: where an access has ended it, there was no stop.
    pub(super) fn name_code(&self, machine: &Machine) {
        if let Ok(registers) = machine.debug_registers() {
            self.lock().name_code(machine, registers.general.rip);
        }
    }

    fn stop(&self, machine: &mut Machine) -> Result<DebugNext, String> {
        let mut found = self.lock();
        let text = |error: BreakpointError| error.to_string();
        let registers = machine.debug_registers().map_err(|error| error.to_string())?.general;
        if registers.rip == self.function {
            // Its own instruction runs next.
            machine.remove_breakpoint(self.function).map_err(text)?;
            found.pages = Some([true, false].map(|knows_table| machine.taken_for_private(knows_table)));
            // Its first argument is the kernel that was loaded.
            let loaded =
                LoadedKernel::read(machine, registers.rdi).ok_or("the loaded kernel cannot be read")?;
            found.purgatory = loaded.start;
            if let Some(relocator) = self.relocator {
                machine.read_virtual(relocator, &mut found.relocator);
            }
            let is_entry = |entry: u64| entry % PAGE_SIZE == ENTRY_64 && entry > HIGH_MEMORY;
            let end = loaded.purgatory_end(machine, is_entry).ok_or("the end of purgatory was not found")?;
            machine.add_breakpoint_before_copy(end.rip, end.bytes()).map_err(text)?;
            found.end = Some(end);
        } else if let Some(end) = found.end.filter(|end| end.rip == registers.rip) {
            machine.remove_breakpoint(end.rip).map_err(text)?;
            found.knows_table = machine.next_kernel_has_efi();
            let image = self.image.get().map_err(|error| error.to_string())?;
            found.entered = Some(machine.events().cursor());
            let entered = machine.enter_next_kernel(end, &image.kernel, image.sites.as_ref());
            entered.map_err(|error| error.to_string())?;
            return Ok(DebugNext::RunNextKernel);
        }
        Ok(DebugNext::Run)
    }
}

impl Debugger for Jump {
    fn at(&self, machine: &mut Machine, point: DebugPoint) -> DebugNext {
        match point {
            DebugPoint::Stop(DebugStop::Breakpoint) => self.stop(machine).unwrap_or_else(|why| {
                self.lock().no_entry.get_or_insert(why);
                DebugNext::Run
            }),
            DebugPoint::Stop(DebugStop::Access) => {
                self.name_code(machine);
                DebugNext::Run
            }
            _ => DebugNext::Run,
        }
    }
}
