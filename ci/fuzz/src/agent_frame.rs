// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's end of the agent channel takes any bytes of a guest, and any contents of its memory.

use protocol::{Batch, Buffer, Frame, GuestMemory, Hello, Kind, Link, Payload, Step};

/// Guest memory that repeats the fuzzed bytes at every address.
struct Fuzzed<'a>(&'a [u8]);

impl GuestMemory for Fuzzed<'_> {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> bool {
        let Some(len) = (self.0.len() as u64).checked_sub(1) else { return false };
        for (at, byte) in (address..).zip(buffer.iter_mut()) {
            *byte = self.0[(at % (len + 1)) as usize];
        }
        true
    }

    fn write(&mut self, address: u64, _bytes: &[u8]) -> bool {
        address % 3 != 0
    }
}

/// Feeds the bytes to the channel; after each event sends a batch, so that results are expected too.
pub fn run(bytes: &[u8]) {
    let mut link = Link::new();
    let mut batch = Batch::new().new_worker();
    batch.push(&Step::Pread { file: 0, offset: 0, len: 64, buffer: Buffer::Good });
    for byte in bytes {
        let received = link.receive(*byte, &mut Fuzzed(bytes));
        // Any byte may come with a change of the notification line.
        let sent = if byte & 1 == 0 { None } else { link.on_notification(&mut Fuzzed(bytes)) };
        if received.or(sent).is_some() {
            let _ = link.send(&batch, &mut Fuzzed(bytes));
            let _ = link.position(&mut Fuzzed(bytes));
        }
    }
}

/// A greeting, results, a refusal.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let frame = |kind, payload: &[u8]| {
        let mut bytes = Vec::new();
        Frame { kind, sequence: 1, reply_by_window: false, payload: Payload::Inline(payload) }
            .encode(&mut bytes);
        bytes
    };
    let greeting = |notifies| {
        let mut greeting = Vec::new();
        Hello { is_init: true, notifies, window: None }.encode(&mut greeting);
        frame(Kind::Hello, &greeting)
    };
    let hello = greeting(false);
    let results = [hello.clone(), frame(Kind::Results, &[1, 4, 1])].concat();
    let window = [hello.clone(), vec![0xc5, 0x62, 1, 0]].concat();
    vec![
        ("hello".into(), hello),
        ("notification".into(), greeting(true)),
        ("results".into(), results),
        ("window".into(), window),
        ("refused".into(), frame(Kind::Refused, &[4])),
    ]
}
