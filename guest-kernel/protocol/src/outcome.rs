//! What came of a step.

use crate::blob;
use crate::wire::Sink;

pub(crate) const ZERO: u8 = 0;
pub(crate) const VALUE: u8 = 1;
pub(crate) const DATA: u8 = 2;
pub(crate) const ALL_DATA: u8 = 3;
pub(crate) const ERRNO: u8 = 4;
pub(crate) const ERRNO_AT: u8 = 5;
pub(crate) const SIGNAL: u8 = 6;
pub(crate) const KILLED: u8 = 7;
pub(crate) const EXITED: u8 = 8;
pub(crate) const TIMEOUT: u8 = 9;
pub(crate) const STATUS: u8 = 10;
pub(crate) const NO_ROOM: u8 = 11;
pub(crate) const REFUSED: u8 = 12;
pub(crate) const SWEEP: u8 = 13;

/// Flag of the results: the worker was started for this batch.
pub const FRESH: u8 = 1;
/// Bytes of the up half that only the supervisor may use, for the outcome of a step that ended its worker.
pub const RESERVE: usize = 16;

/// An error number of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub u16);

/// Which call of a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Call {
    /// The one the step is about.
    Own = 0,
    /// The `open` before it.
    Open = 1,
    /// Forking and stopping the child.
    Child = 2,
    /// Preparing buffers.
    Memory = 3,
}

/// Why the agent did not execute a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The bytes are no step; nor is anything after them executed.
    Malformed = 1,
    /// No such slot, or nothing is open there.
    File = 2,
    /// No such map slot, or nothing is mapped there.
    Map = 3,
    /// More data than one step may give or take, or not a multiple of the width.
    Length = 4,
    /// A path that is too long or contains a zero byte.
    Path = 5,
    /// A width that the port instructions do not have.
    Width = 6,
    /// A system call that would make a second worker.
    Syscall = 7,
}

impl Call {
    /// Every one there is.
    pub const ALL: [Self; 4] = [Self::Own, Self::Open, Self::Child, Self::Memory];
}

impl Refusal {
    /// Every one there is.
    pub const ALL: [Self; 7] =
        [Self::Malformed, Self::File, Self::Map, Self::Length, Self::Path, Self::Width, Self::Syscall];
}

/// What `stat` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStatus {
    /// Type and permissions.
    pub mode: u32,
    /// Device number of a device node, as the kernel packs it.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Appends: the call returned a value.
pub fn value(sink: &mut impl Sink, value: i64) {
    if value == 0 {
        sink.byte(ZERO);
    } else {
        sink.byte(VALUE);
        sink.signed(value);
    }
}

/// Appends: the call returned a value with data; see [`blob::encode`] for `keep`.
pub fn data(sink: &mut impl Sink, value: i64, data: &[u8], keep: Option<usize>) {
    if value == data.len().cast_signed() as i64 {
        sink.byte(ALL_DATA);
    } else {
        sink.byte(DATA);
        sink.signed(value);
    }
    blob::encode(sink, data, keep);
}

/// Appends: a call failed.
pub fn errno(sink: &mut impl Sink, call: Call, errno: Errno) {
    if call == Call::Own {
        sink.byte(ERRNO);
    } else {
        sink.byte(ERRNO_AT);
        sink.byte(call as u8);
    }
    sink.number(u64::from(errno.0));
}

/// Appends: a signal was caught, after some data.
pub fn signal(sink: &mut impl Sink, signal: u8, code: i32, address: u64, data: &[u8], keep: Option<usize>) {
    sink.byte(SIGNAL);
    sink.byte(signal);
    sink.signed(i64::from(code));
    sink.number(address);
    blob::encode(sink, data, keep);
}

/// Appends: file status.
pub fn file_status(sink: &mut impl Sink, status: &FileStatus) {
    sink.byte(STATUS);
    sink.number(u64::from(status.mode));
    sink.number(status.rdev);
    sink.number(status.size);
    sink.number(u64::from(status.uid));
    sink.number(u64::from(status.gid));
}

