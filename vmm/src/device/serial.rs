// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two serial ports: the kernel's console, captured, and the agent's byte pipe.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};

use super::image::PortImage;
use crate::trace::output::OutputMarks;

/// Pulses an interrupt line of the in-kernel interrupt controller.
#[derive(Debug, Clone)]
pub struct IrqLine {
    vm: Arc<VmFd>,
    line: u32,
}

impl IrqLine {
    /// Line `line` of `vm`.
    pub fn new(vm: &Arc<VmFd>, line: u32) -> Self {
        Self { vm: Arc::clone(vm), line }
    }
}

impl Trigger for IrqLine {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        // The 8259A lines of serial ports are edge-triggered.
        let set = |active| {
            self.vm.set_irq_line(self.line, active).map_err(|e| io::Error::from_raw_os_error(e.errno()))
        };
        set(true)?;
        set(false)
    }
}

/// Console output: all of it up to a bound, then the newest, so that a flood costs no memory and a panic at
/// its end is still there.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: u64,
    /// Also show it on standard error as it comes.
    #[serde(skip)]
    pub echo: bool,
    /// Where in it the guest's forbidden accesses were made, since the guest was started or restored.
    #[serde(skip)]
    pub marks: OutputMarks,
}

impl Capture {
    /// Bytes kept from the start.
    pub const HEAD: usize = 1 << 20;
    /// Bytes kept from the end once the head is full.
    pub const TAIL: usize = 1 << 20;

    /// Everything kept, with a line that reports how much is missing.
    pub fn text(&self) -> String {
        use std::fmt::Write;
        let mut text = String::from_utf8_lossy(&self.head).into_owned();
        if self.dropped > 0 {
            let _ = write!(text, "\n[... {} bytes of console output not kept ...]\n", self.dropped);
        }
        let (front, back) = self.tail.as_slices();
        text.push_str(&String::from_utf8_lossy(&[front, back].concat()));
        text
    }

    /// Bytes written by the guest, kept or not.
    pub fn total(&self) -> u64 {
        self.dropped.saturating_add((self.head.len() + self.tail.len()) as u64)
    }

    /// The bytes kept from the start: everything, if none are missing.
    pub fn beginning(&self) -> Vec<u8> {
        let mut bytes = self.head.clone();
        if self.dropped == 0 {
            bytes.extend(&self.tail);
        }
        bytes
    }

