// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Steps on the wire.

use proptest::prelude::*;
use protocol::wire::Reader;
use protocol::{Buffer, Error, Reset, Step, Via, Width};

use crate::one_of;

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
        Step::SetUser { uid: count, gid: words[1], keep: *on },
        Step::KernelLog { offset: count, len: words[1] },
        Step::Marker { value: offset },
        Step::ExitWorker,
        Step::Reset { kind },
        Step::Repeat { count, steps: file, stride: *signed, moving: words[1], keep: words[2] },
        Step::Execute { path, arguments: data, len: count, limit_ms: words[1] },
        Step::MmapOver { map, over: file, file, offset, len, prot: words[0], flags: words[1] },
        Step::Mprotect { map, offset, len, prot: words[2] },
        Step::Mremap { map, to: file, len },
        Step::Fork,
        Step::Exec,
        Step::SendFile { file },
        Step::ReceiveFile { file },
        Step::Left { from: count, len: words[1] },
        Step::MakeNode { path, major: count, minor: words[1] },
    ]
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
}