/// Appends: the worker was killed.
pub fn killed(sink: &mut impl Sink, signal: u8) {
    sink.put(&[KILLED, signal]);
}

/// Appends: the worker exited by itself.
pub fn exited(sink: &mut impl Sink, status: u8) {
    sink.put(&[EXITED, status]);
}

/// Appends: the step took too long.
pub fn timeout(sink: &mut impl Sink, undead: bool) {
    sink.put(&[TIMEOUT, u8::from(undead)]);
}

/// Appends: no room.
pub fn no_room(sink: &mut impl Sink) {
    sink.byte(NO_ROOM);
}

/// Appends: refused.
pub fn refused(sink: &mut impl Sink, refusal: Refusal) {
    sink.put(&[REFUSED, refusal as u8]);
}

/// The parts of a sweep.
pub mod sweep {
    use crate::wire::{Sink, Slice};

    /// Bytes of the head of a run.
    pub const HEAD: usize = 5;
    pub(crate) const END: u8 = 0;
    pub(crate) const RUN: u8 = 1;
    pub(crate) const PARTIAL: u8 = 2;

    /// Appends the beginning: how many steps an iteration has.
    pub fn begin(sink: &mut impl Sink, steps: u8) {
        sink.put(&[super::SWEEP, steps]);
    }

    /// Appends the head of an iteration that is not finished yet.
    pub fn iteration(sink: &mut impl Sink) {
        sink.put(&[PARTIAL, 0, 0, 0, 0]);
    }

    /// Turns that head into the head of a run, or counts a run up.
    pub fn run(sink: &mut Slice<'_>, head: usize, count: u32) {
        let [a, b, c, d] = count.to_le_bytes();
        sink.patch(head, &[RUN, a, b, c, d]);
    }

    /// Turns the head of an iteration that will not come into the end.
    pub fn end(sink: &mut Slice<'_>, head: usize) {
        sink.patch(head, &[END]);
        sink.truncate(head + 1);
    }
}

#[cfg(any(feature = "std", test))]
pub use crate::blob::Data;
#[cfg(any(feature = "std", test))]
pub use host::{Outcome, Results, Run, Sweep};

#[cfg(any(feature = "std", test))]
mod host {
    use super::{
        ALL_DATA, Call, DATA, ERRNO, ERRNO_AT, EXITED, Errno, FRESH, FileStatus, KILLED, NO_ROOM, REFUSED,
        Refusal, SIGNAL, STATUS, SWEEP, TIMEOUT, VALUE, ZERO, sweep,
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
        /// What `stat` told.
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
        fn decode(reader: &mut Reader<'_>, unfolded: &mut usize, sweeps: bool) -> Result<Self, Error> {
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
                        Refusal::ALL
                            .into_iter()
                            .find(|&refusal| refusal as u8 == code)
                            .ok_or(Error::Value)?,
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

    /// What a batch gave.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Results {
        /// The worker was started for this batch: its files and mappings are only those of this batch.
        pub fresh: bool,
        /// One outcome per step, in order.
        pub outcomes: Vec<Outcome>,
    }

    impl Results {
        /// Reads the payload of a results frame for a batch of `steps` steps. What was not reached is
        /// [`Outcome::NotRun`].
        pub fn decode(payload: &[u8], steps: usize) -> Result<Self, Error> {
            let mut reader = Reader::new(payload);
            let flags = reader.byte()?;
            let mut outcomes = Vec::new();
            let mut unfolded = 0;
            while !reader.is_empty() {
                if outcomes.len() == steps {
                    return Err(Error::TooLong);
                }
                outcomes.push(Outcome::decode(&mut reader, &mut unfolded, true)?);
            }
            outcomes.resize(steps, Outcome::NotRun);
            Ok(Self { fresh: flags & FRESH != 0, outcomes })
        }

        /// Appends the payload.
        pub fn encode(&self, sink: &mut impl Sink) {
            sink.byte(if self.fresh { FRESH } else { 0 });
            for outcome in &self.outcomes {
                outcome.encode(sink);
            }
        }
    }
}
