// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The last lines of the kernel's log, read from the ring buffer it keeps them in (`kernel/printk/printk_ringbuffer.h`):
//! for a guest that dies before its console is there. The guest controls every byte of it, so every number is checked.
//!
//! Two layouts differ between 6.1 and 7.x, and both are determined from the memory itself: `struct prb_desc_ring` by
//! where the pointer to `__log_buf` is, `struct printk_info` by its sequence numbers. Where they do not fit, there are no
//! lines.

use super::backtrace::KernelMemory;
use crate::boot::image::SymbolTable;

/// Records looked at, from the newest.
const MAX_RECORDS: u64 = 64;
/// Bytes kept of each (`kernel/printk/internal.h:PRINTKRB_RECORD_MAX`); with the number of records, a bound for all.
const MAX_TEXT: usize = 1024;
/// The bits of a descriptor's ID, and where its state is.
const ID_MASK: u64 = (1 << STATE_SHIFT) - 1;
const STATE_SHIFT: u32 = 62;
/// `enum desc_state`: written, written for good, and of no record any more.
const COMMITTED: u64 = 1;
const FINALIZED: u64 = 2;
const REUSABLE: u64 = 3;
/// `sizeof(struct prb_desc)`.
const DESCRIPTOR: u64 = 24;
/// `sizeof(struct printk_info)`: as it is since 5.10, and with `CONFIG_PRINTK_EXECUTION_CTX`.
const INFO_SIZES: [u64; 2] = [88, 112];
/// The size of `struct prb_desc_ring`: before `last_finalized_seq` came in 6.8, and since.
const RING_SIZES: [usize; 2] = [40, 48];
/// The powers of two that the counts of descriptors and of bytes can be (`init/Kconfig:LOG_BUF_SHIFT` is at most 25).
const COUNT_BITS: std::ops::RangeInclusive<u32> = 1..=25;

/// The kernel's log before it is moved to a buffer allocated at run time.
struct Ring<'a> {
    memory: &'a dyn KernelMemory,
    count_bits: u32,
    descriptors: u64,
    infos: u64,
    head: u64,
    tail: u64,
    size_bits: u32,
    data: u64,
}

/// The last lines, oldest first; `None` where the buffer is not where it is expected or not as it is expected.
pub fn last_lines(symbols: &SymbolTable, memory: &dyn KernelMemory) -> Option<Vec<String>> {
    let ring = Ring::find(symbols, memory)?;
    INFO_SIZES.into_iter().find_map(|info| ring.lines(info))
}

/// How many lines the console does not have yet, though they are in the log: those of the newest record, if it does not end with
/// a line feed. It may be continued, and becomes visible with the record after it (`kernel/printk/printk.c:vprintk_store`).
/// `None` where the buffer is not as it is expected.
pub fn open_lines(symbols: &SymbolTable, memory: &dyn KernelMemory) -> Option<u64> {
    let ring = Ring::find(symbols, memory)?;
    let (index, descriptor) = ring.descriptor(ring.head);
    let state = number(memory, descriptor)?;
    match state >> STATE_SHIFT {
        FINALIZED | REUSABLE => Some(0),
        COMMITTED if state & ID_MASK == ring.head => {
            let text = INFO_SIZES.into_iter().find_map(|size| {
                let info = ring.infos.wrapping_add(index * size);
                let known = number(memory, info)? == ring.sequence(ring.head);
                known.then(|| ring.text(ring.head, descriptor, info)).flatten()
            });
            Some(text.map_or(1, |text| text.split(|byte| *byte == b'\n').count() as u64))
        }
        _ => None,
    }
}

impl<'a> Ring<'a> {
    fn find(symbols: &SymbolTable, memory: &'a dyn KernelMemory) -> Option<Self> {
        let ring = symbols.address_of("printk_rb_static")?;
        if number(memory, symbols.address_of("prb")?)? != ring {
            return None;
        }
        let data = symbols.address_of("__log_buf")?;
        let mut bytes = [0; RING_SIZES[1] + 16];
        read(memory, ring, &mut bytes)?;
        let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let half = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let text = RING_SIZES.into_iter().find(|size| word(size + 8) == Some(data))?;
        Some(Self {
            memory,
            count_bits: half(0).filter(|bits| COUNT_BITS.contains(bits))?,
            descriptors: word(8)?,
            infos: word(16)?,
            head: word(24)? & ID_MASK,
            tail: word(32)? & ID_MASK,
            size_bits: half(text).filter(|bits| COUNT_BITS.contains(bits))?,
            data,
        })
    }

    /// The index of a record, and the address of its descriptor.
    fn descriptor(&self, id: u64) -> (u64, u64) {
        let index = id & ((1 << self.count_bits) - 1);
        (index, self.descriptors.wrapping_add(index * DESCRIPTOR))
    }

    /// The sequence number of a record. Record 0 has the ID after `DESC0_ID`, which is computed as an `unsigned int`.
    fn sequence(&self, id: u64) -> u64 {
        id.wrapping_sub((1 << 32) - (1 << self.count_bits)) & ID_MASK
    }

