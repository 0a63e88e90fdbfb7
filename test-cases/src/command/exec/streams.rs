// SPDX-License-Identifier: Apache-2.0 OR MIT
//! This process's standard files, as the host's side of a guest's ports.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use vmm::device::virtio::PortPeer;
use vmm::machine::Kick;

/// Bytes read ahead of the guest.
const AHEAD: usize = 1 << 20;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// Standard input.
#[derive(Debug)]
pub struct Input {
    state: Mutex<State>,
    taken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    ended: bool,
}

impl Input {
    /// Begins to read. The calling thread is the one that runs the guest.
    pub fn start() -> io::Result<Arc<Self>> {
        let input = Arc::new(Self { state: Mutex::default(), taken: Condvar::new() });
        let kick = Kick::of_this_thread()?;
        let reader = Arc::clone(&input);
        // It ends with the process: a read of a terminal or pipe cannot be called off.
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || reader.read(kick))?;
        Ok(input)
    }

    fn read(&self, kick: Kick) {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match io::stdin().lock().read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            let mut state = self.lock();
            while state.bytes.len() > AHEAD {
                state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.bytes.extend(&buffer[..count]);
            state.ended = count == 0;
            drop(state);
            kick.kick();
            if count == 0 {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PortPeer for Input {
    fn receive(&self, _: &[u8]) {}

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

    fn has_input(&self) -> bool {
        false
    }

    fn take(&self, _: usize) -> Vec<u8> {
        Vec::new()
    }

    fn has_ended(&self) -> bool {
        false
    }
}
