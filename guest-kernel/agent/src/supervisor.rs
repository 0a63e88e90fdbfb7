// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PID 1: talks to the host, keeps a worker, and outlives it.

use core::sync::atomic::Ordering::Relaxed;

use protocol::batch::Head;
use protocol::frame::MAX_FRAME;
use protocol::outcome::{self, FRESH};
use protocol::wire::{Reader, Sink, Slice};
use protocol::{Decoder, Error, Frame, HALF_FRAME_MS, Kind, Payload};

use crate::syscall::{self, File};
use crate::window::Window;
use crate::{boot, serial, worker};

/// How long a killed worker may take to die.
const DEATH_MS: u32 = 2_000;
/// Time for the first worker to come as far as its wait for a batch.
const START_MS: u32 = 1;
/// `wait` only for what has ended already.
const NO_HANG: u32 = 1;

struct Worker {
    process: i32,
    /// A byte here starts a batch.
    orders: File,
    /// A byte from here ends one. It reads as ended when the worker is gone.
    answers: File,
    /// It has had no batch yet.
    unused: bool,
}

/// How a worker's turn ended.
enum End {
    Done,
    Gone,
    TimedOut,
}

struct Supervisor {
    port: File,
    is_init: bool,
    window: Window,
    notification: Notification,
    worker: Option<Worker>,
}

/// A line whose change announces results.
struct Notification {
    /// There is one.
    works: bool,
    /// It is set.
    up: bool,
    /// It was changed for results, and no order has been looked for since.
    sent: bool,
}

/// How results reach the host.
#[derive(Clone, Copy)]
enum Channel {
    /// A frame, which has them unless they are to be in the window.
    Frame { by_window: bool },
    /// The window and the notification line.
    Notification,
}

/// Serves the host on `line` for ever.
pub fn run(port: File, is_init: bool) -> ! {
    let memory = (Window::new(is_init), syscall::memory(MAX_FRAME, syscall::MAP_PRIVATE));
    let (Ok(window), Ok(buffer)) = memory else {
        boot::print(b"copra: agent: out of memory\n");
        syscall::exit(1)
    };
    syscall::ignore_broken_pipes();
    let notification = Notification { works: serial::notify(port, true), up: true, sent: false };
    let mut supervisor = Supervisor { port, is_init, window, notification, worker: None };
    // Before the greeting: a guest that is saved then need not start a process for each case.
    supervisor.worker = supervisor.start_worker().ok();
    syscall::sleep(START_MS);
    supervisor.attach();
    let mut decoder = Decoder::new(buffer);
    let mut bytes = [0; 256];
    loop {
        if supervisor.window.take_order() {
            supervisor.carry_out();
            continue;
        }
        if supervisor.notification.sent {
            // The next order comes with the notification line's change. It was none if another program had put the line there before.
            supervisor.notify();
            supervisor.notification.sent = false;
            continue;
        }
        if decoder.is_pending() && !syscall::wait_readable(port, HALF_FRAME_MS) {
            decoder.reset();
            supervisor.refuse(Error::Truncated);
            continue;
        }
        let count = match syscall::read(port, &mut bytes) {
            Ok(count) if count > 0 => count,
            // The test is over.
            _ if !is_init => syscall::exit(0),
            // A line that was hung up may come back; PID 1 has nowhere else to go.
            _ => {
                syscall::sleep(100);
                0
            }
        };
        for &byte in bytes.get(..count).unwrap_or_default() {
            decoder.push(byte);
            while let Some(frame) = decoder.poll() {
                supervisor.answer(frame);
            }
        }
    }
}

