// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A confined process tries what it may not do. It is a child of the test, as confinement is for good; on the KVM host, whose
//! kernel has Landlock.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

use types::Platform::{Sev, Tdx};
use types::View::Shared;
use vmm::confinement::{self, Confined, Files};
use vmm::guest_code;

use self::common::*;

/// The child's variable: the folder it plays in.
const FOLDER: &str = "CONFINED_FOLDER";

/// Runs [`the_confined_process`] and gives what it printed: attempts and their results.
fn attempts() -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    for name in ["readable", "writable", "other"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("file"), name).unwrap();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "the_confined_process", "--ignored", "--nocapture"]).env(FOLDER, folder.path());
    let output = child.output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{text}");
    let found = text.lines().filter_map(|line| line.split_once("tried ")?.1.split_once(" = "));
    found.map(|(what, result)| (what.to_owned(), result.to_owned())).collect()
}

fn errno<T>(result: io::Result<T>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(libc::EPERM) => "EPERM".to_owned(),
            Some(libc::EACCES) => "EACCES".to_owned(),
            _ => error.to_string(),
        },
    }
}

fn tried<T>(what: &str, result: io::Result<T>) {
    println!("tried {what} = {}", errno(result));
}

fn system_call(number: i64) -> io::Result<()> {
    // SAFETY: both calls that are tried take any arguments, and fail with these.
    let result = unsafe { libc::syscall(number, 0, 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

guest_code!(
    store_and_load,
    "mov esi, 0x40000000",
    "mov al, [rsi]",
    "mov al, 0x4b",
    "mov dx, 0x501",
    "out dx, al"
);

#[test]
#[ignore = "only as the child of the other tests: it confines itself"]
fn the_confined_process() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    // A thread of before is not confined to files, but it is to system calls.
    let (go, waits) = mpsc::channel::<()>();
    let earlier = std::thread::spawn(move || {
        waits.recv().unwrap();
        (errno(Command::new("/bin/true").status()), errno(UdpSocket::bind("127.0.0.1:0")))
    });
    let in_folder = |name: &str| folder.join(name);
    let devices = ["/dev/kvm", "/dev/userfaultfd"].map(PathBuf::from);
    let confined = confinement::enter(&Files {
        readable: vec![in_folder("readable")],
        writable: [vec![in_folder("writable")], devices.to_vec()].concat(),
    });
    assert_eq!(confined.unwrap(), Confined::Whole);

    tried("execve", Command::new("/bin/true").status());
    tried("socket udp", UdpSocket::bind("127.0.0.1:0"));
    tried("socket tcp", TcpStream::connect("127.0.0.1:9"));
    tried("socket listen", TcpListener::bind("127.0.0.1:0"));
    tried("socket unix", UnixListener::bind(in_folder("writable/socket")));
    tried("io_uring", system_call(libc::SYS_io_uring_setup));
    tried("execve x32", system_call(0x4000_0208));
    tried("socket x32", system_call(0x4000_0000 | libc::SYS_socket));
    let file = |name: &str| in_folder(name).join("file");
    tried("read readable", fs::read(file("readable")));
    tried("write readable", fs::write(file("readable"), "x"));
    tried("remove readable", fs::remove_file(file("readable")));
    tried("read writable", fs::read(file("writable")));
    tried("write writable", fs::write(file("writable"), "x"));
    tried("create writable", File::create(in_folder("writable/new")));
    tried("rename writable", fs::rename(in_folder("writable/new"), in_folder("writable/newer")));
    tried("read other", fs::read(file("other")));
    tried("write other", fs::write(file("other"), "x"));
    tried("create other", File::create(in_folder("other/new")));
    tried("read /etc", fs::read(Path::new("/etc/passwd")));
    go.send(()).unwrap();
    let (execve, socket) = earlier.join().unwrap();
    println!("tried execve earlier thread = {execve}");
    println!("tried socket earlier thread = {socket}");

    // Guests in one process, with their threads, userfaultfd and KVM.
    for platform in [Sev, Tdx] {
        let mut machine = guest(platform, store_and_load(), &[(Shared, PLAYGROUND)]);
        assert_eq!(run(&mut machine), PASS);
        println!("tried guest {platform} = {} event", recorded(&machine).len());
    }
}

#[test]
fn a_confined_process_starts_no_program_and_has_no_network() {
    let attempts = attempts();
    let refused = attempts
        .iter()
        .filter(|(what, _)| ["execve", "socket", "io_uring"].iter().any(|call| what.starts_with(call)));
    let refused: Vec<_> = refused.collect();
    assert_eq!(refused.len(), 10, "{attempts:#?}");
    assert!(refused.iter().all(|(_, result)| *result == "EPERM"), "{attempts:#?}");
}

#[test]
fn a_confined_process_has_the_folders_named_and_runs_guests() {
    let attempts = attempts();
    let expected = [
        ("read readable", "ok"),
        ("write readable", "EACCES"),
        ("remove readable", "EACCES"),
        ("read writable", "ok"),
        ("write writable", "ok"),
        ("create writable", "ok"),
        ("rename writable", "ok"),
        ("read other", "EACCES"),
        ("write other", "EACCES"),
        ("create other", "EACCES"),
        ("read /etc", "EACCES"),
        ("guest sev", "1 event"),
        ("guest tdx", "1 event"),
    ];
    for (what, result) in expected {
        assert_eq!(attempts.get(what).map(String::as_str), Some(result), "{what}: {attempts:#?}");
    }
}
