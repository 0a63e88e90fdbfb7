// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a step must give, stated per policy and platform; the most specific statement counts.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use types::{EventKind, Platform, Policy};

use super::step::Action;
use super::term::Term;
use crate::observation::DeathKind;
use crate::place::{Base, Place, PlaceError};
use model::class::MemoryState;
use model::release::{BadRelease, Release};
use types::names::UnknownName;

/// A forbidden access an expectation names: its kind, and its place if given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedEvent {
    /// What happens.
    pub kind: EventKind,
    /// The smallest region around it, or the first byte accessed.
    pub at: Option<Base>,
}

/// Why a text names no forbidden access.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EventError {
    /// The kind is not known.
    #[error(transparent)]
    Kind(#[from] UnknownName),
    /// What follows `at` is neither region nor address.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A place with an offset.
    #[error("`{0}` is no place of an event: write a region or an address, without an offset")]
    Offset(String),
}

impl FromStr for ExpectedEvent {
    type Err = EventError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((kind, at)) = text.split_once(" at ") else {
            return Ok(Self { kind: text.trim().parse()?, at: None });
        };
        match Place::parse(at)? {
            Place { base, offset: 0 } => Ok(Self { kind: kind.trim().parse()?, at: Some(base) }),
            _ => Err(EventError::Offset(at.trim().to_owned())),
        }
    }
}

impl fmt::Display for ExpectedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        self.at.map_or(Ok(()), |base| write!(f, " at {}", Place { base, offset: 0 }))
    }
}

/// The platforms a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every platform.
    All,
    /// Every platform but `none`.
    Confidential,
    /// One platform.
    One(Platform),
}

/// The left side of an expectation: `any`, `sev`, `open-eperm`, `open-eperm.sev`, each with `@6.15` or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The policy it is for; `None` for all.
    pub policy: Option<Policy>,
    /// The platforms it is for.
    pub scope: Scope,
    /// The kernel release from which on it holds.
    pub since: Option<Release>,
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Neither a policy nor a platform.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// What follows `@` is no release.
    #[error(transparent)]
    Release(#[from] BadRelease),
}

impl Key {
    /// The key that covers everything.
    pub const ANY: Self = Self { policy: None, scope: Scope::All, since: None };

    const fn matches(self, policy: Policy, platform: Platform) -> bool {
        let policy_fits = match self.policy {
            None => true,
            Some(only) => only as u8 == policy as u8,
        };
        let platform_fits = match self.scope {
            Scope::All => true,
            Scope::Confidential => platform.is_confidential(),
            Scope::One(only) => only as u8 == platform as u8,
        };
        policy_fits && platform_fits
    }

    /// The order in which keys win: policy first, then platform, then release.
    const fn rank(self) -> (bool, Scope, Option<Release>) {
        (self.policy.is_some(), self.scope, self.since)
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (names, since) = match text.split_once('@') {
            Some((names, since)) => (names, Some(since.parse()?)),
            None => (text, None),
        };
        if let Some((policy, platform)) = names.split_once('.') {
            return Ok(Self { policy: Some(policy.parse()?), scope: scope(platform)?, since });
        }
        if names == "any" {
            return Ok(Self { since, ..Self::ANY });
        }
        if let Ok(policy) = names.parse() {
            return Ok(Self { policy: Some(policy), scope: Scope::All, since });
        }
        scope(names).map(|scope| Self { policy: None, scope, since }).map_err(|_| {
            let known = Policy::ALL.iter().map(|policy| policy.name());
            let known = known.chain(Platform::ALL.iter().map(|platform| platform.name()));
            let known = known.chain(["any", "confidential", "POLICY.PLATFORM"]);
            UnknownName::new("policy or platform", names, known).into()
        })
    }
}

fn scope(name: &str) -> Result<Scope, UnknownName> {
    if name == "confidential" {
        return Ok(Scope::Confidential);
    }
    name.parse().map(Scope::One).map_err(|_: UnknownName| {
        let known = Platform::ALL.iter().map(|platform| platform.name());
        UnknownName::new("platform", name, known.chain(["confidential"]))
    })
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let platform = match self.scope {
            Scope::All => None,
            Scope::Confidential => Some("confidential"),
            Scope::One(platform) => Some(platform.name()),
        };
        match (self.policy, platform) {
            (None, None) => f.write_str("any")?,
            (Some(policy), None) => write!(f, "{policy}")?,
            (None, Some(platform)) => f.write_str(platform)?,
            (Some(policy), Some(platform)) => write!(f, "{policy}.{platform}")?,
        }
        self.since.map_or(Ok(()), |since| write!(f, "@{since}"))
    }
}

