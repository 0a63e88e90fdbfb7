// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is written reads back as the same case: every case there is, and cases made at random.

use proptest::prelude::*;
use types::{Errno, EventKind, Mode, Region, RomArea, Signal};

use super::*;
use crate::case::{
    ConfigNeed, ExpectedEvent, OpenFlags, Protection, ReleaseBound, Share, Term, Yield, parse,
};
use crate::place::{Base, Place};
use crate::setup::{Iomem, Lockdown, Mutant};
use model::class::{Class, MemoryState};
use model::release::Release;

/// The case read back; its keys of expectations may come in any order.
fn read_back(case: &Case) -> Case {
    let text = write(case);
    sorted(parse(&text, &case.name).unwrap_or_else(|errors| panic!("{errors}\n{text}")))
}

fn sorted(mut case: Case) -> Case {
    for step in &mut case.steps {
        step.expect.entries.sort_by_key(|(key, _)| key.to_string());
    }
    case
}

#[test]
fn every_bundled_case_reads_back() {
    for case in crate::library::all().unwrap() {
        assert_eq!(read_back(&case), sorted(case.clone()), "{}", case.name);
    }
}

#[test]
fn every_case_made_by_a_command_reads_back() {
    let made = crate::audit::cases().into_iter().chain(crate::matrix::operations::cases());
    let made = made.chain([crate::identify::case()]);
    for case in made {
        assert_eq!(read_back(&case), case, "{}", case.name);
    }
}

#[test]
fn comments_stand_before_their_step_and_at_the_end() {
    let mut case = Case::new("c", "title", "two\nlines");
    case.steps = vec![Step::new("one", Action::Fork), Step::new("two", Action::Exit)];
    let text = write_commented(&case, |index| vec![format!("before {index}\nand\r{index}")]);
    insta::assert_snapshot!(text);
    assert_eq!(parse(&text, "c").unwrap(), case);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}[!-~]",
        "[\\x00-\\x1f\\x7f-\\x9f\"\\\\a]{0,6}x",
        Just("'''\n\"\"\"\n\\u0041 é".to_owned())
    ]
}

/// A text without white space around it.
fn trimmed() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("<{text}>"))
}

fn place() -> impl Strategy<Value = Place> {
    let base = prop_oneof![
        any::<u64>().prop_map(Base::Address),
        prop::sample::select(Region::ALL).prop_map(Base::Region)
    ];
    (base, -0x1000_i64..0x1000).prop_map(|(base, offset)| Place { base, offset })
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        (any::<u8>(), 1..40_usize).prop_map(|(byte, len)| vec![byte; len])
    ]
}

