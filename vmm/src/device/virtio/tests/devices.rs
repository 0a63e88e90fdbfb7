// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Requests to the entropy source, the disk and the console.

use std::path::Path;

use super::super::{ConsolePort, PortPeer};
use super::*;

const SECTORS: u64 = 16;
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

fn disk_file(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("disk");
    let sectors: Vec<u8> = (0..SECTORS as u8).flat_map(|sector| [sector; 512]).collect();
    std::fs::write(&file, sectors).unwrap();
    file
}

fn disk(folder: &Path, writable: bool) -> Machine {
    let mut machine = Machine::new(&VirtioKind::Block { file: disk_file(folder), writable });
    machine.start(64);
    machine
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

/// Data that the device wrote, and its status.
fn blk(machine: &mut Machine, kind: u32, sector: u64, data: &[u8], room: u32) -> (Vec<u8>, u8) {
    let header = header(kind, sector);
    let readable: Vec<&[u8]> = if data.is_empty() { vec![&header] } else { vec![&header, data] };
    let mut written = machine.request(0, &readable, room + 1).expect("the request is used");
    let at = BUFFERS + PAGE_SIZE * readable.len() as u64;
    let status = machine.get(at + u64::from(room), 1)[0];
    assert!(written.pop().is_some(), "the status counts");
    (written, status)
}

#[test]
fn an_entropy_source_fills_the_buffers_and_repeats_itself_with_its_seed() {
    let mut draws = Vec::new();
    for _ in 0..2 {
        let mut machine = Machine::new(&VirtioKind::Random);
        machine.start(8);
        let first = machine.request(0, &[], 64).unwrap();
        let second = machine.request(0, &[], 64).unwrap();
        assert_ne!(first, second);
        draws.push([first, second]);
    }
    assert_eq!(draws[0], draws[1]);
}

#[test]
fn a_disk_is_read_written_flushed_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = disk(folder.path(), true);
    let config = machine.places[&4];
    assert_eq!(machine.load(config, 8), SECTORS);
    assert_eq!(blk(&mut machine, IN, 3, &[], 1024), ([[3; 512], [4; 512]].concat(), OK));
    assert_eq!(blk(&mut machine, OUT, 5, &[0xee; 512], 0), (vec![], OK));
    assert_eq!(blk(&mut machine, IN, 5, &[], 512), (vec![0xee; 512], OK));
    assert_eq!(blk(&mut machine, FLUSH, 0, &[], 0), (vec![], OK));
    assert_eq!(std::fs::read(folder.path().join("disk")).unwrap()[5 * 512], 0xee);
    let (id, status) = blk(&mut machine, GET_ID, 0, &[], 20);
    assert_eq!((&id[..6], status), (&b"copra\0"[..], OK));
    assert_eq!(blk(&mut machine, 99, 0, &[], 0), (vec![], UNSUPP));
}

#[test]
fn what_is_not_on_a_disk_and_a_write_to_a_read_only_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = disk(folder.path(), true);
    for sector in [SECTORS, SECTORS - 1, u64::MAX, u64::MAX / 512, 1 << 60] {
        assert_eq!(blk(&mut machine, IN, sector, &[], 1024), (vec![], IOERR), "{sector}");
        assert_eq!(blk(&mut machine, OUT, sector, &[1; 1024], 0), (vec![], IOERR), "{sector}");
    }
    assert_eq!(blk(&mut machine, IN, 0, &[], 100), (vec![], IOERR), "no whole sector");
    let before = std::fs::read(folder.path().join("disk")).unwrap();
    let mut machine = disk(folder.path(), false);
    assert_ne!(machine.offered() & 1 << 5, 0, "VIRTIO_BLK_F_RO");
    assert_eq!(blk(&mut machine, OUT, 0, &[1; 512], 0), (vec![], IOERR));
    assert_eq!(blk(&mut machine, IN, 0, &[], 512), (vec![0; 512], OK));
    assert_eq!(std::fs::read(folder.path().join("disk")).unwrap(), before);
}

#[test]
fn a_disk_request_without_header_or_status_leaves_the_device_in_need_of_a_reset() {
    let folder = tempfile::tempdir().unwrap();
    for (readable, room) in [(header(IN, 0), 0), (vec![0; 15], 513)] {
        let mut machine = disk(folder.path(), true);
        assert_eq!(machine.request(0, &[&readable], room), None);
        assert_eq!(machine.common(STATUS) & NEEDS_RESET, NEEDS_RESET);
        assert_eq!(machine.messages(), [0], "the configuration's vector");
    }
}

/// Takes what comes, and gives its input.
#[derive(Debug, Default)]
struct Peer {
    received: Mutex<Vec<u8>>,
    input: Mutex<Vec<u8>>,
}

impl PortPeer for Peer {
    fn receive(&self, bytes: &[u8]) {
        self.received.lock().unwrap().extend_from_slice(bytes);
    }
    fn has_input(&self) -> bool {
        !self.input.lock().unwrap().is_empty()
    }
    fn take(&self, room: usize) -> Vec<u8> {
        let mut input = self.input.lock().unwrap();
        let count = room.min(input.len());
        input.drain(..count).collect()
    }
    fn has_ended(&self) -> bool {
        false
    }
}

fn control(event: u16, value: u16) -> Vec<u8> {
    [&0u32.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes()].concat()
}

#[test]
fn a_console_port_is_found_by_its_name_and_passes_bytes_both_ways() {
    let peer = Arc::new(Peer::default());
    let port = ConsolePort { name: "org.test".to_owned(), peer: Arc::clone(&peer) as _ };
    let mut machine = Machine::new(&VirtioKind::Console(vec![port]));
    machine.start(8);
    assert_eq!(machine.common(NUM_QUEUES), 4);
    // Queue 2 has a buffer for each control message, queue 3 takes those of the driver: device ready, port ready, port open.
    let mut messages = Vec::new();
    machine.submit(2, &[], &[64]);
    for message in [control(0, 1), control(3, 1), control(6, 1)] {
        assert_eq!(machine.request(3, &[&message], 0), Some(vec![]));
        while let Some((head, len)) = machine.used(2) {
            let bytes = machine.get(buffers(2), len as usize);
            messages.push((u16::from_le_bytes([bytes[4], bytes[5]]), bytes[8..].to_vec()));
            machine.offer(2, head as u16);
        }
    }
    assert_eq!(messages, [(1, vec![]), (6, vec![]), (7, b"org.test\0".to_vec())]);
    assert_eq!(machine.request(1, &[b"from ", b"the guest"], 0), Some(vec![]));
    assert_eq!(*peer.received.lock().unwrap(), b"from the guest");
    peer.input.lock().unwrap().extend_from_slice(b"from the host");
    assert_eq!(machine.request(0, &[], 64), Some(b"from the host".to_vec()));
}