/// The right side of an expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The permitted results.
    pub alternatives: Vec<Term>,
    /// Set if what is expected is a known hole: what leaks or breaks, in words.
    pub hole: Option<String>,
    /// The forbidden accesses the VMM must record during the step; `None` for any.
    pub events: Option<Vec<ExpectedEvent>>,
}

impl Expected {
    /// One required result, with any accesses.
    pub fn only(term: Term) -> Self {
        Self { alternatives: vec![term], hole: None, events: None }
    }

    /// The same, with exactly these forbidden accesses.
    #[must_use]
    pub fn with_events(self, events: Vec<ExpectedEvent>) -> Self {
        Self { events: Some(events), ..self }
    }

    /// Whether every alternative is a refusal.
    pub fn is_denial(&self) -> bool {
        self.alternatives.iter().all(Term::is_denial)
    }

    /// Whether the guest may be no more after a step with this expectation.
    pub fn may_end_guest(&self) -> bool {
        self.alternatives.iter().any(|term| matches!(term, Term::Death(_)))
    }

    /// Whether a step with this expectation can obtain what later steps use.
    pub fn can_succeed(&self) -> bool {
        self.alternatives.iter().any(Term::is_success)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.alternatives.iter().enumerate() {
            write!(f, "{}{term}", if index == 0 { "" } else { " | " })?;
        }
        if let Some(events) = &self.events {
            let names: Vec<_> = events.iter().map(ToString::to_string).collect();
            let names = if names.is_empty() { "no event".to_owned() } else { names.join(", ") };
            write!(f, " with {names}")?;
        }
        Ok(())
    }
}

/// All expectations of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectations {
    /// Each key with what it expects, in any order; no key twice.
    pub entries: Vec<(Key, Expected)>,
}

impl Expectations {
    /// What is expected of a step that states nothing: it leaves memory alone, resets the guest, or else succeeds.
    pub fn of_action(action: &Action) -> Self {
        let term = match action {
            Action::Memory { .. } => Term::State(MemoryState::Unchanged),
            Action::Reboot => Term::Death(DeathKind::Reset),
            _ => Term::Ok,
        };
        Self { entries: vec![(Key::ANY, Expected::only(term))] }
    }

    /// The entry that counts: of those that match, the most specific. With no release known, the newest.
    pub fn resolve(&self, policy: Policy, platform: Platform, release: Option<Release>) -> Option<&Expected> {
        let holds = |since: Option<Release>| match (since, release) {
            (Some(since), Some(release)) => since <= release,
            _ => true,
        };
        self.entries
            .iter()
            .filter(|(key, _)| key.matches(policy, platform) && holds(key.since))
            .max_by_key(|(key, _)| key.rank())
            .map(|(_, expected)| expected)
    }

