// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What holds for every world, and the matrix of one kernel in detail.

use proptest::prelude::*;
use protocol::{Buffer, Via, Width};
use types::{Errno, Platform, Policy, Signal, View};

use super::events::Contents;
use super::fixture::{BIT, IOMEM, world};
use super::iomem::Iomem;
use super::lockdown::Level;
use super::*;
use crate::class::Class;
use crate::release::Release;

mod neighbours;
mod spaces;
mod strategies;

use self::strategies::{addresses, buffers, lengths, ops, worlds};

fn opened(world: &World) -> Task {
    let mut task = Task::default();
    step(world, &mut task, &Op::Open { file: 0, node: Node::Mem, flags: libc::O_RDWR });
    task
}

fn read(at: u64, len: u64) -> Op {
    Op::Read { file: 0, at: Some(at), len, buffer: Buffer::Good }
}

fn map(at: u64, len: u64, flags: u32) -> Op {
    Op::Mmap { map: 0, file: 0, offset: at, len, prot: 3, flags }
}

/// What a read of 16 bytes gives: the errno or the class.
fn peek(world: &World, at: u64) -> Result<Class, Errno> {
    class(world, &step(world, &mut opened(world), &read(at, 16)))
}

fn class(world: &World, prediction: &Prediction) -> Result<Class, Errno> {
    match &prediction.outcome {
        Outcome::Bytes { pieces, .. } => Ok(world.class_of(pieces[0].source).unwrap()),
        Outcome::Failed { errno, .. } => Err(*errno),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_line_of_iomem_that_is_no_resource_is_an_error() {
    let lines = Iomem::parse(IOMEM).unwrap().resources().len();
    assert_eq!(lines, IOMEM.lines().count());
    for bad in ["00100000-0fffffff", "x-1 : System RAM", "00100000 : System RAM", ""] {
        let text = format!("{IOMEM}{bad}\n");
        let message = Iomem::parse(&text).map(|_| ()).map_err(|error| error.to_string());
        assert!(message.is_err_and(|message| message.contains(&format!("`{bad}`"))), "{bad:?}");
    }
}

#[test]
fn read_gives_what_was_measured() {
    let none = world(Platform::None, Policy::Upstream);
    let sev = world(Platform::Sev, Policy::Upstream);
    let later = World { release: Release { major: 7, minor: 3 }, ..sev.clone() };
    let (eperm, efault) = (Err(Errno::EPERM), Err(Errno::EFAULT));
    for (at, expected) in [
        (0x400, [Ok(Class::Plain), Ok(Class::Ciphertext), Ok(Class::Plain)]),
        (0x2_0000, [Ok(Class::Zeros); 3]),
        (0x9_fd00, [Ok(Class::Zeros); 3]),
        (0xa_0000, [Ok(Class::Device); 3]),
        (0xf_0000, [Ok(Class::Plain), Ok(Class::Ciphertext), Ok(Class::Plain)]),
        (0x100_0000, [eperm; 3]),
        (0x1bfe_0000, [Ok(Class::Plain), Ok(Class::Ciphertext), Ok(Class::Plain)]),
        (0x1bff_0000, [eperm; 3]),
        (0xe000_0000, [Ok(Class::Device); 3]),
        (0xe100_0000, [eperm; 3]),
        (0x20_0000_0000, [efault; 3]),
    ] {
        assert_eq!([&none, &sev, &later].map(|world| peek(world, at)), expected, "{at:#x}");
    }
}

#[test]
fn mmap_shows_what_read_hides_and_the_kernels_own_way_another_view() {
    let world = world(Platform::Sev, Policy::Upstream);
    let mut task = opened(&world);
    step(&world, &mut task, &map(0x2_0000, PAGE, 1));
    let load = Op::Load { map: 0, offset: 0, len: 8, width: Width::Quad };
    assert_eq!(class(&world, &step(&world, &mut task, &load)), Ok(Class::Plain));
    let fetch = Op::Fetch { through: Through::ProcMem(Via::Itself), map: 0, offset: 0, len: 8 };
    let through = step(&world, &mut task, &fetch);
    assert_eq!(class(&world, &through), Ok(Class::Ciphertext));
    let mut contents = Contents::default();
    let events: Vec<_> = through.effects.iter().flat_map(|e| contents.apply(&world, e)).collect();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].gpa, events[0].view), (0x2_0000, View::Shared));
}

