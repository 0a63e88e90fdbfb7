// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several folders as one.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const RELEASEDIR: u32 = 29;

fn put(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn node_of(machine: &mut Machine, path: &str) -> Result<u64, i32> {
    path.split('/').filter(|name| !name.is_empty()).try_fold(ROOT, |node, name| lookup(machine, node, name))
}

fn content(machine: &mut Machine, path: &str) -> Result<String, i32> {
    let node = node_of(machine, path)?;
    let handle = open(machine, node, libc::O_RDONLY)?;
    let bytes = read(machine, node, handle, 0, 4096)?;
    Ok(String::from_utf8(bytes).unwrap())
}

/// The names of a folder, read `size` bytes at a time.
fn names(machine: &mut Machine, node: u64, opcode: u32, size: u32) -> Vec<String> {
    let handle = long(&call(machine, OPENDIR, node, &words(&[0, 0]), 64).unwrap(), 0);
    let mut names = Vec::new();
    let mut offset = 0;
    loop {
        let body = [longs(&[handle, offset]), words(&[size, 0]), longs(&[0, 0])].concat();
        let reply = call(machine, opcode, node, &body, size + 16).unwrap();
        if reply.is_empty() {
            break;
        }
        // struct fuse_direntplus has a struct fuse_entry_out before its struct fuse_dirent.
        let before = if opcode == READDIRPLUS { 128 } else { 0 };
        let mut at = 0;
        while at < reply.len() {
            let entry = &reply[at + before..];
            let len = long(entry, 16) as u32 as usize;
            offset = long(entry, 8);
            names.push(String::from_utf8(entry[24..24 + len].to_vec()).unwrap());
            at += before + (24 + len).next_multiple_of(8);
        }
    }
    let body = [longs(&[handle]), words(&[0, 0]), longs(&[0])].concat();
    call(machine, RELEASEDIR, node, &body, 64).unwrap();
    names.sort();
    names
}

#[test]
fn an_upper_folder_hides_files_and_adds_to_folders() {
    let [low, middle, high] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    put(low.path(), "usr/bin/ls", "low");
    put(low.path(), "usr/bin/cat", "low");
    put(low.path(), "etc/only", "low");
    put(low.path(), "file", "low");
    put(middle.path(), "usr/bin/ls", "middle");
    put(middle.path(), "usr/sbin/tool", "middle");
    put(middle.path(), "file/within", "middle");
    put(high.path(), "usr/bin/tool", "high");
    put(high.path(), "etc", "high");
    let mut machine = share_below(low.path(), &[middle.path(), high.path()], false);
    for (path, found) in [
        ("usr/bin/ls", Ok("middle")),
        ("usr/bin/cat", Ok("low")),
        ("usr/bin/tool", Ok("high")),
        ("usr/sbin/tool", Ok("middle")),
        ("file/within", Ok("middle")),
        ("etc", Ok("high")),
        ("etc/only", Err(libc::ENOTDIR)),
        ("usr/bin/none", Err(libc::ENOENT)),
    ] {
        assert_eq!(content(&mut machine, path).as_deref(), found.as_ref().map(|text| *text), "{path}");
    }
    for opcode in [READDIR, READDIRPLUS] {
        for size in [256, 4096] {
            assert_eq!(names(&mut machine, ROOT, opcode, size), ["etc", "file", "usr"]);
            let bin = node_of(&mut machine, "usr/bin").unwrap();
            assert_eq!(names(&mut machine, bin, opcode, size), ["cat", "ls", "tool"]);
            let sbin = node_of(&mut machine, "usr/sbin").unwrap();
            assert_eq!(names(&mut machine, sbin, opcode, size), ["tool"]);
        }
    }
    let file = node_of(&mut machine, "usr/bin/cat").unwrap();
    assert_eq!(open(&mut machine, file, libc::O_RDWR), Err(libc::EROFS));
    let mkdir = [words(&[0o755, 0]), b"new\0".to_vec()].concat();
    assert_eq!(call(&mut machine, MKDIR, ROOT, &mkdir, 256), Err(libc::EROFS));
}

#[test]
fn a_folder_of_several_is_forgotten_and_found_again() {
    let [low, high] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    put(low.path(), "usr/low", "");
    put(high.path(), "usr/high", "");
    let mut machine = share_below(low.path(), &[high.path()], false);
    let usr = lookup(&mut machine, ROOT, "usr").unwrap();
    assert_eq!(lookup(&mut machine, ROOT, "usr"), Ok(usr));
    assert_eq!(call(&mut machine, FORGET, usr, &longs(&[1]), 64), Err(0));
    lookup(&mut machine, usr, "low").expect("it was looked up twice");
    assert_eq!(call(&mut machine, FORGET, usr, &longs(&[u64::MAX]), 64), Err(0));
    assert_eq!(lookup(&mut machine, usr, "low"), Err(libc::EBADF));
    assert_eq!(call(&mut machine, FORGET, ROOT, &longs(&[u64::MAX]), 64), Err(0));
    assert_eq!(names(&mut machine, ROOT, READDIR, 4096), ["usr"]);
    for path in ["usr/low", "usr/high"] {
        assert_eq!(content(&mut machine, path).as_deref(), Ok(""), "{path}");
    }
}

/// Paths of files, with a number that tells their layers apart.
type Tree = BTreeMap<String, String>;

fn tree() -> impl Strategy<Value = BTreeSet<String>> {
    let name = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let path = prop::collection::vec(name(), 1..4).prop_map(|names| names.join("/"));
    prop::collection::btree_set(path, 0..6)
}

/// Writes files, but for those whose path is a folder or leads through a file; gives what is there.
fn write(root: &Path, paths: &BTreeSet<String>, layer: usize) -> Tree {
    let mut there = Tree::new();
    for path in paths {
        let leads_through = there.keys().any(|file| path.starts_with(&format!("{file}/")));
        if !leads_through {
            put(root, path, &format!("{layer} {path}"));
            there.insert(path.clone(), format!("{layer} {path}"));
        }
    }
    there
}

/// What is to be seen: the upper tree, and of the lower one what no file of the upper is in the way of, nor a folder.
fn over(lower: &Tree, upper: &Tree) -> Tree {
    let mut seen = upper.clone();
    for (path, content) in lower {
        let hidden = upper.keys().any(|file| {
            file == path || path.starts_with(&format!("{file}/")) || file.starts_with(&format!("{path}/"))
        });
        if !hidden {
            seen.insert(path.clone(), content.clone());
        }
    }
    seen
}

fn walk(machine: &mut Machine, node: u64, at: &str, seen: &mut Tree) {
    for name in names(machine, node, READDIRPLUS, 4096) {
        let path = if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
        let child = lookup(machine, node, &name).unwrap();
        match call(machine, OPENDIR, child, &words(&[0, 0]), 64) {
            Ok(_) => walk(machine, child, &path, seen),
            Err(_) => _ = seen.insert(path.clone(), content(machine, &path).unwrap()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_trees_are_seen_one_over_the_other(trees in prop::collection::vec(tree(), 2..4)) {
        let folders: Vec<_> = trees.iter().map(|_| tempfile::tempdir().unwrap()).collect();
        let mut expected = Tree::new();
        for (layer, (paths, folder)) in trees.iter().zip(&folders).enumerate() {
            expected = over(&expected, &write(folder.path(), paths, layer));
        }
        let above: Vec<&Path> = folders[1..].iter().map(tempfile::TempDir::path).collect();
        let mut machine = share_below(folders[0].path(), &above, false);
        let mut seen = Tree::new();
        walk(&mut machine, ROOT, "", &mut seen);
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn no_request_to_several_folders_breaks_anything(requests in prop::collection::vec(
        (0..56u32, prop_oneof![0..4u64, (0..4u64, 0..4u64).prop_map(|(layer, node)| layer << 56 | node), any::<u64>()],
            prop::collection::vec(prop_oneof![0..9u32, any::<u32>()], 0..24), 0..2048u32), 1..40,
    )) {
        let [low, high] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        put(low.path(), "usr/low", "low");
        put(high.path(), "usr/high", "high");
        let mut machine = share_below(low.path(), &[high.path()], false);
        lookup(&mut machine, ROOT, "usr").unwrap();
        for (opcode, node, body, room) in requests {
            machine.request(1, &[&message(opcode, node, &words(&body))], room);
        }
        machine.start(16);
        init(&mut machine);
        prop_assert_eq!(content(&mut machine, "usr/low"), Ok("low".to_owned()));
        prop_assert_eq!(content(&mut machine, "usr/high"), Ok("high".to_owned()));
    }
}
