//! What must hold for any bytes: what is written is read back, and nothing else ever goes wrong badly.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_wrap)]

use std::cell::RefCell;

use proptest::prelude::*;
use protocol::check::digest;
use protocol::frame::{MAX_FRAME, SYNC};
use protocol::outcome::sweep;
use protocol::window::{DOWN_PAGES, Directory, MAGIC, PAGE, UP_PAGES, stamp};
use protocol::wire::{Reader, Sink};
use protocol::{
    Announced, Batch, Buffer, Call, Data, Decoder, Errno, Error, Event, FileStatus, Frame, GuestMemory,
    Hello, Kind, Link, LinkError, MAX_DATA, MAX_PAYLOAD, Outcome, Payload, Refusal, Reset, Results, Run,
    Step, Sweep, Via, Width,
};

fn one_of<T: Copy + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(values)
}

/// Everything a step can be made of.
#[derive(Clone, Debug)]
struct Parts {
    slots: (u8, u8),
    words: [u32; 4],
    longs: [u64; 6],
    signed: i64,
    text: Vec<u8>,
    more: Vec<u8>,
    on: bool,
    enums: (Buffer, Width, Via, Reset),
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        any::<(u8, u8)>(),
        any::<[u32; 4]>(),
        any::<[u64; 6]>(),
        any::<i64>(),
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 0..200),
        any::<bool>(),
        (one_of(Buffer::ALL), one_of(Width::ALL), one_of(Via::ALL), one_of(Reset::ALL)),
    )
        .prop_map(|(slots, words, longs, signed, text, more, on, enums)| Parts {
            slots,
            words,
            longs,
            signed,
            text,
            more,
            on,
            enums,
        })
}

/// One of each step there is.
fn every_step(parts: &Parts) -> Vec<Step<'_>> {
    let Parts { slots: (file, map), words, longs, signed, text, more, on, enums } = parts;
    let (file, map, offset, len, count) = (*file, *map, longs[0], longs[1], words[0]);
    let (buffer, width, via, kind) = *enums;
    let (path, data) = (text.as_slice(), more.as_slice());
    let port = words[1] as u16;
    vec![
        Step::Open { file, path, flags: words[0], mode: words[1] },
        Step::Close { file },
        Step::Lseek { file, offset: *signed, whence: map },
        Step::Read { file, len, buffer },
        Step::Pread { file, offset, len, buffer },
        Step::Write { file, data, buffer },
        Step::Pwrite { file, offset, data, buffer },
        Step::Mmap { map, file, offset, len, prot: words[0], flags: words[1] },
        Step::Munmap { map },
        Step::Peek { map, offset, len: count, width },
        Step::Poke { map, offset, data, width },
        Step::ProcMemRead { via, map, offset, len: count },
        Step::ProcMemWrite { via, map, offset, data },
        Step::VmRead { via, map, offset, len: count },
        Step::VmWrite { via, map, offset, data },
        Step::PtracePeek { map, offset, len: count },
        Step::PtracePoke { map, offset, data },
        Step::Stat { path },
        Step::ReadFile { path, offset, len: count },
        Step::WriteFile { path, create: *on, data },
        Step::ListDir { path, skip: count },
        Step::Uname,
        Step::Iopl { level: file },
        Step::Ioperm { from: offset, count: len, on: *on },
        Step::PortIn { port, width },
        Step::PortOut { port, width, value: count },
        Step::Syscall { number: count, arguments: *longs },
        Step::DropCaps { mask: offset },
        Step::SetUser { uid: count, gid: words[1] },
        Step::KernelLog { offset: count, len: words[1] },
        Step::Marker { value: offset },
        Step::ExitWorker,
        Step::Reset { kind },
        Step::Repeat { count, steps: file, stride: *signed, moving: words[1], keep: words[2] },
        Step::Execute { path, arguments: data, len: count, limit_ms: words[1] },
    ]
}

fn data() -> impl Strategy<Value = Data> {
    (prop::collection::vec((any::<u8>(), 1usize..200), 0..40), prop::option::of((1usize..1000, any::<u64>())))
        .prop_map(|(pieces, cut)| {
            let bytes: Vec<u8> = pieces.iter().flat_map(|&(byte, count)| vec![byte; count]).collect();
            let cut = cut.map(|(more, digest)| (bytes.len() + more, digest));
            Data { bytes, cut }
        })
}

