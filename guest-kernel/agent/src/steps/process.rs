// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the worker may do, and the programs it runs.

use core::sync::atomic::Ordering::Relaxed;

use protocol::{MAX_PATH, Refusal};

use super::path::with_zero;
use super::{Outcome, State, Success};
use crate::program;
use crate::syscall;

impl State {
    pub(super) fn run(&mut self, path: &[u8], arguments: &[u8], len: usize, limit_ms: u32) -> Outcome {
        let progress = &self.directory.progress;
        let output = self.scratch.get_mut(..len).ok_or(Refusal::Length)?;
        let mut place = [0; MAX_PATH + 1];
        let path = with_zero(path, &mut place)?;
        let tick = || progress.store(progress.load(Relaxed).wrapping_add(1), Relaxed);
        let (status, len) = program::run(path, arguments, output, limit_ms, tick)?;
        Ok(Success::Data(i64::from(status), len))
    }
}

pub(super) fn drop_capabilities(mask: u64) -> Outcome {
    let mut sets = syscall::capabilities()?;
    for (index, set) in sets.iter_mut().enumerate() {
        *set &= !((mask >> (index / 3 * 32)) as u32);
    }
    Ok(syscall::set_capabilities(sets)?.into())
}

pub(super) fn set_user(uid: u32, gid: u32, keep: bool) -> Outcome {
    syscall::set_groups_none()?;
    syscall::set_gid(gid)?;
    syscall::keep_capabilities(keep)?;
    let done = syscall::set_uid(uid)?;
    if keep {
        let [_, permitted, inheritable, _, high_permitted, high_inheritable] = syscall::capabilities()?;
        syscall::set_capabilities([
            permitted,
            permitted,
            inheritable,
            high_permitted,
            high_permitted,
            high_inheritable,
        ])?;
    }
    Ok(done.into())
}
