// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a program does its work: what it told, against what it tells in an ordinary guest of an unpatched kernel.

use types::{Platform, Policy};

use super::DMIDECODE_VIA_MEM;
use crate::matrix::operations::{self, Judged};
use crate::matrix::{Combination, Matrix, Sign};
use crate::observation::{Answer, StepObservation};

/// Beginnings of lines that differ from guest to guest for good reasons: comments; the product, which names the platform,
/// and so the table's measures; and where the tables are.
const IDLE: [&str; 6] =
    ["#", "Table at", "Product Name:", "Product:", "Structure Table", "Maximum Structure Size"];
/// What is in a line that a program says of a failure, whatever its exit status.
const COMPLAINTS: [&str; 2] = ["sorry", "/dev/mem"];
/// A program that ended as it should, and steps in a program's place that found what they looked for.
const GOOD_ENDS: [&str; 2] = ["exit status 0", FOUND];
const FOUND: &str = "found SMBIOS's signature";
/// Lines of a program's output that a cell's detail shows.
const SHOWN: usize = 4;

/// What a program told, or what steps in its place found: how it ended, and line by line what it said.
pub fn told(judged: Judged, observed: &StepObservation) -> Option<String> {
    let end = match &observed.answer {
        _ if judged == Judged::Shown => return None,
        Answer::NotRun { .. } | Answer::NotReached { .. } | Answer::TimedOut => return None,
        Answer::Returned { .. } if judged == Judged::Scan => {
            // The specification has it at multiples of 16 (DSP0134 §5.2).
            let found = observed.bytes.chunks(16).any(|row| row.starts_with(b"_SM"));
            return Some(if found { FOUND.to_owned() } else { "no signature of SMBIOS".to_owned() });
        }
        Answer::Returned { value } => format!("exit status {value}"),
        Answer::Signalled { signal } => signal.to_string(),
        Answer::Failed { errno } => errno.to_string(),
        Answer::GuestDied => format!("the guest died: {}", observed.end),
    };
    let text = if judged == Judged::Program { String::from_utf8_lossy(&observed.bytes) } else { "".into() };
    let is_essential = |line: &&str| {
        let text = line.trim_start();
        !text.is_empty() && !IDLE.iter().any(|idle| text.starts_with(idle))
    };
    // A terminal will show this, so a guest must not steer it.
    let tame = |line: &str| line.trim_end().replace(|c: char| c.is_control() && c != '\t', "\u{fffd}");
    let essential = text.lines().filter(is_essential).map(tame);
    Some(std::iter::once(end).chain(essential).collect::<Vec<String>>().join("\n"))
}

/// Says of every program in every combination whether it works.
pub fn judge(matrix: &mut Matrix) {
    for operation in operations::all().iter().filter(|operation| operation.judged != Judged::Shown) {
        let usual = matrix
            .combinations
            .iter()
            .filter(|combination| combination.platform == Platform::None)
            .filter(|combination| combination.kernel.policy == Some(Policy::Upstream))
            .find_map(|combination| combination.cells.get(&operation.id)?.told.clone());
        for combination in &mut matrix.combinations {
            let unreachable = operation.id == DMIDECODE_VIA_MEM && hides_structures(combination);
            let Some(cell) = combination.cells.get_mut(&operation.id) else { continue };
            let Some(told) = &cell.told else { continue };
            (cell.sign, cell.detail) = compare(usual.as_deref(), told);
            if unreachable && cell.sign == Sign::Broken {
                cell.sign = Sign::Closed;
                cell.detail = format!("{UNREACHABLE}; it says: {}", cell.detail);
            }
            // What went through here is a fault on hardware, whatever the program made of it.
            if let Some(first) = cell.accesses.first() {
                cell.sign = Sign::OtherView;
                cell.detail =
                    format!("{}; it gets there by {first}{}", cell.detail, more(cell.accesses.len()));
            }
            cell.sign.word().clone_into(&mut cell.word);
            // What it told stands there already, and is not memory's.
            cell.bytes.clear();
            cell.gpa = None;
        }
    }
}

fn more(accesses: usize) -> &'static str {
    if accesses > 1 { ", and others" } else { "" }
}

/// Why dmidecode gets no further.
const UNREACHABLE: &str = "/dev/mem opens, but the tables lie in ACPI data in this guest, which IO_STRICT_DEVMEM \
                           refuses whoever asks: its firmware's choice, not the platform's or the policy's (OVMF's \
                           runtime services data would not be refused)";

/// Whether the structures lie where no one gets by /dev/mem, though it opens: in ACPI data, where the VMM's firmware puts
/// them in confidential guests (`firmware.rs:smbios_table`).
fn hides_structures(combination: &Combination) -> bool {
    combination.platform.is_confidential()
        && combination.cell("open/mem").sign == Sign::Works
        && combination.cell("acpi-data/mmap").sign == Sign::Denied
        && combination.cell("rom/mmap").sign != Sign::Denied
}

/// What is to be said of a program that told one thing where it usually tells another: in a word and in a line.
pub fn compare(usual: Option<&str>, told: &str) -> (Sign, String) {
    (sign(usual, told), detail(usual, told))
}