/// Actions on the file `f` and the mapping `m`; those that obtain something call it by the number of the step.
fn action() -> impl Strategy<Value = Action> {
    let len = 1..60_000_u64;
    let choice = (prop::sample::select(UserBuffer::ALL), prop::sample::select(Direction::ALL));
    let views = (prop::sample::select(ViewChoice::ALL), prop::sample::select(Share::ALL));
    let numbers = (any::<u16>(), 0..4_usize, any::<bool>(), 0..u32::MAX, 0..0x1000_u32);
    (0..37_usize, len, place(), data(), text(), choice, views, numbers).prop_map(
        |(kind, len, at, data, path, (buffer, whence), (view, share), (port, small, on, wide, major))| {
            let (fd, map, new) = ("f".to_owned(), "m".to_owned(), "new".to_owned());
            let (offset, prot) = (u64::from(wide), Protection(u32::from(port) % 8));
            let width = [1, 2, 4, 4][small];
            let flags = [0, libc::O_RDWR, libc::O_WRONLY | libc::O_SYNC, libc::O_RDWR | libc::O_DSYNC][small];
            let over = on.then(|| map.clone());
            match kind {
                0 => Action::Open { path, flags: OpenFlags(flags), handle: new },
                1 => Action::Lseek { fd, to: at, whence },
                2 => Action::Read { fd, len, buffer },
                3 => Action::Pread { fd, at, len, buffer },
                4 => Action::Write { fd, data, buffer },
                5 => Action::Pwrite { fd, at, data, buffer },
                6 => Action::Buffer { fd, from: u64::from(port % 4096), len },
                7 => Action::Mmap { fd, at, len, prot, share, over, handle: new },
                8 => Action::Mprotect { map, offset, len, prot },
                9 => Action::Mremap { map, len, handle: None },
                10 => Action::Peek { map, offset, len },
                11 => Action::Poke { map, offset, data },
                12 => Action::SelfMemRead { map, offset, len },
                13 => Action::SelfMemWrite { map, offset, data },
                14 => Action::VmReadv { map, offset, len },
                15 => Action::PtracePeek { map, offset, len },
                16 => Action::Stat { path },
                17 => Action::ReadFile { path, len },
                18 => Action::Run {
                    program: "/usr/sbin/dmidecode".to_owned(),
                    args: vec![path.replace('\0', "")],
                },
                19 => Action::WriteFile { path, data },
                20 => Action::PortIn { port, width },
                21 => Action::PortOut { port, width, value: wide },
                22 => Action::Iopl { level: small as u8 },
                23 => Action::Ioperm { port, count: port.clamp(1, 1000), on },
                24 => Action::Setuid { uid: wide, gid: major, keep: on },
                25 => Action::DropCaps { caps: vec!["CAP_SYS_RAWIO".to_owned(), "CAP_SYS_ADMIN".to_owned()] },
                26 => Action::KeepCaps { caps: Vec::new() },
                27 => Action::UserNamespace,
                28 => Action::NoNewPrivs,
                29 => Action::Mknod { path, major, minor: major },
                30 => Action::Fork,
                31 => Action::Exec,
                32 => Action::SendFile { fd },
                33 => Action::ReceiveFile { handle: new },
                34 => Action::KcoreRead { at, len },
                35 => Action::Memory { at, len, wrote: on.then(|| "written".to_owned()), view },
                _ if on => Action::KernelLog,
                _ => Action::Reboot,
            }
        },
    )
}

/// What a step that gives this can be expected to give.
fn term(yields: Yield, choice: usize) -> Term {
    let any =
        [Term::Ok, Term::Errno(Errno::EPERM), Term::Signal(Signal::SIGBUS), Term::Number(choice as u64)];
    match yields {
        Yield::State => Term::State(MemoryState::ALL[choice % MemoryState::ALL.len()]),
        Yield::Memory if choice.is_multiple_of(2) => Term::Class(Class::ALL[choice % Class::ALL.len()]),
        Yield::Text | Yield::Memory => Term::Contains("a | b \\ c".to_owned()),
        Yield::Nothing => any[choice % 3].clone(),
        Yield::Number | Yield::Count => any[choice % 4].clone(),
    }
}

type StepNotes = (Option<String>, Option<String>, bool, Vec<(usize, Option<String>, Option<EventKind>)>);

/// A note, a hole, whether expectations are stated, and those beside the one for all.
fn step_notes() -> impl Strategy<Value = StepNotes> {
    let more =
        (0..60_usize, prop::option::of(trimmed()), prop::option::of(prop::sample::select(EventKind::ALL)));
    let more = prop::collection::vec(more, 0..4);
    (prop::option::of(text()), prop::option::of(trimmed()), any::<bool>(), more)
}

