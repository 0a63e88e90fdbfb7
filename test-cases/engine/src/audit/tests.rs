// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The whole chain without a guest: cases of the audit, given to the model, and what the invariants make of it.

use super::*;
use model::fixture::{BIT, world};
use types::{AccessEvent, AccessTarget, EventKind, PageState, Policy};

fn regions(platform: Platform) -> Vec<PlacedRegion> {
    let mut placed: Vec<(Region, u64, u64)> = vec![
        (Region::Page0, 0, 0x1000),
        (Region::Bda, 0x400, 0x100),
        (Region::LowRam, 0x2_0000, 0x1000),
        (Region::Ebda, 0x9_fc00, 0x400),
        (Region::Vga, 0xa_0000, 0x2_0000),
        (Region::OptionRom, 0xc_8000, 0x8000),
        (Region::Rom, 0xf_0000, 0x1_0000),
        (Region::Ram, 0x100_0000, 0x1000),
        (Region::Reserved, 0x1bfe_0000, 0x1_0000),
        (Region::AcpiData, 0x1bff_0000, 0x1_0000),
        (Region::Bar32, 0xe000_0000, 0x1000),
        (Region::MmioClaimed, 0xe100_0000, 0x1_0000),
        (Region::MmioUnclaimed, 0xe200_0000, 0x1_0000),
        (Region::HighRam, 1 << 32, 0x400_0000),
        (Region::AboveRam, 0x1_0400_0000, 0x10_0000),
        (Region::Bar64, 0x20_0000_0000, 0x1000),
    ];
    if platform.is_confidential() {
        placed.push((Region::CbitAliasRam, 0x100_0000 | 1 << BIT, 0x1000));
    }
    let place = |(region, gpa, len)| PlacedRegion { region, gpa, len, kind: "".into() };
    placed.into_iter().map(place).collect()
}

/// Every page of the first MiB.
fn every_page() -> Vec<u64> {
    (0..256).collect()
}

/// One page of each kind, and both ends of some.
const SOME_PAGES: [u64; 9] = [0, 1, 0x20, 0x9f, 0xa0, 0xc0, 0xef, 0xf0, 0xff];

/// What is tried of the regions this guest has, and of pages of the first MiB.
fn subjects(regions: &[PlacedRegion], pages: &[u64]) -> Vec<Subject> {
    let has = |subject: &Subject| {
        let of_case = subject.case().regions();
        of_case.iter().all(|region| regions.iter().any(|placed| placed.region == *region))
    };
    let swept = pages.iter().flat_map(|page| {
        let spot = Spot::at(page * 4096 + 4096 - sweep::LEN, sweep::LEN);
        let is_memory = !(0xa0..0xc0).contains(page);
        let writes = Way::ALL.into_iter().filter(move |_| is_memory);
        std::iter::once(Subject::Read(spot)).chain(writes.map(move |way| Subject::Write(spot, way)))
    });
    Subject::named().filter(has).chain(swept).collect()
}

/// What an audit of a kernel finds that is as the model has it.
fn audited(platform: Platform, policy: Policy, pages: &[u64], mistake: &dyn Fn(&mut Probed)) -> Vec<Finding> {
    let (world, regions) = (world(platform, policy), regions(platform));
    let facts = Facts { platform, regions: &regions };
    let probed = subjects(&regions, pages).into_iter().map(|subject| {
        let mut probed = predict::case(&world, &regions, subject, &subject.case());
        mistake(&mut probed);
        probed
    });
    found(groups(probed, facts), facts, Some(&world))
}

fn names(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let closers: Vec<&str> = finding.closed_by.iter().map(|policy| policy.name()).collect();
        format!(
            "{} {}: {}\n  closed by {}\n",
            finding.weight.name(),
            finding.invariant,
            finding.name,
            closers.join(", ")
        )
    };
    findings.iter().map(line).collect()
}

#[test]
fn the_model_of_upstream_has_the_known_holes_with_who_closes_them() {
    for platform in [Platform::None, Platform::Sev, Platform::Tdx] {
        let findings = audited(platform, Policy::Upstream, &every_page(), &|_| {});
        insta::assert_snapshot!(format!("upstream-{platform}"), names(&findings));
    }
}

