// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The output of programs that do not work, each text once.

use super::operations;
use crate::matrix::label;
use crate::matrix::{Matrix, Sign};

/// One answer of a program, and who had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The program's row.
    pub name: String,
    /// The word in the tables.
    pub word: String,
    /// The answer.
    pub detail: String,
    /// Kernels and platforms.
    pub by: Vec<String>,
}

impl Output {
    /// All but the name in one line.
    pub fn line(&self) -> String {
        format!("{}: {} ({})", self.word, self.detail, self.by.join(", "))
    }
}

/// Everything that is not as in an ordinary guest of an unpatched kernel, skipped programs included.
pub fn summary(matrix: &Matrix) -> Vec<Output> {
    let mut all: Vec<Output> = Vec::new();
    for operation in operations() {
        for combination in &matrix.combinations {
            let Some(cell) = combination.cells.get(&operation.id).filter(|cell| cell.sign != Sign::Works)
            else {
                continue;
            };
            let by = format!("{} as {}", label(&combination.kernel), combination.platform);
            let detail = without_addresses(&cell.detail);
            let same = |output: &&mut Output| {
                output.name == operation.name && output.word == cell.word && output.detail == detail
            };
            match all.iter_mut().find(same) {
                Some(output) => output.by.push(by),
                None => all.push(Output {
                    name: operation.name.clone(),
                    word: cell.word.clone(),
                    detail,
                    by: vec![by],
                }),
            }
        }
    }
    all
}

/// The address of an instruction in a program differs from run to run.
fn without_addresses(detail: &str) -> String {
    match detail.split_once("by user 0x") {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_hexdigit());
            format!("{before}by user code{rest}")
        }
        None => detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::fixture;

    #[test]
    fn the_same_answer_is_listed_once() {
        let all = summary(&fixture::matrix());
        let mut keys: Vec<_> =
            all.iter().map(|output| (&output.name, &output.word, &output.detail)).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
        assert!(all.iter().any(|output| output.word == "silent"));
    }

    #[test]
    fn addresses_of_programs_are_left_out() {
        let access = "private-read of 0xf0000 (4 bytes) in rom, by user";
        for rest in [", task busybox", " busybox+0xfbc9a, task busybox"] {
            let text = format!("{access} 0x4fbc9a{rest}");
            assert_eq!(without_addresses(&text), format!("{access} code{rest}"));
        }
    }
}
