// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which boots are findings, and that no failure of the host makes one, or makes one pass.

use proptest::prelude::*;
use types::Mode;

use super::*;
use crate::observation::DeathKind;
use crate::report::fixture::{aborted_boot, boot, boot_event};

#[test]
fn known_accesses_are_holes_and_others_findings() {
    let known = || boot_event("probe_roms", 0xc8000);
    let boots = |events| boot(Mode::Record, events, None);
    assert_eq!(boots(vec![]).verdict, Verdict::AsSpecified);
    let both = boots(vec![known(), known()]);
    assert!(matches!(both.verdict, Verdict::KnownHole { .. }));
    assert_eq!(both.holes().len(), 1);
    // By a function that calls another, but not where the stack only seems to hold it.
    let mut called = known();
    called.symbol = Some("memcpy+0x3".to_owned());
    called.backtrace = vec!["memcpy+0x3".to_owned(), "probe_roms+0x42".to_owned()];
    assert!(matches!(boots(vec![called.clone()]).verdict, Verdict::KnownHole { .. }));
    called.backtrace[1].insert_str(0, "? ");
    assert!(boots(vec![called]).verdict.is_finding());
    // Another address, kind, function; and the first byte after the range.
    let others: [fn(&mut AccessEvent); 6] = [
        |event| event.gpa = 0x9f000,
        |event| event.gpa = 0xffffd,
        |event| event.kind = types::EventKind::PrivateWrite,
        |event| event.symbol = Some("probe_roms_2+0x1".to_owned()),
        |event| event.symbol = None,
        |event| event.cpl = 3,
    ];
    for change in others {
        let mut event = known();
        event.backtrace.clear();
        change(&mut event);
        let result = boots(vec![known(), event.clone()]);
        assert!(result.verdict.is_finding(), "{event}");
        assert_eq!(result.unknown().count(), 1);
    }
}

#[test]
fn a_known_access_is_known_only_in_the_guest_it_is_stated_for() {
    let mut observed = boot(Mode::Record, vec![boot_event("probe_roms", 0xc8000)], None).observed;
    let context = Context { platform: Platform::Tdx, release: None };
    assert!(!judge(observed.clone(), context).verdict.is_finding());
    assert!(judge(observed.clone(), Context { platform: Platform::Snp, ..context }).verdict.is_finding());
    observed.setup.rom = None;
    assert!(judge(observed, context).verdict.is_finding());
}

#[test]
fn accesses_that_were_not_kept_are_not_known() {
    let mut observed = boot(Mode::Record, vec![boot_event("probe_roms", 0xc8000)], None).observed;
    observed.not_kept = 1;
    let context = Context { platform: Platform::Tdx, release: None };
    assert!(judge(observed, context).verdict.is_finding());
}

#[test]
fn an_end_after_an_access_is_a_finding_where_accesses_have_consequences() {
    let known = || vec![boot_event("probe_roms", 0xc8000)];
    assert!(boot(Mode::Faithful, known(), Some(DeathKind::Terminated)).verdict.is_finding());
    for (mode, events, kind) in
        [(Mode::Record, known(), DeathKind::Terminated), (Mode::Faithful, vec![], DeathKind::Terminated)]
    {
        let result = boot(mode, events, Some(kind));
        assert!(matches!(result.verdict, Verdict::NotRun { .. }), "{:?}", result.verdict);
    }
    for (mode, events) in [(Mode::Record, known()), (Mode::Faithful, vec![]), (Mode::Faithful, known())] {
        let result = aborted_boot(mode, events);
        assert!(matches!(result.verdict, Verdict::NotRun { .. }), "{:?}", result.verdict);
    }
}

proptest! {
    #[test]
    fn no_boot_that_failed_passes_and_no_host_failure_is_evidence(
        faithful: bool,
        functions in prop::collection::vec(prop::sample::select(&["probe_roms", "eisa_bus_probe"][..]), 0..4),
        death in prop::option::of(prop::sample::select(DeathKind::ALL)),
        aborted: bool,
    ) {
        let mode = if faithful { Mode::Faithful } else { Mode::Record };
        let is_known = functions.iter().all(|name| *name == "probe_roms");
        let events = functions.iter().map(|name| boot_event(name, 0xc8000)).collect();
        let result = if aborted { aborted_boot(mode, events) } else { boot(mode, events, death) };
        let verdict = result.verdict;
        let passes = matches!(verdict, Verdict::AsSpecified | Verdict::KnownHole { .. });
        prop_assert_eq!(passes, death.is_none() && !aborted && is_known);
        if aborted && is_known {
            let is_not_run = matches!(verdict, Verdict::NotRun { .. });
            prop_assert!(is_not_run);
        }
    }
}
