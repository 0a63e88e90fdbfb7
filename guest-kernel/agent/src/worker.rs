// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The process that executes the steps of one case, and dies of them if it must.

use core::ffi::CStr;
use core::sync::atomic::Ordering::Relaxed;

use protocol::batch::Head;
use protocol::outcome::{self, RESERVE, sweep};
use protocol::window::Directory;
use protocol::wire::{Reader, Slice};
use protocol::{Call, Errno, MAX_REPEATED, Refusal, Reset, Step};

use crate::steps::{self, State};
use crate::syscall::{self, File};
use crate::window::Window;
use crate::{boot, carry, guard};

/// In [`Directory::reset`]: the worker ended as a step requested.
pub const LEFT: u64 = u64::MAX;

/// Exit status of a forked child that a step ended.
const CHILD_DONE: i32 = 77;
/// The argument by which a worker that executed itself is known.
pub const RESUME: &CStr = c"--resume";

/// Executes batches whenever the supervisor notifies, until it is gone.
pub fn run(window: &mut Window, orders: File, answers: File) -> ! {
    let _ = syscall::setpgid(0, 0);
    let (Ok(()), Ok(state)) = (guard::install(), State::new([orders, answers], window.directory)) else {
        out_of_memory()
    };
    serve(window, state, None)
}

/// Goes on after the step by which the worker executed itself.
pub fn resume(file: File) -> ! {
    let Ok(mut window) = Window::attach(file) else { out_of_memory() };
    let _ = syscall::close_on_exec(file, true);
    let (Ok(()), Ok(state)) = (guard::install(), carry::take(window.directory)) else { out_of_memory() };
    let (directory, _, up) = window.split();
    let mut turn = BatchRun { directory, out: Slice::resume(up, directory.up_len.load(Relaxed) as usize) };
    outcome::value(&mut turn.out, 0);
    turn.commit();
    let next = directory.step.load(Relaxed) as u32 + 1;
    serve(&mut window, state, Some(next))
}

fn out_of_memory() -> ! {
    boot::print(b"copra: agent: out of memory\n");
    syscall::exit(102)
}

/// `first`: the step to go on with of the batch that is being executed.
fn serve(window: &mut Window, mut state: State, mut first: Option<u32>) -> ! {
    let [orders, answers] = state.control();
    let mut byte = [0];
    loop {
        let mut next = match first.take() {
            Some(first) => Some(first),
            None if syscall::read(orders, &mut byte) == Ok(1) => Some(0),
            None => break,
        };
        let file = window.file();
        while let Some(first) = next {
            let (directory, batch, up) = window.split();
            let out = Slice::resume(up, directory.up_len.load(Relaxed) as usize);
            let end = BatchRun { directory, out }.execute(batch, first, file, &mut state);
            // The batch that is there now, and the step at which the child ended.
            next = (end == Next::Resume).then(|| directory.step.load(Relaxed) as u32 + 1);
        }
        if syscall::send_byte(answers, 1).is_err() {
            break;
        }
    }
    syscall::exit(0)
}

/// Waits for a forked child. One that no step ended takes its parent with it.
fn wait_for(child: i32) {
    let Ok((_, status)) = syscall::wait(child, 0) else { syscall::exit(101) };
    let signal = status.cast_unsigned() & 0x7f;
    if signal != 0 {
        // SAFETY: the default action.
        let _ = unsafe { syscall::signal_action(signal, &[0; 4]) };
        let _ = syscall::kill(syscall::getpid(), signal);
    }
    if status >> 8 & 0xff != CHILD_DONE || signal != 0 {
        syscall::exit(status >> 8 & 0xff)
    }
}

/// Whether the batch goes on.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
    /// A child has ended, and its parent goes on after that step.
    Resume,
}

/// One batch. Outcomes count as soon as they are committed, so nothing is lost when the worker dies.
struct BatchRun<'a> {
    directory: &'static Directory,
    out: Slice<'a>,
}

