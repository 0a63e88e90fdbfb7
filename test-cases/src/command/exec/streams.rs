// SPDX-License-Identifier: Apache-2.0 OR MIT
//! This process's standard files, as the host's side of a guest's ports.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use vmm::device::virtio::PortPeer;
use vmm::machine::Kick;

use super::frames::{Frame, MOST};
use super::{relay, terminal};

/// Bytes read ahead of the guest.
const AHEAD: usize = 1 << 20;

/// Standard input, for a terminal with standard output.
#[derive(Debug)]
pub struct Input {
    state: Mutex<State>,
    taken: Condvar,
    /// Standard input is [`Frame`]s.
    framed: bool,
    /// Set where the outer command sends Ctrl-C, or is no more.
    interrupt: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    ended: bool,
    size: Option<(u16, u16)>,
}

impl Input {
    /// Begins to read. The calling thread is the one that runs the guest.
    pub fn start(interrupt: &Arc<AtomicBool>) -> io::Result<Arc<Self>> {
        let input = Arc::new(Self {
            state: Mutex::default(),
            taken: Condvar::new(),
            framed: relay::is_framed(),
            interrupt: Arc::clone(interrupt),
        });
        let kick = Kick::of_this_thread()?;
        let reader = Arc::clone(&input);
        // It ends with the process: a read of a terminal or pipe cannot be called off.
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            while reader.take_in(reader.next()) {
                kick.kick();
            }
            kick.kick();
        })?;
        Ok(input)
    }

    /// The next message; `None` if the outer command is no more.
    fn next(&self) -> Option<Frame> {
        if self.framed {
            return Frame::read(&mut io::stdin().lock());
        }
        let mut buffer = vec![0; MOST];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return Some(Frame::End),
                Ok(count) => return Some(Frame::Data(buffer[..count].to_vec())),
            }
        }
    }

    /// Returns whether more may come.
    fn take_in(&self, frame: Option<Frame>) -> bool {
        match frame {
            Some(Frame::Data(bytes)) => {
                let mut state = self.lock();
                while state.bytes.len() > AHEAD {
                    state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.bytes.extend(bytes);
            }
            Some(Frame::End) => {
                self.lock().ended = true;
                return self.framed;
            }
            Some(Frame::Size(columns, rows)) => self.lock().size = Some((columns, rows)),
            // Those of the way back are not sent this way.
            Some(Frame::Output(_) | Frame::Ready) => {}
            Some(Frame::Interrupt) => self.interrupt.store(true, Ordering::Relaxed),
            None => {
                self.interrupt.store(true, Ordering::Relaxed);
                return false;
            }
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PortPeer for Input {
    fn receive(&self, bytes: &[u8]) {
        Sink::Output.receive(bytes);
    }

    fn has_input(&self) -> bool {
        !self.lock().bytes.is_empty()
    }

    fn take(&self, room: usize) -> Vec<u8> {
        let mut state = self.lock();
        let count = room.min(state.bytes.len());
        let bytes = state.bytes.drain(..count).collect();
        self.taken.notify_one();
        bytes
    }

    fn has_ended(&self) -> bool {
        self.lock().ended
    }

    fn size(&self) -> Option<(u16, u16)> {
        if self.framed { self.lock().size } else { terminal::size() }
    }
}

/// Where a command's output goes, unchanged.
#[derive(Debug, Clone, Copy)]
pub enum Sink {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl PortPeer for Sink {
    fn receive(&self, bytes: &[u8]) {
        // An output that has no reader any more takes nothing, and the command runs on.
        let _ = match self {
            Self::Output => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            Self::Error => io::stderr().lock().write_all(bytes),
        };
    }
}