#[test]
fn what_a_policy_is_said_to_close_is_gone_under_it_and_what_not_stays() {
    for platform in [Platform::None, Platform::Sev, Platform::Snp] {
        let today = audited(platform, Policy::Upstream, &SOME_PAGES, &|_| {});
        for policy in Policy::ALL.iter().copied().filter(|policy| *policy != Policy::Upstream) {
            let then = audited(platform, policy, &SOME_PAGES, &|_| {});
            for finding in &then {
                assert!(!finding.closed_by.contains(&policy), "{platform}, {policy}: {}", finding.name);
            }
            for finding in today.iter().filter(|finding| finding.invariant != Invariant::NothingLost) {
                let remains = then.iter().any(|other| {
                    other.invariant == finding.invariant
                        && other.pages.intersects(&finding.pages)
                        && other.paths.iter().any(|path| finding.paths.contains(path))
                });
                let closed = finding.closed_by.contains(&policy);
                assert_eq!(closed, !remains, "{platform}, {policy}: {}", finding.name);
            }
        }
    }
}

fn event(kind: EventKind, gpa: u64) -> AccessEvent {
    AccessEvent {
        kind,
        gpa,
        len: None,
        region: None,
        state: AccessTarget::Page(PageState::Private),
        rip: 0,
        symbol: None,
        cpl: 3,
        task: None,
        backtrace: Vec::new(),
        device: None,
        unwound_by: None,
    }
}

/// The load at the last bytes of one page uses the shared view.
fn wrong_view(page: u64) -> impl Fn(&mut Probed) {
    move |probed| {
        let gpa = page * 4096 + 4096 - sweep::LEN;
        if probed.subject == Subject::Read(Spot::at(gpa, sweep::LEN))
            && let Some(step) = probed.observed.steps.iter_mut().find(|step| step.step == "load-shared")
        {
            step.events.push(event(EventKind::SharedRead, gpa));
        }
    }
}

#[test]
fn a_mapping_helper_that_is_wrong_for_one_page_alone_is_found() {
    for (page, pages) in [(0xff, every_page()), (0, vec![0, 1]), (0x9f, vec![0x9f, 0xa0]), (0xc0, vec![0xc0])]
    {
        let findings = audited(Platform::Sev, Policy::Upstream, &pages, &wrong_view(page));
        let place = format!("{:#x}-{:#x}", page * 4096, page * 4096 + 4095);
        let name =
            format!("a load from a shared mapping reads private pages through the shared view: {place}");
        assert!(findings.iter().any(|finding| finding.name == name), "{name}\n{}", names(&findings));
    }
}

#[test]
fn every_event_of_a_step_counts() {
    let spot = Spot::of(Region::Reserved);
    let regions = regions(Platform::Sev);
    let world = world(Platform::Sev, Policy::OpenEperm);
    let predict = |subject: Subject| predict::case(&world, &regions, subject, &subject.case());
    let mut probed = predict(Subject::Read(spot));
    let step = probed.observed.steps.iter_mut().find(|step| step.step == "pread").unwrap();
    step.events = vec![
        event(EventKind::SharedRead, 0x1bfe_0000),
        AccessEvent {
            state: AccessTarget::Page(PageState::Unaccepted),
            ..event(EventKind::PrivateRead, 0x1bfe_0000)
        },
        event(EventKind::SharedRead, 0x1bfe_1000),
    ];
    let found = invariant::check_reads(&probed, &spot);
    let seen: Vec<_> = found.iter().map(|finding| (finding.invariant, finding.pages.ranges()[0].0)).collect();
    let (view, accepted) = (Invariant::OneView, Invariant::AcceptedOnly);
    assert_eq!(seen, [(view, 0x1bfe_0000), (accepted, 0x1bfe_0000), (view, 0x1bfe_1000)]);

    let mut written = predict(Subject::Write(spot, Way::Pwrite));
    let step = written.observed.steps.iter_mut().find(|step| step.step == "pwrite").unwrap();
    step.events = vec![event(EventKind::SharedRead, 0x1bfe_0000), event(EventKind::SharedWrite, 0x1bfe_0000)];
    assert_eq!(writes::findings(&spot, &[written]).len(), 2);
}

#[test]
fn the_same_observations_give_the_same_text_in_any_order() {
    let platform = Platform::Tdx;
    let (world, regions) = (world(platform, Policy::Upstream), regions(platform));
    let facts = Facts { platform, regions: &regions };
    let predict = |subject: &Subject| predict::case(&world, &regions, *subject, &subject.case());
    let probed: Vec<Probed> = subjects(&regions, &SOME_PAGES).iter().map(predict).collect();
    let once = names(&found(groups(probed.iter().cloned(), facts), facts, None));
    let again = names(&found(groups(probed.into_iter().rev(), facts), facts, None));
    assert_eq!(once, again);
}
