// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Configuration space, features, queues, interrupts.

use super::*;

fn entropy() -> Machine {
    Machine::new(&VirtioKind::Random)
}

/// One request that the device uses.
fn use_one(machine: &mut Machine) {
    assert_eq!(machine.request(0, &[], 8).map(|bytes| bytes.len()), Some(8));
}

#[test]
fn the_capabilities_name_every_structure_inside_the_bar() {
    let mut machine = entropy();
    assert_eq!(machine.config(0), 0x1044_1af4);
    let found = machine.capabilities();
    let virtio: Vec<u8> = found.iter().filter(|(_, id)| *id == 9).map(|(at, _)| *at).collect();
    for at in virtio {
        assert_eq!(machine.config(at + 4) & 0xff, 0, "BAR 0");
        let (offset, len) = (machine.config(at + 8), machine.config(at + 12));
        assert!(u64::from(offset) + u64::from(len) <= crate::device::pci::BAR_SIZE && len != 0);
    }
    let mut kinds: Vec<u8> = machine.places.keys().copied().collect();
    kinds.retain(|kind| *kind != 5);
    assert_eq!(kinds, [1, 2, 3, 4, 0x11, 0x12]);
    let places: std::collections::BTreeSet<u64> = machine.places.values().copied().collect();
    assert!(places.len() >= 6, "no structure overlaps another");
}

#[test]
fn a_bar_shows_its_size_and_memory_switched_off_hides_the_registers() {
    let mut machine = entropy();
    let (low, high) = (machine.config(0x10), machine.config(0x14));
    assert_eq!(low & 0xf, 4, "64 bits, not prefetchable");
    machine.set_config(0x10, u32::MAX);
    machine.set_config(0x14, u32::MAX);
    let mask = u64::from(machine.config(0x10) & !0xf) | u64::from(machine.config(0x14)) << 32;
    assert_eq!(mask.wrapping_neg(), crate::device::pci::BAR_SIZE);
    machine.set_config(0x10, low);
    machine.set_config(0x14, high);
    assert_eq!(machine.common(NUM_QUEUES), 1);
    let (bar, mut data) = (machine.bar, [0; 2]);
    machine.set_config(4, 0);
    assert!(!machine.devices.read(&machine.bus, bar, &mut data));
    assert_eq!(machine.devices.write(&machine.bus, bar, &[0; 4]), None);
    machine.set_config(4, 2);
    assert_eq!(machine.common(NUM_QUEUES), 1);
    // A BAR that the guest moves.
    machine.set_config(0x14, high + 1);
    assert!(!machine.devices.read(&machine.bus, bar, &mut data));
    machine.bar += 1 << 32;
    assert_eq!(machine.common(NUM_QUEUES), 1);
}

#[test]
fn features_that_were_not_offered_and_version_0_are_refused() {
    let mut machine = entropy();
    let offered = machine.offered();
    assert_eq!(offered & (VERSION_1 | ACCESS_PLATFORM), VERSION_1 | ACCESS_PLATFORM);
    assert!(machine.accept(VERSION_1));
    assert!(!machine.accept(offered & !VERSION_1), "no driver of version 1");
    assert!(!machine.accept(offered | 1 << 40), "not offered");
    assert!(machine.accept(offered));
    machine.set_common(DRIVER_FEATURE_SELECT, 1);
    machine.set_common(DRIVER_FEATURE, 0);
    assert_eq!(machine.common(DRIVER_FEATURE), offered >> 32, "none is changed after FEATURES_OK");
    machine.set_common(STATUS, NEEDS_RESET);
    assert_eq!(machine.common(STATUS) & NEEDS_RESET, 0, "a bit of the device's");
}

#[test]
fn a_queue_size_that_is_no_power_of_two_or_too_large_is_not_taken() {
    let mut machine = entropy();
    assert!(machine.accept(VERSION_1));
    let most = machine.common(QUEUE_SIZE);
    for size in [0, 3, 12, 2 * most, 0xffff] {
        machine.set_common(QUEUE_SIZE, size);
        assert_eq!(machine.common(QUEUE_SIZE), most);
    }
    machine.set_common(QUEUE_SIZE, 4);
    assert_eq!(machine.common(QUEUE_SIZE), 4);
    machine.set_common(QUEUE_SELECT, 1);
    assert_eq!(machine.common(QUEUE_SIZE), 0, "there is no such queue");
    machine.set_common(QUEUE_ENABLE, 1);
    assert_eq!(machine.common(QUEUE_ENABLE), 0);
}

#[test]
fn a_vector_that_there_is_not_reads_back_as_none() {
    let mut machine = entropy();
    for register in [CONFIG_VECTOR, QUEUE_VECTOR] {
        for (vector, read) in [(0, 0), (1, 1), (2, 0xffff), (0x7ff, 0xffff)] {
            machine.set_common(register, vector);
            assert_eq!(machine.common(register), read);
        }
    }
}

#[test]
fn a_used_request_interrupts_with_its_queues_vector() {
    let mut machine = entropy();
    machine.start(8);
    use_one(&mut machine);
    assert_eq!(machine.messages(), [1]);
    let isr = machine.places[&3];
    assert_eq!((machine.load(isr, 1), machine.load(isr, 1)), (1, 0), "reading clears it");
    machine.notify(0);
    assert_eq!(machine.messages(), [0; 0], "nothing was used");
    machine.set_config(0x40, 0);
    use_one(&mut machine);
    assert_eq!(machine.messages(), [0; 0], "MSI-X is off");
    machine.set_config(0x40, 0x8000_0000);
    assert_eq!(machine.messages(), [0; 0], "and nothing was pending");
}

#[test]
fn a_masked_vectors_message_is_pending_until_it_is_unmasked() {
    let mut machine = entropy();
    machine.start(8);
    let (table, pending) = (machine.places[&0x11], machine.places[&0x12]);
    machine.store(table + 16 + 12, 4, 1);
    use_one(&mut machine);
    use_one(&mut machine);
    assert_eq!((machine.messages(), machine.load(pending, 8)), (vec![], 0b10));
    machine.store(table + 16 + 12, 4, 0);
    assert_eq!((machine.messages(), machine.load(pending, 8)), (vec![1], 0), "one message for both");
    // All vectors masked by the capability.
    machine.set_config(0x40, 0xc000_0000);
    use_one(&mut machine);
    assert_eq!((machine.messages(), machine.load(pending, 4)), (vec![], 0b10));
    machine.set_config(0x40, 0x8000_0000);
    assert_eq!((machine.messages(), machine.load(pending, 4)), (vec![1], 0));
    // A reset leaves none.
    machine.set_config(0x40, 0xc000_0000);
    use_one(&mut machine);
    machine.set_common(STATUS, 0);
    assert_eq!(machine.load(pending, 4), 0);
    machine.set_config(0x40, 0x8000_0000);
    assert_eq!(machine.messages(), [0; 0]);
}

#[test]
fn a_reset_forgets_queues_and_features_and_the_device_works_again() {
    let mut machine = entropy();
    machine.start(8);
    use_one(&mut machine);
    machine.set_common(STATUS, 0);
    for register in [STATUS, QUEUE_ENABLE, QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE, DRIVER_FEATURE] {
        assert_eq!(machine.common(register), 0, "{register:#x}");
    }
    assert_eq!((machine.common(QUEUE_VECTOR), machine.common(CONFIG_VECTOR)), (0xffff, 0xffff));
    machine.notify(0);
    assert_eq!(machine.used(0), None, "it is not running");
    machine.start(4);
    use_one(&mut machine);
}
