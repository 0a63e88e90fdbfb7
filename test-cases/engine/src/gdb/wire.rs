// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stub's side of the connection with gdb. What gdb sends and what the guest reports come by one channel, so that the stub can
//! wait for both.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::Receiver;

use gdbstub::conn::{Connection, ConnectionExt};

use super::Report;

/// Something for the stub.
#[derive(Debug)]
pub struct Incoming(Kind);

#[derive(Debug)]
enum Kind {
    Bytes(Vec<u8>),
    Closed,
    Report(Report),
}

impl Incoming {
    /// Bytes from gdb.
    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self(Kind::Bytes(bytes))
    }

    /// gdb has closed its connection.
    pub fn closed() -> Self {
        Self(Kind::Closed)
    }

    pub(super) fn report(report: Report) -> Self {
        Self(Kind::Report(report))
    }
}

/// Where the stub's bytes go.
pub trait Outgoing: Debug + Send {
    /// The guest waits for gdb.
    fn ready(&mut self) -> io::Result<()>;

    /// Bytes for gdb.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// What comes next.
pub(super) enum Next {
    Byte(u8),
    Closed,
    Report(Report),
}

#[derive(Debug)]
struct Shared {
    inbox: Receiver<Incoming>,
    bytes: VecDeque<u8>,
    reports: VecDeque<Report>,
    closed: bool,
    out: Box<dyn Outgoing>,
    pending: Vec<u8>,
}

/// The connection; clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Wire(Rc<RefCell<Shared>>);

impl Wire {
    pub(super) fn new(inbox: Receiver<Incoming>, out: Box<dyn Outgoing>) -> Self {
        Self(Rc::new(RefCell::new(Shared {
            inbox,
            bytes: VecDeque::new(),
            reports: VecDeque::new(),
            closed: false,
            out,
            pending: Vec::new(),
        })))
    }

    pub(super) fn ready(&self) -> io::Result<()> {
        self.0.borrow_mut().out.ready()
    }

    /// Waits for the next byte, the end of the connection, or a report of the guest's.
    pub(super) fn next(&self) -> Next {
        let mut shared = self.0.borrow_mut();
        loop {
            if let Some(report) = shared.reports.pop_front() {
                return Next::Report(report);
            }
            if let Some(byte) = shared.bytes.pop_front() {
                return Next::Byte(byte);
            }
            if std::mem::take(&mut shared.closed) {
                return Next::Closed;
            }
            shared.take_in(true);
        }
    }

    /// Puts a byte back in front of the others.
    pub(super) fn put_back(&self, byte: u8) {
        self.0.borrow_mut().bytes.push_front(byte);
    }

    /// Forgets what a client that has gone left unread.
    pub(super) fn clear(&self) {
        let mut shared = self.0.borrow_mut();
        shared.bytes.clear();
        shared.pending.clear();
    }

    /// Shows text on gdb's console: gdb accepts that while it waits for the guest to stop.
    pub(super) fn show(&mut self, text: &str) -> io::Result<()> {
        self.write_all(&console_packet(text))?;
        self.flush()
    }
}

/// A packet `O`, as the protocol has it: the text in hexadecimal, and the sum of all characters.
fn console_packet(text: &str) -> Vec<u8> {
    let body: String =
        std::iter::once("O".to_owned()).chain(text.bytes().map(|b| format!("{b:02x}"))).collect();
    let sum = body.bytes().fold(0u8, u8::wrapping_add);
    format!("${body}#{sum:02x}").into_bytes()
}

impl Shared {
    /// Takes what has come; waits for something if `wait`.
    fn take_in(&mut self, wait: bool) {
        let next = if wait {
            // Without senders there is neither a guest nor a gdb.
            self.inbox.recv().unwrap_or(Incoming(Kind::Closed))
        } else {
            match self.inbox.try_recv() {
                Ok(next) => next,
                Err(_) => return,
            }
        };
        match next.0 {
            Kind::Bytes(bytes) => self.bytes.extend(bytes),
            Kind::Closed => self.closed = true,
            Kind::Report(report) => self.reports.push_back(report),
        }
    }
}

impl Connection for Wire {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.0.borrow_mut().pending.push(byte);
        Ok(())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().pending.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut shared = self.0.borrow_mut();
        let bytes = std::mem::take(&mut shared.pending);
        if bytes.is_empty() { Ok(()) } else { shared.out.send(&bytes) }
    }
}

impl ConnectionExt for Wire {
    fn read(&mut self) -> io::Result<u8> {
        let mut shared = self.0.borrow_mut();
        loop {
            if let Some(byte) = shared.bytes.pop_front() {
                return Ok(byte);
            }
            let has_ended = shared.reports.iter().any(|report| matches!(report, Report::Ended(_)));
            if shared.closed || has_ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            shared.take_in(true);
        }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        let mut shared = self.0.borrow_mut();
        shared.take_in(false);
        Ok(shared.bytes.front().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_the_console_is_a_packet() {
        assert_eq!(console_packet("Hi\n"), b"$O48690a#bb");
    }
}
