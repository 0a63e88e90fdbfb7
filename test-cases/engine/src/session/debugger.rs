// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A debugger of the user's, to which the session hands its guest over wherever it stops for it.

use std::fmt::Debug;
use std::time::Instant;

use vmm::machine::debug::DebugStop;
use vmm::machine::{Machine, Stop};

use super::{Ended, Session};

/// Where a guest is when its debugger gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebugPoint {
    /// At the kernel's first instruction.
    Entry,
    /// Its agent waits, and the user's command comes next.
    Command,
    /// It stopped for its debugger.
    Stop(DebugStop),
}

/// What comes after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebugNext {
    /// The guest runs on.
    Run,
    /// It runs on as another kernel, whose agent is another too.
    RunNextKernel,
    /// It does not.
    End,
}

/// A debugger.
pub trait Debugger: Debug + Send + Sync {
    /// The guest is at this point, and does not run until this returns.
    fn at(&self, machine: &mut Machine, point: DebugPoint) -> DebugNext;
}

impl Session {
    /// Hands the guest to its debugger, if it has one. Returns when the guest is to run on.
    pub fn debug(&mut self, point: DebugPoint) -> Result<(), Ended> {
        let Some(debugger) = &self.debugger else { return Ok(()) };
        match debugger.at(&mut self.machine, point) {
            DebugNext::Run => Ok(()),
            DebugNext::RunNextKernel => {
                self.link.restart();
                Ok(())
            }
            DebugNext::End => Err(Ended::by(&self.machine, &Stop::Interrupted)),
        }
    }

    /// The same in the middle of a run. Returns the end of the run: the time in the debugger does not count.
    pub(super) fn debug_until(&mut self, stop: DebugStop, until: Instant) -> Result<Instant, Ended> {
        let stopped = Instant::now();
        self.debug(DebugPoint::Stop(stop))?;
        Ok(until + stopped.elapsed())
    }
}
