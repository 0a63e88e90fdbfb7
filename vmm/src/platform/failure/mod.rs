// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Conversions that the simulated module, firmware or hypervisor refuses, or does in part, because a rule says so.
//!
//! Hypervisors may refuse any conversion (GHCI §3.2, GHCB specification 2.03 §4.1.6), and Linux must then never use the
//! memory again (`kernel/dma/direct.c:dma_direct_alloc`, `out_leak_pages`). No host does so on request, so the code that
//! handles it is seldom run.

mod code;
mod parse;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use types::{Platform, View};

pub use self::code::{ConversionCall, ErrorCode};
pub use self::parse::BadRule;
use crate::layout::PAGE_SIZE;

/// Most rules of one guest.
pub const MAX_RULES: usize = 4;

/// Which of the calls that a rule is about it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Every one.
    All,
    /// The Nth one alone, counted from 1.
    Nth(u32),
    /// Every Nth one.
    Every(u32),
}

/// A rule: this call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConversionFailure {
    /// The call.
    pub call: ConversionCall,
    /// Which of them.
    pub which: Which,
    /// Only calls about memory in this range: first address, and end.
    pub range: Option<(u64, u64)>,
    /// Only calls that make memory this; `None` for both.
    pub to: Option<View>,
    /// What the guest gets.
    pub error: &'static ErrorCode,
    /// Pages converted before it, where the call reports how many.
    pub done: u32,
}

/// The rules of one guest: the first that refuses a call decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures([Option<ConversionFailure>; MAX_RULES]);

/// A guest of this platform never makes the call of this rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignRule {
    rule: ConversionFailure,
    platform: Platform,
}

impl std::error::Error for ForeignRule {}

impl fmt::Display for ForeignRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, platform } = self;
        write!(
            f,
            "the rule {rule} is for platform {}, and this is a {platform} guest",
            rule.call.platform()
        )?;
        let calls = ConversionCall::ALL.iter().filter(|call| call.platform() == *platform);
        let calls: Vec<_> = calls.map(|call| call.name()).collect();
        if calls.is_empty() {
            f.write_str(", which converts no memory")
        } else {
            write!(f, ": use {}", calls.join(", "))
        }
    }
}

/// A guest has more rules than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} rules for conversions that fail: a guest takes {MAX_RULES} at most")]
pub struct TooManyRules(pub usize);

impl Failures {
    /// These rules.
    pub fn new(rules: &[ConversionFailure]) -> Result<Self, TooManyRules> {
        let mut kept = [None; MAX_RULES];
        if rules.len() > MAX_RULES {
            return Err(TooManyRules(rules.len()));
        }
        for (place, rule) in kept.iter_mut().zip(rules) {
            *place = Some(*rule);
        }
        Ok(Self(kept))
    }

    /// This rule alone.
    pub fn one(rule: ConversionFailure) -> Self {
        let mut kept = [None; MAX_RULES];
        kept[0] = Some(rule);
        Self(kept)
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// The rules, all of calls that guests of `platform` make.
    pub fn check(&self, platform: Platform) -> Result<(), ForeignRule> {
        let foreign = self.iter().find(|rule| rule.call.platform() != platform);
        foreign.map_or(Ok(()), |rule| Err(ForeignRule { rule: *rule, platform }))
    }

    /// Each rule.
    pub fn iter(&self) -> impl Iterator<Item = &ConversionFailure> {
        self.0.iter().flatten()
    }
}

/// One call by which a guest converts memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversion {
    /// The call.
    pub call: ConversionCall,
    /// What the memory is to be.
    pub to: View,
    /// First page.
    pub gpa: u64,
    /// 4 KiB pages.
    pub pages: u64,
}

impl Conversion {
    /// The memory.
    pub fn range(&self) -> Range<u64> {
        self.gpa..self.gpa.saturating_add(self.pages.saturating_mul(PAGE_SIZE))
    }
}

/// How a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What the guest gets.
    pub error: &'static ErrorCode,
    /// Pages converted before it; fewer than the call names.
    pub done: u64,
}

/// How many calls each rule has met. It is part of a guest that is saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted([u32; MAX_RULES]);

/// Decides about each call of one guest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Refuser {
    rules: Failures,
    counted: Counted,
}

impl Refuser {
    /// By these rules.
    pub fn new(rules: Failures) -> Self {
        Self { rules, counted: Counted::default() }
    }

    /// The calls counted so far.
    pub fn save(&self) -> Counted {
        self.counted
    }

    /// The guest is where this was saved.
    pub fn restore(&mut self, counted: Counted) {
        self.counted = counted;
    }

    /// The guest makes this call: how it is refused, if it is. Every rule counts it.
    pub fn decide(&mut self, conversion: &Conversion) -> Option<Refusal> {
        let mut refusal = None;
        for (rule, count) in self.rules.0.iter().zip(&mut self.counted.0) {
            let Some(rule) = rule.filter(|rule| rule.is_about(conversion)) else { continue };
            *count = count.saturating_add(1);
            if rule.which.has(*count) {
                // A call that was done whole is not refused.
                let done = u64::from(rule.done).min(conversion.pages.saturating_sub(1));
                refusal = refusal.or(Some(Refusal { error: rule.error, done }));
            }
        }
        refusal
    }
}

impl Which {
    /// Whether the call with this number is one of them.
    fn has(self, number: u32) -> bool {
        match self {
            Self::All => true,
            Self::Nth(nth) => number == nth,
            Self::Every(nth) => nth > 0 && number.is_multiple_of(nth),
        }
    }
}

impl ConversionFailure {
    /// The same rule for all calls of its kind, with the error that is first in the table.
    pub fn all(call: ConversionCall) -> Self {
        Self { call, which: Which::All, range: None, to: None, error: call.default_error(), done: 0 }
    }

    fn is_about(&self, conversion: &Conversion) -> bool {
        let Range { start, end } = conversion.range();
        self.call == conversion.call
            && self.to.is_none_or(|to| to == conversion.to)
            && self.range.is_none_or(|(first, last)| start < last && first < end)
    }
}
