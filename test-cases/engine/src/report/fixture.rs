// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs with fixed content, for the golden tests of the reports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "fixed content for tests"
)]

use std::time::Duration;

use super::{CaseResult, Report, RunEnd};
use crate::boot::{self, BootResult};
use crate::case::{self, Case};
use crate::judge::{Context, judge};
use crate::library;
use crate::observation::{
    Aborted, Answer, BootObservation, CaseObservation, Counters, Death, DeathKind, Deaths, During, GpaRange,
    KernelFacts, KvmHost, NotRun, PlatformFacts, StepObservation,
};
use crate::setup::Setup;
use model::class::Truth;
use model::release::Release;
use types::{
    AccessEvent, Errno, EventKind, GuestLayout, Mode, PlacedRegion, Platform, Policy, Region, RomArea,
};

const OPEN: &str = r#"
title = "open(2) is refused"
why = "A case of the tests."
[[step]]
id = "open"
do = "open"
path = "/dev/mem"
flags = "O_RDONLY"
as = "mem"
expect = "EPERM"
[[step]]
id = "read"
do = "pread"
fd = "mem"
at = "low-ram"
len = 16
expect = "zeros"
"#;

const HOLE: &str = r#"
title = "mmap(2) shows what read(2) hides"
why = """
Two lines of
explanation."""
[[step]]
id = "open"
do = "open"
path = "/dev/mem"
flags = "O_RDONLY"
as = "mem"
[[step]]
id = "read"
do = "pread"
fd = "mem"
at = "low-ram"
len = 16
expect = "zeros"
[[step]]
id = "map"
do = "mmap"
fd = "mem"
at = "low-ram"
prot = "r"
share = "shared"
as = "page"
[[step]]
id = "peek"
do = "peek"
map = "page"
len = 16
expect = { is = "plain", hole = "mmap(2) shows bytes that read(2) hides" }
note = "the kernel command line"
[[step]]
id = "self-mem"
do = "self-mem-read"
map = "page"
len = 16
expect = { is = "ciphertext", hole = "the shared view of private RAM", events = ["shared-read"] }
"#;

const PLAIN: &[u8; 16] = b"console=ttyS0 qu";
const CIPHER: [u8; 16] =
    [0x9b, 0x1e, 0x44, 7, 0xc0, 0xff, 0x31, 0x62, 0x8d, 0, 0x5a, 0x13, 0xe9, 0xa4, 0x77, 0x20];

fn truth() -> Truth {
    Truth { plain: Some(PLAIN.to_vec()), ciphertext: Some(CIPHER.to_vec()), ..Truth::default() }
}

fn ok(step: &str, value: u64) -> StepObservation {
    let observed = StepObservation::new(step, Answer::Returned { value });
    StepObservation { duration: Duration::from_micros(250), ..observed }
}

fn bytes(step: &str, bytes: &[u8]) -> StepObservation {
    let observed = ok(step, bytes.len() as u64).with_bytes(bytes.to_vec(), truth());
    StepObservation { gpa: Some(GpaRange { start: 0x20000, len: 16 }), ..observed }
}

fn result(name: &str, text: &str, steps: Vec<StepObservation>) -> CaseResult {
    let case = case::parse(text, name).unwrap();
    judged(case, CaseObservation { steps, duration: Duration::from_millis(3), ..CaseObservation::default() })
}

fn judged(case: Case, observed: CaseObservation) -> CaseResult {
    let context = Context { policy: Policy::Upstream, platform: Platform::Sev, release: "6.12".parse().ok() };
    let verdict = judge(&case, context, &observed);
    CaseResult { case, observed, verdict }
}

fn not_run(name: &str, why: NotRun) -> CaseResult {
    let case = library::all().unwrap().into_iter().find(|case| case.name == name).unwrap();
    judged(case, CaseObservation { not_run: Some(why), ..CaseObservation::default() })
}