#[test]
fn the_kernels_own_way_does_not_stop_at_the_end_of_a_mapping() {
    let world = world(Platform::None, Policy::Upstream);
    let mut task = opened(&world);
    assert_eq!(step(&world, &mut task, &read(0xe100_0000, 8)).outcome, Outcome::failed(Errno::EPERM));
    step(&world, &mut task, &map(0xe0ff_f000, PAGE, 1));
    let fetch = Op::Fetch { through: Through::ProcMem(Via::Itself), map: 0, offset: PAGE - 8, len: 16 };
    let prediction = step(&world, &mut task, &fetch);
    assert_eq!(
        prediction.outcome,
        Outcome::Bytes {
            value: 16,
            pieces: vec![Piece {
                source: Source::Physical { gpa: 0xe0ff_fff8, view: View::Private },
                len: 16
            }],
        }
    );
}

#[test]
fn a_write_from_a_buffer_that_is_not_there_clears_memory_and_fails() {
    let world = world(Platform::None, Policy::Upstream);
    let op = Op::Write { file: 0, at: Some(0xf_0000), data: vec![7; 4], buffer: Buffer::Null };
    let prediction = step(&world, &mut opened(&world), &op);
    assert_eq!(prediction.outcome, Outcome::failed(Errno::EFAULT));
    assert_eq!(prediction.effects, [Effect::Write { gpa: 0xf_0000, data: vec![0; 4], view: View::Private }]);
}

#[test]
fn cachings_of_one_page_do_not_mix() {
    let world = world(Platform::None, Policy::Upstream);
    let mut task = opened(&world);
    step(&world, &mut task, &Op::Open { file: 1, node: Node::Mem, flags: libc::O_RDWR | libc::O_SYNC });
    step(&world, &mut task, &map(0x3_0000, PAGE, 1));
    let uncached = |at| Op::Mmap { map: 1, file: 1, offset: at, len: PAGE, prot: 1, flags: 1 };
    assert_eq!(step(&world, &mut task, &uncached(0x3_0000)).outcome, Outcome::failed(Errno::EAGAIN));
    // Legacy video memory and what the MTRRs leave uncached mix.
    step(&world, &mut task, &map(0xa_0000, PAGE, 1));
    assert!(matches!(step(&world, &mut task, &uncached(0xa_0000)).outcome, Outcome::Value(_)));
    step(&world, &mut task, &map(0xe000_0000, PAGE, 1));
    assert!(matches!(step(&world, &mut task, &uncached(0xe000_0000)).outcome, Outcome::Value(_)));
}

#[test]
fn policies_close_what_they_say() {
    let opens = |platform, policy| {
        let world = world(platform, policy);
        !opened(&world).process.files.is_empty()
    };
    for policy in [Policy::OpenEperm, Policy::LockdownCc] {
        assert!(opens(Platform::None, policy) && !opens(Platform::Tdx, policy), "{policy}");
    }
    assert!(!opens(Platform::None, Policy::LockdownAll) && !opens(Platform::None, Policy::NoDevmem));
    assert!(opens(Platform::Sev, Policy::RangeDeny));
    assert_eq!(peek(&world(Platform::Sev, Policy::RangeDeny), 0xf_0000), Err(Errno::EPERM));
    assert_eq!(peek(&world(Platform::None, Policy::NoLow1m), 0x2_0000), Err(Errno::EPERM));
}

/// The position of a file, if it is open.
fn position(task: &Task, file: u8) -> Option<u64> {
    task.file(file).map(|file| file.position)
}