fn simple_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        any::<i64>().prop_map(Outcome::Value),
        (any::<i64>(), data()).prop_map(|(value, data)| Outcome::Data { value, data }),
        data().prop_map(|data| Outcome::Data { value: data.len() as i64, data }),
        (any::<u16>(), one_of(&Call::ALL))
            .prop_map(|(errno, call)| Outcome::Failed { errno: Errno(errno), call }),
        (any::<u8>(), any::<i32>(), any::<u64>(), data())
            .prop_map(|(signal, code, address, data)| Outcome::Signal { signal, code, address, data }),
        any::<u8>().prop_map(|signal| Outcome::Killed { signal }),
        any::<u8>().prop_map(|status| Outcome::Exited { status }),
        any::<bool>().prop_map(|undead| Outcome::Timeout { undead }),
        any::<(u32, u64, u64, u32, u32)>().prop_map(|(mode, rdev, size, uid, gid)| Outcome::Status(
            FileStatus { mode, rdev, size, uid, gid }
        )),
        Just(Outcome::NoRoom),
        one_of(&Refusal::ALL).prop_map(Outcome::Refused),
    ]
}

fn sweep() -> impl Strategy<Value = Sweep> {
    (1u8..5).prop_flat_map(|steps| {
        let outcomes = || prop::collection::vec(simple_outcome(), usize::from(steps));
        (prop::collection::vec((any::<u32>(), outcomes()), 0..5)).prop_map(move |runs| Sweep {
            steps,
            runs: runs.into_iter().map(|(count, outcomes)| Run { count, outcomes }).collect(),
            partial: None,
        })
    })
}

fn results() -> impl Strategy<Value = Results> {
    let outcome = prop_oneof![4 => simple_outcome(), 1 => sweep().prop_map(Outcome::Sweep)];
    (
        any::<bool>(),
        prop::collection::vec(outcome, 0..12),
        prop::option::of(prop::collection::vec(simple_outcome(), 0..4)),
    )
        .prop_map(|(fresh, mut outcomes, partial)| {
            if let (Some(Outcome::Sweep(sweep)), partial @ Some(_)) = (outcomes.last_mut(), partial) {
                sweep.partial = partial;
            }
            Results { fresh, outcomes }
        })
}

/// A frame that owns its payload; none is in the window.
type FrameParts = (Kind, u8, bool, Option<Vec<u8>>);

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
fn decode(stream: impl IntoIterator<Item = u8>) -> (Vec<FrameParts>, usize) {
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
    fn every_step_comes_back(parts in parts()) {
        let steps = every_step(&parts);
        let mut bytes = Vec::new();
        for step in &steps {
            step.encode(&mut bytes);
        }
        let mut reader = Reader::new(&bytes);
        for step in &steps {
            prop_assert_eq!(Step::decode(&mut reader), Ok(*step));
        }
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn a_step_cut_short_is_truncated(parts in parts()) {
        for step in every_step(&parts) {
            let mut bytes = Vec::new();
            step.encode(&mut bytes);
            for len in 0..bytes.len() {
                prop_assert_eq!(Step::decode(&mut Reader::new(&bytes[..len])), Err(Error::Truncated), "{:?}", step);
            }
        }
    }

    #[test]
    fn any_bytes_are_steps_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut reader = Reader::new(&bytes);
        while let Ok(step) = Step::decode(&mut reader) {
            // What was understood is written and understood the same way.
            let mut again = Vec::new();
            step.encode(&mut again);
            prop_assert_eq!(Step::decode(&mut Reader::new(&again)), Ok(step));
        }
    }

    #[test]
    fn shifting_there_and_back_changes_nothing(parts in parts(), delta in any::<i64>()) {
        for step in every_step(&parts) {
            let mut shifted = step;
            shifted.shift(delta);
            shifted.shift(delta.wrapping_neg());
            prop_assert_eq!(shifted, step);
        }
    }

    #[test]
    fn results_come_back(results in results(), missing in 0usize..3) {
        let mut bytes = Vec::new();
        results.encode(&mut bytes);
        let mut expected = results.clone();
        expected.outcomes.resize(results.outcomes.len() + missing, Outcome::NotRun);
        let back = Results::decode(&bytes, expected.outcomes.len());
        prop_assert_eq!(back, Ok(expected));
        if !results.outcomes.is_empty() && !matches!(results.outcomes.last(), Some(Outcome::Sweep(_))) {
            prop_assert_eq!(Results::decode(&bytes, results.outcomes.len() - 1), Err(Error::TooLong));
        }
    }

    #[test]
    fn any_bytes_are_results_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), steps in 0usize..50) {
        if let Ok(results) = Results::decode(&bytes, steps) {
            prop_assert_eq!(results.outcomes.len(), steps);
        }
        let _ = Hello::decode(&bytes);
    }

    #[test]
    fn hello_comes_back(is_init in any::<bool>(), window in prop::option::of(any::<(u64, u32)>())) {
        let window = window.map(|(frame_number, key)| Announced { frame_number, key });
        let hello = Hello { is_init, window };
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        prop_assert_eq!(Hello::decode(&bytes), Ok(hello));
    }

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
    fn a_damaged_frame_is_not_believed(
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

/// A guest's memory with an agent's window in it, its pages out of order.
struct Guest {
    memory: Vec<u8>,
    doorbells: u64,
}

const KEY: u64 = 0x1122_3344_5566_7788;
const HOME: u64 = 3;

impl GuestMemory for Guest {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> bool {
        let from = address as usize;
        self.memory
            .get(from..from.saturating_add(buffer.len()))
            .map(|bytes| buffer.copy_from_slice(bytes))
            .is_some()
    }
    fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        let from = address as usize;
        let place = self.memory.get_mut(from..from.saturating_add(bytes.len()));
        place.map(|place| place.copy_from_slice(bytes)).is_some()
    }
}