/// A run with one case of each kind.
pub fn whole() -> Report {
    let mut self_mem = bytes("self-mem", &CIPHER);
    self_mem.events.push(AccessEvent {
        kind: EventKind::SharedRead,
        gpa: 0x20010,
        len: Some(8),
        region: Some(Region::LowRam),
        state: types::AccessTarget::Page(types::PageState::Private),
        rip: 0xffff_ffff_8133_3b56,
        symbol: Some("memcpy_fromio+0x32".to_owned()),
        cpl: 0,
        task: Some("init".to_owned()),
        backtrace: ["memcpy_fromio+0x32", "generic_access_phys+0xd1", "mem_rw+0x1a2"]
            .map(str::to_owned)
            .to_vec(),
        device: None,
        unwound_by: Some(types::UnwindMethod::Orc),
    });
    let hole = vec![
        ok("open", 3),
        bytes("read", &[0; 16]),
        ok("map", 0x7f00_0000_0000),
        bytes("peek", PLAIN),
        self_mem,
    ];
    let refused = StepObservation::new("open", Answer::Failed { errno: Errno::EPERM });
    let closed = StepObservation::new("read", Answer::NotReached { needs: "mem".to_owned() });
    let skipped = NotRun::Skipped("needs DEVPORT=y, this kernel has DEVPORT=n".to_owned());
    let cases = vec![
        result("test/denied", OPEN, vec![refused, closed]),
        result("test/granted", OPEN, vec![ok("open", 3), bytes("read", PLAIN)]),
        result("test/hole", HOLE, hole),
        not_run("open/port", skipped),
        not_run("dmi/sysfs", NotRun::Failed("the agent fell silent".to_owned())),
    ];
    Report {
        policy: Policy::Upstream,
        policy_in_force: Policy::Upstream,
        kernel: kernel(),
        platform: platform(),
        planned: cases.iter().map(|result| result.case.name.clone()).collect(),
        boots: vec![boot(Mode::Record, Vec::new(), None)],
        cases,
        deaths: Vec::new(),
        aborted: Vec::new(),
        counters: Counters {
            boots: 1,
            exits: 195,
            faults: 1020,
            conversions: 1020,
            boot_events: 0,
            mismatches: 1,
            ..Counters::default()
        },
        ended: RunEnd::Complete,
        duration: Duration::from_millis(4250),
    }
}

/// The same run, cut short by the guest's death in its second case.
pub fn cut_short() -> Report {
    let mut report = whole();
    report.cases.truncate(1);
    let panic = Deaths::of([DeathKind::Panic]);
    let died = StepObservation { end: panic, ..StepObservation::new("open", Answer::GuestDied) };
    report.cases.push(result("test/granted", OPEN, vec![died]));
    report.planned = ["test/denied", "test/granted", "mmap/rom", "open/port"].map(str::to_owned).into();
    report.deaths = vec![Death {
        kind: panic,
        text: "Kernel panic - not syncing: Unexpected EPT-violation on private memory.".to_owned(),
        during: Some(During { case: "test/granted".to_owned(), step: "open".to_owned() }),
        console: vec!["[    1.000000] Kernel panic - not syncing".to_owned()],
    }];
    report.ended = RunEnd::Failed("the guest died and could not be started again".to_owned());
    report
}

/// An access to the ROM area by a kernel function.
pub fn boot_event(function: &str, gpa: u64) -> AccessEvent {
    AccessEvent {
        kind: EventKind::PrivateRead,
        gpa,
        len: Some(4),
        region: Some(Region::Rom),
        state: types::AccessTarget::Page(types::PageState::Unaccepted),
        rip: 0xffff_ffff_8162_1b52,
        symbol: Some(format!("{function}+0x42")),
        cpl: 0,
        task: Some("swapper/0".to_owned()),
        backtrace: vec![format!("{function}+0x42"), "do_one_initcall+0x58".to_owned()],
        device: None,
        unwound_by: Some(types::UnwindMethod::Orc),
    }
}

/// A boot of a guest whose ROM area is not accepted, judged.
pub fn boot(mode: Mode, events: Vec<AccessEvent>, death: Option<DeathKind>) -> BootResult {
    let layout = GuestLayout { rom: Some(RomArea::Unaccepted), ..GuestLayout::default() };
    let setup = Setup { mode, layout, ..Setup::default() };
    let death = death.map(|kind| Death {
        kind: Deaths::of([kind]),
        text: "SEPT violation at 0xff000".to_owned(),
        during: None,
        console: vec!["[    0.100000] EISA bus probe".to_owned()],
    });
    judged_boot(BootObservation {
        setup: setup.into(),
        events,
        not_kept: 0,
        refused: Vec::new(),
        death,
        aborted: None,
    })
}

/// The same, of a guest whose run the host's failure or a deadline ended before its agent answered.
pub fn aborted_boot(mode: Mode, events: Vec<AccessEvent>) -> BootResult {
    let aborted =
        Some(Aborted { reason: "the deadline passed".to_owned(), during: None, console: Vec::new() });
    judged_boot(BootObservation { aborted, ..boot(mode, events, None).observed })
}

