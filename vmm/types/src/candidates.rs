// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What fits an observation: one value where it is certain, several where the difference cannot be seen.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A closed list of at most eight values with names; `named!` makes one.
pub trait Listed: Copy + 'static {
    /// Every value.
    const LIST: &'static [Self];
    /// Its place in the list.
    fn place(self) -> u8;
    /// Its name in cases and reports.
    fn word(self) -> &'static str;
}

/// Every value of a list that fits what was seen.
pub struct Candidates<T>(u8, PhantomData<T>);

impl<T: Listed> Candidates<T> {
    /// The set of these values.
    pub fn of(values: impl IntoIterator<Item = T>) -> Self {
        Self(values.into_iter().fold(0, |bits, value| bits | 1 << value.place()), PhantomData)
    }

    /// Whether the value fits.
    pub fn contains(self, value: T) -> bool {
        self.0 & (1 << value.place()) != 0
    }

    /// The value, where it is certain.
    pub fn only(self) -> Option<T> {
        if self.is_ambiguous() { None } else { self.iter().next() }
    }

    /// Whether nothing fits: there was nothing to see.
    pub const fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Whether more than one value fits, so that they cannot be distinguished.
    pub const fn is_ambiguous(self) -> bool {
        self.0.count_ones() > 1
    }

    /// The values that fit.
    pub fn iter(self) -> impl Iterator<Item = T> {
        T::LIST.iter().copied().filter(move |value| self.contains(*value))
    }
}

// Not derived: a derive would require the same of T.
impl<T> Clone for Candidates<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Candidates<T> {}

impl<T> Default for Candidates<T> {
    fn default() -> Self {
        Self(0, PhantomData)
    }
}

impl<T> PartialEq for Candidates<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Candidates<T> {}

impl<T: Listed> fmt::Debug for Candidates<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Listed::word)).finish()
    }
}

impl<T: Listed> fmt::Display for Candidates<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { " or " }, value.word())?;
        }
        Ok(())
    }
}

impl<T: Listed> Serialize for Candidates<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Listed::word))
    }
}

impl<'de, T: Listed + Deserialize<'de>> Deserialize<'de> for Candidates<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<T>::deserialize(deserializer).map(Self::of)
    }
}
