// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads and writes of files, whose bytes the host's kernel moves.

use types::{AccessKind, AccessTarget, PageState};

use super::*;
use crate::memory::dma::ForbiddenDma;

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// A file in a shared folder that can be changed, opened with these flags.
fn opened(machine: &mut Machine, flags: i32) -> (u64, u64) {
    init(machine);
    let node = lookup(machine, ROOT, "file").unwrap();
    (node, open(machine, node, flags).unwrap())
}

fn started(folder: &Path, make: fn(&VirtioKind) -> Machine) -> Machine {
    let root = folder.to_owned();
    let mut machine =
        make(&VirtioKind::Files { tag: "share".to_owned(), root, above: Vec::new(), writable: true });
    machine.start(16);
    machine
}

fn arguments((node, handle): (u64, u64), opcode: u32, offset: u64, size: u32, flags: i32) -> Vec<u8> {
    let body = [longs(&[handle, offset]), words(&[size, 0]), longs(&[0]), words(&[flags.cast_unsigned(), 0])]
        .concat();
    message(opcode, node, &body)
}

/// What the device wrote to buffers of these sizes, which follow `before` others of at most a page.
fn written(machine: &mut Machine, before: u64, buffers_of: &[u32]) -> Vec<u8> {
    let mut at = buffers(1) + before * PAGE_SIZE;
    let (_, len) = machine.used(1).expect("the request is used");
    let mut bytes = Vec::new();
    for len in buffers_of {
        bytes.extend(machine.get(at, *len as usize));
        at += u64::from(*len).next_multiple_of(PAGE_SIZE);
    }
    bytes.truncate(len as usize);
    bytes
}

#[test]
fn data_in_several_buffers_of_several_pages_are_read_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, content(9000)).unwrap();
    let mut machine = started(folder.path(), Machine::new);
    let file = opened(&mut machine, libc::O_RDWR);
    let room = [16, 100, 5000, 5000];
    let read = arguments(file, READ, 7, 10_000, libc::O_RDWR);
    assert!(machine.submit(1, &[&read], &room).accesses.is_empty());
    let reply = written(&mut machine, 1, &room);
    assert_eq!(reply.len(), 16 + 9000 - 7);
    assert_eq!((long(&reply, 0), long(&reply, 8)), (reply.len() as u64, 9), "no error");
    assert_eq!(reply[16..], content(9000)[7..]);
    let new: Vec<u8> = content(8000).iter().map(|byte| byte ^ 0x5a).collect();
    let write = arguments(file, WRITE_FILE, 2000, 8000, libc::O_RDWR);
    let parts = [&write[..40], &write[40..], &new[..4000], &new[4000..]];
    assert!(machine.submit(1, &parts, &[24]).accesses.is_empty());
    let reply = written(&mut machine, 4, &[24]);
    assert_eq!((long(&reply, 0), long(&reply, 8), long(&reply, 16)), (24, 9, 8000));
    assert_eq!(std::fs::read(&path).unwrap(), [&content(9000)[..2000], &new].concat());
}

#[test]
fn a_mebibyte_in_a_buffer_for_each_page_is_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "").unwrap();
    let mut machine = started(folder.path(), Machine::new);
    let offered = machine.offered();
    assert!(machine.accept(offered));
    machine.set_queue(1, 512);
    machine.set_common(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    let file = opened(&mut machine, libc::O_RDWR);
    let data = content(1 << 20);
    let write = arguments(file, WRITE_FILE, 0, 1 << 20, libc::O_RDWR);
    let parts: Vec<&[u8]> =
        [&write[..40], &write[40..]].into_iter().chain(data.chunks(PAGE_SIZE as usize)).collect();
    assert!(machine.submit(1, &parts, &[24]).accesses.is_empty());
    let reply = written(&mut machine, 2 + 256, &[24]);
    assert_eq!((long(&reply, 0), long(&reply, 8), long(&reply, 16)), (24, 9, 1 << 20));
    assert!(std::fs::read(&path).unwrap() == data);
    let read = arguments(file, READ, 0, 1 << 20, libc::O_RDWR);
    let room = [&[16][..], &[4096; 256]].concat();
    assert!(machine.submit(1, &[&read], &room).accesses.is_empty());
    let reply = written(&mut machine, 1, &room);
    assert_eq!((long(&reply, 0), long(&reply, 8)), (16 + (1 << 20), 9));
    assert!(reply[16..] == data);
}

#[test]
fn buffers_in_private_memory_are_recorded_as_far_as_they_are_accessed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, content(13)).unwrap();
    let mut machine = started(folder.path(), Machine::snp);
    // Of each chain's buffers, a page each, the third is private.
    let place = buffers(1);
    for page in [0, 1, 3] {
        machine.memory.apply(place + page * PAGE_SIZE, 1, Cause::MakeShared).unwrap();
    }
    let file = opened(&mut machine, libc::O_RDWR);
    let private = |kind, len| ForbiddenDma {
        gpa: place + 2 * PAGE_SIZE,
        len,
        view: View::Shared,
        kind,
        state: AccessTarget::Page(PageState::Private),
        chain: Some(0),
    };
    machine.memory.write(place + 2 * PAGE_SIZE, b"secret").unwrap();
    let read = arguments(file, READ, 0, 8192, libc::O_RDWR);
    let forbidden = machine.submit(1, &[&read], &[16, 4096, 4096]);
    assert_eq!(forbidden.accesses, [private(AccessKind::Write, 13)]);
    assert_eq!(machine.used(1), Some((0, 16 + 13)));
    let mut kept = [0; 6];
    machine.memory.read(View::Private, place + 2 * PAGE_SIZE, &mut kept).unwrap();
    assert_eq!(&kept, b"secret");
    let read = arguments(file, READ, 13, 8192, libc::O_RDWR);
    assert_eq!(machine.submit(1, &[&read], &[16, 4096, 4096]).accesses, [], "at its end none is filled");
    assert_eq!(machine.used(1), Some((0, 16)));
    let write = arguments(file, WRITE_FILE, 0, 12, libc::O_RDWR);
    let forbidden = machine.submit(1, &[&write, b"shared", b"secret"], &[24]);
    assert_eq!(forbidden.accesses, [private(AccessKind::Read, 6)]);
    assert_eq!(std::fs::read(&path).unwrap(), b"shared\0\0\0\0\0\0\x0c");
}

#[test]
fn a_file_opened_past_the_guests_page_cache_has_no_alignment() {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, content(9000)).unwrap();
    let mut machine = started(folder.path(), Machine::new);
    let flags = libc::O_RDWR | libc::O_DIRECT;
    let file = opened(&mut machine, flags);
    let read = arguments(file, READ, 8999, 4096, flags);
    assert!(machine.submit(1, &[&read], &[16, 4096]).accesses.is_empty());
    assert_eq!(written(&mut machine, 1, &[16, 4096])[16..], content(9000)[8999..]);
    let write = arguments(file, WRITE_FILE, 1, 3, flags);
    assert!(machine.submit(1, &[&write, b"new"], &[24]).accesses.is_empty());
    assert_eq!(long(&written(&mut machine, 2, &[24]), 16), 3);
    assert_eq!(std::fs::read(&path).unwrap()[..5], [0, b'n', b'e', b'w', 4]);
}
