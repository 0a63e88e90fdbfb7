// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loads the next kernel with `kexec_file_load(2)`, by the agent's plain steps: a mapping of its own holds the strings.

use std::time::Duration;

use protocol::{Outcome, Step, Width};

use super::KexecError;
use crate::session::Session;

/// The kernel's file in the guest.
pub const IMAGE: &str = "boot/vmlinuz";
/// The next kernel's initramfs in the guest.
pub const INITRAMFS: &str = "boot/initrd";

/// Numbers of system calls (`arch/x86/entry/syscalls/syscall_64.tbl`).
const OPEN: u32 = 2;
const REBOOT: u32 = 169;
const KEXEC_FILE_LOAD: u32 = 320;
/// `KEXEC_FILE_ON_CRASH` (include/uapi/linux/kexec.h).
const ON_CRASH: u64 = 2;
/// `LINUX_REBOOT_MAGIC1`, `LINUX_REBOOT_MAGIC2`, `LINUX_REBOOT_CMD_KEXEC` (include/uapi/linux/reboot.h).
const KEXEC: [u64; 3] = [0xfee1_dead, 0x2812_1969, 0x4558_4543];
/// The slot of the mapping for strings, and its length: a command line has at most 2,048 bytes.
const MAP: u8 = 0;
const MAP_LEN: u64 = 4096;
/// `PROT_READ | PROT_WRITE`; `MAP_PRIVATE | MAP_ANONYMOUS`; no file.
const READ_WRITE: u32 = 3;
const PRIVATE_ANONYMOUS: u32 = 0x22;
const NO_FILE: u8 = 255;

/// Loads the kernel, for a kexec or for a panic.
pub(super) fn load(
    session: &mut Session,
    command_line: &str,
    on_crash: bool,
    limit: Duration,
) -> Result<(), KexecError> {
    let mut steps = Steps { session, limit };
    let map = Step::Mmap {
        map: MAP,
        file: NO_FILE,
        offset: 0,
        len: MAP_LEN,
        prot: READ_WRITE,
        flags: PRIVATE_ANONYMOUS,
    };
    let strings = steps.value("mapping memory", &map)?;
    let kernel = steps.open(strings, IMAGE)?;
    let initramfs = steps.open(strings, INITRAMFS)?;
    let len = steps.store(command_line)?;
    let flags = if on_crash { ON_CRASH } else { 0 };
    let arguments = [kernel, initramfs, len, strings, flags, 0];
    steps.value("kexec_file_load(2)", &Step::Syscall { number: KEXEC_FILE_LOAD, arguments })?;
    Ok(())
}

/// The step that starts the loaded kernel.
pub(super) fn reboot() -> Step<'static> {
    let [magic, magic2, command] = KEXEC;
    Step::Syscall { number: REBOOT, arguments: [magic, magic2, command, 0, 0, 0] }
}

/// The step that makes the kernel panic (Documentation/admin-guide/sysrq.rst).
pub(super) fn panic() -> Step<'static> {
    Step::WriteFile { path: b"/proc/sysrq-trigger", create: false, data: b"c" }
}

/// Steps of a guest that must not fail.
struct Steps<'a> {
    session: &'a mut Session,
    limit: Duration,
}

impl Steps<'_> {
    fn value(&mut self, what: &'static str, step: &Step<'_>) -> Result<u64, KexecError> {
        let outcome = self.session.step(step, self.limit).map_err(|end| KexecError::Ended(Box::new(end)))?;
        match outcome {
            Outcome::Value(value) => Ok(value.cast_unsigned()),
            outcome => Err(KexecError::Load { what, outcome: format!("{outcome:?}") }),
        }
    }

    /// Stores a string with its terminating zero; gives its length with that.
    fn store(&mut self, text: &str) -> Result<u64, KexecError> {
        let mut data = text.as_bytes().to_vec();
        data.push(0);
        let step = Step::Poke { map: MAP, offset: 0, data: &data, width: Width::Byte };
        self.value("storing a string", &step)?;
        Ok(data.len() as u64)
    }

    fn open(&mut self, strings: u64, path: &str) -> Result<u64, KexecError> {
        self.store(&format!("/{path}"))?;
        self.value("opening the kernel", &Step::Syscall { number: OPEN, arguments: [strings, 0, 0, 0, 0, 0] })
    }
}
