// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How strict comparisons were: every one that was weaker than it could have been is counted, by kind.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use types::names::named;

named! {
    /// Why a comparison was weaker than an exact one.
    pub enum Weakening ("weakened comparison") {
        AmbiguousClass = "ambiguous-class", "the bytes fit several classes, all of which the expectation allows";
        Alternatives = "alternatives", "the expectation allows several answers";
        OptionalEvent = "optional-event", "a forbidden access that may or may not be seen";
        NotRepeatable = "not-repeatable", "a difference that did not come again";
        UnknownTruth = "unknown-truth", "what memory holds was not known, so bytes were not compared with it";
        UnknownBytes = "unknown-bytes", "bytes for which nothing was predicted";
        OkOnly = "ok-only", "the expectation is success alone; what came back was not compared";
        EventsNotStated = "events-not-stated", "the expectation states no forbidden accesses; those seen were not compared";
    }
}

impl Weakening {
    /// The comparison was still made, against a class or a choice; the others were not made at all.
    pub const fn is_by_class(self) -> bool {
        matches!(self, Self::AmbiguousClass | Self::Alternatives | Self::OptionalEvent)
    }
}

/// Comparisons, counted by how strict they were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rigour {
    exact: u64,
    weakened: BTreeMap<Weakening, u64>,
}

impl Rigour {
    /// So many comparisons were exact.
    pub fn exact(&mut self, count: u64) {
        self.exact += count;
    }

    /// So many were weaker, for this reason.
    pub fn weakened(&mut self, why: Weakening, count: u64) {
        if count > 0 {
            *self.weakened.entry(why).or_default() += count;
        }
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.exact += other.exact;
        for (why, count) in &other.weakened {
            self.weakened(*why, *count);
        }
    }

    /// Comparisons in all.
    pub fn total(&self) -> u64 {
        self.exact + self.by_class() + self.not_at_all()
    }

    /// Comparisons that were made against a class or a choice.
    pub fn by_class(&self) -> u64 {
        self.sum(Weakening::is_by_class)
    }

    /// Comparisons that could not be made.
    pub fn not_at_all(&self) -> u64 {
        self.sum(|why| !why.is_by_class())
    }

    /// How many comparisons were weakened for this reason.
    pub fn count(&self, why: Weakening) -> u64 {
        self.weakened.get(&why).copied().unwrap_or_default()
    }

    /// The share of comparisons that were not exact, from 0 to 1; of no comparison, 0.
    pub fn weakened_share(&self) -> f64 {
        share(self.total() - self.exact, self.total())
    }

    fn sum(&self, counts: impl Fn(Weakening) -> bool) -> u64 {
        self.weakened.iter().filter(|(why, _)| counts(**why)).map(|(_, count)| count).sum()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl fmt::Display for Rigour {
    /// `judged exactly 98.2 %, by class 1.6 %, not at all 0.2 % (16 × ambiguous-class, 2 × ok-only)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        if total == 0 {
            return f.write_str("nothing was judged");
        }
        let percent = |part| 100.0 * share(part, total);
        write!(
            f,
            "judged exactly {:.1} %, by class {:.1} %, not at all {:.1} %",
            percent(self.exact),
            percent(self.by_class()),
            percent(self.not_at_all())
        )?;
        let kinds: Vec<String> =
            self.weakened.iter().map(|(why, count)| format!("{count} × {}", why.name())).collect();
        if kinds.is_empty() { Ok(()) } else { write!(f, " ({})", kinds.join(", ")) }
    }
}

impl Serialize for Rigour {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let weakened: BTreeMap<&str, u64> =
            self.weakened.iter().map(|(why, count)| (why.name(), *count)).collect();
        serde_json::json!({
            "exactly": self.exact,
            "by_class": self.by_class(),
            "not_at_all": self.not_at_all(),
            "weakened": weakened,
        })
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Rigour {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The fields that are no sums of others.
        #[derive(Deserialize)]
        struct Counted {
            exactly: u64,
            weakened: BTreeMap<Weakening, u64>,
        }
        let Counted { exactly, weakened } = Counted::deserialize(deserializer)?;
        Ok(Self { exact: exactly, weakened })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_reads_as_one_line() {
        let mut rigour = Rigour::default();
        assert_eq!(rigour.to_string(), "nothing was judged");
        rigour.exact(982);
        assert_eq!(rigour.to_string(), "judged exactly 100.0 %, by class 0.0 %, not at all 0.0 %");
        rigour.weakened(Weakening::AmbiguousClass, 16);
        rigour.weakened(Weakening::OkOnly, 2);
        rigour.weakened(Weakening::UnknownBytes, 0);
        let line =
            "judged exactly 98.2 %, by class 1.6 %, not at all 0.2 % (16 × ambiguous-class, 2 × ok-only)";
        assert_eq!(rigour.to_string(), line);
        assert_eq!(serde_json::json!(rigour)["weakened"]["ok-only"], 2);
    }

    proptest! {
        #[test]
        fn no_comparison_is_lost_or_counted_twice(
            exact in 0u64..1000,
            weakened in prop::collection::vec((prop::sample::select(Weakening::ALL), 0u64..1000), 0..20),
        ) {
            let (mut whole, mut parts) = (Rigour::default(), Rigour::default());
            whole.exact(exact);
            parts.exact(exact);
            for (why, count) in &weakened {
                whole.weakened(*why, *count);
                let mut part = Rigour::default();
                part.weakened(*why, *count);
                parts.add(&part);
            }
            prop_assert_eq!(&whole, &parts);
            prop_assert_eq!(whole.total(), exact + weakened.iter().map(|(_, count)| count).sum::<u64>());
        }
    }
}
