// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Control messages of a console (Virtio 1.2 §5.3.6.2): which ports there are, and what becomes of them.

use std::collections::VecDeque;

use super::ConsolePort;

/// The driver is ready for messages.
const DEVICE_READY: u16 = 0;
/// There is a port.
const DEVICE_ADD: u16 = 1;
/// The driver is ready to use the port.
const PORT_READY: u16 = 3;
/// The other side has opened (1) or closed (0) the port.
const PORT_OPEN: u16 = 6;
/// The port's name.
const PORT_NAME: u16 = 7;

/// Bytes of a message, less what belongs to its event: port, event, value.
pub(super) const HEADER: usize = 8;
/// Messages kept for a guest that takes none; a guest that sends requests without end gets no more.
const MOST: usize = 256;

/// A port, as the guest knows it.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// A process of the guest has it open.
    open: bool,
    /// It was reported to the guest that no more input comes.
    ended: bool,
}

/// Messages for the guest, and what it knows.
#[derive(Debug)]
pub(super) struct Control {
    messages: VecDeque<Vec<u8>>,
    known: Vec<Known>,
}

impl Control {
    pub(super) fn new(ports: usize) -> Self {
        Self { messages: VecDeque::new(), known: vec![Known::default(); ports] }
    }

    /// Whether there is something to send.
    pub(super) fn has_message(&self, ports: &[ConsolePort]) -> bool {
        let changed = |(known, port): (&Known, &ConsolePort)| has_ended(*known, port);
        !self.messages.is_empty() || self.known.iter().zip(ports).any(changed)
    }

    /// Whether the guest takes input of a port: it discards what comes before a process has a pipe open
    /// (Linux, `drivers/char/virtio_console.c:in_intr`).
    pub(super) fn takes_input(&self, port: usize) -> bool {
        self.known.get(port).is_some_and(|known| known.open)
    }

    /// The next message.
    pub(super) fn next(&mut self, ports: &[ConsolePort]) -> Option<Vec<u8>> {
        for (id, port) in (0..).zip(ports) {
            let known = &mut self.known[id as usize];
            if has_ended(*known, port) {
                known.ended = true;
                self.messages.push_back(message(id, PORT_OPEN, 0, &[]));
            }
        }
        self.messages.pop_front()
    }

    /// Takes a message of the guest's.
    pub(super) fn answer(&mut self, bytes: [u8; HEADER], ports: &[ConsolePort]) {
        let [a, b, c, d, event, event_high, value, value_high] = bytes;
        let id = u32::from_le_bytes([a, b, c, d]);
        let event = u16::from_le_bytes([event, event_high]);
        let value = u16::from_le_bytes([value, value_high]);
        if event == DEVICE_READY {
            for id in 0..ports.len() as u32 {
                self.push(message(id, DEVICE_ADD, 1, &[]));
            }
            return;
        }
        let Some((port, known)) = ports.get(id as usize).zip(self.known.get_mut(id as usize)) else { return };
        match event {
            PORT_READY if value == 1 => {
                let name = [port.name.as_bytes(), &[0]].concat();
                // The name last: a process that sees it finds the port connected.
                self.push(message(id, PORT_OPEN, 1, &[]));
                self.push(message(id, PORT_NAME, 1, &name));
            }
            PORT_OPEN => known.open = value == 1,
            _ => {}
        }
    }

    fn push(&mut self, message: Vec<u8>) {
        if self.messages.len() < MOST {
            self.messages.push_back(message);
        }
    }
}

/// A pipe's input is over, and the guest, which has it open, does not know.
fn has_ended(known: Known, port: &ConsolePort) -> bool {
    known.open && !known.ended && port.peer.has_ended() && !port.peer.has_input()
}

fn message(id: u32, event: u16, value: u16, more: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes(), more].concat()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use super::super::PortPeer;
    use super::*;

    /// Input, whether it is over.
    #[derive(Debug, Default)]
    struct Peer(Mutex<Content>);
    type Content = (Vec<u8>, bool);

    impl PortPeer for Peer {
        fn receive(&self, _: &[u8]) {}
        fn has_input(&self) -> bool {
            !self.0.lock().unwrap().0.is_empty()
        }
        fn take(&self, room: usize) -> Vec<u8> {
            let input = &mut self.0.lock().unwrap().0;
            let count = room.min(input.len());
            input.drain(..count).collect()
        }
        fn has_ended(&self) -> bool {
            self.0.lock().unwrap().1
        }
    }

    fn events(control: &mut Control, ports: &[ConsolePort]) -> Vec<(u16, u16)> {
        let next = || {
            control.next(ports).map(|m| (u16::from_le_bytes([m[4], m[5]]), u16::from_le_bytes([m[6], m[7]])))
        };
        std::iter::from_fn(next).collect()
    }

    fn from_guest(id: u32, event: u16, value: u16) -> [u8; HEADER] {
        message(id, event, value, &[]).try_into().unwrap()
    }

    #[test]
    fn a_pipe_ends_when_its_input_is_taken_and_a_process_has_it_open() {
        let peer = Arc::new(Peer::default());
        *peer.0.lock().unwrap() = (b"rest".to_vec(), true);
        let port = ConsolePort { name: "in".to_owned(), peer: peer.clone() };
        let ports = [port];
        let mut control = Control::new(1);
        control.answer(from_guest(0, DEVICE_READY, 1), &ports);
        assert_eq!(events(&mut control, &ports), [(DEVICE_ADD, 1)]);
        control.answer(from_guest(0, PORT_READY, 1), &ports);
        let begins = [(PORT_OPEN, 1), (PORT_NAME, 1)];
        assert_eq!(events(&mut control, &ports), begins);
        assert!(!control.has_message(&ports), "no process has it open");
        control.answer(from_guest(0, PORT_OPEN, 1), &ports);
        assert!(!control.has_message(&ports), "there is input left");
        assert_eq!(peer.take(10), b"rest");
        assert!(control.has_message(&ports));
        assert_eq!(events(&mut control, &ports), [(PORT_OPEN, 0)]);
        assert!(!control.has_message(&ports), "once");
    }

    #[test]
    fn a_guest_that_repeats_itself_fills_no_memory() {
        let ports = [ConsolePort { name: String::new(), peer: Arc::new(Peer::default()) }];
        let mut control = Control::new(1);
        for _ in 0..10 * MOST {
            control.answer(from_guest(0, PORT_READY, 1), &ports);
            control.answer(from_guest(7, PORT_READY, 1), &ports);
        }
        assert_eq!(events(&mut control, &ports).len(), MOST);
    }
}
