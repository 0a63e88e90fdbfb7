// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use proptest::prelude::*;
use std::time::{Duration, SystemTime};

const CHANGE: &str = "\
From: somebody
Subject: a change
---
 not/a/header | 2 +-
--- a/drivers/char/mem.c
+++ b/drivers/char/mem.c
@@ -1,3 +1,3 @@
 one
-two
+zwei
 three
--- /dev/null
+++ b/fresh/dir/new.c
@@ -0,0 +1 @@
+new
";

struct Fixture {
    root: tempfile::TempDir,
    cache: Cache,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let fixture = Self { cache: Cache::at(root.path()), root };
        fs::create_dir_all(fixture.file("drivers/char")).unwrap();
        fs::write(fixture.file("drivers/char/mem.c"), "one\ntwo\nthree\n").unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::options()
            .write(true)
            .open(fixture.file("drivers/char/mem.c"))
            .unwrap()
            .set_modified(old)
            .unwrap();
        fixture
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("tree")
    }

    fn file(&self, path: &str) -> PathBuf {
        self.dir().join(LINUX).join(path)
    }

    fn apply(&self, text: &str) -> Result<Patched, Error> {
        Patched::apply(&self.cache, &self.dir(), &[patch(text)])
    }

    /// Every file with its contents and time.
    fn state(&self) -> Vec<(PathBuf, String, SystemTime)> {
        let mut found = vec![];
        let mut dirs = vec![self.dir()];
        while let Some(dir) = dirs.pop() {
            for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    let time = path.metadata().unwrap().modified().unwrap();
                    found.push((path.clone(), fs::read_to_string(&path).unwrap(), time));
                }
            }
        }
        found.sort();
        found
    }
}

fn patch(text: &str) -> Piece {
    Piece { name: "some.patch".into(), text: text.into() }
}

fn have_patch() -> bool {
    let have = crate::tools::is_installed("patch");
    if !have {
        println!("skipped: patch is not installed");
    }
    have
}

#[test]
fn everything_is_put_back() {
    let fixture = Fixture::new();
    let before = fixture.state();
    if !have_patch() {
        return;
    }
    let patched = fixture.apply(CHANGE).unwrap();
    assert_eq!(fs::read_to_string(fixture.file("drivers/char/mem.c")).unwrap(), "one\nzwei\nthree\n");
    assert_eq!(fs::read_to_string(fixture.file("fresh/dir/new.c")).unwrap(), "new\n");
    let age = fixture.file("drivers/char/mem.c").metadata().unwrap().modified().unwrap().elapsed();
    assert!(age.unwrap_or_default() < Duration::from_secs(3600), "make would not see the change");
    patched.restore().unwrap();
    assert_eq!(fixture.state(), before);
}

#[test]
fn a_killed_build_is_undone_by_the_next() {
    let fixture = Fixture::new();
    let before = fixture.state();
    if !have_patch() {
        return;
    }
    std::mem::forget(fixture.apply(CHANGE).unwrap());
    assert_ne!(fixture.state(), before);
    // Even if that build was killed while it put things back.
    fs::rename(fixture.dir().join("saved/0"), fixture.file("drivers/char/mem.c")).unwrap();
    let patched = Patched::apply(&fixture.cache, &fixture.dir(), &[]).unwrap();
    assert_eq!(fs::read_to_string(fixture.file("drivers/char/mem.c")).unwrap(), "one\ntwo\nthree\n");
    assert!(!fixture.file("fresh").exists());
    drop(patched);
    assert_eq!(fixture.state(), before);
}

#[test]
fn a_patch_that_does_not_fit_leaves_nothing() {
    let fixture = Fixture::new();
    let before = fixture.state();
    if !have_patch() {
        return;
    }
    let error = fixture.apply(&CHANGE.replace("-two", "-deux")).unwrap_err().to_string();
    assert!(
        error.starts_with("the patch some.patch does not apply to this kernel source exactly"),
        "{error}"
    );
    assert!(error.contains("1 out of 1 hunk"), "{error}");
    assert_eq!(fixture.state(), before);
}

#[test]
fn an_inexact_context_is_refused() {
    let fixture = Fixture::new();
    if have_patch() {
        assert!(matches!(fixture.apply(&CHANGE.replace(" three", " drei")), Err(Error::Mismatch { .. })));
    }
}

#[test]
fn patches_stay_inside() {
    let fixture = Fixture::new();
    for bad in
        ["--- a/../../x\n+++ b/../../x\n", "--- a//etc/passwd\n+++ b//etc/passwd\n", "rename to ../x\n"]
    {
        assert!(matches!(fixture.apply(bad), Err(Error::Outside { .. })), "{bad}");
    }
    assert!(matches!(fixture.apply("hello"), Err(Error::Empty { .. })));
}

#[test]
fn removed_lines_are_no_headers() {
    let text = "--- a/x.sql\n+++ b/x.sql\n@@ -1 +1 @@\n--- drop/everything\n+x\n";
    assert_eq!(files_changed_by(&patch(text)).unwrap(), BTreeSet::from([PathBuf::from("x.sql")]));
}

proptest! {
    #[test]
    fn any_text_names_files_inside_or_none(text in "((--- |\\+\\+\\+ |rename to |a/|b/|\\.\\./|[a-c./]{0,4}|\\PC)*\\n){0,6}") {
        if let Ok(paths) = files_changed_by(&patch(&text)) {
            for path in paths {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{:?}", path);
            }
        }
    }
}
