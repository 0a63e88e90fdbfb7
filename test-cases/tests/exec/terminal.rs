// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra shell`, driven by a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// How long the guest may take to answer, its boot included.
const LIMIT: Duration = Duration::from_secs(240);

/// A command on a terminal of its own.
struct Session {
    terminal: File,
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl Session {
    fn start(command: &[&str], size: (u16, u16)) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let user = File::options().read(true).write(true).open(name).unwrap();
        let mut copra = Command::new(env!("CARGO_BIN_EXE_copra"));
        copra.args(command).env("COPRA_QUIET", "1").env("PS1", "prompt> ");
        copra.stdin(user.try_clone().unwrap()).stdout(user.try_clone().unwrap()).stderr(user);
        // SAFETY: both are system calls and nothing else.
        unsafe {
            copra.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
            });
        }
        let terminal = File::from(terminal);
        let (sender, output) = mpsc::channel();
        let mut reads = terminal.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO once no process has the terminal open.
            while let Ok(count @ 1..) = reads.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut session = Self { terminal, child: copra.spawn().unwrap(), output, seen: String::new() };
        // The command's own copies of the user's side remain.
        drop(copra);
        session.resize(size);
        session
    }

    fn resize(&mut self, (columns, rows): (u16, u16)) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.terminal, size).unwrap();
    }

    fn type_in(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the text, and forgets all up to it.
    fn expect(&mut self, text: &str) {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("waiting for {text:?}: {error}; until then: {:?}", self.seen),
            }
        }
    }
}

#[test]
fn a_shell_has_a_terminal_of_the_users_size_and_its_keys() {
    let command = ["shell", "-p", "tdx", "--timeout", "240", "--", "/bin/bash", "--norc", "--noprofile"];
    let mut session = Session::start(&command, (99, 33));
    session.expect("prompt> ");
    session.type_in("stty size\r");
    session.expect("33 99\r\n");
    session.resize((120, 40));
    // The new size needs a moment on its way.
    session.type_in("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.1; done; echo re''sized\r");
    session.expect("resized\r\n");
    // Line editing, and a signal to what runs.
    session.type_in("echo fro\x7fom-\"the\"-guest\r");
    session.expect("from-the-guest\r\n");
    session.type_in("sleep 1000\r");
    session.expect("sleep 1000\r\n");
    session.type_in("\x03");
    session.expect("prompt> ");
    session.type_in("(exit 5)\r");
    session.expect("prompt> ");
    // Ctrl-D ends the shell with the status of its last command.
    session.type_in("\x04");
    session.expect("0 forbidden accesses");
    assert_eq!(session.child.wait().unwrap().code(), Some(5), "{}", session.seen);
}

#[test]
fn a_shell_without_a_terminal_is_refused() {
    let output = super::copra(&["shell"], b"");
    let errors = super::text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("copra shell needs a terminal as standard input"), "{errors}");
}
