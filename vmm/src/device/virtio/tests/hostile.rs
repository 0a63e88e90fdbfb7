// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A driver that breaks the rules costs its device only, in bounded time.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::memory::dma::MOST_FORBIDDEN;

/// Writes a chain.
type Describe = fn(&Machine);

/// What one notification may take here, with plenty to spare.
const SOON: Duration = Duration::from_secs(10);

fn entropy() -> Machine {
    let mut machine = Machine::new(&VirtioKind::Random);
    machine.start(8);
    machine
}

/// The device needs a reset, does nothing until then, and works afterwards.
fn assert_broken(machine: &mut Machine) {
    assert_eq!(machine.common(STATUS) & NEEDS_RESET, NEEDS_RESET);
    assert_eq!(machine.messages(), [0], "once, with the configuration's vector");
    machine.notify(0);
    assert_eq!(machine.messages(), [0; 0]);
    assert_eq!(machine.used(0), None);
    machine.start(8);
    assert_eq!(machine.request(0, &[], 8).map(|bytes| bytes.len()), Some(8));
}

#[test]
fn a_chain_that_breaks_off_costs_the_device_only() {
    let chains: [(&str, Describe); 8] = [
        ("a descriptor followed by itself", |m| m.describe(RINGS, 0, BUFFERS, 8, WRITE | NEXT, 0)),
        ("two descriptors, each followed by the other", |m| {
            m.describe(RINGS, 0, BUFFERS, 8, WRITE | NEXT, 1);
            m.describe(RINGS, 1, BUFFERS, 8, WRITE | NEXT, 0);
        }),
        ("a next descriptor beyond the table", |m| m.describe(RINGS, 0, BUFFERS, 8, WRITE | NEXT, 8)),
        ("no whole table", |m| m.describe(RINGS, 0, BUFFERS, 17, INDIRECT, 0)),
        ("an empty table", |m| m.describe(RINGS, 0, BUFFERS, 0, INDIRECT, 0)),
        ("a table in a table", |m| {
            m.describe(RINGS, 0, BUFFERS, 16, INDIRECT, 0);
            m.describe(BUFFERS, 0, BUFFERS, 16, INDIRECT, 0);
        }),
        ("4 GiB", |m| m.describe(RINGS, 0, BUFFERS, u32::MAX, WRITE, 0)),
        ("beyond the last address", |m| m.describe(RINGS, 0, u64::MAX - 3, 8, WRITE, 0)),
    ];
    for (name, chain) in chains {
        println!("{name}");
        let mut machine = entropy();
        chain(&machine);
        machine.offer(0, 0);
        assert_broken(&mut machine);
    }
}

#[test]
fn a_ring_whose_index_is_too_far_ahead_or_whose_head_is_beyond_the_table_costs_the_device_only() {
    let mut machine = entropy();
    machine.put(RINGS + AVAIL + 2, &9u16.to_le_bytes());
    machine.notify(0);
    assert_broken(&mut machine);
    let mut machine = entropy();
    machine.offer(0, 8);
    assert_broken(&mut machine);
    let mut machine = entropy();
    machine.set_common(QUEUE_DRIVER, 0);
    machine.notify(0);
    assert_broken(&mut machine);
}

#[test]
fn an_indirect_table_as_long_as_can_be_is_not_carried_out() {
    let mut machine = entropy();
    let entries = 0xffff;
    for index in 0..entries {
        machine.describe(BUFFERS, index, RINGS + AVAIL, 1, WRITE | NEXT, (index + 1) % entries);
    }
    machine.describe(RINGS, 0, BUFFERS, 16 * u32::from(entries), INDIRECT, 0);
    let start = Instant::now();
    machine.offer(0, 0);
    assert!(start.elapsed() < SOON);
    assert_broken(&mut machine);
}

#[test]
fn a_queue_into_which_the_device_itself_writes_ends_with_its_size() {
    // Each sector holds the next index of the available ring, and the header of a request for the next sector; it is read to
    // where that index and that header are.
    const HEADER_AT: u64 = 64;
    const SECTORS: u64 = 64;
    let sector = |number: u64| {
        let mut bytes = [0; 512];
        bytes[..2].copy_from_slice(&(number as u16 + 2).to_le_bytes());
        bytes[HEADER_AT as usize + 8..][..8].copy_from_slice(&(number + 1).to_le_bytes());
        bytes
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk");
    std::fs::write(&file, (0..SECTORS).flat_map(sector).collect::<Vec<u8>>()).unwrap();
    let mut machine = Machine::new(&VirtioKind::Block { file, writable: false });
    machine.start(8);
    let index = RINGS + AVAIL + 2;
    machine.describe(RINGS, 0, index + HEADER_AT, 16, NEXT, 1);
    machine.describe(RINGS, 1, index, 512, WRITE | NEXT, 2);
    machine.describe(RINGS, 2, BUFFERS, 1, WRITE, 0);
    machine.offer(0, 0);
    assert_eq!(std::iter::from_fn(|| machine.used(0)).count(), 8);
}

#[test]
fn a_request_in_private_memory_leaves_a_bounded_record() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk");
    std::fs::File::create(&file).unwrap().set_len(32 << 20).unwrap();
    let mut machine = Machine::snp(&VirtioKind::Block { file, writable: false });
    machine.start(8);
    machine.describe(RINGS, 0, RINGS + 0x800, 16, NEXT, 1);
    machine.describe(RINGS, 1, BUFFERS, 16 << 20, WRITE | NEXT, 2);
    machine.describe(RINGS, 2, RINGS + 0x900, 1, WRITE, 0);
    let forbidden = machine.offer(0, 0);
    assert_eq!(machine.used(0), Some((0, (16 << 20) + 1)));
    assert_eq!(forbidden.accesses.len(), MOST_FORBIDDEN);
    assert_eq!(forbidden.more, (16 << 20) / PAGE_SIZE - MOST_FORBIDDEN as u64);
    assert!(forbidden.accesses.iter().all(|access| access.chain == Some(0)));
    assert_eq!(machine.common(STATUS) & NEEDS_RESET, 0, "a forbidden access breaks no queue");
}

