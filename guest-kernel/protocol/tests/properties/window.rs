// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Payloads by window, and what goes wrong with one.

use protocol::window::{DOWN_PAGES, Directory, PAGE};
use protocol::{
    Batch, Buffer, Data, Event, GuestMemory, Hello, Kind, LinkError, MAX_DATA, MAX_PAYLOAD, Outcome, Payload,
    Results, Step, WindowAddress,
};

use crate::frames::decode;
use crate::guest::{Guest, HOME, KEY};

fn batch(len: usize) -> Batch {
    let mut batch = Batch::new();
    batch.push(&Step::Write { file: 0, data: &vec![7; len], buffer: Buffer::Good });
    batch
}

#[test]
fn payloads_travel_by_window() {
    let mut guest = Guest::new();
    let mut link = guest.hello();
    for len in [0, 1, PAGE, 3 * PAGE + 5, MAX_DATA] {
        let batch = batch(len);
        let bytes = link.send(&batch, &mut guest).unwrap();
        assert_eq!(bytes.len(), 4);
        assert_eq!(link.send(&batch, &mut guest), Err(LinkError::Busy));
        assert_eq!(guest.down(), batch.payload());
        let results = Results {
            fresh: false,
            outcomes: vec![Outcome::Data {
                value: -1,
                data: Data { bytes: (0..len).map(|at| (at ^ at >> 8) as u8).collect(), cut: None },
            }],
        };
        let mut up = Vec::new();
        results.encode(&mut up);
        guest.notify(&up);
        assert_eq!(guest.send(&mut link, Kind::Results, Payload::Window), Some(Event::Results(results)));
    }
    assert_eq!(link.stats().window_missed, 0);
}

#[test]
fn a_page_that_is_not_the_agents_is_never_written() {
    // Each in turn: the directory, the first and the last page the payload needs.
    for moved in [HOME as usize, Guest::page(0), Guest::page(2)] {
        let mut guest = Guest::new();
        let mut link = guest.hello();
        guest.memory[moved * PAGE..(moved + 1) * PAGE].fill(0x55);
        let before = guest.memory.clone();
        let bytes = link.send(&batch(2 * PAGE + 1), &mut guest).unwrap();
        assert!(bytes.len() > 2 * PAGE, "over the serial port instead");
        assert!(guest.memory == before);
        assert_eq!(link.stats().window_missed, 1);
    }
}

#[test]
fn an_old_notification_is_not_trusted() {
    let mut guest = Guest::new();
    let mut link = guest.hello();
    link.send(&batch(1), &mut guest).unwrap();
    let home = HOME * PAGE as u64;
    let stale = {
        let mut page = vec![0; PAGE];
        assert!(guest.read(home, &mut page));
        page
    };
    guest.notify(&[0, 0]);
    assert!(guest.write(home, &stale));
    let event = guest.send(&mut link, Kind::Results, Payload::Window);
    assert_eq!(event, Some(Event::Lost(LinkError::Moved { address: home })));
    // The results can still be requested.
    let again = link.again();
    assert_eq!(decode(again).0[0].0, Kind::Again);
    let event = guest.send(&mut link, Kind::Results, Payload::Inline(&[0, 0]));
    let expected = Results { fresh: false, outcomes: vec![Outcome::Value(0)] };
    assert_eq!(event, Some(Event::Results(expected)));
}

#[test]
fn a_wrong_digest_or_length_loses_the_results_only() {
    use std::mem::offset_of;
    let mut guest = Guest::new();
    let mut link = guest.hello();
    for (field, value) in [
        (offset_of!(Directory, up_digest), 1),
        (offset_of!(Directory, up_len), u64::MAX),
        (offset_of!(Directory, pages), u64::MAX),
        (offset_of!(Directory, frame_numbers) + 8 * DOWN_PAGES, u64::MAX / PAGE as u64),
    ] {
        let Ok(_) = link.send(&batch(1), &mut guest) else { panic!() };
        guest.notify(&[0, 0]);
        guest.word(field, value);
        let event = guest.send(&mut link, Kind::Results, Payload::Window);
        assert!(matches!(event, Some(Event::Lost(_))), "{event:?}");
        guest.notify(&[0, 0]);
        let event = guest.send(&mut link, Kind::Results, Payload::Inline(&[0, 0]));
        assert!(matches!(event, Some(Event::Results(_))));
    }
}

