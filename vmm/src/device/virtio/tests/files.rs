// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FUSE requests to a shared folder (Linux, `include/uapi/linux/fuse.h`).

use std::ffi::CString;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

mod layered;
mod transfer;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const READLINK: u32 = 5;
const MKDIR: u32 = 9;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE_FILE: u32 = 16;
const RELEASE: u32 = 18;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const CREATE: u32 = 35;
const BATCH_FORGET: u32 = 42;
const READDIRPLUS: u32 = 44;
/// The share's root.
const ROOT: u64 = 1;

type Reply = Result<Vec<u8>, i32>;

fn share(root: &Path, writable: bool) -> Machine {
    share_below(root, &[], writable)
}

fn share_below(root: &Path, above: &[&Path], writable: bool) -> Machine {
    let above = above.iter().map(|folder| (*folder).to_owned()).collect();
    let root = root.to_owned();
    let mut machine = Machine::new(&VirtioKind::Files { tag: "share".to_owned(), root, above, writable });
    machine.start(16);
    init(&mut machine);
    machine
}

/// As Linux 6.12 begins (`fs/fuse/inode.c:fuse_new_init`), with a shared folder's flags.
fn init(machine: &mut Machine) -> Vec<u8> {
    let mut body = words(&[7, 41, 128 << 10, 0x7bff_fffb, 0x1df]);
    body.resize(64, 0);
    call(machine, INIT, 0, &body, 64 + 16).unwrap()
}

/// A folder with a file, a folder, a link and a FIFO.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("file"), "what is in it").unwrap();
    std::fs::create_dir(at.join("inner")).unwrap();
    std::fs::write(at.join("inner/other"), "").unwrap();
    symlink("/etc/passwd", at.join("link")).unwrap();
    let fifo = CString::new(at.join("fifo").to_str().unwrap()).unwrap();
    // SAFETY: the name ends with zero.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    folder
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_le_bytes()).collect()
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn message(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let header = [words(&[40 + body.len() as u32, opcode]), longs(&[9, node]), words(&[0; 4])].concat();
    [&header, body].concat()
}

/// Sends a request. `Err`: the error of its reply, or 0 if it has none.
fn call(machine: &mut Machine, opcode: u32, node: u64, body: &[u8], room: u32) -> Reply {
    let reply = machine.request(1, &[&message(opcode, node, body)], room).expect("the request is used");
    if reply.is_empty() {
        return Err(0);
    }
    assert_eq!((long(&reply, 0) as u32 as usize, long(&reply, 8)), (reply.len(), 9));
    match (long(&reply, 0) >> 32) as i32 {
        0 => Ok(reply[16..].to_vec()),
        error => Err(-error),
    }
}

fn lookup(machine: &mut Machine, parent: u64, name: &str) -> Result<u64, i32> {
    let reply = call(machine, LOOKUP, parent, &[name.as_bytes(), &[0]].concat(), 256)?;
    Ok(long(&reply, 0))
}

fn open(machine: &mut Machine, node: u64, flags: i32) -> Result<u64, i32> {
    Ok(long(&call(machine, OPEN, node, &words(&[flags.cast_unsigned(), 0]), 64)?, 0))
}

fn read(machine: &mut Machine, node: u64, handle: u64, offset: u64, size: u32) -> Reply {
    let body = [longs(&[handle, offset]), words(&[size, 0]), longs(&[0, 0])].concat();
    call(machine, READ, node, &body, 8192)
}

#[test]
fn a_request_of_linux_has_up_to_a_mebibyte() {
    const BIG_WRITES: u64 = 1 << 5;
    const MAX_PAGES: u64 = 1 << 22;
    let (folder, above) = (folder(), tempfile::tempdir().unwrap());
    for mut machine in [share(folder.path(), true), share_below(folder.path(), &[above.path()], false)] {
        let reply = init(&mut machine);
        let (flags, max_write, max_pages) =
            (long(&reply, 12) as u32, long(&reply, 20) as u32, reply[28..30].to_vec());
        assert_eq!(u64::from(flags) & (BIG_WRITES | MAX_PAGES), BIG_WRITES | MAX_PAGES, "{flags:#x}");
        assert_eq!((max_write, max_pages), (1 << 20, 256u16.to_le_bytes().to_vec()));
        // `fs/fuse/virtio_fs.c:virtio_fs_get_tree`: without FUSE_HEADER_OVERHEAD, 4, a page has a descriptor.
        machine.accept(VERSION_1);
        machine.set_common(QUEUE_SELECT, 1);
        assert!(machine.common(QUEUE_SIZE) >= 256 + 4);
    }
}

