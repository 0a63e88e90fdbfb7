// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What lockdown governs beside /dev/mem.

use super::*;

fn open(world: &World, node: Node) -> (Task, Outcome) {
    let mut task = Task::default();
    let outcome = step(world, &mut task, &Op::Open { file: 0, node, flags: libc::O_RDWR }).outcome;
    (task, outcome)
}

const NODES: [Node; 6] = [Node::Mem, Node::Port, Node::Kcore, Node::Msr, Node::Bar, Node::Config];

/// Which of [`NODES`] cannot be opened.
fn closed(world: &World) -> Vec<Node> {
    let denied = |node: &Node| open(world, *node).1 == Outcome::failed(Errno::EPERM);
    NODES.into_iter().filter(denied).collect()
}

fn map_bar(world: &World, offset: u64, len: u64) -> (Task, Outcome) {
    let (mut task, _) = open(world, Node::Bar);
    let outcome = step(world, &mut task, &map(offset, len, 1)).outcome;
    (task, outcome)
}

#[test]
fn levels_close_what_they_include() {
    let at = |lockdown| World { lockdown, ..world(Platform::None, Policy::Upstream) };
    assert_eq!(closed(&at(Level::None)), []);
    assert_eq!(closed(&at(Level::Integrity)), [Node::Mem, Node::Port]);
    assert_eq!(closed(&at(Level::Confidentiality)), [Node::Mem, Node::Port, Node::Kcore]);
    assert_eq!(closed(&world(Platform::None, Policy::LockdownAll)), [Node::Mem, Node::Port]);
    let mut without = at(Level::Confidentiality);
    without.config.lockdown = false;
    assert_eq!(closed(&without), []);
}

#[test]
fn bars_cannot_be_mapped_where_lockdown_has_its_bit() {
    for (platform, policy, expected) in [
        (Platform::Sev, Policy::Upstream, true),
        (Platform::Sev, Policy::OpenEperm, true),
        (Platform::None, Policy::LockdownCc, true),
        (Platform::Sev, Policy::LockdownCc, false),
        (Platform::None, Policy::LockdownAll, false),
    ] {
        let (_, outcome) = map_bar(&world(platform, policy), 0, PAGE);
        assert_eq!(matches!(outcome, Outcome::Value(_)), expected, "{policy} {platform}: {outcome:?}");
        assert!(expected || outcome == Outcome::failed(Errno::EPERM));
    }
}

#[test]
fn a_bar_is_mapped_shared_where_dev_mem_maps_it_private() {
    let world = world(Platform::Tdx, Policy::Upstream);
    let load = Op::Load { map: 0, offset: 8, len: 4, width: Width::Long };
    let (mut task, _) = map_bar(&world, 0x1000, PAGE);
    let effects = step(&world, &mut task, &load).effects;
    assert_eq!(effects, [Effect::Read { gpa: 0xe000_1008, len: 4, view: View::Shared }]);
    let mut task = opened(&world);
    step(&world, &mut task, &map(0xe000_1000, PAGE, 1));
    let effects = step(&world, &mut task, &load).effects;
    assert_eq!(effects, [Effect::Read { gpa: 0xe000_1008, len: 4, view: View::Private }]);
}

#[test]
fn a_bar_ends_where_it_ends() {
    let world = world(Platform::None, Policy::Upstream);
    assert!(matches!(map_bar(&world, 0xf000, PAGE).1, Outcome::Value(_)));
    assert_eq!(map_bar(&world, 0xf000, PAGE + 1).1, Outcome::failed(Errno::EINVAL));
    assert_eq!(map_bar(&world, 0x1_0000, PAGE).1, Outcome::failed(Errno::EINVAL));
    assert_eq!(map_bar(&world, 1 << 63, PAGE).1, Outcome::failed(Errno::EOVERFLOW));
}

#[test]
fn lockdown_comes_before_the_length_of_a_register() {
    let write = |world: &World, len| {
        let op = Op::Write { file: 0, at: Some(0x10), data: vec![0; len], buffer: Buffer::Good };
        step(world, &mut open(world, Node::Msr).0, &op).outcome
    };
    let open = world(Platform::None, Policy::Upstream);
    let locked = World { lockdown: Level::Integrity, ..open.clone() };
    assert_eq!(write(&open, 7), Outcome::failed(Errno::EINVAL));
    assert_eq!(write(&locked, 7), Outcome::failed(Errno::EPERM));
    assert_eq!(write(&open, 16), Outcome::Value(16));
}

#[test]
fn ports_open_and_close_again() {
    let world = world(Platform::None, Policy::Upstream);
    let fault = Outcome::Signal { signal: Signal::SIGSEGV, code: 0x80, address: 0, pieces: Vec::new() };
    let mut task = Task::default();
    let mut go = |op| step(&world, &mut task, &op).outcome;
    let port_in = |port, width| Op::PortIn { port, width };
    assert_eq!(go(port_in(0x2000, Width::Byte)), fault);
    assert_eq!(go(Op::Ioperm { from: 0x2000, count: 2, on: true }), Outcome::Value(0));
    assert_eq!(go(port_in(0x2000, Width::Word)), Outcome::Value(0xffff));
    assert_eq!(go(port_in(0x2001, Width::Word)), fault);
    assert_eq!(go(Op::Ioperm { from: 0x2000, count: 1, on: false }), Outcome::Value(0));
    assert_eq!(go(port_in(0x2000, Width::Byte)), fault);
    assert_eq!(go(Op::Iopl { level: 2 }), Outcome::Value(0));
    assert_eq!(go(port_in(0x2000, Width::Byte)), fault);
    assert_eq!(go(Op::Iopl { level: 3 }), Outcome::Value(0));
    assert_eq!(go(port_in(0x2000, Width::Long)), Outcome::Value(0xffff_ffff));
    assert_eq!(go(Op::DropCaps { mask: 1 << capability::SYS_RAWIO }), Outcome::Value(0));
    assert_eq!(go(Op::Iopl { level: 0 }), Outcome::Value(0));
    assert_eq!(go(Op::Iopl { level: 1 }), Outcome::failed(Errno::EPERM));
    for (from, count) in [(0, 0), (0xffff, 2), (0x1_0000, 1), (1, u64::MAX)] {
        assert_eq!(go(Op::Ioperm { from, count, on: false }), Outcome::failed(Errno::EINVAL));
    }
}

#[test]
fn the_configuration_space_is_read_from_where_it_is_asked_for() {
    let world = world(Platform::None, Policy::Upstream);
    let (mut task, _) = open(&world, Node::Config);
    let piece = |offset, len| vec![Piece { source: Source::Configuration { offset }, len }];
    assert_eq!(step(&world, &mut task, &read(0xf8, 16)).outcome.pieces(), piece(0xf8, 8));
    let left = Op::Left { from: 3, len: 5 };
    assert_eq!(step(&world, &mut task, &left).outcome.pieces(), piece(0xfb, 5));
}
