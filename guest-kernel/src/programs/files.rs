// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which files of the unpacked packages a guest needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::ProgramPackage;
use crate::cache;

/// Where a guest's dynamic linker looks by default.
const LIBRARIES: &str = "/lib/x86_64-linux-gnu";
/// The dynamic linker, by the path that programs name.
const LINKER: &str = "ld-linux-x86-64.so.2";
const LINKER_FOLDER: &str = "/lib64";

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Paths in the guest and files here.
    pub(super) files: Vec<(String, PathBuf)>,
    /// What each program needs, by paths in the guest.
    pub(super) needs: BTreeMap<String, Vec<String>>,
    /// Programs that are not there, with the reason.
    pub(super) missing: BTreeMap<String, String>,
}

/// The programs in an unpacked tree with every library whose name occurs in one of them: a linker finds by name, and a
/// name more than needed costs some memory and nothing else.
pub(super) fn choose(root: &Path, programs: &[&ProgramPackage]) -> Result<Chosen, cache::Error> {
    let mut all = Vec::new();
    let root = fs::canonicalize(root).map_err(|e| cache::Error::io("find", root, e))?;
    walk(&root, &root, &mut all);
    all.sort();
    let mut chosen = Chosen::default();
    for program in programs {
        // Since usr and its like were merged, a program may be in a folder of either name.
        let name = program.path.rsplit('/').next().unwrap_or(program.path);
        let is_program = |file: &&PathBuf| {
            let folder = file.parent().and_then(Path::file_name);
            file.file_name().is_some_and(|other| other == name)
                && folder.is_some_and(|folder| folder == "bin" || folder == "sbin")
        };
        if let Some(file) = all.iter().find(is_program) {
            chosen.files.push((program.path.to_owned(), file.clone()));
        } else {
            let why = format!("Debian's package {} does not have {name}", program.package);
            chosen.missing.insert(program.path.to_owned(), why);
        }
    }
    let mut libraries = Libraries::among(&all);
    let found = chosen.files.clone();
    for (path, file) in &found {
        let started =
            programs.iter().filter(|program| program.path == path).flat_map(|program| program.starts);
        let started: Vec<&(String, PathBuf)> =
            started.filter_map(|path| found.iter().find(|(known, _)| known == path)).collect();
        let mut needed: Vec<String> = started.iter().map(|(path, _)| path.clone()).collect();
        for file in std::iter::once(file).chain(started.iter().map(|(_, file)| file)) {
            for (path, file) in libraries.of(file)? {
                if !chosen.files.iter().any(|(known, _)| *known == path) {
                    chosen.files.push((path.clone(), file));
                }
                if !needed.contains(&path) {
                    needed.push(path);
                }
            }
        }
        chosen.needs.insert(path.clone(), needed);
    }
    Ok(chosen)
}

/// Libraries of an unpacked tree, and which of them each file names.
struct Libraries<'a> {
    all: Vec<(&'a str, &'a PathBuf)>,
    named: BTreeMap<PathBuf, Vec<usize>>,
}

impl<'a> Libraries<'a> {
    fn among(files: &'a [PathBuf]) -> Self {
        let all = files.iter().filter_map(|file| Some((file.file_name()?.to_str()?, file)));
        Self { all: all.filter(|(name, _)| name.contains(".so")).collect(), named: BTreeMap::new() }
    }

    /// The libraries that a file names, those that these name, and so on: their paths in the guest, and files here.
    fn of(&mut self, file: &Path) -> Result<Vec<(String, PathBuf)>, cache::Error> {
        let mut indices: Vec<usize> = Vec::new();
        let mut files = vec![file.to_owned()];
        while let Some(file) = files.pop() {
            for index in self.named_in(&file)? {
                if !indices.contains(&index) {
                    indices.push(index);
                    files.push(self.all[index].1.clone());
                }
            }
        }
        let place = |index: usize| {
            let (name, file) = self.all[index];
            let folder = if name == LINKER { LINKER_FOLDER } else { LIBRARIES };
            (format!("{folder}/{name}"), file.clone())
        };
        Ok(indices.into_iter().map(place).collect())
    }

    fn named_in(&mut self, file: &Path) -> Result<Vec<usize>, cache::Error> {
        if let Some(named) = self.named.get(file) {
            return Ok(named.clone());
        }
        let content = fs::read(file).map_err(|e| cache::Error::io("read", file, e))?;
        let texts: BTreeSet<&[u8]> = content.split(|&byte| byte == 0).collect();
        // A name may be the end of a longer text, as in a path.
        let is_named = |name: &str| {
            let name = name.as_bytes();
            texts.contains(name) || texts.iter().any(|text| text.ends_with(name))
        };
        let named = self.all.iter().enumerate().filter(|(_, (name, _))| is_named(name));
        let named: Vec<usize> = named.map(|(index, _)| index).collect();
        self.named.insert(file.to_owned(), named.clone());
        Ok(named)
    }
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
        let programs = super::super::chosen(&[
            "/bin/busybox",
            "/usr/sbin/dmidecode",
            "/usr/sbin/biosdecode",
            "/usr/sbin/hwinfo",
        ]);
        let mut chosen = choose(root.path(), &programs).unwrap();
        chosen.files.sort();
        let paths: Vec<&str> = chosen.files.iter().map(|(path, _)| path.as_str()).collect();
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
        assert!(chosen.missing.is_empty());
        assert!(chosen.needs["/bin/busybox"].is_empty());
        let [libc, linker] = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(chosen.needs["/usr/sbin/biosdecode"], [libc, linker]);
        assert!(chosen.needs["/usr/sbin/hwinfo"].contains(&"/lib/x86_64-linux-gnu/libhd.so.21".to_owned()));
        fs::remove_file(root.path().join("bin/busybox")).unwrap();
        let without = choose(root.path(), &programs).unwrap();
        assert_eq!(without.files.len(), paths.len() - 1);
        assert!(without.missing["/bin/busybox"].contains("busybox-static"));
    }
}
