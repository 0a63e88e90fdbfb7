// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a program does its work: its output compared with that in an ordinary guest of an unpatched kernel.

use types::{Platform, Policy};

use super::rows::DMIDECODE_VIA_MEM;
use super::rows::Row;
use crate::matrix::operations::{self, Judged};
use crate::matrix::{Combination, Matrix, Sign};
use crate::observation::{Answer, StepObservation};

/// Beginnings of lines that differ from guest to guest for good reasons: comments; the product, which names the platform,
/// and so the table's measures; and where the tables are.
const IDLE: [&str; 6] =
    ["#", "Table at", "Product Name:", "Product:", "Structure Table", "Maximum Structure Size"];
/// Texts in a line that report a failure, with any exit status.
const FAILURE_TEXTS: [&str; 2] = ["sorry", "/dev/mem"];
/// A program that ended as it should, and steps in a program's place that found the signature.
const GOOD_ENDS: [&str; 2] = ["exit status 0", FOUND];
const FOUND: &str = "found SMBIOS's signature";
/// Lines of a program's output that a cell's detail shows.
const SHOWN: usize = 4;

/// The end of a program and the lines of its output, or the result of the steps in its place.
pub fn reported(judged: Judged, observed: &StepObservation) -> Option<String> {
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
    let (text, idle) = match judged {
        Judged::Program(row) => (String::from_utf8_lossy(&observed.bytes), row.idle),
        Judged::Scan | Judged::Shown => ("".into(), [].as_slice()),
    };
    let is_essential = |line: &&str| {
        let text = line.trim_start();
        !text.is_empty() && !IDLE.iter().chain(idle).any(|idle| text.starts_with(idle))
    };
    // A terminal will show this, so a guest must not steer it.
    let tame = |line: &str| line.trim_end().replace(|c: char| c.is_control() && c != '\t', "\u{fffd}");
    let essential = text.lines().filter(is_essential).map(tame);
    Some(std::iter::once(end).chain(essential).collect::<Vec<String>>().join("\n"))
}

/// Judges for every program in every combination whether it works.
pub fn judge(matrix: &mut Matrix) {
    for operation in operations::all().iter().filter(|operation| operation.judged != Judged::Shown) {
        let reference = reference(matrix, &operation.id);
        for combination in &mut matrix.combinations {
            let unreachable = operation.id == DMIDECODE_VIA_MEM && hides_structures(combination);
            let Some(cell) = combination.cells.get_mut(&operation.id) else { continue };
            let Some(reported) = &cell.output else { continue };
            (cell.sign, cell.detail) = compare(reference.as_deref(), reported);
            if let Judged::Program(row) = operation.judged
                && let Some(why) = nothing_tried(row, reference.as_deref(), reported)
            {
                cell.sign = Sign::Skipped;
                cell.detail = format!("{why}; its output: {}", some(reported.lines()));
            }
            if unreachable && cell.sign == Sign::Broken {
                cell.sign = Sign::Closed;
                cell.detail = format!("{UNREACHABLE}; its output: {}", cell.detail);
            }
            // An access that succeeds here is a fault on hardware, whatever the program did with it.
            if let Some(first) = cell.accesses.first() {
                cell.sign = Sign::OtherView;
                cell.detail =
                    format!("{}; it gets there by {first}{}", cell.detail, more(cell.accesses.len()));
            }
            cell.sign.word().clone_into(&mut cell.word);
            // The detail has the output already, and it is no content of memory.
            cell.bytes.clear();
            cell.gpa = None;
        }
    }
}

/// The output in an ordinary guest of an unpatched kernel: of several, the first in which the program did not fail.
fn reference(matrix: &Matrix, operation: &str) -> Option<String> {
    let ordinary = matrix.combinations.iter().filter(|combination| {
        combination.platform == Platform::None && combination.kernel.policy == Some(Policy::Upstream)
    });
    let outputs: Vec<&String> =
        ordinary.filter_map(|combination| combination.cells.get(operation)?.output.as_ref()).collect();
    let good = outputs.iter().find(|output| GOOD_ENDS.contains(&end(output)));
    good.or(outputs.first()).map(|output| (*output).clone())
}

/// Why a program's output shows nothing about access, if so: what it looks for is not in the guest, or not in the kernel.
fn nothing_tried(row: &Row, reference: Option<&str>, reported: &str) -> Option<&'static str> {
    let lacking = row.lacking.filter(|(error, _)| end(reported) != GOOD_ENDS[0] && reported.contains(error));
    lacking.map(|(_, why)| why).or(row.missing.filter(|_| reference == Some(reported)))
}

