// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any output of a program in a guest can be compared with its usual output.

use engine::matrix::Sign;
use engine::matrix::operations::Judged;
use engine::matrix::programs::ROWS;
use engine::matrix::programs::judge::{compare, reported};
use engine::observation::{Answer, StepObservation};

/// Between two outputs.
const CUT: u8 = 0xff;

/// Takes the bytes before the first [`CUT`] as one output and those behind it as another; the last byte of each is also
/// the exit status.
pub fn run(bytes: &[u8]) {
    let mut outputs = bytes.splitn(2, |&byte| byte == CUT).map(|output| {
        let value = u64::from(output.last().copied().unwrap_or_default() % 3);
        let mut observed = StepObservation::new("run", Answer::Returned { value });
        observed.bytes = output.to_vec();
        for judged in [Judged::Shown, Judged::Scan] {
            let _ = reported(judged, &observed);
        }
        reported(Judged::Program(&ROWS[0]), &observed).unwrap_or_default()
    });
    let (one, other) = (outputs.next().unwrap_or_default(), outputs.next().unwrap_or_default());
    for (expected, given) in [(Some(&one), &other), (Some(&other), &one), (Some(&one), &one), (None, &one)] {
        let (sign, detail) = compare(expected.map(String::as_str), given);
        assert!(sign != Sign::Works || expected == Some(given), "{expected:?} is not {given:?}");
        assert!(!detail.contains(|c: char| c.is_control() && c != '\t'), "{detail:?}");
    }
}

/// Programs that work, fall silent, and fail.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let seed = |name: &str, one: &[u8], other: &[u8]| (name.to_owned(), [one, &[CUT], other].concat());
    vec![
        seed("silent", b"Num Lock: on\nSerial Port 0: 0x3f8\n\0", b"Num Lock: off\n\0"),
        seed("sorry", b"# dmidecode 3.4\nBIOS Information\n\0", b"Failed to read table, sorry.\n\0"),
        seed("refused", b"0x5F4D535F\n\0", b"can't open '/dev/mem': Operation not permitted\n\x01"),
    ]
}
