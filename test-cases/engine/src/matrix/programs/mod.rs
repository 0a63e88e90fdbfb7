// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs that use /dev/mem: which of them a matrix runs, and their results.

use guest_kernel::Programs;

use super::operations::{Judged, Operation, of_matrix};
use super::{Cell, Matrix, Sign};
use crate::case::{Action, Case, Share, Step};
use crate::place::Place;

pub mod judge;
pub mod summary;

/// The name of the case that does what libdebian-installer does.
const SCAN: &str = "matrix/scan";
/// The name of the case that runs programs.
const RUNS: &str = "matrix/programs";
/// The heading above the rows.
const GROUP: &str = "programs (of Debian's packages)";

/// A row: its id, its name, its case and the steps of that, and how it is judged.
type Row = (&'static str, &'static str, &'static str, &'static [&'static str], Judged);

/// dmidecode with the option not to use sysfs.
pub(super) const DMIDECODE_VIA_MEM: &str = "dmidecode/mem";

/// libdebian-installer has no program in Debian's packages that calls the function in question, so its accesses are made
/// by the agent (`src/system/subarch-x86-linux.c:mem_chunk`).
const ROWS: [Row; 6] = [
    ("dmidecode/sysfs", "dmidecode", RUNS, &["dmidecode"], Judged::Program),
    (DMIDECODE_VIA_MEM, "dmidecode via mem", RUNS, &["dmidecode-mem"], Judged::Program),
    ("biosdecode", "biosdecode", RUNS, &["biosdecode"], Judged::Program),
    ("busybox/devmem", "busybox devmem", RUNS, &["devmem"], Judged::Program),
    ("hwinfo/bios", "hwinfo --bios", RUNS, &["hwinfo"], Judged::Program),
    ("libdebian-installer", "d-i scan (agent)", SCAN, &["open", "map", "scan"], Judged::Scan),
];

/// The steps that run a program: its path and arguments.
const RUN_STEPS: [(&str, &str, &[&str]); 5] = [
    ("dmidecode", "/usr/sbin/dmidecode", &["-q"]),
    ("dmidecode-mem", "/usr/sbin/dmidecode", &["-q", "--no-sysfs"]),
    ("biosdecode", "/usr/sbin/biosdecode", &[]),
    ("devmem", "/bin/busybox", &["devmem", "0xf0000", "32"]),
    ("hwinfo", "/usr/sbin/hwinfo", &["--bios"]),
];

/// The rows.
pub(super) fn operations() -> impl Iterator<Item = Operation> {
    ROWS.iter().map(|(id, name, case, steps, judged)| Operation {
        id: (*id).to_owned(),
        group: GROUP.to_owned(),
        name: (*name).to_owned(),
        region: None,
        brief: true,
        case: (*case).to_owned(),
        steps: steps.to_vec(),
        judged: *judged,
    })
}

/// The cases of them.
pub(super) fn cases() -> [Case; 2] {
    [scan(), runs()]
}

fn runs() -> Case {
    let run = |(id, program, args): &(&str, &str, &[&str])| {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Step::new(id, Action::Run { program: (*program).to_owned(), args })
    };
    of_matrix(RUNS, "Programs that know of /dev/mem", RUN_STEPS.iter().map(run).collect())
}

fn scan() -> Case {
    let steps = vec![
        Step::open("open", "/dev/mem", libc::O_RDONLY, "mem"),
        Step::map_to_read("map", "mem", Place::address(0xf_0000), 0x1_0000, Share::Shared, "rom"),
        Step::peek("scan", "rom", 0, 0x8000),
    ];
    of_matrix(SCAN, "What libdebian-installer does to find SMBIOS", steps)
}

/// The cases without the steps whose program is not there.
pub fn runnable(cases: Vec<Case>, programs: &Programs) -> Vec<Case> {
    let is_there = |action: &Action| match action {
        Action::Run { program, .. } => programs.has(program),
        _ => true,
    };
    cases
        .into_iter()
        .filter_map(|mut case| {
            case.steps.retain(|step| is_there(&step.action));
            (!case.steps.is_empty()).then_some(case)
        })
        .collect()
}

/// Says of the rows of programs that are not there that they were skipped, and why.
pub fn skip(matrix: &mut Matrix, programs: &Programs) {
    for (id, _, _, steps, _) in ROWS {
        let program =
            |id: &&str| RUN_STEPS.iter().find(|(step, ..)| step == id).map(|(_, program, _)| *program);
        let Some(why) = steps.iter().filter_map(program).find_map(|program| programs.lacks(program)) else {
            continue;
        };
        // A guest that did not run at all has another reason.
        for combination in matrix.combinations.iter_mut().filter(|combination| combination.facts.is_some()) {
            combination.cells.insert(id.to_owned(), Cell::bare(Sign::Skipped, why.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::matrix::{fixture, operations};

    #[test]
    fn a_program_that_is_not_there_takes_its_steps_along_and_nothing_else() {
        let whole = operations::cases();
        let steps = |cases: &[Case]| cases.iter().map(|case| case.steps.len()).sum::<usize>();
        let none = runnable(whole.clone(), &Programs::without("no network"));
        assert_eq!((none.len(), steps(&none)), (whole.len() - 1, steps(&whole) - RUN_STEPS.len()));
        let file = |path: &str| (path.to_owned(), PathBuf::new());
        let busybox = Programs { files: vec![file("/bin/busybox")], ..Programs::default() };
        let one = runnable(whole.clone(), &busybox);
        assert_eq!((one.len(), steps(&one)), (whole.len(), steps(&none) + 1));
        let all =
            Programs { files: guest_kernel::programs::known().map(file).collect(), ..Programs::default() };
        assert_eq!(runnable(whole.clone(), &all), whole);
    }

    #[test]
    fn skipped_rows_have_a_reason_and_are_never_taken_for_passed() {
        let mut matrix = fixture::matrix();
        skip(&mut matrix, &Programs::without("there is no network"));
        judge::judge(&mut matrix);
        for combination in &matrix.combinations {
            for operation in operations().filter(|operation| operation.judged == Judged::Program) {
                let cell = combination.cell(&operation.id);
                let sign = if combination.facts.is_some() { Sign::Skipped } else { Sign::Unknown };
                assert_eq!(cell.sign, sign, "{}", operation.id);
            }
            assert!(!matches!(combination.cell("open/mem").sign, Sign::Skipped));
        }
    }
}
