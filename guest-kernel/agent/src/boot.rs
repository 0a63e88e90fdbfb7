// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What PID 1 does before anything else: mounts, the kernel command line, a word on the console.

use crate::syscall;

/// Mounts the usual file systems. One that the kernel does not have is left out; the steps that need it then fail.
pub fn mount_all() {
    for (kind, place) in
        [(c"devtmpfs", c"/dev"), (c"proc", c"/proc"), (c"sysfs", c"/sys"), (c"tmpfs", c"/tmp")]
    {
        let _ = syscall::mkdir(place);
        let _ = syscall::mount(kind, place);
    }
    let _ = syscall::mount(c"securityfs", c"/sys/kernel/security");
    let _ = syscall::mount(c"debugfs", c"/sys/kernel/debug");
}

/// Whether the command line requests the marker on the console.
pub fn marker_requested() -> bool {
    let mut line = [0; 4096];
    let Ok(file) = syscall::open(c"/proc/cmdline", syscall::O_CLOEXEC, 0) else { return false };
    let len = syscall::read(file, &mut line).unwrap_or_default();
    let _ = syscall::close(file);
    let words = line.get(..len).unwrap_or_default();
    words.split(u8::is_ascii_whitespace).any(|word| word == b"copra.marker=1")
}

/// Has the kernel itself print the marker, at a level that `quiet` lets through: on a machine that routes no interrupt of
/// the serial port, what a process writes to the console never leaves it.
pub fn send_ready() {
    let text = b"<1>copra: agent ready\n";
    match syscall::open(c"/dev/kmsg", syscall::O_WRONLY | syscall::O_CLOEXEC, 0) {
        Ok(log) => {
            let _ = syscall::write(log, text);
            let _ = syscall::close(log);
        }
        Err(_) => print(text),
    }
}

/// Writes to the console; in a test run, to standard error.
pub fn print(text: &[u8]) {
    match syscall::open(c"/dev/console", syscall::O_WRONLY | syscall::O_NOCTTY | syscall::O_CLOEXEC, 0) {
        Ok(console) if syscall::getpid() == 1 => {
            let _ = syscall::write(console, text);
            let _ = syscall::close(console);
        }
        _ => {
            let _ = syscall::write(2, text);
        }
    }
}