impl Guest {
    fn new() -> Self {
        Self { memory: vec![0xee; 64 * PAGE], doorbells: 0 }
    }

    fn page(index: usize) -> usize {
        // 63, 61, 59 …: no two next to each other until the odd ones are used up.
        let index = index + 1;
        if index < 30 { 64 - 2 * index } else { 2 * (index - 30) + 5 }
    }

    fn word(&mut self, offset: usize, value: u64) {
        assert!(self.write(HOME * PAGE as u64 + offset as u64, &value.to_le_bytes()));
    }

    /// What the agent does before each frame.
    fn ring(&mut self, up: &[u8]) {
        use std::mem::offset_of;
        self.doorbells += 1;
        let doorbells = self.doorbells;
        self.word(offset_of!(Directory, magic), MAGIC);
        self.word(offset_of!(Directory, key), KEY);
        self.word(offset_of!(Directory, doorbells), doorbells);
        self.word(offset_of!(Directory, pages), (DOWN_PAGES | UP_PAGES << 32) as u64);
        self.word(offset_of!(Directory, up_len), up.len() as u64);
        self.word(offset_of!(Directory, up_digest), digest(up));
        for index in 0..DOWN_PAGES + UP_PAGES {
            self.word(offset_of!(Directory, frame_numbers) + 8 * index, Self::page(index) as u64);
        }
        for index in 0..DOWN_PAGES {
            let place = (Self::page(index) * PAGE) as u64;
            assert!(self.write(place, &stamp(KEY, doorbells, index)));
        }
        for (index, part) in up.chunks(PAGE).enumerate() {
            assert!(self.write((Self::page(DOWN_PAGES + index) * PAGE) as u64, part));
        }
    }

    fn say(&mut self, link: &mut Link, kind: Kind, payload: Payload<'_>) -> Option<Event> {
        let mut bytes = Vec::new();
        let sequence = self.doorbells as u8;
        Frame { kind, sequence, reply_by_window: false, payload }.encode(&mut bytes);
        let mut event = None;
        for byte in bytes {
            assert_eq!(event, None, "only the last byte completes the frame");
            event = link.receive(byte, self);
        }
        event
    }

    fn hello(&mut self) -> Link {
        let mut link = Link::new();
        self.ring(&[]);
        let mut payload = Vec::new();
        let hello = Hello { is_init: true, window: Some(Announced { frame_number: HOME, key: KEY as u32 }) };
        hello.encode(&mut payload);
        assert_eq!(self.say(&mut link, Kind::Hello, Payload::Inline(&payload)), Some(Event::Hello(hello)));
        link
    }

