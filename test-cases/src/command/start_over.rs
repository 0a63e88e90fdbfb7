// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where this machine's KVM cannot run the guests, the same command is run on the KVM host in QEMU.

use std::io::{self, IsTerminal};
use std::process::Stdio;

use super::host::{self, Place};
use super::{Failed, interrupt};
use crate::exit::Exit;
use engine::observation::KvmHost;
use guest_kernel::cache::{Cache, WORK_FOLDER};

/// This machine's KVM, or the KVM host this process runs on, for guests of one platform or of all. Where neither can run
/// them, the process ends with the exit code of the same command on the KVM host in QEMU.
pub fn kvm_host(place: Place) -> Result<KvmHost, Failed> {
    match place {
        Place::Here(host) => Ok(host),
        Place::Elsewhere(_) => end_with(code(Reader::Needed)?),
    }
}

/// Whether the command continues after EPIPE on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// It ends.
    Needed,
    /// It continues, as it writes reports.
    NotNeeded,
}

/// Runs this command on the KVM host in QEMU; its exit code.
pub fn code(reader: Reader) -> Result<u8, Failed> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut command = host::elsewhere(&arguments).map_err(Failed::new)?;
    // A KVM host ends at EPIPE, so its output is copied from a pipe; a terminal is inherited.
    if reader == Reader::NotNeeded && !io::stdout().is_terminal() {
        command.stdout(Stdio::piped());
    }
    // The KVM host has this machine's cache without its locks: what is being written there is held here.
    let work = Cache::open().and_then(|cache| cache.scratch()).ok();
    if let Some(work) = &work {
        command.env(WORK_FOLDER, work.path());
    }
    // The inner command writes everything, reports after Ctrl-C included; its exit code is ours.
    let status = interrupt::pass_on(&mut command)?;
    Ok(host::code(status))
}

/// Ends this process.
pub fn end_with(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

/// Runs this command on the KVM host in QEMU for `git bisect run`, and ends with its exit code. The inner command never ends
/// with 2: 2 means that the KVM host could not be started.
pub fn bisect() -> Result<u8, Failed> {
    let code = code(Reader::NotNeeded)?;
    Ok(if code == Exit::CouldNotRun.code() { Exit::AbortBisect.code() } else { code })
}
