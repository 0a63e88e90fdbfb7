// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accesses that fault: of mappings, and of ports.

use protocol::{Data, Outcome, Refusal, Step, Width, map_address};

use crate::harness::{Agent, O_RDWR, PRIVATE, SIGSEGV, data, map_pages, open};

const SIGBUS: u8 = 7;

#[test]
fn faults_are_caught_and_the_worker_goes_on() {
    let mut agent = Agent::start();
    let path = agent.pages(1);
    let outcomes = agent.steps(&[
        open(&path, O_RDWR),
        map_pages(2 * 4096),
        Step::Peek { map: 0, offset: 4090, len: 12, width: Width::Word },
        Step::Poke { map: 0, offset: 4096, data: b"x", width: Width::Byte },
        Step::Peek { map: 0, offset: 8192, len: 1, width: Width::Byte },
        Step::Mmap { map: 1, file: 0, offset: 0, len: 4096, prot: 1, flags: PRIVATE },
        Step::Poke { map: 1, offset: 0, data: &[0; 8], width: Width::Quad },
        Step::Peek { map: 1, offset: 0, len: 8, width: Width::Quad },
        Step::Uname,
    ]);
    let fault = |signal, code, address, len| Outcome::Signal {
        signal,
        code,
        address,
        data: Data { bytes: vec![0; len], cut: None },
    };
    let map = map_address(0);
    assert_eq!(outcomes[2], fault(SIGBUS, 2, map + 4096, 6), "beyond the end of the file");
    assert_eq!(outcomes[3], fault(SIGBUS, 2, map + 4096, 0));
    assert_eq!(outcomes[4], fault(SIGSEGV, 1, map + 8192, 0), "not mapped");
    assert_eq!(outcomes[6], fault(SIGSEGV, 2, map_address(1), 0), "read only");
    assert_eq!(outcomes[7], data(&[0; 8]));
    assert!(matches!(&outcomes[8], Outcome::Data { data, .. } if data.bytes.starts_with(b"Linux\n")));
}

#[test]
fn forbidden_port_instructions_are_signals() {
    let mut agent = Agent::start();
    let outcomes = agent.steps(&[
        Step::PortIn { port: 0x80, width: Width::Byte },
        Step::PortIn { port: 0x80, width: Width::Word },
        Step::PortOut { port: 0x80, width: Width::Long, value: 1 },
        Step::PortIn { port: 0x80, width: Width::Quad },
    ]);
    for outcome in &outcomes[..3] {
        assert!(matches!(outcome, Outcome::Signal { signal: SIGSEGV, .. }), "{outcome:?}");
    }
    assert_eq!(outcomes[3], Outcome::Refused(Refusal::Width));
}
