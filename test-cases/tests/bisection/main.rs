// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A bisection as docs/kernels.md has it, over a history made here: a kernel loses its check of /dev/mem in one commit,
//! and another does not even compile.
//!
//! The tree and its objects are kept for the next run, which then builds only what the history changes.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The file that the history changes: the only one under git.
const FILE: &str = "drivers/char/mem.c";
const PATCH: &str = "../guest-kernel/patches/open-eperm/0001-devmem-refuse-open-in-encrypted-guests.patch";
/// The check is made for writers only.
const MISTAKE: &str = "tests/bisection/writers-only.patch";

#[test]
fn git_bisect_finds_the_commit_that_lost_the_check() {
    let tree = Tree::obtain();
    tree.git(&["checkout", "-q", "-f", "-B", "work", "source"]);
    let good = tree.apply("mem: refuse to open /dev/mem", PATCH);
    tree.append("mem: a comment", "/* One. */\n");
    tree.append("mem: another comment", "/* Two. */\n");
    let broken = tree.append("mem: half a change", "#error \"to be continued\"\n");
    tree.git(&["revert", "--no-edit", "-n", &broken]);
    tree.commit("mem: the other half");
    let culprit = tree.apply("mem: simplify", MISTAKE);
    let bad = tree.append("mem: a last comment", "/* Three. */\n");

    tree.git(&["bisect", "start", &bad, &good]);
    let output = tree
        .command(&["bisect", "run", env!("CARGO_BIN_EXE_copra")])
        .args(["run", "--bisect", "--quiet", "-k", "tree:.", "-p", "sev", "--policy", "open-eperm"])
        .args(["--timeout", "240", "open/modes"])
        .env("COPRA_QUIET", "1")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains(&format!("{culprit} is the first bad commit")), "{text}");
    let log = tree.git(&["bisect", "log"]);
    assert!(log.contains(&format!("git bisect skip {broken}")), "{log}");
    tree.git(&["bisect", "reset"]);
}

/// A copy of the source that copra's kernels are built from, under git.
struct Tree(PathBuf);

impl Tree {
    /// The copy of an earlier run, if the patches still fit it.
    fn obtain() -> Self {
        let tree = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join("bisection/linux"));
        let kept = tree.0.join(".git").is_dir()
            && tree.try_git(&["bisect", "reset"]).is_ok()
            && tree.try_git(&["checkout", "-q", "-f", "source"]).is_ok()
            && tree.try_git(&["apply", "--check", &place(PATCH)]).is_ok();
        if !kept {
            let _ = fs::remove_dir_all(&tree.0);
            let copra = Command::new(env!("CARGO_BIN_EXE_copra"))
                .args(["kernel", "source"])
                .arg(&tree.0)
                .status()
                .unwrap();
            assert!(copra.success(), "copra kernel source: {copra}");
            tree.git(&["init", "-q"]);
            tree.commit("Linux");
            tree.git(&["tag", "source"]);
        }
        tree
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.current_dir(&self.0).args(arguments);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "copra")
                .env(format!("GIT_{role}_EMAIL"), "copra@localhost");
        }
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(variable);
        }
        command
    }

    fn try_git(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(arguments).output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.try_git(arguments).unwrap_or_else(|error| panic!("git {arguments:?}: {error}"))
    }

    /// The new commit.
    fn commit(&self, subject: &str) -> String {
        self.git(&["add", "-f", FILE]);
        self.git(&["commit", "-q", "-m", subject]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn apply(&self, subject: &str, patch: &str) -> String {
        self.git(&["apply", &place(patch)]);
        self.commit(subject)
    }

    fn append(&self, subject: &str, line: &str) -> String {
        let file = self.0.join(FILE);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text + line).unwrap();
        self.commit(subject)
    }
}

/// A file, from this crate on.
fn place(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))
}