    /// A policy and platform for which nothing is expected on some release, if there is one.
    pub fn gap(&self, platforms: &[Platform]) -> Option<(Policy, Platform)> {
        let always =
            Self { entries: self.entries.iter().filter(|(key, _)| key.since.is_none()).cloned().collect() };
        let pairs = Policy::ALL.iter().flat_map(|policy| platforms.iter().map(move |it| (*policy, *it)));
        pairs.into_iter().find(|(policy, platform)| always.resolve(*policy, *platform, None).is_none())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expect(keys: &[Key]) -> Expectations {
        let entry = |(index, key): (usize, &Key)| {
            let number = Term::Number(index as u64);
            (*key, Expected::only(number))
        };
        Expectations { entries: keys.iter().enumerate().map(entry).collect() }
    }

    fn winner(keys: &str, policy: Policy, platform: Platform, release: &str) -> String {
        let keys: Vec<Key> = keys.split(' ').map(|key| key.parse().unwrap()).collect();
        let expectations = expect(&keys);
        let found = expectations.resolve(policy, platform, release.parse().ok());
        found.map_or("nothing".into(), |found| match found.alternatives[0] {
            Term::Number(index) => keys[index as usize].to_string(),
            _ => unreachable!(),
        })
    }

    #[test]
    fn the_most_specific_key_wins() {
        let keys = "any sev open-eperm open-eperm.sev confidential open-eperm.confidential";
        assert_eq!(winner(keys, Policy::OpenEperm, Platform::Sev, "6.12"), "open-eperm.sev");
        assert_eq!(winner(keys, Policy::OpenEperm, Platform::Tdx, "6.12"), "open-eperm.confidential");
        assert_eq!(winner(keys, Policy::OpenEperm, Platform::None, "6.12"), "open-eperm");
        assert_eq!(winner(keys, Policy::Upstream, Platform::Sev, "6.12"), "sev");
        assert_eq!(winner(keys, Policy::Upstream, Platform::Tdx, "6.12"), "confidential");
        assert_eq!(winner(keys, Policy::Upstream, Platform::None, "6.12"), "any");
    }

    #[test]
    fn a_policy_weighs_more_than_a_platform() {
        assert_eq!(winner("any sev open-eperm", Policy::OpenEperm, Platform::Sev, "6.12"), "open-eperm");
    }

    #[test]
    fn a_release_counts_from_its_version_on() {
        assert_eq!(winner("any sev sev@6.15", Policy::Upstream, Platform::Sev, "6.12"), "sev");
        assert_eq!(winner("any sev sev@6.15", Policy::Upstream, Platform::Sev, "6.15"), "sev@6.15");
        assert_eq!(winner("any sev sev@6.15", Policy::Upstream, Platform::Sev, "7.2"), "sev@6.15");
        assert_eq!(winner("any sev sev@6.15", Policy::Upstream, Platform::None, "7.2"), "any");
        assert_eq!(winner("any@6.15 sev", Policy::Upstream, Platform::Sev, "7.2"), "sev");
    }

    #[test]
    fn gaps_are_found() {
        let keys = |text: &str| expect(&text.split(' ').map(|key| key.parse().unwrap()).collect::<Vec<_>>());
        assert_eq!(keys("any").gap(Platform::ALL), None);
        assert_eq!(keys("none confidential").gap(Platform::ALL), None);
        assert_eq!(keys("none sev").gap(Platform::ALL), Some((Policy::Upstream, Platform::Snp)));
        assert_eq!(keys("none sev").gap(&[Platform::None, Platform::Sev]), None);
        assert_eq!(keys("any@6.15").gap(Platform::ALL), Some((Policy::Upstream, Platform::None)));
    }

    #[test]
    fn an_event_may_say_where() {
        for text in ["shared-read", "private-write at 0x472", "private-read at rom"] {
            assert_eq!(text.parse::<ExpectedEvent>().unwrap().to_string(), text);
        }
        let refusal = |text: &str| text.parse::<ExpectedEvent>().unwrap_err().to_string();
        assert!(refusal("private-reed").contains("did you mean `private-read`"));
        assert!(refusal("private-read at rum").contains("unknown region"));
        assert!(refusal("private-read at rom + 4").contains("without an offset"));
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let message = "open-perm.sev".parse::<Key>().unwrap_err().to_string();
        assert!(message.contains("unknown policy `open-perm` (did you mean `open-eperm`?)"), "{message}");
        let message = "upstraem".parse::<Key>().unwrap_err().to_string();
        assert!(message.contains("did you mean `upstream`"), "{message}");
        assert!("any.sev".parse::<Key>().is_err());
    }

    fn any_key() -> impl Strategy<Value = Key> {
        let policy = prop::option::of(prop::sample::select(Policy::ALL));
        let scope = prop_oneof![
            Just(Scope::All),
            Just(Scope::Confidential),
            prop::sample::select(Platform::ALL).prop_map(Scope::One)
        ];
        let since = prop::option::of((5u16..8, 0u16..20).prop_map(|(major, minor)| Release { major, minor }));
        (policy, scope, since).prop_map(|(policy, scope, since)| Key { policy, scope, since })
    }

    proptest! {
        #[test]
        fn keys_print_as_they_read(key in any_key()) {
            prop_assert_eq!(key.to_string().parse::<Key>(), Ok(key));
        }

        #[test]
        fn the_order_of_entries_does_not_matter(
            mut keys in prop::collection::hash_set(any_key(), 1..12).prop_map(Vec::from_iter),
            policy in prop::sample::select(Policy::ALL),
            platform in prop::sample::select(Platform::ALL),
        ) {
            let pick = |keys: &[Key]| {
                let expectations = expect(keys);
                let found = expectations.resolve(policy, platform, None)?;
                match found.alternatives[0] { Term::Number(index) => Some(keys[index as usize]), _ => None }
            };
            let forward = pick(&keys);
            keys.reverse();
            prop_assert_eq!(forward, pick(&keys));
        }

        #[test]
        fn a_key_for_exactly_this_policy_and_platform_wins(
            others in prop::collection::hash_set(any_key(), 0..12),
            policy in prop::sample::select(Policy::ALL),
            platform in prop::sample::select(Platform::ALL),
        ) {
            let exact = Key { policy: Some(policy), scope: Scope::One(platform), since: None };
            let mut keys: Vec<Key> = others.into_iter().filter(|key| key.since.is_none()).collect();
            keys.retain(|key| *key != exact);
            keys.push(exact);
            let expectations = expect(&keys);
            let found = expectations.resolve(policy, platform, None);
            let expected = Term::Number(keys.len() as u64 - 1);
            prop_assert_eq!(&found.unwrap().alternatives[0], &expected);
        }
    }
}