#[test]
fn a_file_is_found_opened_and_read() {
    let folder = folder();
    let mut machine = share(folder.path(), false);
    let node = lookup(&mut machine, ROOT, "file").unwrap();
    let handle = open(&mut machine, node, libc::O_RDONLY).unwrap();
    assert_eq!(read(&mut machine, node, handle, 0, 4096).unwrap(), b"what is in it");
    assert_eq!(read(&mut machine, node, handle, 8, 2).unwrap(), b"in");
    assert_eq!(read(&mut machine, node, handle, u64::MAX, 2), Err(libc::EINVAL));
    let link = lookup(&mut machine, ROOT, "link").unwrap();
    assert_eq!(call(&mut machine, READLINK, link, &[], 256).unwrap(), b"/etc/passwd");
}

#[test]
fn a_read_only_share_is_not_changed() {
    let folder = folder();
    let mut machine = share(folder.path(), false);
    let node = lookup(&mut machine, ROOT, "file").unwrap();
    for flags in [libc::O_WRONLY, libc::O_RDWR, 3, libc::O_TRUNC, libc::O_APPEND] {
        assert_eq!(open(&mut machine, node, flags), Err(libc::EROFS), "{flags:#o}");
    }
    let handle = open(&mut machine, node, libc::O_RDONLY).unwrap();
    let write = [longs(&[handle, 0]), words(&[4, 0]), longs(&[0, 0]), b"text".to_vec()].concat();
    assert_eq!(call(&mut machine, WRITE_FILE, node, &write, 64), Err(libc::EROFS));
    let mkdir = [words(&[0o755, 0]), b"new\0".to_vec()].concat();
    assert_eq!(call(&mut machine, MKDIR, ROOT, &mkdir, 256), Err(libc::EROFS));
    let create = [words(&[libc::O_RDONLY as u32, 0o600, 0, 0]), b"new\0".to_vec()].concat();
    assert_eq!(call(&mut machine, CREATE, ROOT, &create, 256), Err(libc::EROFS));
    assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), "what is in it");
    assert!(!folder.path().join("new").exists());
}

#[test]
fn no_name_leaves_the_folder() {
    let folder = folder();
    for writable in [false, true] {
        let mut machine = share(folder.path(), writable);
        let inner = lookup(&mut machine, ROOT, "inner").unwrap();
        let link = lookup(&mut machine, ROOT, "link").unwrap();
        for parent in [ROOT, inner] {
            for name in ["..", ".", "../..", "inner/other", "/etc", "/"] {
                assert_eq!(lookup(&mut machine, parent, name), Err(libc::EINVAL), "{name}");
            }
        }
        assert_eq!(lookup(&mut machine, ROOT, ""), Err(libc::ENOENT));
        assert_eq!(lookup(&mut machine, link, "x"), Err(libc::ENOTDIR));
        // The host moves a folder that the guest knows out of the share.
        if writable {
            let other = tempfile::tempdir().unwrap();
            std::fs::rename(folder.path().join("inner"), other.path().join("inner")).unwrap();
            assert_eq!(lookup(&mut machine, inner, ".."), Err(libc::EINVAL));
            let mkdir = [words(&[0o755, 0]), b"../new\0".to_vec()].concat();
            assert_eq!(call(&mut machine, MKDIR, inner, &mkdir, 256), Err(libc::EINVAL));
        }
    }
}

#[test]
fn only_files_and_folders_are_opened() {
    let folder = folder();
    let start = Instant::now();
    let mut machine = share(folder.path(), true);
    for name in ["fifo", "link"] {
        let node = lookup(&mut machine, ROOT, name).unwrap();
        for flags in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR] {
            assert_eq!(open(&mut machine, node, flags), Err(libc::EBADF), "{name}");
        }
    }
    let create = [words(&[libc::O_WRONLY as u32, 0o600, 0, 0]), b"fifo\0".to_vec()].concat();
    assert_eq!(call(&mut machine, CREATE, ROOT, &create, 256), Err(libc::EBADF));
    assert!(start.elapsed() < Duration::from_secs(10), "none of them waits for the FIFO's other end");
}