    /// The lines, if an info has this size.
    fn lines(&self, info: u64) -> Option<Vec<String>> {
        let available =
            (self.head.wrapping_sub(self.tail) & ID_MASK).saturating_add(1).min(1 << self.count_bits);
        let mut lines = Vec::new();
        let mut checked = 0;
        for back in 0..available.min(MAX_RECORDS) {
            let id = self.head.wrapping_sub(back) & ID_MASK;
            let (index, descriptor) = self.descriptor(id);
            let state = number(self.memory, descriptor)?;
            // The ring starts with a descriptor of no record, and the newest may be in the making.
            if state & ID_MASK != id || ![COMMITTED, FINALIZED].contains(&(state >> STATE_SHIFT)) {
                continue;
            }
            let info = self.infos.wrapping_add(index * info);
            if number(self.memory, info)? != self.sequence(id) {
                return None;
            }
            checked += 1;
            lines.extend(self.line(id, descriptor, info));
        }
        // One record is at the same place whatever the size of an info is.
        lines.reverse();
        (checked > 1).then_some(lines)
    }

    /// One record, as dmesg(1) shows it.
    fn line(&self, id: u64, descriptor: u64, info: u64) -> Option<String> {
        let text = self.text(id, descriptor, info)?;
        let time = number(self.memory, info.wrapping_add(8))? / 1000;
        let text = String::from_utf8_lossy(&text);
        Some(format!("[{:5}.{:06}] {text}", time / 1_000_000, time % 1_000_000))
    }

    /// The text of a record.
    fn text(&self, id: u64, descriptor: u64, info: u64) -> Option<Vec<u8>> {
        let begin = number(self.memory, descriptor.wrapping_add(8))?;
        let next = number(self.memory, descriptor.wrapping_add(16))?;
        let size = 1_u64 << self.size_bits;
        // `get_data()`: in one piece, or, where it would not fit before the end, at the beginning. Odd positions are of
        // records without data.
        let (block, len) = if begin >> self.size_bits == next >> self.size_bits {
            (begin & (size - 1), next.checked_sub(begin)?)
        } else if begin.wrapping_add(size) >> self.size_bits == next >> self.size_bits {
            (0, next & (size - 1))
        } else {
            return None;
        };
        let room = len.checked_sub(8)?;
        let block = self.data.wrapping_add(block);
        if begin % 8 != 0 || next % 8 != 0 || number(self.memory, block)? != id {
            return None;
        }
        let text_len = number(self.memory, info.wrapping_add(16))? & 0xffff;
        let mut text = vec![0; usize::try_from(text_len.min(room)).ok()?.min(MAX_TEXT)];
        read(self.memory, block.wrapping_add(8), &mut text)?;
        Some(text)
    }
}

fn number(memory: &dyn KernelMemory, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    read(memory, address, &mut bytes)?;
    Some(u64::from_le_bytes(bytes))
}

