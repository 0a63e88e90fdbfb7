// SPDX-License-Identifier: Apache-2.0 OR MIT
use proptest::prelude::*;

use super::*;

fn conversion(call: ConversionCall, to: View, gpa: u64, pages: u64) -> Conversion {
    Conversion { call, to, gpa, pages }
}

/// Decides by these rules.
pub(in super::super) fn refuser(rules: &[&str]) -> Refuser {
    let rules: Vec<ConversionFailure> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    Refuser::new(Failures::new(&rules).unwrap())
}

/// Which of the first 12 calls are refused.
fn refused(refuser: &mut Refuser, conversion: Conversion) -> Vec<u32> {
    (1..=12).filter(|_| refuser.decide(&conversion).is_some()).collect()
}

#[test]
fn a_rule_counts_the_calls_it_is_about_and_no_others() {
    let map = conversion(ConversionCall::MapGpa, View::Shared, 0x10_0000, 4);
    assert_eq!(refused(&mut refuser(&["map-gpa:nth=3"]), map), [3]);
    assert_eq!(refused(&mut refuser(&["map-gpa:every=5"]), map), [5, 10]);
    assert_eq!(refused(&mut refuser(&["map-gpa:nth=2", "map-gpa:nth=4"]), map), [2, 4]);
    assert_eq!(refused(&mut refuser(&["map-gpa"]), map).len(), 12);
    for other in
        ["accept", "map-gpa:to=private", "map-gpa:range=0x104000-0x105000", "map-gpa:range=0xff000-0x100000"]
    {
        assert!(refused(&mut refuser(&[other]), map).is_empty(), "{other}");
    }
    assert_eq!(refused(&mut refuser(&["map-gpa:range=0x103000-0x104000,nth=1"]), map), [1]);
}

#[test]
fn a_call_that_is_refused_is_never_done_whole() {
    let done = |pages| {
        let map = conversion(ConversionCall::MapGpa, View::Shared, 0, pages);
        refuser(&["map-gpa:error=retry,done=3"]).decide(&map).unwrap().done
    };
    assert_eq!([done(0), done(1), done(3), done(4), done(100)], [0, 0, 2, 3, 3]);
}

#[test]
fn a_guest_that_is_restored_has_the_counts_it_was_saved_with() {
    let map = conversion(ConversionCall::MapGpa, View::Shared, 0, 1);
    let mut refuser = refuser(&["map-gpa:nth=2"]);
    assert_eq!(refuser.decide(&map), None);
    let saved = refuser.save();
    for _ in 0..3 {
        refuser.restore(saved);
        assert!(refuser.decide(&map).is_some());
    }
}

#[test]
fn every_error_is_of_its_call_alone_and_has_a_source() {
    for call in ConversionCall::ALL {
        for error in call.errors() {
            assert!(!error.source.is_empty() && !error.abi.is_empty());
            assert_eq!(call.error(error.name), Ok(error));
            let same = |other: &&ErrorCode| other.name == error.name || other.value == error.value;
            assert_eq!(call.errors().iter().filter(same).count(), 1, "{call} {}", error.name);
        }
    }
}

#[test]
fn a_text_that_is_no_rule_gives_the_remedy() {
    for (text, message) in [
        (
            "mapgpa",
            "unknown conversion call `mapgpa` (did you mean `map-gpa`?); known: map-gpa, accept, psc, msr-psc, pvalidate, map-gpa-range, host-visibility",
        ),
        ("map-gpa:3", "`3` is no KEY=VALUE: write a rule as in map-gpa:nth=3,error=retry"),
        ("map-gpa:", "`` is no KEY=VALUE: write a rule as in map-gpa:nth=3,error=retry"),
        (
            "map-gpa:nht=3",
            "a rule has no key `nht` (did you mean `nth`?); known: nth, every, range, to, error, done",
        ),
        ("map-gpa:nth=0", "`nth=0` is no number from 1 to 4294967295"),
        ("map-gpa:nth=1,nth=2", "`nth` is given twice: leave one of them out"),
        ("map-gpa:nth=1,every=2", "a rule refuses the `nth` call or `every` Nth one: leave one of them out"),
        (
            "map-gpa:error=einval",
            "unknown error of this call `einval`; known: invalid-operand, in-use, align-error, retry",
        ),
        ("map-gpa:to=secret", "unknown view `secret`; known: private, shared"),
        (
            "pvalidate:done=1",
            "PVALIDATE reports no progress, so it is done whole or not at all: leave `done` out",
        ),
        ("accept:to=shared", "TDG.MEM.PAGE.ACCEPT makes no memory shared: leave `to` out"),
        (
            "psc:range=0x1000-0x1000",
            "`range=0x1000-0x1000` is no range of whole pages: write two addresses, the end excluded, as in range=0x100000-0x200000",
        ),
    ] {
        assert_eq!(text.parse::<ConversionFailure>().unwrap_err().to_string(), message);
    }
    let rule: ConversionFailure = "map-gpa".parse().unwrap();
    assert_eq!(
        Failures::new(&[rule; 5]).unwrap_err().to_string(),
        "5 rules for conversions that fail: a guest takes 4 at most"
    );
}

#[test]
fn a_rule_for_another_platform_gives_the_calls_of_this_one() {
    let rules = |text: &str| Failures::new(&[text.parse().unwrap()]).unwrap();
    assert_eq!(rules("map-gpa").check(Platform::Tdx), Ok(()));
    assert_eq!(
        rules("map-gpa:nth=2").check(Platform::Snp).unwrap_err().to_string(),
        "the rule map-gpa:nth=2 is for platform tdx, and this is a snp guest: use psc, msr-psc, pvalidate"
    );
    assert_eq!(
        rules("psc").check(Platform::None).unwrap_err().to_string(),
        "the rule psc is for platform snp, and this is a none guest, which converts no memory"
    );
}

fn rules() -> impl Strategy<Value = ConversionFailure> {
    let which = prop_oneof![Just(Which::All), (1u32..).prop_map(Which::Nth), (1u32..).prop_map(Which::Every)];
    let range = prop::option::of((0u64..1 << 40, 1u64..1 << 20))
        .prop_map(|range| range.map(|(first, pages)| (first * PAGE_SIZE, (first + pages) * PAGE_SIZE)));
    let call = prop::sample::select(ConversionCall::ALL.to_vec());
    (call, which, range, prop::option::of(any::<bool>()), any::<prop::sample::Index>(), any::<u32>())
        .prop_map(|(call, which, range, shared, error, done)| ConversionFailure {
            call,
            which,
            range,
            to: shared
                .map(|shared| if shared { View::Shared } else { View::Private })
                .filter(|to| call.can_make(*to)),
            error: error.get(call.errors()),
            done: if call.reports_progress() { done } else { 0 },
        })
}

proptest! {
    #[test]
    fn a_rule_is_read_as_it_is_written(rule in rules()) {
        prop_assert_eq!(rule.to_string().parse::<ConversionFailure>(), Ok(rule));
        let json = serde_json::to_string(&rule).unwrap();
        prop_assert_eq!(serde_json::from_str::<ConversionFailure>(&json).unwrap(), rule);
    }

    #[test]
    fn any_text_is_a_rule_or_an_error(text in "[a-z=:,0-9x-]{0,40}") {
        if let Ok(rule) = text.parse::<ConversionFailure>() {
            prop_assert_eq!(rule.to_string().parse::<ConversionFailure>(), Ok(rule));
        }
    }
}