#[test]
fn what_the_hosts_kernel_makes_is_not_shared() {
    let mut machine = share(Path::new("/"), false);
    let proc = lookup(&mut machine, ROOT, "proc").expect("a folder to mount on");
    for name in ["self", "version", "1"] {
        assert_eq!(lookup(&mut machine, proc, name), Err(libc::EACCES));
    }
    assert_eq!(call(&mut machine, OPENDIR, proc, &words(&[0, 0]), 64), Err(libc::EACCES));
    lookup(&mut machine, ROOT, "etc").unwrap();
}

#[test]
fn numbers_that_the_guest_made_up_are_refused() {
    let folder = folder();
    let mut machine = share(folder.path(), false);
    let node = lookup(&mut machine, ROOT, "file").unwrap();
    for number in [0, 2000, u64::MAX] {
        assert!(lookup(&mut machine, number, "file").is_err());
        assert_eq!(open(&mut machine, number, libc::O_RDONLY), Err(libc::EBADF));
        assert_eq!(read(&mut machine, node, number, 0, 10), Err(libc::EBADF));
        // Neither has a reply.
        assert_eq!(call(&mut machine, FORGET, number, &longs(&[u64::MAX]), 64), Err(0));
        let batch = [words(&[1, 0]), longs(&[number, u64::MAX])].concat();
        assert_eq!(call(&mut machine, BATCH_FORGET, 0, &batch, 64), Err(0));
    }
    assert_eq!(call(&mut machine, BATCH_FORGET, 0, &words(&[u32::MAX, 0]), 64), Err(0));
    assert_eq!(call(&mut machine, FORGET, ROOT, &longs(&[u64::MAX]), 64), Err(0));
    assert_eq!(call(&mut machine, FORGET, node, &longs(&[u64::MAX]), 64), Err(0));
    assert_eq!(open(&mut machine, node, libc::O_RDONLY), Err(libc::EBADF), "it is forgotten");
    lookup(&mut machine, ROOT, "file").expect("the root is not");
}

#[test]
fn a_size_beyond_the_buffer_gives_what_fits_or_an_error() {
    let folder = folder();
    let mut machine = share(folder.path(), false);
    let handle = long(&call(&mut machine, OPENDIR, ROOT, &words(&[0, 0]), 64).unwrap(), 0);
    for opcode in [READDIR, READDIRPLUS] {
        for size in [0, 1, 24, 4096, 1 << 20, u32::MAX / 2, u32::MAX] {
            let body = [longs(&[handle, 0]), words(&[size, 0]), longs(&[0, 0])].concat();
            let reply = call(&mut machine, opcode, ROOT, &body, 512);
            assert!(reply.is_err() || reply.is_ok_and(|entries| entries.len() <= 512 - 16));
        }
    }
    let node = lookup(&mut machine, ROOT, "file").unwrap();
    let handle = open(&mut machine, node, libc::O_RDONLY).unwrap();
    for size in [1 << 20, u32::MAX] {
        let reply = read(&mut machine, node, handle, 0, size);
        assert!(reply.is_err() || reply.is_ok_and(|bytes| bytes == b"what is in it"));
    }
}

#[test]
fn a_reset_closes_the_guests_files() {
    let folder = folder();
    let mut machine = share(folder.path(), false);
    let node = lookup(&mut machine, ROOT, "file").unwrap();
    let handle = open(&mut machine, node, libc::O_RDONLY).unwrap();
    machine.start(16);
    init(&mut machine);
    assert_eq!(read(&mut machine, node, handle, 0, 10), Err(libc::EBADF));
    let release = [longs(&[handle]), words(&[0, 0]), longs(&[0])].concat();
    assert!(call(&mut machine, RELEASE, node, &release, 64).is_err());
    lookup(&mut machine, ROOT, "file").unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_request_breaks_anything(requests in prop::collection::vec(
        (0..56u32, prop_oneof![0..8u64, any::<u64>()], prop::collection::vec(prop_oneof![0..9u32, any::<u32>()], 0..24), 0..2048u32), 1..60,
    )) {
        let folder = folder();
        let mut machine = share(folder.path(), false);
        for name in ["file", "inner", "fifo", "link"] {
            lookup(&mut machine, ROOT, name).unwrap();
        }
        let start = Instant::now();
        for (opcode, node, body, room) in requests {
            machine.request(1, &[&message(opcode, node, &words(&body))], room);
        }
        prop_assert!(start.elapsed() < Duration::from_secs(10));
        prop_assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), "what is in it");
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
    }
}
