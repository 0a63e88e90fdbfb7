// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Steps on mappings, by every path to their memory.

use protocol::{Buffer, Outcome, Refusal, Step, Via, Width, map_address};

use crate::harness::{Agent, O_RDWR, PRIVATE, READ_WRITE, data, map_pages, open};

const ANONYMOUS: u32 = 0x20;

#[test]
fn mappings_are_seen_by_every_path() {
    let mut agent = Agent::start();
    let path = agent.pages(3);
    let mut steps = vec![
        open(&path, O_RDWR),
        map_pages(3 * 4096),
        Step::Peek { map: 0, offset: 4092, len: 8, width: Width::Long },
        Step::Poke { map: 0, offset: 4096, data: b"hi", width: Width::Word },
        Step::Peek { map: 0, offset: 4096, len: 3, width: Width::Byte },
    ];
    for via in [Via::Itself, Via::Child] {
        steps.extend([
            Step::ProcMemRead { via, map: 0, offset: 4095, len: 4 },
            Step::ProcMemWrite { via, map: 0, offset: 4097, data: b"o" },
            Step::VmRead { via, map: 0, offset: 4095, len: 4 },
            Step::VmWrite { via, map: 0, offset: 4098, data: b"!" },
        ]);
    }
    steps.extend([
        Step::PtracePeek { map: 0, offset: 4096, len: 8 },
        Step::PtracePoke { map: 0, offset: 8192, data: b"12345678" },
        Step::Pread { file: 0, offset: 8191, len: 9, buffer: Buffer::Good },
        Step::Munmap { map: 0 },
        Step::Peek { map: 0, offset: 0, len: 1, width: Width::Byte },
        Step::Munmap { map: 0 },
    ]);
    let outcomes = agent.steps(&steps);
    assert_eq!(outcomes[1], Outcome::Value(map_address(0).cast_signed()));
    assert_eq!(outcomes[2], data(&[0, 0, 0, 0, 1, 1, 1, 1]));
    assert_eq!(outcomes[3], Outcome::Value(2));
    assert_eq!(outcomes[4], data(b"hi\x01"));
    assert_eq!(outcomes[5], data(b"\0hi\x01"));
    assert_eq!(outcomes[6], Outcome::Value(1));
    assert_eq!(outcomes[7], data(b"\0ho\x01"));
    assert_eq!(outcomes[8], Outcome::Value(1));
    assert_eq!(outcomes[9], data(b"\0ho!"));
    assert_eq!(outcomes[11], data(b"\0ho!"));
    assert_eq!(outcomes[13], data(b"ho!\x01\x01\x01\x01\x01"));
    assert_eq!(outcomes[14], Outcome::Value(1));
    assert_eq!(outcomes[15], data(b"\x0112345678"));
    assert_eq!(outcomes[16], Outcome::Value(0));
    assert_eq!(outcomes[17], Outcome::Refused(Refusal::Map));
    assert_eq!(outcomes[18], Outcome::Refused(Refusal::Map));
}

#[test]
fn anonymous_memory_needs_no_file() {
    let mut agent = Agent::start();
    let outcomes = agent.steps(&[
        Step::Mmap { map: 15, file: 255, offset: 0, len: 4096, prot: READ_WRITE, flags: PRIVATE | ANONYMOUS },
        Step::Poke { map: 15, offset: 8, data: &[9; 16], width: Width::Quad },
        Step::Peek { map: 15, offset: 0, len: 32, width: Width::Quad },
        Step::Mmap { map: 16, file: 255, offset: 0, len: 4096, prot: READ_WRITE, flags: PRIVATE | ANONYMOUS },
    ]);
    let expected: Vec<u8> = [[0; 8], [9; 8], [9; 8], [0; 8]].concat();
    assert_eq!(outcomes[2], data(&expected));
    assert_eq!(outcomes[3], Outcome::Refused(Refusal::Map));
}