impl BatchRun<'_> {
    fn commit(&self) {
        self.directory.up_len.store(self.out.len() as u64, Relaxed);
    }

    /// Notes where the worker is, for supervisor and host.
    fn at(&self, step: u32, iteration: u32) {
        self.directory.step.store(u64::from(step) | u64::from(iteration) << 32, Relaxed);
        self.directory.progress.store(self.directory.progress.load(Relaxed).wrapping_add(1), Relaxed);
    }

    fn execute(mut self, batch: &[u8], first: u32, window: Option<File>, state: &mut State) -> Next {
        let mut reader = Reader::new(batch);
        // The supervisor has read the head before.
        let _ = Head::decode(&mut reader);
        let mut number = 0;
        while number < first && !reader.is_empty() {
            if let Ok(Step::Repeat { steps, .. }) = Step::decode(&mut reader) {
                for _ in 0..steps {
                    let _ = Step::decode(&mut reader);
                }
            }
            number += 1;
        }
        while !reader.is_empty() {
            self.at(number, 0);
            let next = match Step::decode(&mut reader) {
                Ok(Step::Repeat { count, steps, stride, moving, keep }) => {
                    let sweep = Sweep { number, count, stride, moving, keep: keep as usize };
                    self.sweep(&sweep, steps, &mut reader, state)
                }
                Ok(Step::Fork) => match syscall::fork() {
                    Ok(0) => {
                        state.depth += 1;
                        outcome::value(&mut self.out, 0);
                        Next::GoOn
                    }
                    Ok(child) => {
                        wait_for(child);
                        return Next::Resume;
                    }
                    Err(errno) => self.failed(errno),
                },
                Ok(Step::Exec) => {
                    let errno = carry::execute(state, window);
                    self.failed(errno)
                }
                Ok(Step::ExitWorker) => {
                    outcome::value(&mut self.out, 0);
                    self.commit();
                    if state.depth > 0 {
                        syscall::exit(CHILD_DONE)
                    }
                    self.directory.reset.store(LEFT, Relaxed);
                    syscall::exit(0)
                }
                Ok(Step::Reset { kind }) => {
                    outcome::value(&mut self.out, 0);
                    self.directory.reset.store(
                        match kind {
                            Reset::Restart => 1,
                            Reset::PowerOff => 2,
                            Reset::Halt => 3,
                        },
                        Relaxed,
                    );
                    Next::Stop
                }
                Ok(step) => self.single(&step, None, state),
                Err(_) => self.malformed(),
            };
            self.commit();
            if next == Next::Stop {
                return next;
            }
            number += 1;
        }
        Next::Stop
    }

    fn failed(&mut self, errno: Errno) -> Next {
        outcome::errno(&mut self.out, Call::Own, errno);
        Next::GoOn
    }

    fn malformed(&mut self) -> Next {
        outcome::refused(&mut self.out, Refusal::Malformed);
        Next::Stop
    }

    fn single(&mut self, step: &Step<'_>, keep: Option<usize>, state: &mut State) -> Next {
        if self.out.room() < steps::worst_case(step, keep) + RESERVE + sweep::HEAD {
            outcome::no_room(&mut self.out);
            return Next::Stop;
        }
        state.execute(step, keep, &mut self.out);
        Next::GoOn
    }

    fn sweep(&mut self, sweep: &Sweep, covered: u8, reader: &mut Reader<'_>, state: &mut State) -> Next {
        let mut place = [Step::Uname; MAX_REPEATED as usize];
        let Some(steps) = place.get_mut(..usize::from(covered)).filter(|steps| !steps.is_empty()) else {
            return self.malformed();
        };
        for step in steps.iter_mut() {
            match Step::decode(reader) {
                Ok(decoded) if decoded.repeatable() => *step = decoded,
                _ => return self.malformed(),
            }
        }
        if self.out.room() < 2 * sweep::HEAD + RESERVE {
            outcome::no_room(&mut self.out);
            return Next::Stop;
        }
        sweep::begin(&mut self.out, covered);
        let mut head = self.out.len();
        sweep::iteration(&mut self.out);
        self.commit();
        // The last run: where its head is, and how many iterations it counts.
        let mut run: Option<(usize, u32)> = None;
        for iteration in 0..sweep.count {
            for (index, step) in steps.iter().enumerate() {
                let mut step = *step;
                if sweep.moving >> index & 1 != 0 {
                    step.shift(sweep.stride.wrapping_mul(i64::from(iteration)));
                }
                self.at(sweep.number, iteration);
                let next = self.single(&step, Some(sweep.keep), state);
                self.commit();
                if next == Next::Stop {
                    return next;
                }
            }
            let written = self.out.written();
            let same = run.filter(|&(last, _)| {
                written.get(last + sweep::HEAD..head) == written.get(head + sweep::HEAD..)
            });
            if let Some((last, count)) = same {
                self.out.truncate(head + sweep::HEAD);
                self.commit();
                sweep::run(&mut self.out, last, count + 1);
                run = Some((last, count + 1));
            } else {
                let next = self.out.len();
                sweep::iteration(&mut self.out);
                sweep::run(&mut self.out, head, 1);
                self.commit();
                run = Some((head, 1));
                head = next;
            }
        }
        sweep::end(&mut self.out, head);
        Next::GoOn
    }
}

/// The fields of a `Repeat`.
struct Sweep {
    number: u32,
    count: u32,
    stride: i64,
    moving: u32,
    keep: usize,
}