fn judged_boot(observed: BootObservation) -> BootResult {
    let release = Some(Release { major: 6, minor: 12 });
    boot::judge(observed, boot::Context { platform: Platform::Tdx, release })
}

/// A guest that ended while booting, by a forbidden access.
pub fn died_in_boot() -> Report {
    let mut report = whole();
    report.cases.clear();
    report.platform.platform = Platform::Tdx;
    report.platform.names_lacking = Some("the image has no symbols".to_owned());
    report.platform.log_unread =
        Some("reading the guest's log gave EPERM: its type rests on what the VMM saw alone".to_owned());
    let events = vec![boot_event("eisa_bus_probe", 0xfffd9)];
    let boot = boot(Mode::Faithful, events, Some(DeathKind::Terminated));
    report.deaths.extend(boot.observed.death.clone());
    report.boots = vec![boot];
    report.ended = RunEnd::Failed("the guest did not come up: SEPT violation at 0xff000".to_owned());
    report
}

/// Two boots with known accesses, one of them with others too, and all cases of `whole`.
pub fn events_in_boot() -> Report {
    let mut report = whole();
    let known: Vec<_> = (0..5).map(|page| boot_event("probe_roms", 0xc0000 + page * 0x800)).collect();
    let both = known.iter().cloned().chain([boot_event("eisa_bus_probe", 0xfffd9)]).collect();
    report.boots = vec![boot(Mode::Record, known, None), boot(Mode::Record, both, None)];
    report
}

/// A run in which everything that a guest or a kernel image chooses has control characters.
pub fn hostile() -> Report {
    const BAD: &str = "\x1b[2J\x1b[1;31mFAIL\x07\r\x7f\u{9b}1m\u{202e}";
    let mut report = died_in_boot();
    report.kernel.release.push_str(BAD);
    report.kernel.version.push_str(BAD);
    report.kernel.log.push(BAD.to_owned());
    report.deaths.extend(cut_short().deaths);
    for death in &mut report.deaths {
        death.text.push_str(BAD);
        death.console.push(BAD.to_owned());
    }
    let mut event = boot_event("f", 0xfffd9);
    event.symbol = Some(BAD.to_owned());
    event.task = Some(BAD.to_owned());
    event.backtrace.push(BAD.to_owned());
    report.boots.push(boot(Mode::Record, vec![event], None));
    report.cases = whole().cases;
    report.ended = RunEnd::Failed(format!("the guest did not come up: {BAD}"));
    report
}

/// Each of them.
pub fn every() -> Vec<Report> {
    vec![whole(), cut_short(), died_in_boot(), events_in_boot(), hostile()]
}

fn kernel() -> KernelFacts {
    KernelFacts {
        spec: "debian:6.12".to_owned(),
        release: "6.12.117-cloud-amd64".to_owned(),
        version: "#1 SMP PREEMPT_DYNAMIC Debian".to_owned(),
        package: Some("linux-image-6.12.117-cloud-amd64 6.12.117-1".to_owned()),
        sha256: "00".repeat(32),
        build_id: Some("0123456789abcdef".to_owned()),
        config_sha256: Some("11".repeat(32)),
        policy: Some(Policy::Upstream),
        config: [("STRICT_DEVMEM".to_owned(), "y".to_owned())].into(),
        cmdline: "console=ttyS0 quiet".to_owned(),
        log: vec![],
    }
}

fn platform() -> PlatformFacts {
    PlatformFacts {
        boot_events: vec![],
        bad_calls: Vec::new(),
        guest_type: Some("C-bit in CR3, 1020 pages converted".to_owned()),
        unaccepted: None,
        changes: Vec::new(),
        setup: Setup::default().into(),
        boot_seconds: 1.5,
        booted_at: None,
        platform: Platform::Sev,
        view_bit: Some(38),
        memory_mib: 512,
        simulated: vec!["memory encryption: AES-XTS by address, through the C-bit".to_owned()],
        not_simulated: vec!["attestation; isolation from this host".to_owned()],
        kvm: KvmHost::Emulated { by: "QEMU 7.2 (TCG)".to_owned() },
        rewritten: Vec::new(),
        unserved_modules: Vec::new(),
        names_lacking: None,
        log_unread: None,
        regions: vec![PlacedRegion {
            region: Region::LowRam,
            gpa: 0x20000,
            len: 0x1000,
            kind: "System RAM".into(),
        }],
    }
}
