// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a debugger does to a stopped guest: breakpoints, single steps, registers, memory.
//!
//! Memory is read and written through the guest's own page tables, by the VMM and not by the guest: no event comes of it, and no
//! page changes its state.

mod breakpoints;
mod memory;
mod registers;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use types::VcpuId;

use self::breakpoints::Breakpoints;
pub use self::breakpoints::{BreakpointError, Watched};
pub use self::memory::DebugAddress;
pub use self::registers::DebugRegisters;
use super::{Kick, Machine, RunError, Stop};
use crate::trace::event_log::EventCursor;
use crate::x86::exception::Exception;

/// #DB and #BP (Intel SDM volume 3 §6.15).
const DEBUG_EXCEPTION: u32 = 1;
const BREAKPOINT_EXCEPTION: u8 = 3;
/// DR6.B0 to B3: the breakpoints that were met.
const MET: u64 = 0xf;

/// Why a guest stopped for its debugger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebugStop {
    /// The debugger requested it.
    Requested,
    /// One instruction was executed.
    Step,
    /// The instruction at RIP has a breakpoint.
    Breakpoint,
    /// The instruction at RIP has a breakpoint in a debug register.
    HardwareBreakpoint,
    /// The instruction before RIP accessed these bytes.
    Watchpoint(Watched),
    /// A forbidden access was recorded. RIP is at its instruction, where the event says so.
    Access,
}

impl fmt::Display for DebugStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "the debugger stopped the guest",
            Self::Step => "the guest executed one instruction",
            Self::Breakpoint | Self::HardwareBreakpoint => "the guest reached a breakpoint",
            Self::Watchpoint(_) => "the guest accessed watched memory",
            Self::Access => "the guest made a forbidden access",
        })
    }
}

/// Stops a guest for its debugger, from any thread.
#[derive(Debug, Clone)]
pub struct DebugRequest {
    flag: Arc<AtomicBool>,
    kick: Kick,
}

impl DebugRequest {
    /// The guest stops, at the next heartbeat at the latest.
    pub fn stop(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.kick.kick();
    }
}

/// A guest's debugger.
#[derive(Debug)]
pub(crate) struct Debugging {
    requested: Arc<AtomicBool>,
    breakpoints: Breakpoints,
    stepping: bool,
    /// Forbidden accesses up to here were shown.
    seen: EventCursor,
}

impl Machine {
    /// Begins to debug the guest. The calling thread is the one that runs it.
    pub fn start_debugging(&mut self) -> io::Result<DebugRequest> {
        let flag = Arc::new(AtomicBool::new(false));
        self.debugging = Some(Box::new(Debugging {
            requested: Arc::clone(&flag),
            breakpoints: Breakpoints::default(),
            stepping: false,
            seen: self.records.events.cursor(),
        }));
        Ok(DebugRequest { flag, kick: Kick::of_this_thread()? })
    }

    /// Removes all breakpoints; the guest runs on without a debugger.
    pub fn stop_debugging(&mut self) -> Result<(), BreakpointError> {
        self.remove_all_breakpoints()?;
        if let Some(debugging) = &mut self.debugging {
            debugging.stepping = false;
        }
        self.apply_debugging(VcpuId::BOOT)?;
        self.debugging = None;
        Ok(())
    }

    /// From the next run on, the guest stops after each instruction, or does not.
    pub fn set_stepping(&mut self, on: bool) -> Result<(), BreakpointError> {
        let Some(debugging) = &mut self.debugging else { return Err(BreakpointError::NotDebugged) };
        if debugging.stepping == on {
            return Ok(());
        }
        debugging.stepping = on;
        self.apply_debugging(VcpuId::BOOT)
    }

    fn is_stepping(&self) -> bool {
        self.debugging.as_ref().is_some_and(|debugging| debugging.stepping)
    }

    /// After an exit: whether the debugger is to see the guest.
    pub(super) fn debug_stop(&mut self) -> Option<Stop> {
        let debugging = self.debugging.as_mut()?;
        let new = self.records.events.since(debugging.seen);
        debugging.seen = self.records.events.cursor();
        if !new.events.is_empty() {
            return Some(Stop::Debug(DebugStop::Access));
        }
        debugging.requested.swap(false, Ordering::Relaxed).then_some(Stop::Debug(DebugStop::Requested))
    }

    /// The VMM itself executed an instruction.
    pub(super) fn stepped_over(&self) -> Option<Stop> {
        self.is_stepping().then_some(Stop::Debug(DebugStop::Step))
    }

    /// #DB or #BP in a guest with a debugger.
    pub(super) fn on_debug_exit(
        &mut self,
        id: VcpuId,
        exception: u32,
        address: u64,
        dr6: u64,
    ) -> Result<Option<Stop>, RunError> {
        let Some(debugging) = &self.debugging else { return Ok(None) };
        if exception != DEBUG_EXCEPTION {
            if debugging.breakpoints.is_at(address) {
                return Ok(Some(Stop::Debug(DebugStop::Breakpoint)));
            }
            // The guest's own INT3: the handler finds RIP behind it.
            let failed = |source| RunError::Kvm { attempt: "delivering #BP", rip: address, source };
            let mut regs = self.vcpu(id).regs().map_err(failed)?;
            regs.rip = regs.rip.wrapping_add(1);
            self.vcpu(id).set_regs(&regs).map_err(failed)?;
            let breakpoint = Exception { vector: BREAKPOINT_EXCEPTION, error_code: None, address: None };
            return self.raise(id, breakpoint);
        }
        let met = (dr6 & MET).trailing_zeros();
        Ok(Some(Stop::Debug(match debugging.breakpoints.in_register(met as usize) {
            Some(Watched { kind: None, .. }) => DebugStop::HardwareBreakpoint,
            Some(watched) => DebugStop::Watchpoint(watched),
            None => DebugStop::Step,
        })))
    }

    /// The breakpoints of a machine, by reference.
    fn debugging(&self) -> Result<&Debugging, BreakpointError> {
        self.debugging.as_deref().ok_or(BreakpointError::NotDebugged)
    }

    fn debugging_mut(&mut self) -> Result<&mut Debugging, BreakpointError> {
        self.debugging.as_deref_mut().ok_or(BreakpointError::NotDebugged)
    }
}
