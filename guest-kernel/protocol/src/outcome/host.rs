// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Outcomes as the host has them: read from the wire, and written to it.

use types::Errno;

use super::{
    ALL_DATA, Call, DATA, ERRNO, ERRNO_AT, EXITED, FileStatus, KILLED, NO_ROOM, REFUSED, Refusal, SIGNAL,
    STATUS, SWEEP, TIMEOUT, VALUE, ZERO, sweep,
};
use crate::blob::{Data, decode};
use crate::wire::{Reader, Sink};
use crate::{Error, MAX_REPEATED};

/// Most bytes that the data of one batch's outcomes may unfold to.
const MAX_UNFOLDED: usize = 256 << 20;

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The call returned a value.
    Value(i64),
    /// The call returned a value with data.
    Data {
        /// The value; for reads the length.
        value: i64,
        /// The data.
        data: Data,
    },
    /// A call failed.
    Failed {
        /// How.
        errno: Errno,
        /// Which.
        call: Call,
    },
    /// A signal, caught; the worker goes on.
    Signal {
        /// `SIG*`.
        signal: u8,
        /// `si_code`.
        code: i32,
        /// `si_addr`; see [`crate::map_address`].
        address: u64,
        /// Data read before it; none for stores.
        data: Data,
    },
    /// The worker died of a signal it could not catch: a kernel oops, for one.
    Killed {
        /// `SIG*`.
        signal: u8,
    },
    /// The worker exited by itself.
    Exited {
        /// Exit status.
        status: u8,
    },
    /// The step took too long and the worker was killed.
    Timeout {
        /// The worker did not even die.
        undead: bool,
    },
    /// What `stat` returned.
    Status(FileStatus),
    /// The results were full; not executed.
    NoRoom,
    /// The agent refused the step.
    Refused(Refusal),
    /// What a `Repeat` gave.
    Sweep(Sweep),
    /// The batch ended before the step.
    NotRun,
}

/// What a `Repeat` gave, equal iterations counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Steps of one iteration.
    pub steps: u8,
    /// Finished iterations, in order.
    pub runs: Vec<Run>,
    /// Outcomes of the iteration at which the sweep stopped, if it did.
    pub partial: Option<Vec<Outcome>>,
}

/// Consecutive iterations with the same outcomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many.
    pub count: u32,
    /// What each of them gave, one outcome per step.
    pub outcomes: Vec<Outcome>,
}

impl Sweep {
    /// Finished iterations.
    pub fn finished(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.count)).sum()
    }

    /// Each run with the number of its first iteration.
    pub fn ranges(&self) -> impl Iterator<Item = (core::ops::Range<u64>, &[Outcome])> {
        self.runs.iter().scan(0, |next, run| {
            let first = *next;
            *next += u64::from(run.count);
            Some((first..*next, run.outcomes.as_slice()))
        })
    }

    fn decode(reader: &mut Reader<'_>, unfolded: &mut usize) -> Result<Self, Error> {
        let steps = reader.byte()?;
        if steps == 0 || steps > MAX_REPEATED {
            return Err(Error::Value);
        }
        let mut runs = Vec::new();
        loop {
            match reader.byte()? {
                sweep::END => return Ok(Self { steps, runs, partial: None }),
                sweep::RUN => {
                    let count = reader.word()?;
                    let outcomes = (0..steps)
                        .map(|_| Outcome::decode(reader, unfolded, false))
                        .collect::<Result<_, _>>()?;
                    runs.push(Run { count, outcomes });
                }
                sweep::PARTIAL => {
                    reader.word()?;
                    let mut outcomes = Vec::new();
                    while !reader.is_empty() {
                        outcomes.push(Outcome::decode(reader, unfolded, false)?);
                    }
                    return Ok(Self { steps, runs, partial: Some(outcomes) });
                }
                _ => return Err(Error::Value),
            }
        }
    }
}

