// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest as `gdbstub` sees it: everything is done by the thread that runs the guest, while the guest is stopped.

mod monitor;
mod registers;

use std::sync::mpsc::{Sender, channel};

use gdbstub::common::Signal;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::singlethread::{
    SingleThreadBase, SingleThreadResume, SingleThreadResumeOps, SingleThreadSingleStep,
    SingleThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::monitor_cmd::MonitorCmdOps;
use gdbstub::target::{Target, TargetError, TargetResult};
use gdbstub_arch::x86::X86_64_SSE;
use gdbstub_arch::x86::reg::X86_64CoreRegs;
use types::AccessKind;
use vmm::machine::Machine;
use vmm::machine::debug::{BreakpointError, DebugRequest, Watched};

use super::Order;
use super::Report;
use super::wire::{Next, Wire};

/// EFAULT and EINVAL, as gdb prints them of a failed packet.
const FAULT: u8 = 14;
const INVALID: u8 = 22;

/// The guest has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest has ended")]
pub(super) struct Gone;

/// A guest under gdb.
#[derive(Debug)]
pub(super) struct Guest {
    orders: Sender<Order>,
    request: DebugRequest,
    /// It was resumed, and has not reported a stop since.
    pub(super) running: bool,
}

impl Guest {
    pub(super) fn new(orders: Sender<Order>, request: DebugRequest) -> Self {
        Self { orders, request, running: false }
    }

    /// Stops the running guest; it reports that.
    pub(super) fn request_stop(&self) {
        self.request.stop();
    }

    fn order(&self, order: Order) -> Result<(), Gone> {
        self.orders.send(order).map_err(|_| Gone)
    }

    /// Does something with the stopped machine.
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Machine) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (to, result) = channel();
        self.order(Order::Work(Box::new(move |machine| _ = to.send(work(machine)))))?;
        result.recv().map_err(|_| Gone)
    }

    fn run(&mut self, stepping: bool) -> Result<(), Gone> {
        if let Err(error) = self.with(move |machine| machine.set_stepping(stepping))? {
            eprintln!("copra: stepping: {error}");
        }
        self.running = true;
        self.order(Order::Resume)
    }

    /// Goes on after a stop that no client sees.
    pub(super) fn resume_without_client(&mut self) -> Result<(), Gone> {
        self.order(Order::Resume)
    }

    /// Ends the guest.
    pub(super) fn kill(&mut self) -> Result<(), Gone> {
        self.order(Order::Kill)
    }

    /// The client has gone: all breakpoints are removed, and the guest runs on.
    pub(super) fn detach(&mut self, wire: &Wire) -> Result<(), Gone> {
        if self.running {
            self.request_stop();
            loop {
                match wire.next() {
                    Next::Report(Report::Stopped(..)) => break,
                    Next::Report(Report::Ended(_)) => return Err(Gone),
                    Next::Byte(_) | Next::Closed => {}
                }
            }
        }
        if let Err(error) = self.with(Machine::remove_all_breakpoints)? {
            eprintln!("copra: removing breakpoints: {error}");
        }
        self.run(false)?;
        self.running = false;
        Ok(())
    }

    /// Sets or removes a breakpoint. gdb shows the number of an error only, so its text goes to standard error.
    fn breakpoint(
        &self,
        work: impl FnOnce(&mut Machine) -> Result<bool, BreakpointError> + Send + 'static,
    ) -> TargetResult<bool, Self> {
        match self.with(work).map_err(TargetError::Fatal)? {
            Ok(done) => Ok(done),
            Err(error) => {
                eprintln!("copra: {error}");
                Err(TargetError::Errno(INVALID))
            }
        }
    }
}

impl Target for Guest {
    type Arch = X86_64_SSE;
    type Error = Gone;

    fn base_ops(&mut self) -> BaseOps<'_, X86_64_SSE, Gone> {
        BaseOps::SingleThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadBase for Guest {
    fn read_registers(&mut self, to: &mut X86_64CoreRegs) -> TargetResult<(), Self> {
        let read = self.with(|machine| machine.debug_registers()).map_err(TargetError::Fatal)?;
        *to = registers::to_gdb(&read.map_err(|_| TargetError::Errno(FAULT))?);
        Ok(())
    }

    fn write_registers(&mut self, from: &X86_64CoreRegs) -> TargetResult<(), Self> {
        let from = from.clone();
        let write = move |machine: &mut Machine| {
            let mut all = machine.debug_registers()?;
            registers::from_gdb(&from, &mut all);
            machine.set_debug_registers(&all)
        };
        self.with(write).map_err(TargetError::Fatal)?.map_err(|_| TargetError::Errno(FAULT))
    }

    fn read_addrs(&mut self, address: u64, data: &mut [u8]) -> TargetResult<usize, Self> {
        let len = data.len();
        let read = move |machine: &mut Machine| {
            let mut bytes = vec![0; len];
            let done = machine.read_virtual(address, &mut bytes);
            bytes.truncate(done);
            bytes
        };
        let bytes = self.with(read).map_err(TargetError::Fatal)?;
        data[..bytes.len()].copy_from_slice(&bytes);
        if bytes.is_empty() && len > 0 { Err(TargetError::Errno(FAULT)) } else { Ok(bytes.len()) }
    }

    fn write_addrs(&mut self, address: u64, data: &[u8]) -> TargetResult<(), Self> {
        let bytes = data.to_vec();
        let written = self.with(move |machine| machine.write_virtual(address, &bytes));
        if written.map_err(TargetError::Fatal)? { Ok(()) } else { Err(TargetError::Errno(FAULT)) }
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadResume for Guest {
    /// A signal that gdb passes on, as after SIGBUS, is no signal of the guest's.
    fn resume(&mut self, _: Option<Signal>) -> Result<(), Gone> {
        self.run(false)
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadSingleStep for Guest {
    fn step(&mut self, _: Option<Signal>) -> Result<(), Gone> {
        self.run(true)
    }
}

impl Breakpoints for Guest {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Guest {
    fn add_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        self.breakpoint(move |machine| machine.add_breakpoint(address).map(|()| true))
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        self.breakpoint(move |machine| machine.remove_breakpoint(address))
    }
}

impl HwBreakpoint for Guest {
    fn add_hw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        let at = Watched { address, len: 1, kind: None };
        self.breakpoint(move |machine| machine.watch_memory(at).map(|()| true))
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        self.breakpoint(move |machine| machine.unwatch_memory(Watched { address, len: 1, kind: None }))
    }
}

/// A debug register for a watchpoint.
fn watched(address: u64, len: u64, kind: WatchKind) -> Watched {
    let kind = if kind == WatchKind::Write { AccessKind::Write } else { AccessKind::Read };
    // A length that no register has is refused.
    Watched { address, len: u8::try_from(len).unwrap_or(0), kind: Some(kind) }
}

impl HwWatchpoint for Guest {
    fn add_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        let watched = watched(address, len, kind);
        self.breakpoint(move |machine| machine.watch_memory(watched).map(|()| true))
    }

    fn remove_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        let watched = watched(address, len, kind);
        self.breakpoint(move |machine| machine.unwatch_memory(watched))
    }
}
