// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The half with the guest.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine::gdb::{Incoming, Outgoing, Server};
use engine::session::DebugPoint;
use vmm::device::virtio::{NullPeer, PortPeer};

use super::Frame;
use crate::command::exec::Sink;

/// Standard input, output and error of the command.
type StandardPorts = [Arc<dyn PortPeer>; 3];

/// Its connection with the front.
pub struct Back {
    from: Box<dyn Read + Send>,
    to: FrameWriter,
}

impl Back {
    /// The front is the outer command.
    pub fn of_standard_files() -> Self {
        Self { from: Box::new(io::stdin()), to: FrameWriter::new(Box::new(io::stdout())) }
    }

    /// The front is in this process.
    pub fn of_stream(stream: &UnixStream) -> io::Result<Self> {
        Ok(Self { from: Box::new(stream.try_clone()?), to: FrameWriter::new(Box::new(stream.try_clone()?)) })
    }

    /// Starts to pass on what the front sends. Returns the server and the command's standard files.
    pub fn start(
        self,
        first: DebugPoint,
        interrupt: &Arc<AtomicBool>,
    ) -> io::Result<(Arc<Server>, StandardPorts)> {
        let Self { mut from, to } = self;
        let output = Arc::new(CommandOutput(to.clone()));
        let (server, incoming) = Server::new(first, Box::new(to), interrupt);
        let interrupt = Arc::clone(interrupt);
        // It ends with the process: a read of a pipe cannot be called off.
        std::thread::Builder::new().name("gdb input".to_owned()).spawn(move || {
            loop {
                let sent = match Frame::read(&mut from) {
                    Some(Frame::Data(bytes)) => incoming.send(Incoming::bytes(bytes)),
                    Some(Frame::End) => incoming.send(Incoming::closed()),
                    Some(Frame::Interrupt) => {
                        interrupt.store(true, Ordering::Relaxed);
                        Ok(())
                    }
                    Some(_) => Ok(()),
                    None => {
                        interrupt.store(true, Ordering::Relaxed);
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        })?;
        Ok((server, [Arc::new(NullPeer), output, Arc::new(Sink::Error)]))
    }
}

/// Writes whole frames, from any thread.
#[derive(Clone)]
struct FrameWriter(Arc<Mutex<Box<dyn Write + Send>>>);

impl std::fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameWriter")
    }
}

impl FrameWriter {
    fn new(to: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Mutex::new(to)))
    }

    fn write(&self, frame: &Frame) -> io::Result<()> {
        frame.write(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Outgoing for FrameWriter {
    fn ready(&mut self) -> io::Result<()> {
        self.write(&Frame::Ready)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(super::exec::MOST).try_for_each(|part| self.write(&Frame::Data(part.to_vec())))
    }
}

/// The command's standard output.
#[derive(Debug)]
struct CommandOutput(FrameWriter);

impl PortPeer for CommandOutput {
    fn receive(&self, bytes: &[u8]) {
        // An output that has no reader any more takes nothing, and the command runs on.
        for part in bytes.chunks(super::exec::MOST) {
            let _ = self.0.write(&Frame::Output(part.to_vec()));
        }
    }
}