fn read(memory: &dyn KernelMemory, address: u64, buffer: &mut [u8]) -> Option<()> {
    (address.checked_add(buffer.len() as u64).is_some() && memory.read(address, buffer)).then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where everything is, and how large it is.
    const PRB: u64 = 0xffff_ffff_8200_0000;
    const RING: u64 = PRB + 8;
    const DESCRIPTORS: u64 = PRB + 0x100;
    const INFOS: u64 = PRB + 0x400;
    const DATA: u64 = PRB + 0x1000;
    const COUNT: u64 = 8;
    const SIZE: u64 = 256;

    struct Memory(Vec<u8>);

    impl KernelMemory for Memory {
        fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
            let from = address.wrapping_sub(PRB) as usize;
            let bytes = self.0.get(from..from.saturating_add(buffer.len()));
            bytes.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
        }
    }

    impl Memory {
        fn put(&mut self, address: u64, number: u64) {
            let at = (address - PRB) as usize;
            self.0[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }

        /// A log of these texts, one after the other in the buffer, as the kernel of a layout keeps it.
        fn log(texts: &[&str], ring_size: u64, info_size: u64) -> Self {
            let mut memory = Self(vec![0; 0x2000]);
            let id = |record: u64| (record + (1 << 32) - COUNT) & ID_MASK;
            memory.put(PRB, RING);
            for (at, number) in [(0, 3), (8, DESCRIPTORS), (16, INFOS)] {
                memory.put(RING + at, number);
            }
            memory.put(RING + 24, id(texts.len() as u64 - 1));
            memory.put(RING + 32, id((texts.len() as u64).saturating_sub(COUNT)));
            memory.put(RING + ring_size, 8);
            memory.put(RING + ring_size + 8, DATA);
            let mut begin = 0_u64.wrapping_sub(SIZE);
            for (record, text) in texts.iter().enumerate() {
                let (record, len) = (record as u64, text.len() as u64);
                let whole = 8 + len.next_multiple_of(8);
                let wraps = (begin.wrapping_add(whole) ^ begin) >> 8 != 0;
                let block = if wraps { 0 } else { begin % SIZE };
                let start = if wraps { (begin & !(SIZE - 1)).wrapping_add(SIZE) } else { begin };
                let next = start.wrapping_add(whole);
                let descriptor = DESCRIPTORS + record % COUNT * DESCRIPTOR;
                memory.put(descriptor, FINALIZED << STATE_SHIFT | id(record));
                memory.put(descriptor + 8, begin);
                memory.put(descriptor + 16, next);
                let info = INFOS + record % COUNT * info_size;
                memory.put(info, record);
                memory.put(info + 8, 1_500_000 * record);
                memory.put(info + 16, len);
                memory.put(DATA + block, id(record));
                let at = (DATA + block + 8 - PRB) as usize;
                memory.0[at..at + text.len()].copy_from_slice(text.as_bytes());
                begin = next;
            }
            memory
        }

        fn lines(&self) -> Option<Vec<String>> {
            let map = format!("{PRB:x} D prb\n{RING:x} d printk_rb_static\n{DATA:x} b __log_buf\n");
            last_lines(&SymbolTable::from_map(&map), self)
        }
    }

    #[test]
    fn the_lines_of_every_layout() {
        for (ring, info) in [(40, 88), (48, 88), (48, 112)] {
            let memory = Memory::log(&["Linux version 6", "Command line: x", "eisa"], ring, info);
            let lines =
                ["[    0.000000] Linux version 6", "[    0.001500] Command line: x", "[    0.003000] eisa"];
            assert_eq!(memory.lines().unwrap(), lines, "{ring} {info}");
        }
    }

    #[test]
    fn a_log_that_has_wrapped_shows_what_is_left() {
        let texts: Vec<String> = (0..30).map(|n| format!("line {n}, of a few bytes")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let lines = Memory::log(&texts, 48, 88).lines().unwrap();
        assert!(lines.last().unwrap().ends_with("line 29, of a few bytes"), "{lines:?}");
        assert!(lines.len() > 3 && lines.len() <= COUNT as usize, "{lines:?}");
    }

    #[test]
    fn a_record_without_a_line_feed_is_not_printed_yet() {
        let open = |memory: &Memory| {
            let map = format!("{PRB:x} D prb\n{RING:x} d printk_rb_static\n{DATA:x} b __log_buf\n");
            open_lines(&SymbolTable::from_map(&map), memory)
        };
        for (ring, info) in [(40, 88), (48, 88), (48, 112)] {
            let mut memory = Memory::log(&["one", "two", "three\nlines\nlong"], ring, info);
            assert_eq!(open(&memory), Some(0));
            let id = (2 + (1 << 32) - COUNT) & ID_MASK;
            memory.put(DESCRIPTORS + 2 * DESCRIPTOR, COMMITTED << STATE_SHIFT | id);
            assert_eq!(open(&memory), Some(3));
            // Reserved: printk() has not come to its end.
            memory.put(DESCRIPTORS + 2 * DESCRIPTOR, id);
            assert_eq!(open(&memory), None);
            memory.put(PRB, DATA);
            assert_eq!(open(&memory), None, "moved to another buffer");
        }
    }

    #[test]
    fn what_is_not_as_expected_is_not_shown() {
        let good = || Memory::log(&["one", "two", "three"], 48, 88);
        assert!(good().lines().is_some());
        for (address, number) in [
            (PRB, DATA),        // moved to another buffer
            (RING, 60),         // more descriptors than any kernel has
            (RING + 56, INFOS), // another structure
            (INFOS + 88, 5),    // another layout of an info
            (RING + 8, 1),      // no kernel memory
        ] {
            let mut memory = good();
            memory.put(address, number);
            assert_eq!(memory.lines(), None, "{address:#x}");
        }
        assert_eq!(Memory::log(&["one"], 48, 88).lines(), None, "one record shows no layout");
        // A length beyond the record's block reaches no other record.
        let mut memory = good();
        memory.put(INFOS + 16, 0xffff);
        assert_eq!(memory.lines().unwrap()[0], "[    0.000000] one\0\0\0\0\0");
    }

    proptest! {
        #[test]
        fn any_memory_is_read_to_its_end(
            changes in proptest::collection::vec((0u64..0x250, any::<u64>()), 0..12),
            small in proptest::collection::vec((0u64..0x250, 0u64..512), 0..12),
        ) {
            let mut memory = Memory::log(&["one", "two", "three", "four"], 48, 88);
            for (word, number) in changes.into_iter().chain(small) {
                memory.put(PRB + 8 * word, number);
            }
            if let Some(lines) = memory.lines() {
                prop_assert!(lines.len() as u64 <= MAX_RECORDS);
                prop_assert!(lines.iter().all(|line| line.len() <= 3 * MAX_TEXT + 40));
            }
        }
    }
}
