// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The devices' memory as it is kept in a file: only what differs from fresh memory, which is most often nothing.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fresh_memory;

/// Where each run of other bytes begins, and the bytes.
type Changes = Vec<(u32, Vec<u8>)>;

pub(super) fn serialize<S: Serializer>(memory: &[Vec<u8>; 2], to: S) -> Result<S::Ok, S::Error> {
    let mut changes = [Changes::new(), Changes::new()];
    for ((changes, memory), fresh) in changes.iter_mut().zip(memory).zip(fresh_memory()) {
        for (at, byte) in memory.iter().enumerate().filter(|(at, byte)| fresh.get(*at) != Some(byte)) {
            match changes.last_mut() {
                Some((first, run)) if *first as usize + run.len() == at => run.push(*byte),
                _ => changes.push((at as u32, vec![*byte])),
            }
        }
    }
    changes.serialize(to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[Vec<u8>; 2], D::Error> {
    let changes: [Changes; 2] = Deserialize::deserialize(from)?;
    let mut memory = fresh_memory();
    for (memory, changes) in memory.iter_mut().zip(&changes) {
        for (at, run) in changes {
            let at = *at as usize;
            let place = memory.get_mut(at..).and_then(|rest| rest.get_mut(..run.len()));
            place.ok_or_else(|| D::Error::custom("bytes beyond a PCI device's memory"))?.copy_from_slice(run);
        }
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{BAR_SIZE, PciBus, PciImage, TestDevice};

    proptest! {
        #[test]
        fn memory_that_was_kept_is_what_it_was(stores in prop::collection::vec((any::<bool>(), 0..BAR_SIZE - 8, any::<u64>()), 0..20)) {
            let mut bus = PciBus::new(0xe000_0000, 0x20_0000_0000);
            for (second, at, value) in stores {
                bus.write_memory(TestDevice::ALL[usize::from(second)], at, &value.to_le_bytes());
            }
            let saved = bus.save();
            let kept = serde_json::to_string(&saved).unwrap();
            let same: PciImage = serde_json::from_str(&kept).unwrap();
            prop_assert!(same.memory == saved.memory);
        }
    }

    #[test]
    fn what_was_not_changed_takes_no_room_and_what_lies_beyond_is_refused() {
        let kept = serde_json::to_string(&PciBus::new(0, 0).save()).unwrap();
        let none = r#""memory":[[],[]]"#;
        assert!(kept.contains(none), "{kept}");
        for beyond in ["[[[65535,[1,2]]],[]]", "[[],[[4294967295,[1]]]]"] {
            let changed = kept.replace(none, &format!(r#""memory":{beyond}"#));
            assert!(serde_json::from_str::<PciImage>(&changed).is_err(), "{beyond}");
        }
    }
}
