// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest under gdb: the remote serial protocol on one side, the stopped machine on the other.
//!
//! The thread that runs the guest hands the machine over at each stop and carries out orders until the guest is to run on. The stub
//! (crate `gdbstub`) has a thread of its own, which waits for gdb while the guest runs.

mod guest;
mod stub;
pub mod symbols;
mod wire;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vmm::machine::Machine;
use vmm::machine::debug::{DebugRequest, DebugStop};

pub use self::wire::{Incoming, Outgoing};
use crate::session::{DebugNext, DebugPoint, Debugger};
use vmm::trace::event_log::EventCursor;

/// How often a guest that waits for gdb looks for Ctrl-C.
const PACE: Duration = Duration::from_millis(100);
/// How long the stub may take to send the guest's end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the stub wants done on the thread that runs the guest.
enum Order {
    /// Something with the stopped machine.
    Work(Box<dyn FnOnce(&mut Machine) + Send>),
    /// The guest runs on.
    Resume,
    /// The guest ends.
    Kill,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Work(_) => "Work",
            Self::Resume => "Resume",
            Self::Kill => "Kill",
        })
    }
}

/// What the guest's thread tells the stub.
#[derive(Debug)]
enum Report {
    /// The guest stopped, with lines for gdb's console.
    Stopped(Option<DebugStop>, Vec<String>),
    /// Its command ended with this status, or the guest did.
    Ended(u8),
}

/// How an ended guest is reported to gdb where there is no exit status.
const NO_STATUS: u8 = 255;

/// A gdb server for one guest.
#[derive(Debug)]
pub struct Server {
    first: DebugPoint,
    interrupt: Arc<AtomicBool>,
    state: Mutex<State>,
}

/// What the guest's thread has of it.
#[derive(Debug)]
struct State {
    reports: Sender<Incoming>,
    orders: Receiver<Order>,
    /// What the stub's thread is started with.
    stub: Option<stub::Start>,
    request: Option<Sender<DebugRequest>>,
    ended: Option<Receiver<()>>,
    /// Forbidden accesses up to here are on gdb's console.
    shown: Option<EventCursor>,
}

impl Server {
    /// A server of which the guest first waits at `first`. Returns it with the way for gdb's bytes; what it answers goes to `out`.
    /// `interrupt` is set when gdb kills the guest.
    pub fn new(
        first: DebugPoint,
        out: Box<dyn Outgoing>,
        interrupt: &Arc<AtomicBool>,
    ) -> (Arc<Self>, Sender<Incoming>) {
        let (to_stub, inbox) = channel();
        let (to_guest, orders) = channel();
        let (request, requests) = channel();
        let (done, ended) = channel();
        let state = State {
            reports: to_stub.clone(),
            orders,
            stub: Some(stub::Start { inbox, orders: to_guest, requests, out, done }),
            request: Some(request),
            ended: Some(ended),
            shown: None,
        };
        let interrupt = Arc::clone(interrupt);
        (Arc::new(Self { first, interrupt, state: Mutex::new(state) }), to_stub)
    }

    /// Reports the guest's end to gdb: the exit status of its command, if it has one.
    pub fn finish(&self, status: Option<u8>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = state.reports.send(Incoming::report(Report::Ended(status.unwrap_or(NO_STATUS))));
        // A stub that waits for an order's result learns that there will be none.
        state.orders = channel().1;
        if let Some(ended) = state.ended.take().filter(|_| state.stub.is_none()) {
            let _ = ended.recv_timeout(LAST_WORDS);
        }
    }

    fn begin(state: &mut State, machine: &mut Machine) -> io::Result<()> {
        let request = machine.start_debugging()?;
        state.shown = Some(machine.events().cursor());
        if let Some(sender) = state.request.take() {
            let _ = sender.send(request);
        }
        let Some(start) = state.stub.take() else { return Ok(()) };
        std::thread::Builder::new().name("gdb stub".to_owned()).spawn(move || stub::run(start))?;
        Ok(())
    }

    /// Lines about the forbidden accesses since the last stop.
    fn lines(state: &mut State, machine: &Machine) -> Vec<String> {
        let Some(shown) = state.shown.replace(machine.events().cursor()) else { return Vec::new() };
        let name = |rip| machine.kernel_names().and_then(|names| names.name(rip));
        let events = machine.events().since(shown).events.into_iter();
        let line = |event: vmm::trace::RecordedAccess| {
            let place = event.at.as_ref().and_then(|at| name(at.rip)).map(|name| format!(" in {name}"));
            format!("copra: forbidden access: {event}{}\n", place.unwrap_or_default())
        };
        events.map(line).collect()
    }
}

impl Debugger for Server {
    fn at(&self, machine: &mut Machine, point: DebugPoint) -> DebugNext {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stop = match point {
            DebugPoint::Stop(stop) => Some(stop),
            _ if point != self.first => return DebugNext::Run,
            _ => {
                if let Err(error) = Self::begin(&mut state, machine) {
                    eprintln!("copra: starting the gdb server: {error}");
                    return DebugNext::End;
                }
                None
            }
        };
        let lines = Self::lines(&mut state, machine);
        let _ = state.reports.send(Incoming::report(Report::Stopped(stop, lines)));
        loop {
            match state.orders.recv_timeout(PACE) {
                Ok(Order::Work(work)) => work(machine),
                Ok(Order::Resume) => return DebugNext::Run,
                Ok(Order::Kill) => {
                    self.interrupt.store(true, Ordering::Relaxed);
                    return DebugNext::End;
                }
                Err(RecvTimeoutError::Timeout) if !self.interrupt.load(Ordering::Relaxed) => {}
                Err(_) => return DebugNext::End,
            }
        }
    }
}
