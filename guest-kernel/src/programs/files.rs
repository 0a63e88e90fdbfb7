// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which files of the unpacked packages a guest needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::PROGRAMS;
use crate::cache;

/// Where a guest's dynamic linker looks by default.
const LIBRARIES: &str = "/lib/x86_64-linux-gnu";
/// The dynamic linker, by the path that programs name.
const LINKER: &str = "ld-linux-x86-64.so.2";
const LINKER_FOLDER: &str = "/lib64";

/// Paths in the guest and files here, and programs that are not there with the reason.
pub(super) type Chosen = (Vec<(String, PathBuf)>, BTreeMap<String, String>);

/// The programs in an unpacked tree with every library whose name occurs in one of them: a linker finds by name, and a
/// name more than needed costs some memory and nothing else.
pub(super) fn choose(root: &Path) -> Result<Chosen, cache::Error> {
    let mut all = Vec::new();
    let root = fs::canonicalize(root).map_err(|e| cache::Error::io("find", root, e))?;
    walk(&root, &root, &mut all);
    all.sort();
    let mut chosen: Vec<(String, PathBuf)> = Vec::new();
    let mut missing = BTreeMap::new();
    for program in &PROGRAMS {
        // Since usr and its like were merged, a program may be in a folder of either name.
        let name = program.path.rsplit('/').next().unwrap_or(program.path);
        let is_program = |file: &&PathBuf| {
            let folder = file.parent().and_then(Path::file_name);
            file.file_name().is_some_and(|other| other == name)
                && folder.is_some_and(|folder| folder == "bin" || folder == "sbin")
        };
        if let Some(file) = all.iter().find(is_program) {
            chosen.push((program.path.to_owned(), file.clone()));
        } else {
            let why = format!("Debian's package {} does not have {name}", program.package);
            missing.insert(program.path.to_owned(), why);
        }
    }
    let libraries: Vec<(&str, &PathBuf)> = all
        .iter()
        .filter_map(|file| Some((file.file_name()?.to_str()?, file)))
        .filter(|(name, _)| name.contains(".so"))
        .collect();
    let mut next = 0;
    while let Some((_, file)) = chosen.get(next) {
        next += 1;
        let content = fs::read(file).map_err(|e| cache::Error::io("read", file, e))?;
        for (name, file) in &libraries {
            let folder = if *name == LINKER { LINKER_FOLDER } else { LIBRARIES };
            let path = format!("{folder}/{name}");
            let text = [name.as_bytes(), b"\0"].concat();
            if chosen.iter().all(|(known, _)| *known != path)
                && content.windows(text.len()).any(|window| window == text)
            {
                chosen.push((path, (*file).clone()));
            }
        }
    }
    Ok((chosen, missing))
}

fn walk(dir: &Path, root: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        // A link within the tree is followed; one that leads out of it would find this machine's own file.
        let is_inside = || fs::canonicalize(&path).is_ok_and(|target| target.starts_with(root));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&path, root, files),
            Ok(_) if path.is_file() && is_inside() => files.push(path),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_come_with_the_libraries_they_name() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, content: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        put("bin/busybox", b"static");
        put("usr/sbin/dmidecode", b"..\0libc.so.6\0/lib64/ld-linux-x86-64.so.2\0");
        put("usr/sbin/hwinfo", b"..\0libhd.so.21\0");
        put("usr/sbin/biosdecode", b"..\0libc.so.6\0");
        put("usr/lib/x86_64-linux-gnu/libhd.so.21", b"\0libc.so.6\0");
        put("lib/x86_64-linux-gnu/libc.so.6", b"\0ld-linux-x86-64.so.2\0");
        put("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", b"");
        put("lib/x86_64-linux-gnu/libm.so.6", b"\0libc.so.6\0");
        std::os::unix::fs::symlink("/bin/sh", root.path().join("bin/hwinfo")).unwrap();
        let (mut chosen, missing) = choose(root.path()).unwrap();
        chosen.sort();
        let paths: Vec<&str> = chosen.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/bin/busybox",
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib/x86_64-linux-gnu/libhd.so.21",
                "/lib64/ld-linux-x86-64.so.2",
                "/usr/sbin/biosdecode",
                "/usr/sbin/dmidecode",
                "/usr/sbin/hwinfo"
            ]
        );
        assert!(missing.is_empty());
        fs::remove_file(root.path().join("bin/busybox")).unwrap();
        let (chosen, missing) = choose(root.path()).unwrap();
        assert_eq!(chosen.len(), paths.len() - 1);
        assert!(missing["/bin/busybox"].contains("busybox-static"));
    }
}
