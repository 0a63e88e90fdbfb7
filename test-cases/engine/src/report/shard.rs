// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A part of the selected cases, for runs on several machines: which case is in which part depends on the case's name alone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// More parts than this are a mistake.
pub const MOST: u16 = 4096;

/// One of `of` parts, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    /// Which part.
    pub index: u16,
    /// How many parts there are.
    pub of: u16,
}

/// A shard of a selection of cases, as reports have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardOf {
    /// Which part.
    #[serde(flatten)]
    pub shard: Shard,
    /// The names of all selected cases, sorted: those of all parts.
    pub selected: Vec<String>,
}

/// Why a text names no shard.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{given}` is no shard: one is written INDEX/COUNT, with INDEX from 1 to COUNT and COUNT up to {MOST}, as in 1/3"
)]
pub struct ShardError {
    given: String,
}

impl Shard {
    /// Whether the case of this name is in this part.
    pub fn contains(self, name: &str) -> bool {
        let digest = Sha256::digest(name.as_bytes());
        let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        number % u64::from(self.of) == u64::from(self.index) - 1
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let number =
            |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let parts = given.split_once('/').and_then(|(index, of)| Some((number(index)?, number(of)?)));
        match parts {
            Some((index, of)) if 1 <= index && index <= of && of <= MOST => Ok(Self { index, of }),
            _ => Err(ShardError { given: given.to_owned() }),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_part_of_a_case_does_not_change_between_versions() {
        let part = |name: &str| (1..=3).find(|index| Shard { index: *index, of: 3 }.contains(name));
        let parts = ["mmap/low-ram", "open/modes", "read/page0", "repro/mmap-hole"].map(part);
        assert_eq!(parts, PARTS);
    }

    /// By SHA-256, the first eight bytes as a big-endian number modulo 3, plus 1.
    const PARTS: [Option<u16>; 4] = [Some(2), Some(1), Some(3), Some(1)];

    #[test]
    fn every_shard_of_three_has_cases_of_the_library() {
        let cases = crate::library::all().unwrap();
        for index in 1..=3 {
            let shard = Shard { index, of: 3 };
            assert!(cases.iter().filter(|case| shard.contains(&case.name)).count() > cases.len() / 6);
        }
    }

    #[test]
    fn a_shard_outside_of_its_count_is_refused() {
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, of: 3 }));
        for wrong in
            ["", "1", "0/3", "4/3", "1/0", "1/5000", "+1/3", "1/3/3", "a/b", " 1/3", "-1/3", "99999/99999"]
        {
            let error = wrong.parse::<Shard>().unwrap_err().to_string();
            assert!(error.contains("INDEX/COUNT"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn each_case_is_in_exactly_one_part(name in "\\PC{0,40}", of in 1..=MOST) {
            let parts = (1..=of).filter(|index| Shard { index: *index, of }.contains(&name));
            prop_assert_eq!(parts.count(), 1);
        }

        #[test]
        fn what_is_printed_is_read_back(of in 1..=MOST, index in 1..=MOST) {
            prop_assume!(index <= of);
            let shard = Shard { index, of };
            prop_assert_eq!(shard.to_string().parse(), Ok(shard));
        }
    }
}
