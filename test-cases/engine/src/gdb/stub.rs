// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread that talks with gdb: one client after another, until the guest ends.

use std::io;
use std::sync::mpsc::{Receiver, Sender};

use gdbstub::common::Signal;
use gdbstub::stub::run_blocking::{BlockingEventLoop, Event, WaitForStopReasonError};
use gdbstub::stub::{DisconnectReason, GdbStub, SingleThreadStopReason};
use gdbstub::target::ext::breakpoints::WatchKind;
use types::AccessKind;
use vmm::machine::debug::{DebugRequest, DebugStop};

use super::guest::{Gone, Guest};
use super::wire::{Next, Wire};
use super::{Incoming, Order, Outgoing, Report};

/// What the thread is started with.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) inbox: Receiver<Incoming>,
    pub(super) orders: Sender<Order>,
    pub(super) requests: Receiver<DebugRequest>,
    pub(super) out: Box<dyn Outgoing>,
    pub(super) done: Sender<()>,
}

/// Serves clients until the guest has ended.
pub(super) fn run(start: Start) {
    let Start { inbox, orders, requests, out, done } = start;
    let Ok(request) = requests.recv() else { return };
    let wire = Wire::new(inbox, out);
    let mut guest = Guest::new(orders, request);
    let _ = wire.ready();
    serve(&wire, &mut guest);
    let _ = done.send(());
}

fn serve(wire: &Wire, guest: &mut Guest) {
    let mut running = true;
    loop {
        match wire.next() {
            Next::Report(Report::Ended(_)) => return,
            // The first stop waits for a client. Without one, forbidden accesses stop nothing later.
            Next::Report(Report::Stopped(None, _)) => running = false,
            Next::Report(Report::Stopped(Some(_), _)) => {
                if guest.resume_without_client().is_err() {
                    return;
                }
            }
            Next::Closed => {}
            Next::Byte(byte) => {
                wire.put_back(byte);
                if running && !stop(wire, guest) {
                    return;
                }
                match one_client(wire, guest) {
                    After::Running => running = true,
                    After::Over => return,
                }
            }
        }
    }
}

/// Stops the guest for a client that has come while it runs; `false` if the guest has ended.
fn stop(wire: &Wire, guest: &Guest) -> bool {
    let mut bytes = Vec::new();
    guest.request_stop();
    let stopped = loop {
        match wire.next() {
            Next::Report(Report::Stopped(..)) => break true,
            Next::Report(Report::Ended(_)) => break false,
            Next::Byte(byte) => bytes.push(byte),
            Next::Closed => {}
        }
    };
    bytes.into_iter().rev().for_each(|byte| wire.put_back(byte));
    stopped
}

enum After {
    /// The client has gone, and the guest runs.
    Running,
    /// The guest has ended, or will.
    Over,
}

fn one_client(wire: &Wire, guest: &mut Guest) -> After {
    match GdbStub::new(wire.clone()).run_blocking::<Loop>(guest) {
        Ok(DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_)) => After::Over,
        Ok(DisconnectReason::Kill) => {
            let _ = guest.kill();
            After::Over
        }
        // Detached, or the connection failed: the guest runs on without breakpoints.
        result => {
            if let Err(error) = result
                && !error.is_connection_error()
            {
                eprintln!("copra: the gdb connection is closed: {error}");
            }
            wire.clear();
            match guest.detach(wire) {
                Ok(()) => After::Running,
                Err(Gone) => After::Over,
            }
        }
    }
}

struct Loop;

impl BlockingEventLoop for Loop {
    type Target = Guest;
    type Connection = Wire;
    type StopReason = SingleThreadStopReason<u64>;

    fn wait_for_stop_reason(
        guest: &mut Guest,
        wire: &mut Wire,
    ) -> Result<Event<Self::StopReason>, WaitForStopReasonError<Gone, io::Error>> {
        match wire.next() {
            Next::Byte(byte) => Ok(Event::IncomingData(byte)),
            Next::Closed => Err(WaitForStopReasonError::Connection(io::ErrorKind::UnexpectedEof.into())),
            Next::Report(Report::Ended(status)) => {
                guest.running = false;
                Ok(Event::TargetStopped(SingleThreadStopReason::Exited(status)))
            }
            Next::Report(Report::Stopped(stop, lines)) => {
                guest.running = false;
                for line in lines {
                    wire.show(&line).map_err(WaitForStopReasonError::Connection)?;
                }
                Ok(Event::TargetStopped(reason(stop)))
            }
        }
    }

    fn on_interrupt(guest: &mut Guest) -> Result<Option<Self::StopReason>, Gone> {
        guest.request_stop();
        Ok(None)
    }
}

/// A forbidden access is SIGBUS to gdb, so that `handle SIGBUS nostop` lets the guest run on after one.
fn reason(stop: Option<DebugStop>) -> SingleThreadStopReason<u64> {
    match stop {
        Some(DebugStop::Step) => SingleThreadStopReason::DoneStep,
        Some(DebugStop::Breakpoint) => SingleThreadStopReason::SwBreak(()),
        Some(DebugStop::HardwareBreakpoint) => SingleThreadStopReason::HwBreak(()),
        Some(DebugStop::Watchpoint(watched)) => SingleThreadStopReason::Watch {
            tid: (),
            kind: match watched.kind {
                Some(AccessKind::Write) => WatchKind::Write,
                _ => WatchKind::ReadWrite,
            },
            addr: watched.address,
        },
        Some(DebugStop::Access) => SingleThreadStopReason::Signal(Signal::SIGBUS),
        Some(DebugStop::Requested) => SingleThreadStopReason::Signal(Signal::SIGINT),
        None => SingleThreadStopReason::Signal(Signal::SIGTRAP),
    }
}