fn step(index: usize, mut action: Action, (note, hole, stated, more): StepNotes) -> Step {
    match &mut action {
        Action::Open { handle, .. } | Action::Mmap { handle, .. } | Action::ReceiveFile { handle } => {
            *handle = format!("new-{index}");
        }
        _ => {}
    }
    let yields = action.yields();
    let mut step = Step { note, ..Step::new(&format!("step-{index}"), action) };
    if stated {
        let keys = ["confidential", "sev", "open-eperm.sev", "open-eperm@6.15"];
        let entry = |(key, (choice, hole, event)): (&str, (usize, Option<String>, Option<EventKind>))| {
            let at = Some(Base::Region(Region::Rom));
            let events = event.into_iter().map(|kind| ExpectedEvent { kind, at }).collect();
            let alternatives = vec![term(yields, choice), term(yields, choice + 1)];
            (
                key.parse().unwrap(),
                Expected { hole, ..Expected::only(Term::Ok).with_events(events) }.of(alternatives),
            )
        };
        let first = Expected { hole, ..Expected::only(term(yields, index)) };
        step.expect.entries =
            std::iter::once((Key::ANY, first)).chain(keys.into_iter().zip(more).map(entry)).collect();
    }
    step
}

impl Expected {
    fn of(self, alternatives: Vec<Term>) -> Self {
        Self { alternatives, ..self }
    }
}

fn needs_and_guest() -> impl Strategy<Value = (Needs, SetupOverrides)> {
    let needs =
        (any::<bool>(), prop::option::of((5_u16..8, 0_u16..20))).prop_map(|(config, release)| Needs {
            config: config
                .then(|| ConfigNeed { option: "DEVPORT".to_owned(), value: "\"y z\"".to_owned() })
                .into_iter()
                .collect(),
            kernel: release
                .into_iter()
                .flat_map(|(major, minor)| {
                    let release = Release { major, minor };
                    [ReleaseBound::From(release), ReleaseBound::Before(release)]
                })
                .collect(),
        });
    let guest = (
        prop::option::of(prop::sample::select(Mode::ALL)),
        prop::option::of(prop::sample::select(RomArea::ALL)),
        prop::option::of(any::<bool>()),
        prop::option::of(prop::sample::select(Lockdown::ALL)),
        prop::option::of(prop::sample::select(Iomem::ALL)),
        prop::option::of((0..3_u16).prop_map(Mutant)),
    );
    let guest = guest.prop_map(|(mode, rom, sept_ve, lockdown, iomem, mutant)| SetupOverrides {
        mode,
        rom,
        sept_ve,
        lockdown,
        iomem,
        mutant,
        fail: None,
    });
    (needs, guest)
}

fn case() -> impl Strategy<Value = Case> {
    let head = (text(), trimmed(), prop::collection::vec(text(), 0..3));
    let platforms = prop::sample::subsequence(Platform::ALL.to_vec(), 1..=Platform::ALL.len());
    let steps = prop::collection::vec((action(), step_notes()), 0..12);
    (head, platforms, needs_and_guest(), steps).prop_map(
        |((title, why, tags), platforms, (needs, guest), steps)| {
            let rom = Place { base: Base::Region(Region::Rom), offset: 0 };
            let mem =
                Action::Open { path: "/dev/mem".to_owned(), flags: OpenFlags(2), handle: "f".to_owned() };
            let (fd, handle, prot) = ("f".to_owned(), "m".to_owned(), Protection(3));
            let map = Action::Mmap { fd, at: rom, len: 4096, prot, share: Share::Shared, over: None, handle };
            let poke = Action::Poke { map: "m".to_owned(), offset: 0, data: vec![1, 2] };
            let first = [Step::new("open", mem), Step::new("map", map), Step::new("written", poke)];
            let more =
                steps.into_iter().enumerate().map(|(index, (action, notes))| step(index, action, notes));
            let last = [
                Step::new(
                    "moved",
                    Action::Mremap { map: "m".to_owned(), len: 1, handle: Some("n".to_owned()) },
                ),
                Step::new("unmapped", Action::Munmap { map: "n".to_owned() }),
                Step::new("closed", Action::Close { fd: "f".to_owned() }),
                Step::new("exited", Action::Exit),
            ];
            let steps = first.into_iter().chain(more).chain(last).collect();
            Case { tags, platforms, needs, guest, steps, ..Case::new("made/up", &title, &why) }
        },
    )
}

proptest! {
    #[test]
    fn every_case_reads_back(case in case()) {
        prop_assert_eq!(read_back(&case), sorted(case));
    }
}
