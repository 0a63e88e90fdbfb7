// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A timer that calls the vCPU thread out of `KVM_RUN` at a steady pace, so that deadlines and hung guests are noticed.

use std::io;
use std::sync::Once;
use std::time::Duration;

/// How often.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Ticks on the thread that started it until dropped.
#[derive(Debug)]
pub struct Heartbeat {
    timer: libc::timer_t,
}

/// The signal used; `KVM_RUN` returns EINTR on it, and its handler does nothing.
fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn ignore(_: libc::c_int) {}

/// Has the signal handled, once.
fn install() -> io::Result<()> {
    static HANDLER: Once = Once::new();
    let mut installed = Ok(());
    HANDLER.call_once(|| {
        // SAFETY: zeroes are a valid sigaction; the handler is async-signal-safe, since it does nothing.
        installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
            check(libc::sigaction(signal(), &raw const action, std::ptr::null_mut()))
        };
    });
    installed
}

/// Calls one thread out of `KVM_RUN`, so that it looks for input of the host's.
#[derive(Debug, Clone, Copy)]
pub struct Kick {
    thread: libc::pid_t,
}

impl Kick {
    /// For the calling thread.
    pub fn of_this_thread() -> io::Result<Self> {
        install()?;
        // SAFETY: takes and changes nothing.
        Ok(Self { thread: unsafe { libc::gettid() } })
    }

    /// Does it. A thread that is on its way into the guest is called out at the next heartbeat.
    pub fn kick(self) {
        // SAFETY: takes numbers only; the signal has a handler, and one that reaches another thread does nothing there.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.thread, signal()) };
    }
}

impl Heartbeat {
    /// Starts ticking on the calling thread.
    pub fn start() -> io::Result<Self> {
        install()?;
        // SAFETY: zeroes are a valid sigevent; thread-directed delivery names the calling thread, which outlives
        // the timer because `Heartbeat` stays on its stack.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal();
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer: libc::timer_t = std::ptr::null_mut();
            check(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer))?;
            let pace = libc::timespec { tv_sec: 0, tv_nsec: i64::from(INTERVAL.subsec_nanos()) };
            let every = libc::itimerspec { it_interval: pace, it_value: pace };
            let heartbeat = Self { timer };
            check(libc::timer_settime(timer, 0, &raw const every, std::ptr::null_mut()))?;
            Ok(heartbeat)
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        // SAFETY: the timer was created in `start` and is deleted once.
        unsafe { libc::timer_delete(self.timer) };
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