fn more(accesses: usize) -> &'static str {
    if accesses > 1 { ", and others" } else { "" }
}

/// Why dmidecode gets no further.
const UNREACHABLE: &str = "/dev/mem opens, but the tables lie in ACPI data in this guest, which IO_STRICT_DEVMEM \
                           refuses to every process: its firmware's choice, not the platform's or the policy's (OVMF's \
                           runtime services data would not be refused)";

/// Whether the structures are where /dev/mem gives no access, though it opens: in ACPI data, where the VMM's firmware puts
/// them in confidential guests (`firmware.rs:smbios_table`).
fn hides_structures(combination: &Combination) -> bool {
    combination.platform.is_confidential()
        && combination.cell("open/mem").sign == Sign::Works
        && combination.cell("acpi-data/mmap").sign == Sign::Denied
        && combination.cell("rom/mmap").sign != Sign::Denied
}

/// The sign and the detail of a program's output compared with the reference.
pub fn compare(reference: Option<&str>, reported: &str) -> (Sign, String) {
    (sign(reference, reported), detail(reference, reported))
}

fn sign(reference: Option<&str>, reported: &str) -> Sign {
    let is_bad = |line: &str| FAILURE_TEXTS.iter().any(|text| line.contains(text));
    if !GOOD_ENDS.contains(&end(reported)) || reported.lines().any(is_bad) {
        return Sign::Broken;
    }
    match reference {
        Some(reference) if reference == reported => Sign::Works,
        Some(_) => Sign::Silent,
        None => Sign::Unknown,
    }
}

fn end(reported: &str) -> &str {
    reported.lines().next().unwrap_or_default()
}

