// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an audit found.

use serde::{Serialize, Serializer};
use types::{PlacedRegion, Policy};

use super::place::Pages;
use crate::case::{self, Case};
use types::names::named;

named! {
    /// Rules that hold for every kernel under every policy.
    pub enum Invariant ("invariant") {
        OneAnswer = "one-answer", "bytes that one path hides no other path shows";
        OneView = "one-view", "no access reaches a page through a view that its state forbids";
        AcceptedOnly = "accepted-only", "no access reaches memory that was never accepted";
        NoSideDoors = "no-side-doors", "what is refused on /dev/mem is not to be had elsewhere";
        NothingLeftBehind = "nothing-left-behind", "memory that is no longer shared with a device is private again";
        NothingLost = "nothing-lost", "ordinary guests keep /dev/mem, and every guest its SMBIOS tables";
    }
}

named! {
    /// How much a finding weighs.
    pub enum Weight ("weight") {
        Hole = "hole", "the invariant is broken";
        Note = "note", "worth knowing; whether it is wrong depends on what the kernel promises";
    }
}

/// Innermost functions of a code path that distinguish two paths to a page; their callers are system call entries, some of
/// which the compiler inlines.
pub const DISTINGUISHING_FRAMES: usize = 2;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The invariant broken.
    pub invariant: Invariant,
    /// How much it weighs.
    pub weight: Weight,
    /// The pages it is about; none for a side door.
    pub pages: Pages,
    /// The same by name, where they have one.
    pub places: Vec<String>,
    /// The address read, in the first of them.
    #[serde(serialize_with = "crate::observation::address")]
    pub gpa: u64,
    /// One sentence, with `{}` for the places.
    #[serde(skip)]
    pub sentence: String,
    /// The sentence with the places in it.
    pub name: String,
    /// The observations, one line each.
    pub evidence: Vec<String>,
    /// The kernel functions of the access, innermost first, if known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub code_path: Vec<String>,
    /// Policies of the thread that would close it.
    pub closed_by: Vec<Policy>,
    /// A case that shows it, for `copra run`.
    #[serde(serialize_with = "as_file", skip_serializing_if = "Option::is_none")]
    pub case: Option<Case>,
    /// Whether the case names a region: it then holds for guests of other sizes too.
    #[serde(skip)]
    pub of_region: bool,
    /// The paths that show it, by the ids of their steps.
    pub paths: Vec<String>,
}

impl Finding {
    /// A finding with its sentence and nothing else.
    pub fn new(invariant: Invariant, weight: Weight, sentence: String) -> Self {
        Self {
            invariant,
            weight,
            pages: Pages::default(),
            places: Vec::new(),
            gpa: 0,
            sentence,
            name: String::new(),
            evidence: Vec::new(),
            code_path: Vec::new(),
            closed_by: Vec::new(),
            case: None,
            of_region: false,
            paths: Vec::new(),
        }
    }

    /// The same thing in other places.
    pub fn is_like(&self, other: &Self) -> bool {
        // Functions found by a stack scan vary from run to run.
        let frames = |finding: &Self| -> Vec<String> {
            let found = finding.code_path.iter().take(DISTINGUISHING_FRAMES).enumerate();
            found
                .filter(|(depth, name)| *depth == 0 || !name.starts_with("? "))
                .map(|(_, name)| name.clone())
                .collect()
        };
        !self.pages.is_empty()
            && (self.invariant, self.weight) == (other.invariant, other.weight)
            && self.sentence == other.sentence
            && self.closed_by == other.closed_by
            && frames(self) == frames(other)
    }

    /// Adds the places of an equal finding, and its observations if they differ.
    pub fn absorb(&mut self, other: Self) {
        self.pages.add(&other.pages);
        if other.of_region && !self.of_region {
            self.case = other.case;
            self.of_region = true;
        }
        for path in other.paths {
            if !self.paths.contains(&path) {
                self.paths.push(path);
            }
        }
        let known: Vec<String> = self.evidence.iter().map(|line| without_numbers(line)).collect();
        if other.evidence.iter().any(|line| !known.contains(&without_numbers(line))) {
            self.evidence.extend(other.evidence);
        }
    }

    /// Puts the places into the sentence.
    pub fn finish(&mut self, regions: &[PlacedRegion]) {
        self.places = self.pages.names(regions);
        self.name = self.sentence.replacen("{}", &self.places.join(", "), 1);
    }
}

/// A case is serialized as the text of its file.
#[expect(clippy::ref_option, reason = "serde's serialize_with hands over a reference to the field")]
fn as_file<S: Serializer>(case: &Option<Case>, serializer: S) -> Result<S::Ok, S::Error> {
    case.as_ref().map(case::write).serialize(serializer)
}

/// What is the same in evidence of hundreds of pages.
fn without_numbers(line: &str) -> String {
    let is_number = |word: &str| word.starts_with("0x") || word.starts_with(|c: char| c.is_ascii_digit());
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    words.filter(|word| !is_number(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_that_differs_in_addresses_only_is_shown_once() {
        let finding = |gpa: u64, line: &str| Finding {
            pages: Pages::of(gpa),
            evidence: vec![format!("{line} at {gpa:#x}, 16 bytes")],
            ..Finding::new(Invariant::OneView, Weight::Hole, "it reads {}".to_owned())
        };
        let mut first = finding(0x1000, "pread");
        first.absorb(finding(0x2000, "pread"));
        first.absorb(finding(0x3000, "load"));
        assert_eq!(first.evidence, ["pread at 0x1000, 16 bytes", "load at 0x3000, 16 bytes"]);
        first.finish(&[]);
        assert_eq!(first.name, "it reads 0x1000-0x3fff");
    }
}
