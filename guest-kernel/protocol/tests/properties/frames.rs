// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames among other bytes on the serial port.

use std::cell::RefCell;

use proptest::prelude::*;
use protocol::frame::{MAX_FRAME, SYNC};
use protocol::{Decoder, Frame, Kind, MAX_PAYLOAD, Payload};

use crate::one_of;

/// A frame that owns its payload; none is in the window.
pub type FrameParts = (Kind, u8, bool, Option<Vec<u8>>);

fn frame_parts() -> impl Strategy<Value = FrameParts> {
    (
        one_of(&Kind::ALL),
        any::<u8>(),
        any::<bool>(),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..400)),
    )
}

fn frame(parts: &FrameParts) -> Frame<'_> {
    let payload = parts.3.as_deref().map_or(Payload::Window, Payload::Inline);
    Frame { kind: parts.0, sequence: parts.1, reply_by_window: parts.2, payload }
}

/// All frames in a stream, byte by byte, and the number of mistakes.
pub fn decode(stream: impl IntoIterator<Item = u8>) -> (Vec<FrameParts>, usize) {
    thread_local! {
        static DECODER: RefCell<Decoder<Vec<u8>>> = RefCell::new(Decoder::new(vec![0; MAX_FRAME]));
    }
    DECODER.with_borrow_mut(|decoder| {
        decoder.reset();
        let (mut found, mut mistakes) = (Vec::new(), 0);
        for byte in stream {
            decoder.push(byte);
            while let Some(result) = decoder.poll() {
                match result {
                    Ok(Frame { kind, sequence, reply_by_window, payload }) => {
                        let payload = match payload {
                            Payload::Inline(bytes) => Some(bytes.to_vec()),
                            Payload::Window => None,
                        };
                        found.push((kind, sequence, reply_by_window, payload));
                    }
                    Err(_) => mistakes += 1,
                }
            }
        }
        (found, mistakes)
    })
}

proptest! {
    #[test]
    fn frames_come_back_from_between_messages(
        parts in prop::collection::vec((frame_parts(), "[ -~\n]{0,60}"), 0..6),
    ) {
        let mut stream = Vec::new();
        for (parts, message) in &parts {
            stream.extend_from_slice(message.as_bytes());
            frame(parts).encode(&mut stream);
        }
        let (found, mistakes) = decode(stream);
        prop_assert_eq!(found, parts.into_iter().map(|(parts, _)| parts).collect::<Vec<_>>());
        prop_assert_eq!(mistakes, 0);
    }

    #[test]
    fn the_decoder_survives_any_bytes(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(SYNC), Just(0x42)], 0..3000)) {
        let (found, mistakes) = decode(bytes.iter().copied());
        prop_assert!(found.len() + mistakes <= bytes.len());
    }

    #[test]
    fn a_damaged_frame_is_not_accepted(
        parts in frame_parts(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes = Vec::new();
        frame(&parts).encode(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (found, _) = decode(bytes);
        prop_assert!(found.iter().all(|found| *found != parts));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Garbage may look like the header of a long frame. Once as many bytes have come as that promised, the true frame
    /// is found all the same.
    #[test]
    fn after_garbage_a_frame_is_found(
        garbage in prop::collection::vec(prop_oneof![any::<u8>(), Just(SYNC), Just(0x42)], 0..200),
        parts in frame_parts(),
    ) {
        let mut stream = garbage;
        frame(&parts).encode(&mut stream);
        stream.resize(stream.len() + MAX_FRAME, 0);
        let (found, _) = decode(stream);
        prop_assert!(found.contains(&parts));
    }

    #[test]
    fn the_longest_frame_fits(byte in any::<u8>(), before in prop::collection::vec(any::<u8>(), 0..20)) {
        let parts = (Kind::Results, 0, false, Some(vec![byte; MAX_PAYLOAD]));
        let mut stream = before;
        stream.retain(|&byte| byte != SYNC);
        frame(&parts).encode(&mut stream);
        prop_assert!(decode(stream).0 == [parts]);
    }
}
