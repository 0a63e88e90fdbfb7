//! The process that executes the steps of one case, and dies of them if it must.

use core::sync::atomic::Ordering::Relaxed;

use protocol::batch::Head;
use protocol::outcome::{self, RESERVE, sweep};
use protocol::window::Directory;
use protocol::wire::{Reader, Slice};
use protocol::{MAX_REPEATED, Refusal, Reset, Step};

use crate::steps::{self, State};
use crate::syscall::{self, File};
use crate::window::Window;
use crate::{boot, guard};

/// In [`Directory::reset`]: the worker ended because a step said so.
pub const LEFT: u64 = u64::MAX;

/// Executes batches whenever the supervisor rings, until it is gone.
pub fn run(window: &mut Window, orders: File, answers: File) -> ! {
    let _ = syscall::setpgid(0, 0);
    let (Ok(()), Ok(mut state)) = (guard::install(), State::new([orders, answers], window.directory)) else {
        boot::say(b"copra: agent: out of memory\n");
        syscall::exit(102)
    };
    let mut byte = [0];
    while syscall::read(orders, &mut byte) == Ok(1) {
        let (directory, batch, up) = window.split();
        Turn { directory, out: Slice::resume(up, 1) }.execute(batch, &mut state);
        if syscall::send_byte(answers, 1).is_err() {
            break;
        }
    }
    syscall::exit(0)
}

/// Whether the batch goes on.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

/// One batch. Outcomes count as soon as they are committed, so nothing is lost when the worker dies.
struct Turn<'a> {
    directory: &'static Directory,
    out: Slice<'a>,
}

impl Turn<'_> {
    fn commit(&self) {
        self.directory.up_len.store(self.out.len() as u64, Relaxed);
    }

    /// Notes where the worker is, for supervisor and host.
    fn at(&self, step: u32, iteration: u32) {
        self.directory.step.store(u64::from(step) | u64::from(iteration) << 32, Relaxed);
        self.directory.progress.store(self.directory.progress.load(Relaxed).wrapping_add(1), Relaxed);
    }

    fn execute(mut self, batch: &[u8], state: &mut State) {
        let mut reader = Reader::new(batch);
        // The supervisor has read the head before.
        let _ = Head::decode(&mut reader);
        let mut number = 0;
        while !reader.is_empty() {
            self.at(number, 0);
            let next = match Step::decode(&mut reader) {
                Ok(Step::Repeat { count, steps, stride, moving, keep }) => {
                    let sweep = Sweep { number, count, stride, moving, keep: keep as usize };
                    self.sweep(&sweep, steps, &mut reader, state)
                }
                Ok(Step::ExitWorker) => {
                    outcome::value(&mut self.out, 0);
                    self.commit();
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
                return;
            }
            number += 1;
        }
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
