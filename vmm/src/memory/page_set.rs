// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sets of pages, by their number in a mapping of guest RAM: as a value, and as what several threads add to.

use std::sync::atomic::{AtomicU64, Ordering};

/// Pages in one word.
const WORD: usize = 64;

/// A set of pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageSet {
    words: Vec<u64>,
}

impl PageSet {
    /// The empty set of a mapping of `pages` pages.
    pub fn new(pages: usize) -> Self {
        Self { words: vec![0; pages.div_ceil(WORD)] }
    }

    /// Adds a page; one beyond the mapping is ignored.
    pub fn insert(&mut self, page: usize) {
        if let Some(word) = self.words.get_mut(page / WORD) {
            *word |= 1 << (page % WORD);
        }
    }

    /// The page is in it.
    pub fn contains(&self, page: usize) -> bool {
        self.words.get(page / WORD).is_some_and(|word| word >> (page % WORD) & 1 == 1)
    }

    /// Adds every page of `other`.
    pub fn union(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    /// Adds the pages whose bits are set in `bitmap`, in which bit 0 is page `first`.
    pub fn insert_bitmap(&mut self, first: usize, bitmap: &[u64]) {
        for page in set_bits(bitmap) {
            self.insert(first + page);
        }
    }

    /// The pages of `[first, first + count)` as a bitmap in which bit 0 is page `first`.
    pub fn bitmap(&self, first: usize, count: usize) -> Vec<u64> {
        let mut bitmap = vec![0; count.div_ceil(WORD)];
        for page in self.iter().skip_while(|page| *page < first).take_while(|page| *page < first + count) {
            bitmap[(page - first) / WORD] |= 1 << ((page - first) % WORD);
        }
        bitmap
    }

    /// The pages, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        set_bits(&self.words)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }
}

/// Numbers of the bits that are set, in ascending order.
fn set_bits(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().filter(|(_, word)| **word != 0).flat_map(|(index, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let bit = rest.trailing_zeros() as usize;
            rest &= rest.checked_sub(1)?;
            Some(index * WORD + bit)
        })
    })
}

/// Pages that this process changed since they were last taken.
#[derive(Debug)]
pub(super) struct TouchedPages {
    words: Vec<AtomicU64>,
}

impl TouchedPages {
    pub(super) fn new(pages: usize) -> Self {
        Self { words: (0..pages.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Adds `count` pages from `first` on.
    pub(super) fn insert(&self, first: usize, count: usize) {
        for page in first..first + count {
            if let Some(word) = self.words.get(page / WORD) {
                word.fetch_or(1 << (page % WORD), Ordering::Relaxed);
            }
        }
    }

    /// Takes all of them.
    pub(super) fn take(&self) -> PageSet {
        PageSet { words: self.words.iter().map(|word| word.swap(0, Ordering::Relaxed)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_put_into_it_and_nothing_else(
            pages in prop::collection::btree_set(0usize..300, 0..50),
            others in prop::collection::btree_set(0usize..300, 0..50),
            first in 0usize..200,
            count in 0usize..200,
        ) {
            let set = |pages: &BTreeSet<usize>| {
                let mut set = PageSet::new(300);
                for page in pages {
                    set.insert(*page);
                }
                set
            };
            let mut both = set(&pages);
            prop_assert_eq!(both.iter().collect::<BTreeSet<_>>(), pages.clone());
            prop_assert_eq!(both.len(), pages.len());
            both.union(&set(&others));
            prop_assert_eq!(both.iter().collect::<BTreeSet<_>>(), &pages | &others);
            let mut part = PageSet::new(600);
            part.insert_bitmap(first, &both.bitmap(first, count));
            let expected: BTreeSet<usize> =
                (&pages | &others).into_iter().filter(|p| (first..first + count).contains(p)).collect();
            prop_assert_eq!(part.iter().collect::<BTreeSet<_>>(), expected);
        }

        #[test]
        fn touched_pages_are_taken_once(ranges in prop::collection::vec((0usize..200, 0usize..80), 0..10)) {
            let touched = TouchedPages::new(250);
            for (first, count) in &ranges {
                touched.insert(*first, *count);
            }
            let expected: BTreeSet<usize> =
                ranges.iter().flat_map(|(first, count)| *first..first + count).filter(|p| *p < 256).collect();
            prop_assert_eq!(touched.take().iter().collect::<BTreeSet<_>>(), expected);
            prop_assert!(touched.take().is_empty());
        }
    }
}
