// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names for the parts of guest physical memory that cases use, and their addresses in one guest.

use std::fmt;

use thiserror::Error;

use types::names::UnknownName;
use types::{PlacedRegion, Region};
use vmm::layout::PAGE_SIZE;

/// What a place is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The start of a named region.
    Region(Region),
    /// Physical address zero.
    Address(u64),
}

/// A guest physical address as a case writes it: `rom`, `rom + 0x20`, `above-ram - 16`, `0x20000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where counting starts.
    pub base: Base,
    /// What is added to it, modulo 2^64.
    pub offset: i64,
}

/// Why a text is no place, or why a place is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlaceError {
    /// The region's name is not known.
    #[error(transparent)]
    Region(#[from] UnknownName),
    /// A number could not be read.
    #[error("`{0}` is no number: write decimal or 0x…, at most 64 bits (offsets: 63)")]
    Number(String),
}

impl Place {
    /// An address.
    pub const fn address(address: u64) -> Self {
        Self { base: Base::Address(address), offset: 0 }
    }

    /// An offset from the start of a region.
    pub const fn in_region(region: Region, offset: i64) -> Self {
        Self { base: Base::Region(region), offset }
    }

    /// Reads a place from its text form.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let (base, sign, offset) = match (text.split_once('+'), text.split_once(" - ")) {
            (Some((base, offset)), _) => (base, 1, offset),
            (None, Some((base, offset))) => (base, -1, offset),
            (None, None) => (text, 1, "0"),
        };
        let (base, offset) = (base.trim(), offset.trim());
        let starts_as_number = base.starts_with(|c: char| c.is_ascii_digit());
        let base = if starts_as_number {
            Base::Address(parse_number(base).ok_or_else(|| PlaceError::Number(base.to_owned()))?)
        } else {
            Base::Region(base.parse::<Region>()?)
        };
        let distance = parse_number(offset)
            .and_then(|number| i64::try_from(number).ok())
            .ok_or_else(|| PlaceError::Number(offset.to_owned()))?;
        Ok(Self { base, offset: sign * distance })
    }

    /// The region it is counted from, if any.
    pub const fn region(&self) -> Option<Region> {
        match self.base {
            Base::Region(region) => Some(region),
            Base::Address(_) => None,
        }
    }

    /// The guest physical address on a guest with these regions; `None` if the guest does not have the region.
    pub fn resolve(&self, regions: &[PlacedRegion]) -> Option<u64> {
        let base = match self.base {
            Base::Address(address) => address,
            Base::Region(region) => regions.iter().find(|placed| placed.region == region)?.gpa,
        };
        Some(base.wrapping_add_signed(self.offset))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base {
            Base::Region(region) => write!(f, "{region}")?,
            Base::Address(address) => write!(f, "{address:#x}")?,
        }
        match self.offset {
            0 => Ok(()),
            more @ 1.. => write!(f, " + {more:#x}"),
            less => write!(f, " - {:#x}", less.unsigned_abs()),
        }
    }
}

/// Reads a decimal or `0x` number; `_` may separate digits.
pub fn parse_number(text: &str) -> Option<u64> {
    let digits = text.replace('_', "");
    if digits.starts_with('+') {
        return None;
    }
    match digits.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None => digits.parse().ok(),
    }
}

/// The smallest region that holds a page.
pub fn region_of(page: u64, regions: &[PlacedRegion]) -> Option<&'static str> {
    let holds = |placed: &&PlacedRegion| {
        let last = placed.gpa.saturating_add(placed.len.max(1) - 1);
        placed.gpa & !(PAGE_SIZE - 1) <= page && page <= last
    };
    regions.iter().filter(holds).min_by_key(|placed| placed.len).map(|placed| placed.region.name())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guest() -> Vec<PlacedRegion> {
        vec![PlacedRegion { region: Region::Rom, gpa: 0xf0000, len: 0x10000, kind: "Reserved".into() }]
    }

    #[test]
    fn places_resolve_on_a_guest() {
        let at = |text: &str| Place::parse(text).unwrap().resolve(&guest());
        assert_eq!(at("rom"), Some(0xf0000));
        assert_eq!(at("rom+0x20"), Some(0xf0020));
        assert_eq!(at("rom - 1"), Some(0xeffff));
        assert_eq!(at("0x2_0000 + 16"), Some(0x20010));
        assert_eq!(at("0 - 1"), Some(u64::MAX));
        assert_eq!(at("bar64"), None);
    }

    #[test]
    fn bad_places_say_why() {
        for bad in ["", "romm", "rom+", "rom + x", "0xzz", "rom + 0xffffffffffffffff", "0x+1", "-1"] {
            assert!(Place::parse(bad).is_err(), "{bad:?}");
        }
        let message = Place::parse("high-rom").unwrap_err().to_string();
        assert!(message.contains("did you mean `high-ram`"), "{message}");
    }

    proptest! {
        #[test]
        fn display_and_parse_agree(address: u64, offset in -0x10_0000_i64..0x10_0000) {
            let place = Place { base: Base::Address(address), offset };
            prop_assert_eq!(Place::parse(&place.to_string()), Ok(place));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = Place::parse(&text);
        }
    }
}
