// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel reports of itself: its names and its log.

use protocol::{Call, MAX_DATA, Refusal};

use super::{Failure, Outcome, State, Success, data};
use crate::syscall;

impl State {
    pub(super) fn uname(&mut self) -> Outcome {
        let mut names = [0; 390];
        syscall::uname(&mut names)?;
        let mut len = 0;
        for name in names.chunks(65) {
            let text = name.iter().take_while(|&&byte| byte != 0).chain(b"\n");
            for (place, byte) in self.scratch.iter_mut().skip(len).zip(text) {
                *place = *byte;
                len += 1;
            }
        }
        Ok(data(len))
    }

    pub(super) fn kernel_log(&mut self, offset: usize, len: usize) -> Outcome {
        const READ_ALL: u32 = 3;
        const SIZE: u32 = 10;
        if len > MAX_DATA {
            return Err(Refusal::Length.into());
        }
        let log = if let Some(log) = self.log.take() {
            log
        } else {
            let size = syscall::kernel_log(SIZE, &mut [])?;
            syscall::memory(size, syscall::MAP_PRIVATE)
                .map_err(|errno| Failure::Errno(Call::Memory, errno))?
        };
        let result = syscall::kernel_log(READ_ALL, log);
        self.log = Some(log);
        let total = result?;
        let from = offset.min(total);
        Ok(Success::Log(total.cast_signed() as i64, from, (from + len).min(total)))
    }
}
