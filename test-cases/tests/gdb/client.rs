// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A small client of gdb's remote serial protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use object::{Object, ObjectSymbol};

use crate::common::trouble::Trouble;

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(120);

/// `copra gdb`, whose guest waits for gdb.
pub struct Server {
    pub child: Child,
    pub errors: BufReader<std::process::ChildStderr>,
    pub address: String,
    pub symbols: PathBuf,
}

impl Server {
    /// Starts it on a free port, and waits for the line with which gdb is started.
    pub fn start(platform: &str, options: &[&str], command: &[&str]) -> Result<Self, Trouble> {
        let head = ["gdb", "--platform", platform, "--listen", "127.0.0.1:0", "--timeout", "240"];
        let mut child = Command::new(env!("CARGO_BIN_EXE_copra"))
            .args([&head, options, &["--"], command].concat())
            .env("COPRA_QUIET", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut errors = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        let mut text = String::new();
        loop {
            let start = text.len();
            if errors.read_line(&mut text)? == 0 {
                return Err(format!("copra gdb ended: {text}").into());
            }
            let line = &text[start..];
            if let Some((before, address)) = line.split_once(" -ex 'target remote ") {
                let address = address.trim_end().trim_end_matches('\'').to_owned();
                let symbols = before.trim().trim_start_matches("gdb ").into();
                return Ok(Self { child, errors, address, symbols });
            }
        }
    }

    /// Waits for its end; standard output and error.
    pub fn end(mut self) -> Result<(Output, String), Trouble> {
        let mut errors = String::new();
        self.errors.read_to_string(&mut errors)?;
        Ok((self.child.wait_with_output()?, errors))
    }

    /// The address that the file of symbols has for a function.
    pub fn address_of(&self, name: &str) -> Result<u64, Trouble> {
        let bytes = std::fs::read(&self.symbols)?;
        let file = object::File::parse(&*bytes).map_err(|error| error.to_string())?;
        let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name));
        Ok(symbol.ok_or_else(|| format!("{} has no {name}", self.symbols.display()))?.address())
    }
}

/// A connection with the stub.
pub struct Client {
    stream: BufReader<TcpStream>,
    /// What was shown on gdb's console.
    pub console: String,
}

impl Client {
    pub fn connect(server: &Server) -> Result<Self, Trouble> {
        let stream = TcpStream::connect(&server.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufReader::new(stream), console: String::new() };
        client.ask("qSupported:swbreak+;hwbreak+")?;
        client.ask("QStartNoAckMode")?;
        Ok(client)
    }

    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    pub fn send(&mut self, body: &str) -> Result<(), Trouble> {
        let sum = body.bytes().fold(0u8, u8::wrapping_add);
        self.raw(format!("${body}#{sum:02x}").as_bytes())
    }

    /// The next packet that is not for the console. Everything is acknowledged, which is ignored later.
    pub fn answer(&mut self) -> Result<String, Trouble> {
        loop {
            let mut packet = Vec::new();
            self.stream.read_until(b'#', &mut packet)?;
            let mut sum = [0; 2];
            self.stream.read_exact(&mut sum)?;
            let packet = String::from_utf8_lossy(&packet).into_owned();
            let body = packet.trim_start_matches('+').trim_start_matches('$').trim_end_matches('#');
            let expected = format!("{:02x}", body.bytes().fold(0u8, u8::wrapping_add));
            if expected.as_bytes() != sum {
                return Err(format!("{packet}: wrong sum {sum:?}").into());
            }
            self.raw(b"+")?;
            match body.strip_prefix('O').filter(|text| *text != "K") {
                Some(text) => self.console.push_str(&String::from_utf8_lossy(&bytes(text))),
                None => return Ok(body.to_owned()),
            }
        }
    }

    pub fn ask(&mut self, body: &str) -> Result<String, Trouble> {
        self.send(body)?;
        self.answer()
    }

    /// The answer must be this.
    pub fn expect(&mut self, body: &str, wanted: &str) -> Result<(), Trouble> {
        let answer = self.ask(body)?;
        if answer == wanted { Ok(()) } else { Err(format!("{body}: {answer} instead of {wanted}").into()) }
    }

    /// The guest must stop with this signal: packets `S` and `T`, of which the second has more.
    pub fn stop(&mut self, body: &str, signal: &str) -> Result<String, Trouble> {
        let answer = self.ask(body)?;
        if answer.starts_with(['S', 'T']) && answer.get(1..3) == Some(signal) {
            Ok(answer)
        } else {
            Err(format!("{body}: {answer} instead of signal {signal}; console: {}", self.console).into())
        }
    }

    /// All registers: RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8 to R15, RIP.
    pub fn registers(&mut self) -> Result<Vec<u64>, Trouble> {
        let all = bytes(&expanded(&self.ask("g")?));
        Ok(all.chunks_exact(8).take(17).map(quadword).collect())
    }

    pub fn memory(&mut self, address: u64, len: usize) -> Result<Vec<u8>, Trouble> {
        let answer = expanded(&self.ask(&format!("m{address:x},{len:x}"))?);
        let read = bytes(&answer);
        if read.len() == len { Ok(read) } else { Err(format!("{address:#x}: {answer}").into()) }
    }
}

pub fn quadword(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Hexadecimal digits as bytes.
pub fn bytes(text: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Undoes the protocol's run-length coding: `*` and the count, plus 29, of more of the character before.
fn expanded(text: &str) -> String {
    let mut whole = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, whole.chars().last()) {
            ('*', Some(before)) => {
                let count = rest.next().map_or(0, |c| c as usize - 29);
                whole.extend(std::iter::repeat_n(before, count));
            }
            _ => whole.push(c),
        }
    }
    whole
}
