// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any kernel log or program's output can be read as KTAP, and nothing in it passes that has no line for it.

use engine::ktap::{Ktap, Level, Origin};

/// Reads the bytes as both, whole and cut short.
pub fn run(bytes: &[u8]) {
    // A line can be `ok` after a prefix of printk's, `# `, or spaces.
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split('\n').filter(|line| line.contains("ok")).count();
    for origin in [Origin::KernelLog, Origin::Program] {
        for complete in [false, true] {
            let ktap = Ktap::read(bytes, origin, complete);
            assert!(passed(&ktap.levels) <= lines, "{ktap:?}");
            for position in (0..=bytes.len() as u64 + 1).step_by(1 + bytes.len() / 64) {
                let _ = (ktap.test_at(position), ktap.is_after_last(position));
            }
        }
    }
}

fn passed(levels: &[Level]) -> usize {
    let tests = levels.iter().flat_map(|level| &level.tests);
    tests.map(|test| usize::from(test.ok == Some(true)) + passed(test.subtests.as_slice())).sum()
}

/// What KUnit, run_kselftest.sh and TAP 14 print.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let seed = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    vec![
        seed(
            "kunit",
            "[    0.6] KTAP version 1\r\n[    0.6] 1..1\r\n[    0.6]     KTAP version 1\r\n[    0.6]     # Subtest: s\r\n\
             [    0.6]     1..2\r\n[    0.6]     ok 1 a\r\n[    0.6]     not ok 2 b # SKIP c\r\n[    0.6] not ok 1 s\r\n",
        ),
        seed("kselftest", "TAP version 13\n1..1\n# TAP version 13\n# 1..1\n# ok 1 a\nok 1 selftests: a: b\n"),
        seed("tap-14", "TAP version 14\n1..1\n# Subtest: a\n    1..1\n    ok 1 - b\nok 1 - a\nBail out! c\n"),
    ]
}