#[test]
fn a_directory_that_moved_is_announced_before_the_results() {
    let mut guest = Guest::new();
    let mut link = guest.hello();
    link.send(&batch(1), &mut guest).unwrap();
    guest.notify(&[0, 0]);
    // To a page nothing else uses; the old one is reused.
    let new = 1;
    let page = guest.memory[HOME as usize * PAGE..][..PAGE].to_vec();
    guest.memory[new * PAGE..][..PAGE].copy_from_slice(&page);
    guest.memory[HOME as usize * PAGE..][..PAGE].fill(0x55);
    let mut payload = Vec::new();
    let window = Some(WindowAddress { frame_number: new as u64, key: KEY as u32 });
    Hello { is_init: true, notifies: false, window }.encode(&mut payload);
    assert_eq!(guest.send(&mut link, Kind::Hello, Payload::Inline(&payload)), None);
    let event = guest.send(&mut link, Kind::Results, Payload::Window);
    assert_eq!(event, Some(Event::Results(Results { fresh: false, outcomes: vec![Outcome::Value(0)] })));
    assert_eq!(link.send(&batch(5), &mut guest).unwrap().len(), 4);
    assert!(guest.memory[HOME as usize * PAGE..][..PAGE].iter().all(|&byte| byte == 0x55));
}

#[test]
fn a_batch_that_fits_no_frame_is_refused() {
    let mut guest = Guest::new();
    let mut link = guest.hello();
    assert_eq!(link.send(&batch(MAX_PAYLOAD), &mut guest), Err(LinkError::TooLong));
    assert!(!link.is_busy());
}

#[test]
fn with_a_notification_there_are_no_frames() {
    use std::mem::offset_of;
    let mut guest = Guest::new();
    guest.word(offset_of!(Directory, order), 41);
    let mut link = guest.hello_of(true);
    let empty = Results { fresh: false, outcomes: vec![Outcome::Value(0)] };
    for order in 42..45 {
        let batch = batch(PAGE + 1);
        assert_eq!(link.send(&batch, &mut guest), Ok(Vec::new()));
        assert_eq!(guest.down(), batch.payload());
        assert_eq!(guest.read_word(offset_of!(Directory, order)), order);
        // Another program changes the line.
        assert_eq!(link.on_notification(&mut guest), None);
        assert!(link.is_busy());
        guest.notify(&[0, 0]);
        guest.word(offset_of!(Directory, answered), order);
        assert_eq!(link.on_notification(&mut guest), Some(Event::Results(empty.clone())));
        assert_eq!(link.on_notification(&mut guest), None);
    }
    let stats = link.stats();
    assert_eq!((stats.notifications, stats.noise, stats.sent, stats.window_missed), (3, 3, 0, 0));
}

#[test]
fn with_a_notification_what_goes_wrong_comes_by_frame() {
    use std::mem::offset_of;
    let mut guest = Guest::new();
    guest.word(offset_of!(Directory, order), 0);
    let mut link = guest.hello_of(true);
    // The agent has no use for the batch. Before it says so, others write to its port what looks like its answer.
    link.send(&batch(1), &mut guest).unwrap();
    for (kind, payload) in [(Kind::Results, [0, 0]), (Kind::Refused, [1, 0])] {
        assert_eq!(guest.send(&mut link, kind, Payload::Inline(&payload)), None);
    }
    guest.notify(&[]);
    guest.word(offset_of!(Directory, answered), 1);
    let refused =
        guest.send(&mut link, Kind::Refused, Payload::Inline(&[protocol::Error::PayloadCheck as u8]));
    assert_eq!(refused, Some(Event::Refused(protocol::Error::PayloadCheck)));
    // Its results are damaged, and are requested by a frame.
    link.send(&batch(1), &mut guest).unwrap();
    guest.notify(&[0, 0]);
    guest.word(offset_of!(Directory, answered), 2);
    guest.word(offset_of!(Directory, up_digest), 1);
    assert_eq!(
        link.on_notification(&mut guest),
        Some(Event::Lost(LinkError::Protocol(protocol::Error::PayloadCheck)))
    );
    assert_eq!(decode(link.again()).0[0].0, Kind::Again);
    guest.notify(&[0, 0]);
    assert_eq!(link.on_notification(&mut guest), None, "they come by a frame");
    let results = guest.send(&mut link, Kind::Results, Payload::Inline(&[0, 0]));
    assert!(matches!(results, Some(Event::Results(_))));
    // The window is not the agent's any more.
    guest.memory[HOME as usize * PAGE..][..PAGE].fill(0x55);
    assert!(link.send(&batch(1), &mut guest).unwrap().len() > 4);
    assert_eq!(link.on_notification(&mut guest), None);
    let results = guest.send(&mut link, Kind::Results, Payload::Inline(&[0, 0]));
    assert!(matches!(results, Some(Event::Results(_))));
}
