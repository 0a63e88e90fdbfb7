// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A stopped child of the worker, for looking at its memory from outside.

use protocol::Errno;

use crate::syscall::{self, File, Result};

const STOPPED_TOO: u32 = 2;
const ECHILD: Errno = Errno(10);

/// Forks a child that lets itself be traced and stops, has `act` done to it, and ends it. The child has copies of the
/// worker's mappings, as far as the kernel lets them be inherited. The pipes `control` are closed in it.
pub fn with_stopped<T>(control: [File; 2], act: impl FnOnce(i32) -> T) -> Result<T> {
    let process = syscall::fork()?;
    if process == 0 {
        for file in control {
            let _ = syscall::close(file);
        }
        syscall::end_with_parent();
        let _ = syscall::trace_me();
        let _ = syscall::kill(syscall::getpid(), syscall::SIGSTOP);
        syscall::exit(0)
    }
    let (_, status) = syscall::wait(process, STOPPED_TOO)?;
    if status & 0xff != 0x7f {
        return Err(ECHILD);
    }
    let result = act(process);
    let _ = syscall::kill(process, syscall::SIGKILL);
    let _ = syscall::wait(process, 0);
    Ok(result)
}