impl Outcome {
    pub(super) fn decode(reader: &mut Reader<'_>, unfolded: &mut usize, sweeps: bool) -> Result<Self, Error> {
        let mut blob = |reader: &mut Reader<'_>| {
            let data = decode(reader)?;
            *unfolded += data.bytes.len();
            if *unfolded > MAX_UNFOLDED { Err(Error::TooLong) } else { Ok(data) }
        };
        Ok(match reader.byte()? {
            ZERO => Self::Value(0),
            VALUE => Self::Value(reader.signed()?),
            DATA => Self::Data { value: reader.signed()?, data: blob(reader)? },
            ALL_DATA => {
                let data = blob(reader)?;
                Self::Data { value: data.len().cast_signed() as i64, data }
            }
            ERRNO => Self::Failed { errno: Errno(reader.narrow()?), call: Call::Own },
            ERRNO_AT => {
                let code = reader.byte()?;
                let call = Call::ALL.into_iter().find(|&call| call as u8 == code).ok_or(Error::Value)?;
                Self::Failed { errno: Errno(reader.narrow()?), call }
            }
            SIGNAL => Self::Signal {
                signal: reader.byte()?,
                code: i32::try_from(reader.signed()?).map_err(|_| Error::Number)?,
                address: reader.number()?,
                data: blob(reader)?,
            },
            KILLED => Self::Killed { signal: reader.byte()? },
            EXITED => Self::Exited { status: reader.byte()? },
            TIMEOUT => Self::Timeout { undead: reader.byte()? != 0 },
            STATUS => Self::Status(FileStatus {
                mode: reader.narrow()?,
                rdev: reader.number()?,
                size: reader.number()?,
                uid: reader.narrow()?,
                gid: reader.narrow()?,
            }),
            NO_ROOM => Self::NoRoom,
            REFUSED => {
                let code = reader.byte()?;
                Self::Refused(
                    Refusal::ALL.into_iter().find(|&refusal| refusal as u8 == code).ok_or(Error::Value)?,
                )
            }
            SWEEP if sweeps => Self::Sweep(Sweep::decode(reader, unfolded)?),
            _ => return Err(Error::Outcome),
        })
    }

    /// Appends the outcome's wire form; `NotRun` has none.
    pub fn encode(&self, sink: &mut impl Sink) {
        match self {
            Self::Value(value) => super::value(sink, *value),
            Self::Data { value, data } => {
                if *value == data.len().cast_signed() as i64 {
                    sink.byte(ALL_DATA);
                } else {
                    sink.byte(DATA);
                    sink.signed(*value);
                }
                encode_data(sink, data);
            }
            Self::Failed { errno, call } => super::errno(sink, *call, *errno),
            Self::Signal { signal, code, address, data } => {
                sink.put(&[SIGNAL, *signal]);
                sink.signed(i64::from(*code));
                sink.number(*address);
                encode_data(sink, data);
            }
            Self::Killed { signal } => super::killed(sink, *signal),
            Self::Exited { status } => super::exited(sink, *status),
            Self::Timeout { undead } => super::timeout(sink, *undead),
            Self::Status(status) => super::file_status(sink, status),
            Self::NoRoom => super::no_room(sink),
            Self::Refused(refusal) => super::refused(sink, *refusal),
            Self::Sweep(sweep) => {
                sweep::begin(sink, sweep.steps);
                for run in &sweep.runs {
                    sink.byte(sweep::RUN);
                    sink.put(&run.count.to_le_bytes());
                    for outcome in &run.outcomes {
                        outcome.encode(sink);
                    }
                }
                if let Some(partial) = &sweep.partial {
                    sweep::iteration(sink);
                    for outcome in partial {
                        outcome.encode(sink);
                    }
                } else {
                    sink.byte(sweep::END);
                }
            }
            Self::NotRun => {}
        }
    }
}

/// A cut blob is written as it was read; the digest cannot be made anew.
fn encode_data(sink: &mut impl Sink, data: &Data) {
    if let Some((len, digest)) = data.cut {
        sink.number((len as u64) << 1 | 1);
        sink.number(data.bytes.len() as u64);
        sink.put(&digest.to_le_bytes());
        if !data.bytes.is_empty() {
            sink.number((data.bytes.len() as u64) << 1);
            sink.put(&data.bytes);
        }
    } else {
        crate::blob::encode(sink, &data.bytes, None);
    }
}
