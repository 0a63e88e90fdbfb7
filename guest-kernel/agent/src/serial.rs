// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The line to the host: the second serial port, raw.

use crate::syscall::{self, File, Result};

const PATH: &core::ffi::CStr = c"/dev/ttyS1";

/// The kernel's `struct termios`.
#[repr(C)]
struct Termios {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    discipline: u8,
    characters: [u8; 19],
}

/// Opens the port and makes it raw; `None` if the guest has none. The kernel makes nodes for ports that do not exist
/// too, but those have no settings.
pub fn open() -> Option<File> {
    let port = try_open().or_else(|_| {
        let _ = syscall::mknod(PATH, 4, 65);
        try_open()
    });
    port.ok()
}

fn try_open() -> Result<File> {
    const TCSETS: u32 = 0x5402;
    const B115200: u32 = 0o010_002;
    const CS8: u32 = 0o60;
    const CREAD: u32 = 0o200;
    const CLOCAL: u32 = 0o4000;
    const F_SETFL: u32 = 4;
    const VMIN: usize = 6;
    // Without waiting for a carrier, which is never raised.
    let flags = syscall::O_RDWR | syscall::O_NOCTTY | syscall::O_NONBLOCK | syscall::O_CLOEXEC;
    let port = syscall::open(PATH, flags, 0)?;
    let mut termios = Termios {
        input: 0,
        output: 0,
        control: B115200 | CS8 | CREAD | CLOCAL,
        local: 0,
        discipline: 0,
        characters: [0; 19],
    };
    termios.characters[VMIN] = 1;
    let set = syscall::ioctl(port, TCSETS, &raw const termios as u64)
        .and_then(|_| syscall::set_flags(port, F_SETFL, syscall::O_RDWR));
    match set {
        Ok(_) => Ok(port),
        Err(error) => {
            let _ = syscall::close(port);
            Err(error)
        }
    }
}

/// Changes the notification line: OUT1, a modem control line of the port that nothing is connected to. False if there is none.
pub fn notify(port: File, up: bool) -> bool {
    const TIOCMBIS: u32 = 0x5416;
    const TIOCMBIC: u32 = 0x5417;
    const TIOCM_OUT1: u32 = 0x2000;
    let line = TIOCM_OUT1;
    syscall::ioctl(port, if up { TIOCMBIS } else { TIOCMBIC }, &raw const line as u64).is_ok()
}

/// Waits until everything written has left the port.
pub fn drain(port: File) {
    const TCSBRK: u32 = 0x5409;
    let _ = syscall::ioctl(port, TCSBRK, 1);
}

/// Writes everything. A failure of the port cannot be reported anywhere.
pub fn write_all(port: File, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match syscall::write(port, bytes) {
            Ok(count) if count > 0 => bytes = bytes.get(count..).unwrap_or_default(),
            _ => return,
        }
    }
}
