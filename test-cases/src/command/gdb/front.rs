// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The half with the connection to gdb.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Frame;
use super::symbols::SymbolFile;
use crate::command::exec::{FRAMES, MOST};
use crate::command::{Failed, host, interrupt};

/// How gdb reaches this command.
#[derive(Debug)]
pub enum Transport {
    /// By TCP.
    Listen(SocketAddr),
    /// By standard input and output.
    Stdio,
}

impl Transport {
    /// Checks that the address is free. A client that connects before the guest waits would give up.
    pub fn listen(address: SocketAddr) -> Result<Self, Failed> {
        let bound = TcpListener::bind(address).map_err(|error| {
            Failed::new(format!("listening on {address}: {error}; give another one with --listen"))
        })?;
        // Port 0 is any that is free.
        let address = bound.local_addr().map_err(failed)?;
        Ok(Self::Listen(address))
    }
}

/// What the front is started with.
#[derive(Debug)]
pub struct Front {
    pub transport: Transport,
    pub symbols: SymbolFile,
    pub what: String,
}

#[expect(clippy::needless_pass_by_value, reason = "an error to be mapped is a value")]
pub fn failed(error: io::Error) -> Failed {
    Failed::new(format!("running a gdb server: {error}"))
}

type ToGuest = Arc<Mutex<Option<Box<dyn Write + Send>>>>;

impl Front {
    /// Runs the other half on the KVM host in QEMU; its exit code.
    pub fn run_elsewhere(self) -> Result<u8, Failed> {
        let arguments: Vec<_> = std::env::args_os().skip(1).collect();
        let mut command = host::elsewhere(&arguments).map_err(Failed::new)?;
        // A group of its own, so that a terminal's Ctrl-C does not end it before it has reported.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).env(FRAMES, "1").process_group(0);
        let flag = interrupt::own_signals()?;
        let mut child = command.spawn().map_err(failed)?;
        let to: ToGuest = Arc::new(Mutex::new(child.stdin.take().map(|to| Box::new(to) as _)));
        let output = child.stdout.take().ok_or_else(|| Failed::new("the KVM host has no output"))?;
        let relay = self.relay(Box::new(output), &to)?;
        let mut sent = false;
        let status = interrupt::await_end(&mut child, &flag, |interrupted| {
            if interrupted && !std::mem::replace(&mut sent, true) {
                send(&to, &Frame::Interrupt);
            }
        });
        let status = status.map_err(failed)?;
        let _ = relay.join();
        Ok(host::code(status))
    }

    /// Serves the other half, which is in this process.
    pub fn serve(self, guest: &UnixStream) -> Result<JoinHandle<()>, Failed> {
        let to: ToGuest = Arc::new(Mutex::new(Some(Box::new(guest.try_clone().map_err(failed)?))));
        self.relay(Box::new(guest.try_clone().map_err(failed)?), &to)
    }

    /// Passes on what the guest's half sends.
    fn relay(self, mut from: Box<dyn Read + Send>, to: &ToGuest) -> Result<JoinHandle<()>, Failed> {
        let to = Arc::clone(to);
        let client: Arc<Mutex<Option<TcpStream>>> = Arc::default();
        let relay = move || {
            while let Some(frame) = Frame::read(&mut from) {
                match frame {
                    Frame::Ready => {
                        if let Err(error) = self.ready(&to, &client) {
                            eprintln!("copra: {error}");
                            send(&to, &Frame::Interrupt);
                        }
                    }
                    Frame::Data(bytes) => match self.transport {
                        Transport::Stdio => print(&mut io::stdout().lock(), &bytes),
                        Transport::Listen(_) => {
                            let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
                            let _ = client.as_mut().map(|client| client.write_all(&bytes));
                        }
                    },
                    Frame::Output(bytes) => match self.transport {
                        Transport::Stdio => print(&mut io::stderr().lock(), &bytes),
                        Transport::Listen(_) => print(&mut io::stdout().lock(), &bytes),
                    },
                    _ => {}
                }
            }
        };
        std::thread::Builder::new().name("gdb front".to_owned()).spawn(relay).map_err(failed)
    }

    /// The guest waits: gdb may come.
    fn ready(&self, to: &ToGuest, client: &Arc<Mutex<Option<TcpStream>>>) -> io::Result<()> {
        let to = Arc::clone(to);
        match self.transport {
            Transport::Stdio => {
                std::thread::Builder::new().name("gdb stdin".to_owned()).spawn(move || {
                    copy(&mut io::stdin().lock(), &to);
                    // gdb's command `target remote |` has no second connection.
                    send(&to, &Frame::Interrupt);
                })?;
            }
            Transport::Listen(address) => {
                let listener = TcpListener::bind(address)?;
                let client = Arc::clone(client);
                std::thread::Builder::new().name("gdb listener".to_owned()).spawn(move || {
                    for stream in listener.incoming().flatten() {
                        serve(stream, &client, &to);
                    }
                })?;
                eprintln!("copra: {} waits for gdb:", self.what);
                eprintln!("  gdb {} -ex 'target remote {address}'", self.symbols.arguments());
            }
        }
        Ok(())
    }
}

/// One client; the next one waits.
fn serve(mut stream: TcpStream, client: &Mutex<Option<TcpStream>>, to: &ToGuest) {
    // Packets are small, and each waits for its answer.
    let _ = stream.set_nodelay(true);
    *client.lock().unwrap_or_else(PoisonError::into_inner) = stream.try_clone().ok();
    copy(&mut stream, to);
    *client.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Passes on all that gdb sends, and its end.
fn copy(from: &mut impl Read, to: &ToGuest) {
    let mut buffer = vec![0; MOST];
    loop {
        match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return send(to, &Frame::End),
            Ok(count) => send(to, &Frame::Data(buffer[..count].to_vec())),
        }
    }
}

/// A guest that has ended takes nothing.
fn send(to: &ToGuest, frame: &Frame) {
    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = to.as_mut().map(|to| frame.write(to));
}

/// An output that has no reader any more takes nothing.
fn print(to: &mut impl Write, bytes: &[u8]) {
    let _ = to.write_all(bytes).and_then(|()| to.flush());
}
