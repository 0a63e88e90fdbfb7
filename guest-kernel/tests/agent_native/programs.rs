// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Steps that run a program.

use protocol::{Call, Data, Errno, MAX_ARGUMENTS, Outcome, Step};

use crate::harness::Agent;

#[test]
fn programs_run_to_their_end_with_their_output_caught() {
    let mut agent = Agent::start();
    let shell =
        |arguments: &'static [u8], limit_ms| Step::Execute { path: b"/bin/sh", arguments, len: 64, limit_ms };
    let outcomes = agent.steps(&[
        shell(b"-c\0echo out; echo err >&2; exit 3\0", 10_000),
        shell(b"-c\0kill -9 $$\0", 10_000),
        shell(b"-c\0sleep 60; true\0", 100),
        Step::Execute { path: b"/nowhere", arguments: b"", len: 64, limit_ms: 100 },
        shell(b"-c\0head -c 100000 /dev/zero; echo $0 $1\0name\0one\0", 10_000),
        shell(b"unterminated", 100),
        shell(b"-c\0yes | head -n 1\0", 10_000),
        shell(b"-c\0sleep 60 & echo left\0", 10_000),
        Step::Uname,
    ]);
    let text = |value, bytes: &[u8]| Outcome::Data { value, data: Data { bytes: bytes.to_vec(), cut: None } };
    assert_eq!(outcomes[0], text(3 << 8, b"out\nerr\n"));
    assert_eq!(outcomes[1], text(9, b""));
    let failed = |number| Outcome::Failed { errno: Errno(number), call: Call::Own };
    assert_eq!(outcomes[2], failed(110), "it takes too long");
    assert_eq!(outcomes[3], failed(2));
    assert_eq!(outcomes[4], text(0, &[0; 64]), "as far as it fits");
    assert_eq!(outcomes[5], failed(7));
    assert_eq!(outcomes[6], text(0, b"y\n"), "a broken pipe ends its writer, silently");
    assert_eq!(outcomes[7], text(0, b"left\n"), "the end of what a program leaves running is not awaited");
    assert!(matches!(outcomes[8], Outcome::Data { .. }), "the worker goes on");
}

#[test]
fn programs_get_as_many_arguments_as_there_is_room_for() {
    let arguments = |count: usize| {
        ["-c", "echo $#", "name"].map(str::to_owned).into_iter().chain((3..count).map(|n| n.to_string()))
    };
    let bytes =
        |count| arguments(count).flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect::<Vec<u8>>();
    let (most, more) = (bytes(MAX_ARGUMENTS), bytes(MAX_ARGUMENTS + 1));
    let shell = |arguments| Step::Execute { path: b"/bin/sh", arguments, len: 64, limit_ms: 10_000 };
    let outcomes = Agent::start().steps(&[shell(&most), shell(&more)]);
    let said = format!("{}\n", MAX_ARGUMENTS - 3).into_bytes();
    assert_eq!(outcomes[0], Outcome::Data { value: 0, data: Data { bytes: said, cut: None } });
    assert_eq!(outcomes[1], Outcome::Failed { errno: Errno(7), call: Call::Own });
}