/// The output in a line, or how it differs if the program ended as in the reference.
fn detail(reference: Option<&str>, reported: &str) -> String {
    let Some(reference) = reference else {
        return format!(
            "{}; no ordinary guest of an unpatched kernel to compare with",
            some(reported.lines())
        );
    };
    if reference == reported {
        return format!("{}, all as in an ordinary guest of an unpatched kernel", end(reported));
    }
    if end(reference) != end(reported) {
        return some(reported.lines());
    }
    let only = |one: &str, other: &str| {
        let lines = one.lines().filter(|line| other.lines().all(|known| known != *line));
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    let (lost, new) = (only(reference, reported), only(reported, reference));
    let mut parts = vec![end(reported).to_owned()];
    if !lost.is_empty() {
        parts.push(format!("missing: {}", some(lost.iter().map(String::as_str))));
    }
    if !new.is_empty() {
        parts.push(format!("additional: {}", some(new.iter().map(String::as_str))));
    }
    if lost.is_empty() && new.is_empty() {
        parts.push("the same lines in another order or number".to_owned());
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
    use crate::matrix::fixture;
    use crate::matrix::programs::ROWS;
    use types::Errno;

    fn observed(text: &[u8], value: u64) -> StepObservation {
        let mut observed = StepObservation::new("run", Answer::Returned { value });
        observed.bytes = text.to_vec();
        observed
    }

    fn program(text: &str, value: u64) -> String {
        reported(PROGRAM, &observed(text.as_bytes(), value)).unwrap()
    }

    const PROGRAM: Judged = Judged::Program(&ROWS[0]);

    #[test]
    fn what_changes_for_good_reasons_does_not_count() {
        let one = program("# dmidecode 3.4\nTable at 0x1000.\n\nBIOS Information\n", 0);
        assert_eq!(one, program("# dmidecode 3.4\n# SMBIOS entry point at 0x2000\nBIOS Information\n", 0));
        assert_ne!(one, program("BIOS Information\n", 1));
        assert_eq!(one, "exit status 0\nBIOS Information");
    }

    #[test]
    fn a_failure_differs_from_a_silent_program() {
        let reference = program("Num Lock: on\nSerial Port 0: 0x3f8\nVendor: copra\n", 0);
        let silent = program("Num Lock: off\nVendor: copra\n", 0);
        let sorry = program("/dev/mem: Operation not permitted\nFailed to read table, sorry.\n", 0);
        let failed = program("/dev/mem: Operation not permitted\n", 1);
        assert_eq!(sign(Some(&reference), &reference), Sign::Works);
        assert_eq!(sign(Some(&reference), &silent), Sign::Silent);
        assert_eq!(sign(Some(&reference), &sorry), Sign::Broken);
        assert_eq!(sign(Some(&reference), &failed), Sign::Broken);
        // What fails everywhere does not work anywhere.
        assert_eq!(sign(Some(&failed), &failed), Sign::Broken);
        assert_eq!(sign(None, &reference), Sign::Unknown);
        assert_eq!(sign(None, &failed), Sign::Broken);
        assert_eq!(
            detail(Some(&reference), &silent),
            "exit status 0; missing: Num Lock: on | Serial Port 0: 0x3f8; additional: Num Lock: off"
        );
        assert_eq!(detail(Some(&reference), &failed), "exit status 1 | /dev/mem: Operation not permitted");
        assert_eq!(some("1\n2\n3\n4\n5\n6".lines()), "1 | 2 | 3 | 4 | and 2 more");
    }

    #[test]
    fn what_finds_nothing_to_access_is_skipped_and_what_is_refused_is_broken() {
        let row = ROWS.iter().find(|row| row.id == "vbetool").unwrap();
        let mut matrix = fixture::matrix();
        judge(&mut matrix);
        let of = |platform, policy| {
            let on = matrix.on(platform);
            let combination =
                on.iter().find(|combination| combination.kernel.policy == Some(policy)).unwrap();
            combination.cell(row.id)
        };
        let usual = of(Platform::None, Policy::Upstream);
        assert_eq!(usual.sign, Sign::Skipped);
        assert!(usual.detail.starts_with(row.missing.unwrap()), "{}", usual.detail);
        assert_eq!(of(Platform::Sev, Policy::OpenEperm).sign, Sign::Broken);
    }

    #[test]
    fn what_the_kernel_lacks_is_no_reference() {
        let row = ROWS.iter().find(|row| row.id == "rdmsr").unwrap();
        let (lacking, value) =
            (program("rdmsr: open: No such file or directory\n", 127), program("407050600070106\n", 0));
        assert_eq!(nothing_tried(row, Some(&lacking), &lacking), row.lacking.map(|(_, why)| why));
        assert_eq!(
            nothing_tried(row, Some(&value), &program("rdmsr: open: Operation not permitted\n", 127)),
            None
        );
        let mut matrix = fixture::matrix();
        let mut other = matrix.combinations[0].clone();
        matrix.combinations[0].cells.get_mut(row.id).unwrap().output = Some(lacking);
        other.cells.get_mut(row.id).unwrap().output = Some(value.clone());
        matrix.combinations.push(other);
        assert_eq!(reference(&matrix, row.id), Some(value));
    }

    #[test]
    fn lines_that_differ_for_a_rows_own_reasons_do_not_count() {
        let row = ROWS.iter().find(|row| row.id == "x86info").unwrap();
        let of = |text: &str| reported(Judged::Program(row), &observed(text.as_bytes(), 0)).unwrap();
        assert_eq!(
            of("Address Size: 48 bits virtual, 40 bits physical\nMP Table:\n"),
            of("Address Size: 39 bits\nMP Table:\n")
        );
        assert_ne!(of("MP Table:\n"), of(""));
    }

    #[test]
    fn a_scan_finds_the_signature_where_it_may_stand() {
        let scan = |bytes: &[u8]| reported(Judged::Scan, &observed(bytes, 32)).unwrap();
        assert_eq!(scan(b"................_SM3_..........."), FOUND);
        assert_ne!(scan(b"......_SM3_....................."), FOUND);
        let refused = StepObservation::new("open", Answer::Failed { errno: Errno::EPERM });
        assert_eq!(reported(Judged::Scan, &refused).as_deref(), Some("EPERM"));
        assert_eq!(sign(Some(FOUND), "EPERM"), Sign::Broken);
    }

    proptest! {
        /// The output comes from a guest, so it may be anything.
        #[test]
        fn any_output_can_be_compared(
            one in proptest::collection::vec(any::<u8>(), 0..200),
            other in "(\\PC{0,20}\n){0,9}",
            value in any::<u64>(),
        ) {
            let (one, other) = (reported(PROGRAM, &observed(&one, value)).unwrap(), program(&other, 0));
            for (reference, reported) in [(&one, &other), (&other, &one), (&one, &one)] {
                let (sign, detail) = compare(Some(reference), reported);
                prop_assert!(sign != Sign::Works || reference == reported);
                prop_assert!(!detail.is_empty() && !detail.contains(|c: char| c.is_control() && c != '\t'));
            }
        }
    }
}