#[derive(Debug, Clone)]
enum Act {
    Load(u64, usize),
    Store(u64, usize, u64),
    Config(u8, u32),
    Put(u64, Vec<u8>),
    Describe(u16, u64, u32, u16, u16),
    Offer(u16, u16),
}

/// Numbers at which something begins or ends, or any.
fn number() -> impl Strategy<Value = u64> {
    let places = vec![
        0,
        1,
        4,
        8,
        0xf,
        0xffff,
        RINGS,
        RINGS + AVAIL,
        RINGS + USED,
        BUFFERS,
        u64::from(u32::MAX),
        u64::MAX,
    ];
    prop_oneof![prop::sample::select(places), 0..64u64, any::<u64>()]
}

fn act() -> impl Strategy<Value = Act> {
    let offset =
        || prop_oneof![3 => 0..0x40u64, 1 => 0x3000..0x3010u64, 1 => 0x4000..0x4040u64, 1 => 0..0x1_0000u64];
    prop_oneof![
        (offset(), 1..=8usize).prop_map(|(at, len)| Act::Load(at, len)),
        (offset(), 1..=8usize, number()).prop_map(|(at, len, value)| Act::Store(at, len, value)),
        (prop::sample::select(vec![0x40u8, 0x42, 0x90, 0x94, 0x98, 0x9c, 0xa0]), any::<u32>())
            .prop_map(|(at, value)| Act::Config(at, value)),
        (0..2 * RINGS_LEN, prop::collection::vec(any::<u8>(), 0..64))
            .prop_map(|(at, bytes)| Act::Put(at, bytes)),
        (0..9u16, number(), number(), 0..8u16, 0..9u16).prop_map(|(index, address, len, flags, next)| {
            Act::Describe(index, address, len as u32, flags, next)
        }),
        (0..4u16, 0..9u16).prop_map(|(queue, head)| Act::Offer(queue, head)),
        (0..4u16, 0..9u16).prop_map(|(queue, head)| Act::Offer(queue, head)),
    ]
}

fn perform(machine: &mut Machine, act: Act) -> Forbidden {
    match act {
        Act::Load(at, len) => drop(machine.load(at, len)),
        Act::Store(at, len, value) => return machine.store(at, len, value),
        Act::Config(register, value) => machine.set_config(register, value),
        Act::Put(at, bytes) => machine.put(RINGS + at, &bytes),
        Act::Describe(index, address, len, flags, next) => {
            machine.describe(RINGS, index, address, len, flags, next);
        }
        Act::Offer(queue, head) if machine.rings.contains_key(&queue) => return machine.offer(queue, head),
        Act::Offer(..) => {}
    }
    Forbidden::default()
}

/// The devices, with the place of what they need of the host.
fn kinds(folder: &std::path::Path) -> Vec<VirtioKind> {
    let file = folder.join("disk");
    std::fs::write(&file, vec![7; 1 << 16]).unwrap();
    std::fs::write(folder.join("file"), "text").unwrap();
    vec![
        VirtioKind::Random,
        VirtioKind::Block { file, writable: true },
        VirtioKind::Files {
            tag: "share".to_owned(),
            root: folder.to_owned(),
            above: Vec::new(),
            writable: false,
        },
        VirtioKind::Console(vec![]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_sequence_of_accesses_breaks_more_than_the_device(acts in prop::collection::vec(act(), 1..60), private in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        for kind in kinds(folder.path()) {
            let mut machine = if private { Machine::snp(&kind) } else { Machine::new(&kind) };
            machine.start(8);
            let start = Instant::now();
            for act in acts.clone() {
                let forbidden = perform(&mut machine, act);
                prop_assert!(forbidden.accesses.len() <= MOST_FORBIDDEN);
            }
            prop_assert!(start.elapsed() < SOON, "{:?} took {:?}", kind, start.elapsed());
            // A reset makes it usable again.
            let queues = machine.common(NUM_QUEUES);
            machine.start(8);
            prop_assert_eq!(machine.common(STATUS), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
            prop_assert_eq!(machine.common(NUM_QUEUES), queues);
            if matches!(kind, VirtioKind::Random) && !private {
                prop_assert_eq!(machine.request(0, &[], 8).map(|bytes| bytes.len()), Some(8));
            }
        }
    }
}