fn sign(usual: Option<&str>, told: &str) -> Sign {
    let is_bad = |line: &str| COMPLAINTS.iter().any(|complaint| line.contains(complaint));
    if !GOOD_ENDS.contains(&end(told)) || told.lines().any(is_bad) {
        return Sign::Broken;
    }
    match usual {
        Some(usual) if usual == told => Sign::Works,
        Some(_) => Sign::Silent,
        None => Sign::Unknown,
    }
}

fn end(told: &str) -> &str {
    told.lines().next().unwrap_or_default()
}

/// In a line: what was told, or of a program that ended as usual, how it differs.
fn detail(usual: Option<&str>, told: &str) -> String {
    let Some(usual) = usual else {
        return format!("{}; no ordinary guest of an unpatched kernel to compare with", some(told.lines()));
    };
    if usual == told {
        return format!("{}, all as in an ordinary guest of an unpatched kernel", end(told));
    }
    if end(usual) != end(told) {
        return some(told.lines());
    }
    let only = |one: &str, other: &str| {
        let lines = one.lines().filter(|line| other.lines().all(|known| known != *line));
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    let (lost, new) = (only(usual, told), only(told, usual));
    let mut parts = vec![end(told).to_owned()];
    if !lost.is_empty() {
        parts.push(format!("does not tell: {}", some(lost.iter().map(String::as_str))));
    }
    if !new.is_empty() {
        parts.push(format!("tells: {}", some(new.iter().map(String::as_str))));
    }
    if lost.is_empty() && new.is_empty() {
        parts.push("tells the same lines in another order or number".to_owned());
    }
    parts.join("; ")
}

/// The first lines, and how many more there are.
fn some<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> String {
    let rest = lines.clone().count().saturating_sub(SHOWN);
    let text = lines.take(SHOWN).map(str::trim).collect::<Vec<&str>>().join(" | ");
    if rest > 0 { format!("{text} | and {rest} more") } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use types::Errno;

    fn observed(text: &[u8], value: u64) -> StepObservation {
        let mut observed = StepObservation::new("run", Answer::Returned { value });
        observed.bytes = text.to_vec();
        observed
    }

    fn program(text: &str, value: u64) -> String {
        told(Judged::Program, &observed(text.as_bytes(), value)).unwrap()
    }

    #[test]
    fn what_changes_for_good_reasons_does_not_count() {
        let one = program("# dmidecode 3.4\nTable at 0x1000.\n\nBIOS Information\n", 0);
        assert_eq!(one, program("# dmidecode 3.4\n# SMBIOS entry point at 0x2000\nBIOS Information\n", 0));
        assert_ne!(one, program("BIOS Information\n", 1));
        assert_eq!(one, "exit status 0\nBIOS Information");
    }

    #[test]
    fn a_failure_is_told_from_silence() {
        let usual = program("Num Lock: on\nSerial Port 0: 0x3f8\nVendor: copra\n", 0);
        let silent = program("Num Lock: off\nVendor: copra\n", 0);
        let sorry = program("/dev/mem: Operation not permitted\nFailed to read table, sorry.\n", 0);
        let failed = program("/dev/mem: Operation not permitted\n", 1);
        assert_eq!(sign(Some(&usual), &usual), Sign::Works);
        assert_eq!(sign(Some(&usual), &silent), Sign::Silent);
        assert_eq!(sign(Some(&usual), &sorry), Sign::Broken);
        assert_eq!(sign(Some(&usual), &failed), Sign::Broken);
        // What fails everywhere does not work anywhere.
        assert_eq!(sign(Some(&failed), &failed), Sign::Broken);
        assert_eq!(sign(None, &usual), Sign::Unknown);
        assert_eq!(sign(None, &failed), Sign::Broken);
        assert_eq!(
            detail(Some(&usual), &silent),
            "exit status 0; does not tell: Num Lock: on | Serial Port 0: 0x3f8; tells: Num Lock: off"
        );
        assert_eq!(detail(Some(&usual), &failed), "exit status 1 | /dev/mem: Operation not permitted");
        assert_eq!(some("1\n2\n3\n4\n5\n6".lines()), "1 | 2 | 3 | 4 | and 2 more");
    }

    #[test]
    fn a_scan_finds_the_signature_where_it_may_stand() {
        let scan = |bytes: &[u8]| told(Judged::Scan, &observed(bytes, 32)).unwrap();
        assert_eq!(scan(b"................_SM3_..........."), FOUND);
        assert_ne!(scan(b"......_SM3_....................."), FOUND);
        let refused = StepObservation::new("open", Answer::Failed { errno: Errno::EPERM });
        assert_eq!(told(Judged::Scan, &refused).as_deref(), Some("EPERM"));
        assert_eq!(sign(Some(FOUND), "EPERM"), Sign::Broken);
    }

    proptest! {
        /// What a program says is a guest's, so it may be anything.
        #[test]
        fn whatever_is_said_can_be_compared(
            one in proptest::collection::vec(any::<u8>(), 0..200),
            other in "(\\PC{0,20}\n){0,9}",
            value in any::<u64>(),
        ) {
            let (one, other) = (told(Judged::Program, &observed(&one, value)).unwrap(), program(&other, 0));
            for (usual, told) in [(&one, &other), (&other, &one), (&one, &one)] {
                let (sign, detail) = compare(Some(usual), told);
                prop_assert!(sign != Sign::Works || usual == told);
                prop_assert!(!detail.is_empty() && !detail.contains(|c: char| c.is_control() && c != '\t'));
            }
        }
    }
}
