// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Invalid names, numbers and case files: refused before anything is fetched or started.

use std::fs;

use libtest_mimic::Trial;

use crate::common::outcome::Outcome;
use crate::common::trouble::{Checked, trial};
use crate::copra;

/// The tests.
pub fn trials() -> Vec<Trial> {
    vec![
        trial("arguments::an_unknown_case", || {
            refused(&["mmap/low-rom"], &["mmap/low-rom", "`mmap/low-ram`"])
        }),
        trial("arguments::an_unknown_tag", || {
            refused(&["tag:mmap-hol"], &["tag:mmap-hol", "`tag:mmap-hole`"])
        }),
        trial("arguments::an_unknown_policy", || {
            refused(&["--policy", "open-perm"], &["open-perm", "'open-eperm'"])
        }),
        trial("arguments::an_unknown_platform", || refused(&["--platform", "sew"], &["sew", "'sev'"])),
        trial("arguments::a_rom_area_nobody_knows", || {
            refused(&["--platform", "tdx", "--rom", "burnt"], &["burnt", "validated, unaccepted, shared"])
        }),
        trial("arguments::an_unknown_kind_of_kernel", || {
            refused(&["--kernel", "debain:6.12"], &["debain:6.12", "debian:"])
        }),
        trial("arguments::too_little_memory", || {
            refused(&["--memory", "64"], &["64 MiB", "too small", "96 MiB", "--memory"])
        }),
        trial("arguments::too_much_memory", || {
            refused(&["--memory", "900000"], &["900000 MiB", "too much", "--memory"])
        }),
        trial("arguments::memory_that_is_no_multiple_of_2_mib", || {
            refused(&["--memory", "513"], &["513 MiB", "not a multiple of 2 MiB", "--memory"])
        }),
        trial("arguments::a_report_into_no_folder", || {
            refused(&["--json", "/no/such/folder/report.json"], &["/no/such/folder", "another place"])
        }),
        trial("arguments::a_malformed_case_file", a_malformed_case_file),
        trial("arguments::a_case_file_that_is_no_toml", || {
            case_file("title = \"x\n", &[":1:", "not valid TOML"], 1)
        }),
        trial("arguments::a_missing_case_file", || {
            refused(&["no/such.toml"], &["cannot read no/such.toml as a case"])
        }),
        trial("arguments::a_folder_without_cases", || {
            let folder = tempfile::tempdir()?;
            let name = folder.path().display().to_string();
            refused(&[&name], &[&name, "has no case"])
        }),
        trial("arguments::a_case_file_without_end", || {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("endless.toml");
            std::os::unix::fs::symlink("/dev/zero", &file)?;
            refused(&[&file.display().to_string()], &["endless.toml", "more than 1024 KiB"])
        }),
        trial("arguments::a_kernel_configuration_without_end", || {
            refused(&["--kernel-config", "/dev/zero"], &["/dev/zero", "more than 4096 KiB"])
        }),
        trial("arguments::a_report_that_is_too_large", a_report_that_is_too_large),
    ]
}

fn refused(arguments: &[&str], words: &[&str]) -> Checked {
    let mut all = vec!["run"];
    all.extend(arguments);
    Outcome::of(&mut copra(&all))?.refused(words)
}

/// Of a file the size is reported; what is no file is read up to the limit.
fn a_report_that_is_too_large() -> Checked {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len((256 << 20) + 1)?;
    let name = file.path().display().to_string();
    let words = [name.as_str(), "it has 268435457 bytes, more than 262144 KiB"];
    Outcome::of(&mut copra(&["merge", &name]))?.refused(&words)?;
    Outcome::of(&mut copra(&["page", "--html", "/dev/null", &name]))?.refused(&words)?;
    Outcome::of(&mut copra(&["diff", &name, &name]))?.refused(&words)?;
    Outcome::of(&mut copra(&["merge", "/dev/zero"]))?.refused(&["/dev/zero", "more than 262144 KiB"])
}

/// All problems of a file are reported in one run, each with its line and column.
fn a_malformed_case_file() -> Checked {
    let text = "\
title = \"Malformed\"
wy = \"a slip of the finger\"

[[step]]
id = \"open\"
do = \"opne\"
path = \"/dev/mem\"

[[step]]
id = \"read\"
do = \"pread\"
fd = \"mem\"
at = \"low-rom\"
len = \"four\"
expect = \"zeros\"
";
    let words = [
        ".toml:2:1: unknown key `wy`",
        "did you mean `why`?",
        ".toml:6:6: unknown",
        "`opne` (did you mean `open`?)",
        ".toml:13:6: unknown region `low-rom` (did you mean `low-ram`?)",
        ".toml:14:7: `len` is",
    ];
    case_file(text, &words, 4)
}

fn case_file(text: &str, words: &[&str], problems: usize) -> Checked {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("mine.toml");
    fs::write(&file, text)?;
    let name = file.display().to_string();
    let outcome = Outcome::of(&mut copra(&["run", &name, "dmi/sysfs"]))?;
    outcome.refused(words)?;
    let reported = outcome.stderr.matches(&name).count();
    if reported < problems {
        Err(outcome.complain(&format!("{reported} problems reported, the file has {problems}")))
    } else {
        Ok(())
    }
}
