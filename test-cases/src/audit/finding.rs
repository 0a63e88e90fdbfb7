//! What an audit found.

use serde::Serialize;

use crate::names::named;
use crate::policy::Policy;
use crate::region::Region;

named! {
    /// What no sane kernel does, whatever its policy.
    pub enum Invariant ("invariant") {
        OneAnswer = "one-answer", "bytes that one path hides no other path shows";
        OneView = "one-view", "no access reaches a page through a view that its state forbids";
        AcceptedOnly = "accepted-only", "no access reaches memory that was never accepted";
        NoSideDoors = "no-side-doors", "what is refused on /dev/mem is not to be had elsewhere";
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

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The invariant broken.
    pub invariant: Invariant,
    /// How much it weighs.
    pub weight: Weight,
    /// The regions it is about; none for a side door.
    pub regions: Vec<Region>,
    /// The address looked at, in the first of them.
    #[serde(serialize_with = "crate::observation::address")]
    pub gpa: u64,
    /// One sentence, with `{}` for the regions.
    #[serde(skip)]
    pub sentence: String,
    /// The sentence with the regions in it.
    pub name: String,
    /// What was seen, one line each.
    pub evidence: Vec<String>,
    /// The kernel functions behind it, innermost first, where an access told them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub code_path: Vec<String>,
    /// Policies of the thread that would close it.
    pub closed_by: Vec<Policy>,
    /// A case that shows it, for `copra run`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub case: String,
    /// The paths that show it, by the ids of their steps.
    pub paths: Vec<String>,
}

impl Finding {
    /// The same thing in other places.
    pub fn is_like(&self, other: &Self) -> bool {
        !self.regions.is_empty()
            && (self.invariant, self.weight) == (other.invariant, other.weight)
            && (&self.sentence, &self.paths, &self.code_path)
                == (&other.sentence, &other.paths, &other.code_path)
            && self.closed_by == other.closed_by
    }

    /// Takes over the places of one that is like it.
    pub fn absorb(&mut self, other: Self) {
        self.regions.extend(other.regions);
        self.evidence.extend(other.evidence);
    }

    /// Puts the regions into the sentence.
    pub fn finish(&mut self) {
        let regions: Vec<&str> = self.regions.iter().map(|region| region.name()).collect();
        self.name = self.sentence.replacen("{}", &regions.join(", "), 1);
    }
}
