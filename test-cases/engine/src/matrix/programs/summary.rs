// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What programs said where they do not work, each answer once.

use super::operations;
use crate::matrix::label;
use crate::matrix::{Matrix, Sign};

/// One answer of a program, and who had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The program's row.
    pub name: String,
    /// The word in the tables.
    pub word: String,
    /// The answer.
    pub detail: String,
    /// Kernels and platforms.
    pub by: Vec<String>,
}

impl Said {
    /// All but the name in one line.
    pub fn line(&self) -> String {
        format!("{}: {} ({})", self.word, self.detail, self.by.join(", "))
    }
}

/// Everything that is not as in an ordinary guest of an unpatched kernel, skipped programs included.
pub fn summary(matrix: &Matrix) -> Vec<Said> {
    let mut all: Vec<Said> = Vec::new();
    for operation in operations() {
        for combination in &matrix.combinations {
            let Some(cell) = combination.cells.get(&operation.id).filter(|cell| cell.sign != Sign::Works)
            else {
                continue;
            };
            let by = format!("{} as {}", label(&combination.kernel), combination.platform);
            let detail = without_addresses(&cell.detail);
            let same = |said: &&mut Said| {
                said.name == operation.name && said.word == cell.word && said.detail == detail
            };
            match all.iter_mut().find(same) {
                Some(said) => said.by.push(by),
                None => all.push(Said {
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

/// Where in a program's memory an instruction stood differs from run to run.
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
    fn the_same_answer_is_told_once() {
        let all = summary(&fixture::matrix());
        let mut keys: Vec<_> = all.iter().map(|said| (&said.name, &said.word, &said.detail)).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
        assert!(all.iter().any(|said| said.word == "silent"));
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
