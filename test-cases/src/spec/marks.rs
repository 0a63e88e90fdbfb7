// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One letter for each reason, the same in all tables of a page.

use std::collections::BTreeSet;

use engine::spec::{Answer, Cell};
use model::Reason;

/// The reasons that occur, each with its mark.
#[derive(Debug, Clone)]
pub struct Marks {
    used: Vec<Reason>,
}

impl Marks {
    /// The marks of reasons, in their order.
    pub fn of(used: BTreeSet<Reason>) -> Self {
        Self { used: used.into_iter().collect() }
    }

    /// The mark of one: a to z, A to Z, and then two characters.
    pub fn mark(&self, reason: Reason) -> String {
        let index = self.used.iter().position(|used| *used == reason).unwrap_or(self.used.len());
        let letters: Vec<char> = ('a'..='z').chain('A'..='Z').collect();
        let letter = letters[index % letters.len()];
        if index < letters.len() { letter.to_string() } else { format!("{letter}'") }
    }

    /// An answer as a table shows it: `EPERM f`.
    pub fn answer(&self, answer: &Answer) -> String {
        let marks: String = answer.reasons.iter().map(|reason| self.mark(*reason)).collect();
        format!("{} {marks}", answer.text()).trim_end().to_owned()
    }

    /// A cell: each answer with the operation it is of, where they differ.
    pub fn cell(&self, cell: &Cell) -> String {
        match cell.as_slice() {
            [(_, answer)] => self.answer(answer),
            several => {
                let each = several.iter().map(|(name, answer)| format!("{name}: {}", self.answer(answer)));
                each.collect::<Vec<_>>().join("; ")
            }
        }
    }

    /// The reasons of a set, with their marks, in order.
    pub fn legend(&self, reasons: &BTreeSet<Reason>) -> Vec<(String, Reason)> {
        self.used
            .iter()
            .filter(|reason| reasons.contains(reason))
            .map(|reason| (self.mark(*reason), *reason))
            .collect()
    }
}
