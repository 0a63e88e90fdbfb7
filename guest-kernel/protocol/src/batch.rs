// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A batch: steps that are sent, executed and answered together.

use crate::wire::Reader;
use crate::{DEFAULT_STEP_MS, Error};

const NEW_WORKER: u8 = 1;

/// The head of a batch's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Start with a new worker: nothing open, nothing mapped, all privileges.
    pub new_worker: bool,
    /// Limit for one step. The agent looks once per limit, so a step is stopped after one to two of them.
    pub step_ms: u32,
}

impl Head {
    /// Reads the head; the steps remain in the reader.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let flags = reader.byte()?;
        if flags & !NEW_WORKER != 0 {
            return Err(Error::Value);
        }
        let step_ms = match reader.narrow()? {
            0 => DEFAULT_STEP_MS,
            step_ms => step_ms,
        };
        Ok(Self { new_worker: flags & NEW_WORKER != 0, step_ms })
    }
}

#[cfg(any(feature = "std", test))]
pub use host::Batch;

#[cfg(any(feature = "std", test))]
mod host {
    use super::NEW_WORKER;
    use crate::wire::Sink;
    use crate::{Error, MAX_PAYLOAD, MAX_REPEATED, Step};

    /// Steps on their way to the agent.
    ///
    /// ```
    /// use protocol::{Batch, Buffer, Step};
    /// let mut batch = Batch::new().new_worker().step_limit(2_000);
    /// batch.push(&Step::Open { file: 0, path: b"/dev/mem", flags: 0, mode: 0 });
    /// batch.push(&Step::Pread { file: 0, offset: 0xf0000, len: 16, buffer: Buffer::Good });
    /// assert_eq!(batch.steps(), 2);
    /// assert_eq!(batch.payload().len(), 23);
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Batch {
        flags: u8,
        step_ms: u32,
        bytes: Vec<u8>,
        steps: usize,
    }

    impl Default for Batch {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Batch {
        /// An empty batch for the worker that is there.
        pub fn new() -> Self {
            Self { flags: 0, step_ms: 0, bytes: Vec::new(), steps: 0 }
        }

        /// Starts with a new worker: nothing open, nothing mapped, all privileges.
        #[must_use]
        pub fn new_worker(mut self) -> Self {
            self.flags |= NEW_WORKER;
            self
        }

        /// Milliseconds one step may take; [`crate::DEFAULT_STEP_MS`] where this is not called. A step is stopped after
        /// one to two of these.
        #[must_use]
        pub fn step_limit(mut self, milliseconds: u32) -> Self {
            self.step_ms = milliseconds;
            self
        }

        /// Adds a step. Use [`Batch::repeat`] for `Repeat`.
        pub fn push(&mut self, step: &Step<'_>) {
            step.encode(&mut self.bytes);
            self.steps += 1;
        }

        /// Adds `steps`, to be executed `count` times with `stride * i` added at iteration *i* to the offsets of those
        /// whose bit is set in `moving`. Of each outcome's data the first `keep` bytes come back, with a digest of all.
        ///
        /// Gives one outcome for all. Refused: no steps, more than [`MAX_REPEATED`], and steps that end the worker.
        pub fn repeat(
            &mut self,
            count: u32,
            stride: i64,
            moving: u32,
            keep: u32,
            steps: &[Step<'_>],
        ) -> Result<(), Error> {
            let covered = u8::try_from(steps.len()).map_err(|_| Error::TooLong)?;
            if covered == 0 || covered > MAX_REPEATED || !steps.iter().all(Step::repeatable) {
                return Err(Error::Value);
            }
            Step::Repeat { count, steps: covered, stride, moving, keep }.encode(&mut self.bytes);
            for step in steps {
                step.encode(&mut self.bytes);
            }
            self.steps += 1;
            Ok(())
        }

        /// How many outcomes will come back.
        pub fn steps(&self) -> usize {
            self.steps
        }

        /// Whether one more step of about `len` bytes still fits a frame.
        pub fn has_room(&self, len: usize) -> bool {
            self.bytes.len() + len + 16 <= MAX_PAYLOAD
        }

        /// The payload.
        pub fn payload(&self) -> Vec<u8> {
            let mut payload = Vec::with_capacity(self.bytes.len() + 6);
            payload.byte(self.flags);
            payload.number(u64::from(self.step_ms));
            payload.put(&self.bytes);
            payload
        }
    }
}