    /// Bytes not kept.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.marks.before_output(self.total());
        if self.echo {
            // A closed standard error does not end the capture.
            let _ = io::stderr().write_all(&visible(bytes));
        }
        // One that was read from a file may have any lengths.
        let room = Self::HEAD.saturating_sub(self.head.len());
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(Self::TAIL);
        self.tail.drain(..excess);
        self.dropped = self.dropped.saturating_add(excess as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Register of a 16550A with the modem control lines it drives.
const MODEM_CONTROL: u16 = 4;

/// A 16550A with any sink behind it.
pub struct Port<W: Write> {
    uart: Serial<IrqLine, NoEvents, W>,
    incoming: VecDeque<u8>,
    /// The guest has written to the modem control register since this was taken.
    notified: bool,
}

impl<W: Write> Port<W> {
    /// A port that interrupts through `irq` and writes to `sink`.
    pub fn new(irq: IrqLine, sink: W) -> Self {
        Self { uart: Serial::new(irq, sink), incoming: VecDeque::new(), notified: false }
    }

    /// IN from register `offset`.
    pub fn read(&mut self, offset: u16) -> u8 {
        let value = self.uart.read(offset as u8);
        self.refill();
        value
    }

    /// OUT to register `offset`.
    pub fn write(&mut self, offset: u16, value: u8) {
        // Whatever is written: another program in the guest may have changed the lines behind its driver's back.
        self.notified |= offset == MODEM_CONTROL;
        // A lost interrupt or a full sink shows in what the guest does next; there is no one to report it to.
        let _ = self.uart.write(offset as u8, value);
    }

    /// Whether the guest has written to the modem control register since that was taken.
    pub fn is_notified(&self) -> bool {
        self.notified
    }

    /// The same, taken.
    pub fn take_notification(&mut self) -> bool {
        std::mem::take(&mut self.notified)
    }

    /// Queues bytes for the guest.
    pub fn send(&mut self, bytes: &[u8]) {
        self.incoming.extend(bytes);
        self.refill();
    }

    /// Where written bytes go.
    pub fn sink(&self) -> &W {
        self.uart.writer()
    }

    /// Where written bytes go.
    pub fn sink_mut(&mut self) -> &mut W {
        self.uart.writer_mut()
    }

    /// Saves registers, FIFO and bytes on their way to the guest.
    pub fn save(&self) -> PortImage {
        PortImage::new(&self.uart.state(), self.incoming.iter().copied().collect())
    }

    /// Makes the port what it was then, writing to `sink` from now on.
    pub fn restore(&mut self, image: &PortImage, sink: W) -> io::Result<()> {
        let irq = self.uart.interrupt_evt().clone();
        self.uart = Serial::from_state(&image.state(), irq, NoEvents, sink)
            .map_err(|error| io::Error::other(format!("restoring a serial port: {error:?}")))?;
        self.incoming = image.incoming().iter().copied().collect();
        self.notified = false;
        Ok(())
    }

    fn refill(&mut self) {
        while !self.incoming.is_empty() {
            let room = self.uart.fifo_capacity();
            let (front, _) = self.incoming.as_slices();
            let part = front[..front.len().min(room)].to_vec();
            match self.uart.enqueue_raw_bytes(&part) {
                Ok(taken) if taken > 0 => drop(self.incoming.drain(..taken)),
                _ => return,
            }
        }
    }
}

impl<W: Write> std::fmt::Debug for Port<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port").field("incoming", &self.incoming.len()).finish_non_exhaustive()
    }
}

/// What a guest writes, without what would change the terminal it is shown on.
fn visible(bytes: &[u8]) -> Vec<u8> {
    let shown = |byte: &u8| matches!(byte, b'\n' | b'\r' | b'\t' | b' '..=b'~');
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        if shown(byte) {
            out.push(*byte);
        } else {
            out.extend(std::ascii::escape_default(*byte));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_has_no_control_characters() {
        assert_eq!(visible(b"a\tb\r\n\x1b[2J\x7f\x9b1m"), b"a\tb\r\n\\x1b[2J\\x7f\\x9b1m");
        assert!(
            visible(&(0..=255).collect::<Vec<u8>>())
                .iter()
                .all(|b| b.is_ascii_graphic() || b" \n\r\t".contains(b))
        );
    }

    #[test]
    fn a_capture_of_any_lengths_takes_more() {
        let dropped = u64::MAX;
        let (head, tail) = (vec![b'h'; Capture::HEAD + 1], vec![b't'; Capture::TAIL + 1].into());
        let mut capture = Capture { head, tail, dropped, ..Capture::default() };
        capture.write_all(b"more").unwrap();
        assert_eq!((capture.tail.len(), capture.total()), (Capture::TAIL, u64::MAX));
        assert!(capture.text().ends_with("tmore"));
    }

    #[test]
    fn a_flood_keeps_the_beginning_and_the_end() {
        let mut capture = Capture::default();
        capture.write_all(b"first\n").unwrap();
        for _ in 0..100 {
            capture.write_all(&vec![b'x'; 1 << 20]).unwrap();
        }
        capture.write_all(b"\nKernel panic\n").unwrap();
        let text = capture.text();
        assert!(text.starts_with("first\n"));
        assert!(text.ends_with("\nKernel panic\n"));
        assert!(text.contains("bytes of console output not kept"));
        assert!(text.len() < (Capture::HEAD + Capture::TAIL + 200));
        assert_eq!(capture.total(), 6 + (100 << 20) + 14);
    }
}