impl Supervisor {
    fn answer(&mut self, frame: Result<Frame<'_>, Error>) {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return self.refuse(error),
        };
        match frame.kind {
            Kind::Batch => {
                let taken = match frame.payload {
                    Payload::Inline(payload) => self.window.fill_down(payload),
                    Payload::Window => self.window.check_down(),
                };
                match taken.and_then(|()| self.execute()) {
                    Ok(()) => self.send_results(Channel::Frame { by_window: frame.reply_by_window }),
                    Err(error) => self.refuse(error),
                }
            }
            Kind::Attach => self.attach(),
            Kind::Again => self.send_results(Channel::Frame { by_window: frame.reply_by_window }),
            Kind::Hello | Kind::Results | Kind::Refused => self.refuse(Error::Kind),
        }
    }

    /// Executes a batch that came without a frame.
    fn carry_out(&mut self) {
        let done = self.window.check_down().and_then(|()| self.execute());
        self.window.answer_order();
        match done {
            Ok(()) => self.send_results(Channel::Notification),
            Err(error) => self.refuse(error),
        }
    }

    /// Changes the notification line. False if that failed.
    fn notify(&mut self) -> bool {
        self.notification.up = !self.notification.up;
        self.notification.sent = serial::notify(self.port, self.notification.up);
        self.notification.sent
    }

    fn send(&self, kind: Kind, payload: Payload<'_>) {
        let frame = Frame { kind, sequence: self.window.sequence(), reply_by_window: false, payload };
        // One write for what is short: the driver then fills the port's FIFO at once.
        let mut bytes = [0; 64];
        let mut sink = Slice::new(&mut bytes);
        frame.encode(&mut sink);
        if sink.overflowed() {
            frame.encode(&mut PortSink(self.port));
        } else {
            serial::write_all(self.port, sink.written());
        }
    }

    fn attach(&mut self) {
        let usable = self.window.prepare();
        self.send_hello(usable);
    }

    fn send_hello(&self, usable: bool) {
        let mut bytes = [0; 24];
        let mut sink = Slice::new(&mut bytes);
        self.window.hello(usable, self.notification.works).encode(&mut sink);
        self.send(Kind::Hello, Payload::Inline(sink.written()));
    }

    /// Makes the window ready for the next answer; if the directory page has moved, reports that first. False if there is
    /// no window.
    fn show_window(&mut self) -> bool {
        let before = self.window.frame_number();
        let usable = self.window.prepare();
        if usable && before != self.window.frame_number() {
            self.send_hello(usable);
        }
        usable
    }

    fn refuse(&mut self, error: Error) {
        self.show_window();
        self.send(Kind::Refused, Payload::Inline(&[error as u8]));
    }

    fn send_results(&mut self, channel: Channel) {
        self.window.seal();
        let usable = self.show_window();
        match channel {
            Channel::Notification if usable && self.notify() => {}
            Channel::Frame { by_window: true } if usable => self.send(Kind::Results, Payload::Window),
            _ => self.send(Kind::Results, Payload::Inline(self.window.results())),
        }
        self.end_guest();
    }

    /// Ends the guest if the last batch requested it.
    fn end_guest(&self) {
        let command = match self.window.directory.reset.swap(0, Relaxed) {
            0 => return,
            1 => syscall::REBOOT_RESTART,
            2 => syscall::REBOOT_POWER_OFF,
            _ => syscall::REBOOT_HALT,
        };
        if !self.is_init {
            syscall::exit(0);
        }
        serial::drain(self.port);
        syscall::sync();
        syscall::reboot(command);
    }

    /// Has the worker execute the batch in the down half; its results are in the up half.
    fn execute(&mut self) -> Result<(), Error> {
        let head = Head::decode(&mut Reader::new(self.window.batch()))?;
        let mut fresh = self.worker.as_ref().is_none_or(|worker| worker.unused);
        if head.new_worker && !fresh {
            self.end_worker();
            fresh = true;
        }
        let directory = self.window.directory;
        directory.step.store(0, Relaxed);
        directory.reset.store(0, Relaxed);
        directory.up_len.store(1, Relaxed);
        // One that died between two batches is replaced.
        if self.worker.as_ref().is_some_and(|worker| syscall::send_byte(worker.orders, 1).is_err()) {
            self.end_worker();
            fresh = true;
        }
        if let Some(worker) = &mut self.worker {
            worker.unused = false;
        } else {
            let worker = self.start_worker()?;
            let _ = syscall::send_byte(worker.orders, 1);
            self.worker = Some(Worker { unused: false, ..worker });
        }
        self.window.up()[0] = if fresh { FRESH } else { 0 };
        let end = self.wait_for_worker(head.step_ms);
        let died = match end {
            End::Done => None,
            End::Gone => Some(self.end_worker()),
            End::TimedOut => {
                let status = self.end_worker();
                self.append(|sink| outcome::timeout(sink, status.is_none()));
                None
            }
        };
        if let Some(status) = died {
            let status = status.unwrap_or_default().cast_unsigned();
            let signal = (status & 0x7f) as u8;
            if signal != 0 {
                self.append(|sink| outcome::killed(sink, signal));
            } else if directory.reset.load(Relaxed) != worker::LEFT {
                self.append(|sink| outcome::exited(sink, (status >> 8) as u8));
            }
            directory.reset.store(0, Relaxed);
        }
        self.reap();
        Ok(())
    }

    fn append(&mut self, write: impl FnOnce(&mut Slice<'_>)) {
        let len = self.window.up_len();
        let mut sink = Slice::resume(self.window.up(), len);
        write(&mut sink);
        let len = sink.len();
        self.window.directory.up_len.store(len as u64, Relaxed);
    }

    fn start_worker(&mut self) -> Result<Worker, Error> {
        // Pipes, since a kernel under test need not have sockets.
        let (Ok(orders), Ok(answers)) = (syscall::pipe(), syscall::pipe()) else { return Err(Error::Worker) };
        match syscall::fork() {
            Ok(0) => {
                let _ = syscall::close(orders.writes);
                let _ = syscall::close(answers.reads);
                let _ = syscall::close(self.port);
                worker::run(&mut self.window, orders.reads, answers.writes)
            }
            Ok(process) => {
                // A group of its own, so that its children can be ended with it; set on both sides, as either may be first.
                let _ = syscall::setpgid(process, process);
                let _ = syscall::close(orders.reads);
                let _ = syscall::close(answers.writes);
                Ok(Worker { process, orders: orders.writes, answers: answers.reads, unused: true })
            }
            Err(_) => {
                for file in [orders.reads, orders.writes, answers.reads, answers.writes] {
                    let _ = syscall::close(file);
                }
                Err(Error::Worker)
            }
        }
    }

    fn wait_for_worker(&self, step_ms: u32) -> End {
        let Some(worker) = &self.worker else { return End::Gone };
        let progress = &self.window.directory.progress;
        loop {
            let before = progress.load(Relaxed);
            if syscall::wait_readable(worker.answers, step_ms) {
                let mut byte = [0];
                return match syscall::read(worker.answers, &mut byte) {
                    Ok(1) => End::Done,
                    _ => End::Gone,
                };
            }
            if progress.load(Relaxed) == before {
                return End::TimedOut;
            }
        }
    }

    /// Kills the worker and all it started. Gives its wait status, unless it does not die.
    fn end_worker(&mut self) -> Option<i32> {
        let worker = self.worker.take()?;
        let _ = syscall::kill(-worker.process, syscall::SIGKILL);
        let _ = syscall::kill(worker.process, syscall::SIGKILL);
        // Its end of the pipe closes when it dies.
        let mut byte = [0];
        let mut gone = false;
        while !gone && syscall::wait_readable(worker.answers, DEATH_MS) {
            gone = syscall::read(worker.answers, &mut byte) != Ok(1);
        }
        let _ = syscall::close(worker.orders);
        let _ = syscall::close(worker.answers);
        if !gone {
            return None;
        }
        // One that is stuck on its last way is not waited for either.
        for attempt in 0..DEATH_MS {
            match syscall::wait(worker.process, NO_HANG) {
                Ok((0, _)) if attempt < 16 => syscall::sched_yield(),
                Ok((0, _)) => syscall::sleep(1),
                Ok((_, status)) => return Some(status),
                Err(_) => return None,
            }
        }
        None
    }

    /// Orphans of the workers become ours.
    fn reap(&mut self) {
        while self.is_init {
            match syscall::wait(-1, NO_HANG) {
                Ok((process, _)) if process > 0 => {
                    if let Some(worker) = self.worker.take_if(|worker| worker.process == process) {
                        let _ = syscall::close(worker.orders);
                        let _ = syscall::close(worker.answers);
                    }
                }
                _ => return,
            }
        }
    }
}

/// The line as a sink, for what is too long to gather first.
struct PortSink(File);

impl Sink for PortSink {
    fn put(&mut self, bytes: &[u8]) {
        serial::write_all(self.0, bytes);
    }
}
