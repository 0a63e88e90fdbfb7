// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command that runs one case of a run again, with every option that matters for its result.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::report::Report;
use engine::setup::Setup;

use crate::cli::{DEFAULT_KERNEL, RunArgs};

/// The options of a run, for commands that repeat one case of it.
#[derive(Debug, Clone, Default)]
pub struct Repeat {
    options: Vec<String>,
    /// How a case is named on the command line, where not by its name.
    selectors: BTreeMap<String, String>,
}

impl Repeat {
    /// For a run with these arguments, whose cases come from these files.
    pub fn of(args: &RunArgs, files: &BTreeMap<String, PathBuf>) -> Self {
        let selectors = files.iter().map(|(name, file)| (name.clone(), file.display().to_string()));
        Self { options: options(args), selectors: selectors.collect() }
    }

    /// The command for a case, to be typed in a shell.
    pub fn command(&self, case: &str) -> String {
        let selector = self.selectors.get(case).map_or(case, String::as_str);
        let words = ["copra", "run", selector].into_iter().chain(self.options.iter().map(String::as_str));
        super::shell::line(words)
    }

    /// The command for each failure: a guest's boot that is not as specified, and each such case.
    pub fn failures(&self, report: &Report) -> Vec<(String, String)> {
        let first = report.planned.first();
        let boots = report.boots.iter().filter(|boot| super::totals::is_failure(&boot.verdict));
        let boots = boots.filter_map(|boot| {
            // A case that sets the guest up in the same way boots it again.
            let setup = boot.observed.setup;
            let same = |guest: engine::setup::SetupOverrides| {
                guest.rom == setup.rom
                    && guest.fail.is_none_or(|fail| fail == setup.fail)
                    && guest.sept_ve.unwrap_or(false) == setup.sept_ve
            };
            let case = report.cases.iter().find(|result| same(result.case.guest));
            let case = case.map(|result| &result.case.name).or(first)?;
            Some((boot.observed.name(), self.command(case)))
        });
        let failed = report.cases.iter().filter(|result| super::totals::is_failure(&result.verdict.verdict));
        let cases = failed.map(|result| result.case.name.as_str()).chain(report.remaining());
        let cases = cases.map(|name| (name.to_owned(), self.command(name)));
        let mut failures: Vec<_> = boots.collect();
        failures.dedup();
        failures.extend(cases);
        failures
    }
}

/// The options that are not the default, but for those of the output.
fn options(args: &RunArgs) -> Vec<String> {
    let RunArgs { cases: _, guest, policy, json: _, junit: _, ktap: _, verbose: _, .. } = args;
    let defaults = Setup::default();
    let mut options = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            options.extend([name.to_owned(), value]);
        }
    };
    let unless = |value: String, default: String| (value != default).then_some(value);
    add("--kernel", unless(guest.kernel.clone(), DEFAULT_KERNEL.to_owned()));
    for (option, value) in guest.changed() {
        add(option, Some(value));
    }
    add("--policy", policy.map(|policy| policy.to_string()));
    add("--mode", unless(args.mode.to_string(), defaults.mode.to_string()));
    add("--unaccepted", args.unaccepted.map(|percent| percent.to_string()));
    if args.sept_ve {
        options.push("--sept-ve".to_owned());
    }
    options
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use clap::Parser;
    use engine::library;
    use engine::report::fixture;

    use super::*;
    use crate::cli::{Cli, Command as Chosen};

    fn parse(words: &[&str]) -> RunArgs {
        let words = ["copra", "run"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Chosen::Run(args) => args,
            other => panic!("{other:?}"),
        }
    }

    /// The words of a command as a shell gives them to a program.
    fn words(command: &str) -> Vec<String> {
        let script = format!("printf '%s\\0' {command}");
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
    }

    #[test]
    fn a_run_with_defaults_needs_the_platform_alone() {
        let repeat = Repeat::of(&parse(&["mmap", "-v", "--json", "x", "--ktap", "-q"]), &BTreeMap::new());
        assert_eq!(repeat.command("mmap/rom"), "copra run mmap/rom --platform sev");
    }

    #[test]
    fn every_option_that_matters_is_repeated() {
        let given = [
            "--kernel",
            "path:/a b/it's",
            "--platform",
            "tdx",
            "--policy",
            "open-eperm",
            "--mode",
            "faithful",
            "--rom",
            "shared",
            "--unaccepted",
            "50",
            "--memory",
            "1024",
            "--kernel-config",
            "x y",
            "--timeout",
            "7",
            "--cmdline-append",
            "a=$b",
            "--cmdline-append",
            "-c",
            "--sept-ve",
            "--fail",
            "map-gpa:nth=3,error=retry",
        ];
        let args = parse(&given);
        let command = Repeat::of(&args, &BTreeMap::new()).command("open/modes");
        let words = words(&command);
        assert_eq!(words[..3], ["copra", "run", "open/modes"]);
        let again = parse(&words[2..].iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(format!("{:?}", RunArgs { cases: Vec::new(), ..again }), format!("{args:?}"));
    }

    #[test]
    fn a_case_from_a_file_is_named_by_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let text = library::source("open/modes").unwrap();
        let file = folder.path().join("my case.toml");
        std::fs::write(&file, text).unwrap();
        let by_file = file.display().to_string();
        let in_folder = folder.path().display().to_string();
        for given in [&by_file, &in_folder] {
            let args = parse(&[given]);
            let selected = library::select(&args.cases).unwrap();
            let command = Repeat::of(&args, &selected.files).command(&selected.cases[0].name);
            assert_eq!(words(&command)[2], by_file, "{given}");
        }
    }

    #[test]
    fn every_failure_has_its_command() {
        let repeat = Repeat::of(&parse(&[]), &BTreeMap::new());
        let failures =
            |report: &Report| repeat.failures(report).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(failures(&fixture::whole()), ["test/granted", "dmi/sysfs"]);
        assert_eq!(failures(&fixture::cut_short()), ["test/granted", "mmap/rom", "open/port"]);
        assert_eq!(failures(&fixture::died_in_boot())[0], "boot rom=unaccepted");
        for (name, command) in repeat.failures(&fixture::whole()) {
            assert_eq!(command, format!("copra run {name} --platform sev"));
        }
    }
}
