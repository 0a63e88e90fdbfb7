// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protections, places and processes.

use super::*;

const LOW: u64 = 0x2_0000;

fn go(world: &World, task: &mut Task, op: &Op) -> Outcome {
    step(world, task, op).outcome
}

fn mapped(world: &World, at: u64, len: u64, flags: u32, prot: u32) -> Task {
    let mut task = opened(world);
    let op = Op::Mmap { map: 0, file: 0, offset: at, len, prot, flags };
    assert!(matches!(go(world, &mut task, &op), Outcome::Value(_)));
    task
}

fn load(map: u8, offset: u64) -> Op {
    Op::Load { map, offset, len: 8, width: Width::Quad }
}

fn source(world: &World, task: &mut Task, op: &Op) -> Option<Source> {
    step(world, task, op).outcome.pieces().first().map(|piece| piece.source)
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what may be missing")]
fn physical(gpa: u64) -> Option<Source> {
    Some(Source::Physical { gpa, view: View::Private })
}

fn signal(outcome: &Outcome) -> Option<i32> {
    if let Outcome::Signal { code, .. } = outcome { Some(*code) } else { None }
}

#[test]
fn a_protection_changes_later_as_far_as_the_file_allows() {
    let world = world(Platform::None, Policy::Upstream);
    let protect = |prot| Op::Mprotect { map: 0, offset: 0, len: PAGE, prot };
    let mut task = mapped(&world, LOW, PAGE, 1, 0);
    assert_eq!(signal(&go(&world, &mut task, &load(0, 0))), Some(2));
    assert_eq!(go(&world, &mut task, &protect(5)), Outcome::Value(0));
    assert_eq!(source(&world, &mut task, &load(0, 0)), physical(LOW));
    let mut task = Task::default();
    go(&world, &mut task, &Op::Open { file: 0, node: Node::Mem, flags: libc::O_RDONLY });
    for (flags, expected) in [(1, Outcome::failed(Errno::EACCES)), (2, Outcome::Value(0))] {
        let op = Op::Mmap { map: 0, file: 0, offset: LOW, len: PAGE, prot: 1, flags };
        assert!(matches!(go(&world, &mut task, &op), Outcome::Value(_)));
        assert_eq!(go(&world, &mut task, &protect(3)), expected);
    }
    assert_eq!(
        go(&world, &mut task, &Op::Mprotect { map: 0, offset: PAGE, len: PAGE, prot: 1 }),
        Outcome::failed(Errno::ENOMEM)
    );
}

#[test]
fn executed_memory_is_read_but_with_protection_keys() {
    let world = world(Platform::None, Policy::Upstream);
    let with_keys = World { protection_keys: true, ..world.clone() };
    let mut task = mapped(&world, LOW, PAGE, 1, 4);
    assert_eq!(source(&world, &mut task, &load(0, 0)), physical(LOW));
    assert_eq!(signal(&go(&with_keys, &mut task, &load(0, 0))), Some(4));
    // sysfs and /proc are never executed from.
    let mut task = Task::default();
    go(&world, &mut task, &Op::Open { file: 0, node: Node::Bar, flags: libc::O_RDWR });
    let map = |prot| Op::Mmap { map: 0, file: 0, offset: 0, len: PAGE, prot, flags: 1 };
    assert_eq!(go(&world, &mut task, &map(5)), Outcome::failed(Errno::EPERM));
    assert!(matches!(go(&world, &mut task, &map(1)), Outcome::Value(_)));
    let protect = Op::Mprotect { map: 0, offset: 0, len: PAGE, prot: 5 };
    assert_eq!(go(&world, &mut task, &protect), Outcome::failed(Errno::EACCES));
}

#[test]
fn a_mapping_of_physical_memory_moves_and_shrinks_but_never_grows() {
    let world = world(Platform::None, Policy::Upstream);
    let mut task = mapped(&world, LOW, 2 * PAGE, 1, 3);
    let remap = |map, to, pages| Op::Mremap { map, to, len: pages * PAGE };
    assert_eq!(go(&world, &mut task, &remap(0, 0, 3)), Outcome::failed(Errno::EFAULT));
    assert!(matches!(go(&world, &mut task, &remap(0, 4, 2)), Outcome::Value(_)));
    assert_eq!(go(&world, &mut task, &load(0, 0)), Outcome::Refused(protocol::Refusal::Map));
    assert_eq!(source(&world, &mut task, &load(4, PAGE)), physical(LOW + PAGE));
    assert!(matches!(go(&world, &mut task, &remap(4, 4, 1)), Outcome::Value(_)));
    assert_eq!(signal(&go(&world, &mut task, &load(4, PAGE))), Some(1));
    assert_eq!(go(&world, &mut task, &remap(4, 4, 0)), Outcome::failed(Errno::EINVAL));
    assert!(task.loses_memtype_entries(&world));
}

#[test]
fn a_mapping_takes_the_place_of_another_even_if_the_driver_then_refuses() {
    let world = world(Platform::None, Policy::Upstream);
    let over = |at, flags| Op::MmapOver { map: 1, over: 0, file: 0, offset: at, len: PAGE, prot: 1, flags };
    let mut task = mapped(&world, 0xf_0000, 2 * PAGE, 1, 1);
    assert_eq!(go(&world, &mut task, &over(LOW, 7)), Outcome::failed(Errno::EINVAL));
    assert_eq!(source(&world, &mut task, &load(0, 0)), physical(0xf_0000));
    assert!(matches!(go(&world, &mut task, &over(LOW, 1)), Outcome::Value(_)));
    assert_eq!(source(&world, &mut task, &load(0, 0)), physical(LOW));
    assert_eq!(source(&world, &mut task, &load(0, PAGE)), physical(0xf_1000));
    // /dev/port maps nothing, which is known before anything is unmapped.
    go(&world, &mut task, &Op::Open { file: 1, node: Node::Port, flags: libc::O_RDWR });
    let port = Op::MmapOver { map: 2, over: 0, file: 1, offset: 0, len: PAGE, prot: 1, flags: 1 };
    assert_eq!(go(&world, &mut task, &port), Outcome::failed(Errno::ENODEV));
    assert_eq!(source(&world, &mut task, &load(0, 0)), physical(LOW));
    assert_eq!(go(&world, &mut task, &over(0x100_0000, 1)), Outcome::failed(Errno::EPERM));
    assert_eq!(signal(&go(&world, &mut task, &load(0, 0))), Some(1));
}

#[test]
fn a_child_keeps_what_it_has_and_its_copies_are_its_own() {
    let world = world(Platform::None, Policy::Upstream);
    let mut task = mapped(&world, LOW, 2 * PAGE, 2, 3);
    let store = Op::Store { map: 0, offset: PAGE, data: vec![7; 8], width: Width::Quad };
    go(&world, &mut task, &store);
    let parents = source(&world, &mut task, &load(0, PAGE));
    assert_eq!(go(&world, &mut task, &Op::Fork), Outcome::Value(0));
    go(&world, &mut task, &Op::DropCaps { mask: u64::MAX });
    assert_eq!(source(&world, &mut task, &load(0, 0)), physical(LOW));
    assert_ne!(source(&world, &mut task, &load(0, PAGE)), parents);
    go(&world, &mut task, &Op::Munmap { map: 0 });
    go(&world, &mut task, &Op::Lseek { file: 0, offset: 5, whence: 0 });
    assert_eq!(go(&world, &mut task, &Op::Exit), Outcome::Value(0));
    assert_eq!(source(&world, &mut task, &load(0, PAGE)), parents);
    // One position for both.
    assert_eq!(position(&task, 0), Some(5));
    assert!(task.loses_memtype_entries(&world));
    // A first page that is a copy no longer yields its cache mode.
    go(&world, &mut task, &Op::Store { map: 0, offset: 0, data: vec![7], width: Width::Byte });
    assert_eq!(go(&world, &mut task, &Op::Fork), Outcome::failed(Errno::ENOMEM));
}

#[test]
fn the_protection_an_area_has_already_does_not_split_it() {
    let world = world(Platform::None, Policy::Upstream);
    for (prot, forks) in [(3, Outcome::Value(0)), (1, Outcome::failed(Errno::ENOMEM))] {
        let mut task = mapped(&world, LOW, 2 * PAGE, 2, 3);
        go(&world, &mut task, &Op::Store { map: 0, offset: PAGE, data: vec![7], width: Width::Byte });
        let protect = Op::Mprotect { map: 0, offset: PAGE, len: PAGE, prot };
        assert_eq!(go(&world, &mut task, &protect), Outcome::Value(0));
        // Split off, the copied page is the first of its area.
        assert_eq!(go(&world, &mut task, &Op::Fork), forks, "prot {prot}");
    }
}

#[test]
fn execution_keeps_files_and_gives_root_everything_unless_it_promised() {
    let world = world(Platform::None, Policy::Upstream);
    let open = |file, flags| Op::Open { file, node: Node::Mem, flags };
    for (no_new_privs, expected) in [(false, Outcome::Value(0)), (true, Outcome::failed(Errno::EPERM))] {
        let mut task = mapped(&world, LOW, PAGE, 1, 3);
        go(&world, &mut task, &open(1, libc::O_RDONLY | libc::O_CLOEXEC));
        go(&world, &mut task, &Op::DropCaps { mask: 1 << capability::SYS_RAWIO });
        if no_new_privs {
            go(&world, &mut task, &Op::NoNewPrivs);
        }
        assert_eq!(go(&world, &mut task, &Op::Exec), Outcome::Value(0));
        assert_eq!(signal(&go(&world, &mut task, &load(0, 0))), Some(1));
        assert!(matches!(go(&world, &mut task, &read(LOW, 8)), Outcome::Bytes { .. }));
        let gone = Op::Read { file: 1, at: Some(LOW), len: 8, buffer: Buffer::Good };
        assert_eq!(go(&world, &mut task, &gone), Outcome::failed(Errno::EBADF));
        assert_eq!(go(&world, &mut task, &open(2, libc::O_RDWR)), expected);
    }
}

#[test]
fn a_file_passed_on_is_the_same_file_for_whoever_has_it() {
    let world = world(Platform::None, Policy::Upstream);
    let mut task = opened(&world);
    go(&world, &mut task, &Op::SendFile { file: 0 });
    go(&world, &mut task, &Op::Fork);
    go(&world, &mut task, &Op::Close { file: 0 });
    go(&world, &mut task, &Op::SetUser { uid: 1000, gid: 1000, keep: false });
    assert_eq!(go(&world, &mut task, &Op::ReceiveFile { file: 3 }), Outcome::Value(0));
    assert_eq!(go(&world, &mut task, &Op::ReceiveFile { file: 2 }), Outcome::failed(Errno::EAGAIN));
    let read = Op::Read { file: 3, at: None, len: 8, buffer: Buffer::Good };
    assert!(matches!(go(&world, &mut task, &read), Outcome::Bytes { value: 8, .. }));
    let open = Op::Open { file: 0, node: Node::Mem, flags: libc::O_RDWR };
    assert_eq!(go(&world, &mut task, &open), Outcome::failed(Errno::EACCES));
}

#[test]
fn a_read_that_fails_leaves_what_it_copied_before() {
    let world = world(Platform::None, Policy::Upstream);
    let mut task = opened(&world);
    assert_eq!(go(&world, &mut task, &read(0xf_fff0, 32)), Outcome::failed(Errno::EPERM));
    let left = Op::Left { from: 8, len: 16 };
    assert_eq!(
        go(&world, &mut task, &left),
        Outcome::Bytes {
            value: 16,
            pieces: vec![
                Piece { source: Source::Physical { gpa: 0xf_fff8, view: View::Private }, len: 8 },
                Piece { source: Source::Untouched, len: 8 },
            ],
        }
    );
    // Only of the read just before.
    assert_eq!(go(&world, &mut task, &left), Outcome::Refused(protocol::Refusal::Length));
}

#[test]
fn who_asks_is_checked_by_the_right_capability() {
    let world = world(Platform::None, Policy::Upstream);
    let open = Op::Open { file: 0, node: Node::Mem, flags: libc::O_RDWR };
    for number in 0..41 {
        let mut task = Task::default();
        go(&world, &mut task, &Op::DropCaps { mask: !(1 << number) });
        let alone = go(&world, &mut task, &open) == Outcome::Value(0);
        let mut task = Task::default();
        go(&world, &mut task, &Op::DropCaps { mask: 1 << number });
        let without = go(&world, &mut task, &open) == Outcome::Value(0);
        let is_it = number == capability::SYS_RAWIO;
        assert_eq!((alone, without), (is_it, !is_it), "{number}");
    }
    let mut task = Task::default();
    go(&world, &mut task, &Op::UserNamespace);
    assert_eq!(go(&world, &mut task, &open), Outcome::failed(Errno::EPERM));
    assert_eq!(go(&world, &mut task, &Op::UserNamespace), Outcome::failed(Errno::EPERM));
    let mut task = Task::default();
    go(&world, &mut task, &Op::SetUser { uid: 1000, gid: 0, keep: true });
    assert_eq!(go(&world, &mut task, &open), Outcome::Value(0));
    go(&world, &mut task, &Op::DropCaps { mask: 1 << capability::DAC_OVERRIDE });
    assert_eq!(go(&world, &mut task, &open), Outcome::failed(Errno::EACCES));
}

/// mmap(2) of a page shared with `prot`, then each of `ops`, then a write through /proc/self/mem.
fn put_after(node: Node, prot: u32, ops: &[Op]) -> Outcome {
    let world = world(Platform::None, Policy::Upstream);
    let mut task = Task::default();
    let offset = if node == Node::Bar { 0 } else { LOW };
    go(&world, &mut task, &Op::Open { file: 0, node, flags: libc::O_RDWR });
    go(&world, &mut task, &Op::Mmap { map: 0, file: 0, offset, len: 2 * PAGE, prot, flags: 1 });
    for op in ops {
        assert!(matches!(go(&world, &mut task, op), Outcome::Value(_)), "{op}");
    }
    let through = Through::ProcMem(Via::Itself);
    go(&world, &mut task, &Op::Put { through, map: 0, offset: 8, data: vec![1; 8] })
}

#[test]
fn a_bar_made_writable_later_is_written_through_the_kernel_only_after_a_store() {
    let protect = |prot| Op::Mprotect { map: 0, offset: 0, len: 2 * PAGE, prot };
    let store = |offset| Op::Store { map: 0, offset, data: vec![1], width: Width::Byte };
    let (written, refused) = (Outcome::Value(8), Outcome::failed(Errno::EIO));
    let moved = [Op::Mremap { map: 0, to: 1, len: 2 * PAGE }, Op::Mremap { map: 1, to: 0, len: 2 * PAGE }];
    for (prot, ops, expected) in [
        (3, vec![], &written),
        (1, vec![], &refused),
        (1, vec![protect(2)], &refused),
        (0, vec![protect(3)], &refused),
        // The same protection again changes nothing, another one takes from a page what no store has confirmed.
        (3, vec![protect(3)], &written),
        (3, vec![protect(2)], &refused),
        (1, vec![protect(3), store(0)], &written),
        (1, vec![protect(3), store(PAGE)], &refused),
        // What was stored to remains so.
        (3, vec![store(0), protect(1), protect(3)], &written),
        (1, vec![protect(3), store(0), protect(1)], &refused),
        // A child has the entries as they are, but clean ones.
        (3, vec![Op::Fork], &written),
        (1, vec![protect(3), Op::Fork], &refused),
        (1, vec![protect(3), store(0), Op::Fork], &written),
        (3, vec![store(0), Op::Fork, protect(2)], &refused),
        (3, vec![store(0), Op::Fork, Op::Exit, protect(2)], &written),
        (1, [vec![protect(3)], moved.to_vec()].concat(), &refused),
        (1, [vec![protect(3), store(0)], moved.to_vec()].concat(), &written),
    ] {
        assert_eq!(&put_after(Node::Bar, prot, &ops), expected, "prot {prot}, {ops:?}");
    }
}

#[test]
fn dev_mem_made_writable_later_is_written_through_the_kernel_at_once() {
    let protect = |prot| Op::Mprotect { map: 0, offset: 0, len: 2 * PAGE, prot };
    // `mmap_mem_ops` has no `page_mkwrite`.
    for (prot, ops, expected) in [
        (1, vec![], Outcome::failed(Errno::EIO)),
        (1, vec![protect(2)], Outcome::Value(8)),
        (3, vec![protect(1)], Outcome::failed(Errno::EIO)),
    ] {
        assert_eq!(put_after(Node::Mem, prot, &ops), expected, "prot {prot}, {ops:?}");
    }
}
