// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Standard output of a suite, kept with the places of the guest's forbidden accesses.

use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm::device::virtio::PortPeer;
use vmm::trace::output::{AccessCount, OutputMarks};

use super::output::Output;

/// Bytes that are kept.
const BOUND: usize = 16 << 20;

/// The host's side of the port.
#[derive(Debug, Default)]
pub(super) struct Recorder(Mutex<Output>);

impl Recorder {
    /// The guest whose accesses are counted there begins to write.
    pub(super) fn begin(&self, accesses: AccessCount) {
        *self.lock() = Output { marks: OutputMarks::new(accesses), ..Output::default() };
    }

    /// Takes what was written.
    pub(super) fn take(&self) -> Output {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Output> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PortPeer for Recorder {
    fn receive(&self, bytes: &[u8]) {
        let mut output = self.lock();
        let len = output.len;
        output.marks.before_output(len);
        let room = BOUND.saturating_sub(output.text.len()).min(bytes.len());
        output.text.extend_from_slice(&bytes[..room]);
        output.missing += (bytes.len() - room) as u64;
        output.len += bytes.len() as u64;
    }
}