proptest! {
    #[test]
    fn nothing_moves_on_an_error_and_nothing_comes_beyond_what_was_asked(
        world in worlds(),
        ops in prop::collection::vec(ops(), 1..40),
    ) {
        let mut task = Task::default();
        for op in &ops {
            let before = task.clone();
            let prediction = step(&world, &mut task, op);
            let failed = matches!(prediction.outcome, Outcome::Failed { .. } | Outcome::Refused(_));
            match op {
                Op::Read { file, len, at, .. } => {
                    let (was, is) = (position(&before, *file), position(&task, *file));
                    let Outcome::Bytes { value, pieces } = &prediction.outcome else {
                        prop_assert!(failed);
                        prop_assert_eq!(was, is);
                        continue;
                    };
                    prop_assert!(*value <= *len);
                    prop_assert!(pieces.iter().map(|piece| piece.len).sum::<u64>() <= *value);
                    let moved = if at.is_some() { 0 } else { *value };
                    prop_assert_eq!(was.map(|was| was.wrapping_add(moved)), is);
                }
                Op::Write { file, data, .. } => {
                    if let Outcome::Value(count) = prediction.outcome {
                        prop_assert!(count <= data.len() as u64);
                    } else {
                        prop_assert_eq!(position(&before, *file), position(&task, *file));
                    }
                }
                Op::Lseek { file, .. } if failed => {
                    prop_assert_eq!(position(&before, *file), position(&task, *file));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn every_result_has_a_reason_that_agrees_with_it(world in worlds(), at in addresses(), len in 1_u64..9000) {
        let mut task = Task::default();
        let open = Op::Open { file: 0, node: Node::Mem, flags: libc::O_RDWR };
        let data = vec![0; usize::try_from(len).unwrap()];
        let write = Op::Write { file: 0, at: Some(at), data, buffer: Buffer::Good };
        let load = Op::Load { map: 0, offset: 0, len: 8, width: Width::Quad };
        let fetch = Op::Fetch { through: Through::ProcMem(Via::Itself), map: 0, offset: 0, len: 8 };
        for op in [open, read(at, len), write, map(at & !(PAGE - 1), len, 1), load, fetch] {
            let prediction = step(&world, &mut task, &op);
            let refused = matches!(prediction.outcome, Outcome::Refused(_));
            // `rw_verify_area()` and `do_mmap()` fail before the driver.
            let early = matches!(
                prediction.outcome,
                Outcome::Failed { errno: Errno::EOVERFLOW | Errno::EINVAL | Errno::ENOMEM, .. }
            );
            prop_assert!(!prediction.reasons.is_empty() || refused || early, "{op}: {prediction:?}");
            let denied = matches!(prediction.outcome, Outcome::Failed { errno: Errno::EPERM, .. });
            let denies = prediction.reasons.last().is_some_and(|reason| matches!(
                reason,
                Reason::NotCapable | Reason::LockedDown | Reason::OpenEperm | Reason::RangeDeny | Reason::Ram
                    | Reason::RamNoLow1m | Reason::Claimed
            ));
            prop_assert_eq!(denied, denies, "{:?}", prediction);
        }
    }

    #[test]
    fn what_is_denied_gives_no_byte_and_touches_nothing(world in worlds(), at in addresses(), len in 1_u64..9000) {
        let mut task = opened(&world);
        let prediction = step(&world, &mut task, &map(at & !(PAGE - 1), len, 1));
        let mapped = matches!(prediction.outcome, Outcome::Value(_));
        prop_assert!(!mapped || allowed::range_is_allowed(&world, at & !(PAGE - 1), len.next_multiple_of(PAGE)).is_ok());
        let read = step(&world, &mut task, &read(at, len));
        if page_is_denied(&world, at) {
            let denied = matches!(read.outcome, Outcome::Failed { .. } | Outcome::Refused(_));
            prop_assert!(denied);
            prop_assert!(read.effects.is_empty());
        }
    }

    #[test]
    fn read_and_pread_give_one_answer(world in worlds(), at in 0_u64..1 << 62, len in lengths(), buffer in buffers()) {
        let mut task = opened(&world);
        step(&world, &mut task, &Op::Lseek { file: 0, offset: at.cast_signed(), whence: 0 });
        let len = len % (1 << 20);
        let by_position = step(&world, &mut task.clone(), &Op::Read { file: 0, at: None, len, buffer });
        let by_offset = step(&world, &mut task, &Op::Read { file: 0, at: Some(at), len, buffer });
        prop_assert_eq!(by_position, by_offset);
    }

    #[test]
    fn policies_for_confidential_guests_leave_the_others_alone(
        policy in prop::sample::select(vec![Policy::OpenEperm, Policy::RangeDeny, Policy::LockdownCc]),
        ops in prop::collection::vec(ops(), 1..40),
    ) {
        let (patched, stock) = (world(Platform::None, policy), world(Platform::None, Policy::Upstream));
        let (mut one, mut other) = (Task::default(), Task::default());
        for op in &ops {
            prop_assert_eq!(step(&patched, &mut one, op), step(&stock, &mut other, op));
        }
        prop_assert_eq!(one, other);
    }

    #[test]
    fn ordinary_guests_have_one_view_and_no_forbidden_access(ops in prop::collection::vec(ops(), 1..40)) {
        let world = world(Platform::None, Policy::Upstream);
        let (mut task, mut contents) = (Task::default(), Contents::default());
        for op in &ops {
            for effect in step(&world, &mut task, op).effects {
                if let Effect::Read { view, .. } | Effect::Write { view, .. } = &effect {
                    prop_assert_eq!(*view, View::Private);
                }
                prop_assert!(contents.apply(&world, &effect).is_empty());
            }
        }
    }

    #[test]
    fn iomem_reads_any_text(text in "\\PC*") {
        let _ = Iomem::parse(&text);
    }
}

fn page_is_denied(world: &World, at: u64) -> bool {
    allowed::page_is_allowed(world, at).0 == Allowed::No
}
