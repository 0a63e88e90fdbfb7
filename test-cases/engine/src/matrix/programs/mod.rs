// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs that use /dev/mem: which of them a matrix runs, and their results.

use guest_kernel::Programs;

use super::operations::{Judged, Operation, of_matrix};
use super::{Cell, Matrix, Sign};
use crate::case::{Action, Case, Share, Step};
use crate::place::Place;

pub mod judge;
pub mod rows;
pub mod summary;

pub use rows::{ROWS, Row};

/// The name of the case that does what libdebian-installer does.
const SCAN: &str = "matrix/scan";
/// The heading above the rows.
const GROUP: &str = "programs (of Debian's packages)";

/// libdebian-installer has no program in Debian's packages that calls the function in question, so its accesses are made
/// by the agent (`src/system/subarch-x86-linux.c:mem_chunk`).
const SCAN_ROW: (&str, &str) = ("libdebian-installer", "d-i scan (agent)");
/// The step of a row's case.
const RUN: &str = "run";

/// The rows.
pub(super) fn operations() -> impl Iterator<Item = Operation> {
    let operation = |id: &str, name: &str, case, steps, judged| Operation {
        id: id.to_owned(),
        group: GROUP.to_owned(),
        name: name.to_owned(),
        region: None,
        brief: true,
        case,
        steps,
        judged,
    };
    let scan = operation(SCAN_ROW.0, SCAN_ROW.1, SCAN.to_owned(), vec!["open", "map", "scan"], Judged::Scan);
    let of_row =
        move |row: &'static Row| operation(row.id, row.name, row.case(), vec![RUN], Judged::Program(row));
    ROWS.iter().map(of_row).chain([scan])
}

/// The cases of them: one for each, so that no program finds what another left.
pub(super) fn cases() -> impl Iterator<Item = Case> {
    ROWS.iter().map(run).chain([scan()])
}

fn run(row: &Row) -> Case {
    let args = row.args.iter().map(|arg| (*arg).to_owned()).collect();
    let step = Step::new(RUN, Action::Run { program: row.program.to_owned(), args });
    of_matrix(&row.case(), "A program that knows of /dev/mem", vec![step])
}

fn scan() -> Case {
    let steps = vec![
        Step::open("open", "/dev/mem", libc::O_RDONLY, "mem"),
        Step::map_to_read("map", "mem", Place::address(0xf_0000), 0x1_0000, Share::Shared, "rom"),
        Step::peek("scan", "rom", 0, 0x8000),
    ];
    of_matrix(SCAN, "What libdebian-installer does to find SMBIOS", steps)
}

/// The cases without those whose programs are not there.
pub fn runnable(cases: Vec<Case>, programs: &Programs) -> Vec<Case> {
    let is_there = |case: &Case| case.programs().iter().all(|program| programs.has(program));
    cases.into_iter().filter(is_there).collect()
}

/// Marks the rows of programs that are not there as skipped, with the reason.
pub fn skip(matrix: &mut Matrix, programs: &Programs) {
    for row in &ROWS {
        let Some(why) = run(row).programs().into_iter().find_map(|program| programs.lacks(program)) else {
            continue;
        };
        // A guest that did not run at all has another reason.
        for combination in matrix.combinations.iter_mut().filter(|combination| combination.facts.is_some()) {
            combination.cells.insert(row.id.to_owned(), Cell::bare(Sign::Skipped, why.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::matrix::{fixture, operations};

    #[test]
    fn a_program_that_is_not_there_takes_its_cases_along_and_nothing_else() {
        let whole = operations::cases();
        let none = runnable(whole.clone(), &Programs::without("no network"));
        assert_eq!(none.len(), whole.len() - ROWS.len());
        let file = |path: &str| (path.to_owned(), PathBuf::new());
        let busybox = Programs { files: vec![file("/bin/busybox")], ..Programs::default() };
        let one: Vec<String> = runnable(whole.clone(), &busybox).into_iter().map(|case| case.name).collect();
        let is_new = |name: &&String| none.iter().all(|case| case.name != **name);
        assert_eq!(one.iter().filter(is_new).collect::<Vec<_>>(), ["matrix/run-busybox-devmem"]);
        let all =
            Programs { files: guest_kernel::programs::known().map(file).collect(), ..Programs::default() };
        assert_eq!(runnable(whole.clone(), &all), whole);
    }

    #[test]
    fn every_program_that_is_run_can_be_had() {
        let known = |path: &str| guest_kernel::programs::known().any(|known| known == path);
        assert!(ROWS.iter().all(|row| known(row.program)));
        let programs: std::collections::BTreeSet<&str> =
            ROWS.iter().map(|row| row.id.split('/').next().unwrap()).collect();
        assert!(programs.len() >= 15, "{programs:?}");
    }

    #[test]
    fn skipped_rows_have_a_reason_and_are_never_taken_for_passed() {
        let mut matrix = fixture::matrix();
        skip(&mut matrix, &Programs::without("there is no network"));
        judge::judge(&mut matrix);
        for combination in &matrix.combinations {
            for operation in operations().filter(|operation| operation.judged != Judged::Scan) {
                let cell = combination.cell(&operation.id);
                let sign = if combination.facts.is_some() { Sign::Skipped } else { Sign::Unknown };
                assert_eq!(cell.sign, sign, "{}", operation.id);
            }
            assert!(!matches!(combination.cell("open/mem").sign, Sign::Skipped));
        }
    }
}