    fn down(&mut self) -> Vec<u8> {
        use std::mem::offset_of;
        let mut word = [0; 8];
        assert!(self.read(HOME * PAGE as u64 + offset_of!(Directory, down_len) as u64, &mut word));
        let mut payload = vec![0; u64::from_le_bytes(word) as usize];
        for (index, part) in payload.chunks_mut(PAGE).enumerate() {
            assert!(self.read((Self::page(index) * PAGE) as u64, part));
        }
        payload
    }
}

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
        guest.ring(&up);
        assert_eq!(guest.say(&mut link, Kind::Results, Payload::Window), Some(Event::Results(results)));
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
        assert!(bytes.len() > 2 * PAGE, "over the line instead");
        assert!(guest.memory == before);
        assert_eq!(link.stats().window_missed, 1);
    }
}

#[test]
fn an_old_doorbell_is_not_trusted() {
    let mut guest = Guest::new();
    let mut link = guest.hello();
    link.send(&batch(1), &mut guest).unwrap();
    let home = HOME * PAGE as u64;
    let stale = {
        let mut page = vec![0; PAGE];
        assert!(guest.read(home, &mut page));
        page
    };
    guest.ring(&[0, 0]);
    assert!(guest.write(home, &stale));
    let event = guest.say(&mut link, Kind::Results, Payload::Window);
    assert_eq!(event, Some(Event::Lost(LinkError::Moved { address: home })));
    // The results are still there for the asking.
    let again = link.again();
    assert_eq!(decode(again).0[0].0, Kind::Again);
    let event = guest.say(&mut link, Kind::Results, Payload::Inline(&[0, 0]));
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
        guest.ring(&[0, 0]);
        guest.word(field, value);
        let event = guest.say(&mut link, Kind::Results, Payload::Window);
        assert!(matches!(event, Some(Event::Lost(_))), "{event:?}");
        guest.ring(&[0, 0]);
        let event = guest.say(&mut link, Kind::Results, Payload::Inline(&[0, 0]));
        assert!(matches!(event, Some(Event::Results(_))));
    }
}

#[test]
fn a_directory_that_moved_is_announced_before_the_results() {
    let mut guest = Guest::new();
    let mut link = guest.hello();
    link.send(&batch(1), &mut guest).unwrap();
    guest.ring(&[0, 0]);
    // To a page nothing else uses; the old one is given to somebody.
    let new = 1;
    let page = guest.memory[HOME as usize * PAGE..][..PAGE].to_vec();
    guest.memory[new * PAGE..][..PAGE].copy_from_slice(&page);
    guest.memory[HOME as usize * PAGE..][..PAGE].fill(0x55);
    let mut payload = Vec::new();
    let window = Some(Announced { frame_number: new as u64, key: KEY as u32 });
    Hello { is_init: true, window }.encode(&mut payload);
    assert_eq!(guest.say(&mut link, Kind::Hello, Payload::Inline(&payload)), None);
    let event = guest.say(&mut link, Kind::Results, Payload::Window);
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
fn a_few_bytes_do_not_unfold_to_gigabytes() {
    // Outcomes of 60 KiB of zeros in six bytes each.
    let mut payload = vec![0];
    let zeros = Outcome::Data { value: MAX_DATA as i64, data: Data { bytes: vec![0; MAX_DATA], cut: None } };
    while payload.len() < MAX_PAYLOAD - 16 {
        zeros.encode(&mut payload);
    }
    assert_eq!(Results::decode(&payload, usize::MAX / 64), Err(Error::TooLong));
}

#[test]
fn an_unfinished_iteration_takes_the_rest() {
    let mut payload = vec![0];
    sweep::begin(&mut payload, 2);
    sweep::iteration(&mut payload);
    protocol::outcome::value(&mut payload, 5);
    protocol::outcome::killed(&mut payload, 11);
    let results = Results::decode(&payload, 3).unwrap();
    let partial = Some(vec![Outcome::Value(5), Outcome::Killed { signal: 11 }]);
    assert_eq!(
        results.outcomes,
        [Outcome::Sweep(Sweep { steps: 2, runs: vec![], partial }), Outcome::NotRun, Outcome::NotRun]
    );
    payload.byte(200);
    assert_eq!(Results::decode(&payload, 3), Err(Error::Outcome));
}
