// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The commands of the workflow and of the Job for Kubernetes run every shard once: they are taken from the files, and run with a
//! program in the place of copra that notes its arguments.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::top;

fn text(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap()
}

/// What stands after the first `key` in the text, to the end of its line.
fn rest_of_line<'a>(text: &'a str, key: &str) -> &'a str {
    let (_, rest) = text.split_once(key).unwrap();
    rest.lines().next().unwrap().trim()
}

/// The same without quotation marks around it.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    rest_of_line(text, key).trim_matches('"')
}

/// A folder with a `copra` that appends its arguments to the file `log` there and ends with the exit code `status`.
fn recorder(status: u8) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("#!/bin/sh\necho \"$@\" >>'{}/log'\nexit {status}\n", folder.path().display());
    let program = folder.path().join("copra");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Runs a shell command where `copra` is the recorder; its exit code.
fn shell(command: &str, recorder: &Path, variables: &[(&str, String)]) -> Option<i32> {
    let path = format!("{}:{}", recorder.display(), std::env::var("PATH").unwrap());
    let reports = recorder.join("reports").display().to_string();
    let command =
        command.replace("/reports/", &format!("{reports}/")).replace(" reports ", &format!(" {reports} "));
    let mut shell = Command::new("sh");
    shell.args(["-euc", &command]).current_dir(top()).env("PATH", path).env("COPRA", "copra");
    shell.envs(variables.iter().map(|(name, value)| (*name, value.as_str()))).status().unwrap().code()
}

/// The shards and report files that were run.
fn runs(recorder: &Path) -> BTreeSet<(String, String)> {
    let log = fs::read_to_string(recorder.join("log")).unwrap_or_default();
    let argument = |line: &str, name: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == name).unwrap();
        words[at + 1].rsplit_once("reports/").map_or(words[at + 1], |(_, file)| file).to_owned()
    };
    log.lines().map(|line| (argument(line, "--shard"), argument(line, "--json"))).collect()
}

fn expected(count: u16) -> BTreeSet<(String, String)> {
    (1..=count).map(|index| (format!("{index}/{count}"), format!("{index}.json"))).collect()
}

#[test]
fn the_job_for_kubernetes_runs_every_shard_once() {
    let text = text("ci/kubernetes/cases.yaml");
    let completions: u16 = value(&text, "completions:").parse().unwrap();
    let (_, after) = text.split_once("- |\n").unwrap();
    let indent = after.len() - after.trim_start().len();
    let command: Vec<&str> = after
        .lines()
        .take_while(|line| line.len() - line.trim_start().len() >= indent)
        .map(str::trim)
        .collect();
    let shards = value(&text, "name: SHARDS\n").trim_start_matches("value:").trim().trim_matches('"');
    assert_eq!(shards, completions.to_string());
    // Findings are no failure of the pod, everything else is.
    for (status, passes) in [(0, true), (1, true), (2, false), (130, false)] {
        let recorder = recorder(status);
        for index in 0..completions {
            let variables = [("JOB_COMPLETION_INDEX", index.to_string()), ("SHARDS", shards.to_owned())];
            let code = shell(&command.join("\n"), recorder.path(), &variables);
            assert_eq!(code == Some(0), passes, "{status}");
        }
        assert_eq!(runs(recorder.path()), expected(completions));
    }
}

#[test]
fn the_workflow_runs_every_shard_once() {
    let text = text("ci/workflows/cases.yml");
    let count: u16 = value(&text, "SHARDS:").parse().unwrap();
    let matrix = value(&text, "shard: [").trim_end_matches(']').split(", ");
    let command = rest_of_line(&text, "run: ci/shard").replace("${{ matrix.platform }}", "sev");
    for (status, passes) in [(0, true), (1, true), (2, false)] {
        let recorder = recorder(status);
        for shard in matrix.clone() {
            let command = format!("ci/shard {}", command.replace("${{ matrix.shard }}", shard));
            let code = shell(&command, recorder.path(), &[("SHARDS", count.to_string())]);
            assert_eq!(code == Some(0), passes, "{status}");
        }
        assert_eq!(runs(recorder.path()), expected(count));
    }
}

#[test]
fn every_baseline_is_of_its_name() {
    use engine::report::compact::CompactReport;
    let mut count = 0;
    for entry in fs::read_dir(top().join("ci/baselines")).unwrap() {
        let path = entry.unwrap().path();
        let baseline = CompactReport::read(&fs::read_to_string(&path).unwrap()).unwrap();
        let name = format!("{}-{}", baseline.kernel.spec.replace(':', "-"), baseline.platform);
        assert_eq!(path.file_stem().unwrap().to_str().unwrap(), name);
        assert_eq!(baseline.ended, engine::report::RunEnd::Complete, "{name}");
        count += 1;
    }
    assert!(count > 0);
}
