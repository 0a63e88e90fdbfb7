// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra explore`: random steps, compared with the model.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::{Failed, guests, interrupt};
use crate::cli::ExploreArgs;
use crate::exit::Exit;
use crate::report::count;
use crate::report::shell;
use engine::explore::coverage::Operation;
use engine::explore::{self, Disagreement, Explored, Guest, Listener, Plan, Replay};
use engine::guest::Target;
use model::Op;
use types::Policy;

/// Outcomes printed for each operation.
const OUTCOMES_SHOWN: usize = 6;

/// Operations of a disagreement shown.
const SHOWN: usize = 24;

/// Explores and prints the results.
pub fn explore(args: &ExploreArgs, quiet: bool) -> Result<Exit, Failed> {
    let defaults = guests::target(&args.guest, &args.many, &[], quiet)?;
    let target = Target { policy: args.policy.unwrap_or(defaults.policy), ..defaults };
    let plan = Plan { seed: args.seed, steps: args.steps };
    let mut screen =
        Screen { spec: args.guest.kernel.clone(), quiet, live: io::stderr().is_terminal() && !quiet };
    let explored = explore::explore(&target, plan, &mut screen, &interrupt::flag()?).map_err(Failed::new)?;
    screen.clear();
    print_coverage(args, &explored);
    if let Some(found) = &explored.disagreement {
        show(args, target.policy, found)?;
    }
    Ok(exit(explored.disagreement.is_some(), explored.interrupted, explored.unrepeated))
}

/// The exit code: a disagreement that did not repeat is inconclusive.
const fn exit(disagreed: bool, interrupted: bool, unrepeated: u32) -> Exit {
    match (disagreed, interrupted, unrepeated) {
        (true, ..) => Exit::Finding,
        (false, true, _) => Exit::Interrupted,
        (false, false, 0) => Exit::Success,
        (false, false, _) => Exit::Inconclusive,
    }
}

fn print_coverage(args: &ExploreArgs, explored: &Explored) {
    let rate = rate(explored.steps, explored.elapsed);
    outln!(
        "seed {}: {} in {:.1} s, {rate:.0} steps/s, {}, {}",
        args.seed,
        count::of(explored.steps, "step"),
        explored.elapsed.as_secs_f64(),
        count::of(explored.events, "forbidden access"),
        match explored.boots {
            0 => "no boot: a guest kept by an earlier run".to_owned(),
            boots => count::of(boots, "boot"),
        }
    );
    outln!("coverage: {} combinations of operation, memory and outcome", explored.coverage.combinations());
    for Operation { name, count, regions, outcomes } in explored.coverage.by_operation() {
        let shown: Vec<String> = outcomes
            .iter()
            .take(OUTCOMES_SHOWN)
            .map(|(outcome, count)| format!("{outcome} {count}"))
            .collect();
        let more = outcomes.len().saturating_sub(OUTCOMES_SHOWN);
        let more = if more > 0 { format!(", {more} more") } else { String::new() };
        outln!("  {name:<15} {count:>7}  {regions:>2} kinds of memory: {}{more}", shown.join(", "));
    }
    outln!("{}", explored.rigour);
    if let Some(why) = &explored.not_restored_first {
        outln!(
            "guests ended because they could not be restored: {}, the first: {why}",
            explored.not_restored
        );
    }
    if explored.unrepeated > 0 {
        outln!(
            "not repeatable: {} had other forbidden accesses than predicted, once",
            count::of(explored.unrepeated, "sequence")
        );
        for found in &explored.unrepeated_first {
            outln!("once: {}", found.difference.text);
            list(&found.ops);
        }
    } else if explored.disagreement.is_none() {
        outln!("disagreements: none");
    }
}

/// Prints the last operations.
fn list(ops: &[Op]) {
    let left_out = ops.len().saturating_sub(SHOWN);
    if left_out > 0 {
        outln!("  ({} before these)", count::of(left_out, "operation"));
    }
    for op in ops.iter().skip(left_out) {
        outln!("  {op}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than a few digits")]
fn rate(steps: u64, elapsed: Duration) -> f64 {
    steps as f64 / elapsed.as_secs_f64().max(1e-9)
}

/// The command that runs the case in the same guest: every option that differs from its default.
fn replay_command(args: &ExploreArgs, policy: Policy, path: &str) -> String {
    let case = ["--policy".to_owned(), policy.to_string(), "-v".to_owned(), path.to_owned()];
    shell::line(args.guest.run_words().chain(case))
}

fn show(args: &ExploreArgs, policy: Policy, found: &Disagreement) -> Result<(), Failed> {
    let file = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("explore-{}.toml", args.seed)));
    outln!("disagreement: {}", found.difference.text);
    list(&found.ops);
    if !found.repeats {
        outln!("  (did not repeat when these were executed again)");
    }
    match &found.replay {
        Replay::Fails(how) => outln!("replayed in a fresh guest: {how}"),
        Replay::Passes => outln!(
            "replayed in a fresh guest: as specified, so the case does not reproduce the difference; it may depend on \
             earlier operations, or on operations that case files cannot express"
        ),
        Replay::NotRun(why) => outln!("not replayed: {why}"),
    }
    fs::write(&file, &found.case).map_err(|error| {
        Failed::new(format!("writing the case {}: {error}; give another place (--out)", file.display()))
    })?;
    let path = if file.is_absolute() { file.clone() } else { PathBuf::from(".").join(&file) };
    outln!("replay: {}", replay_command(args, policy, &path.display().to_string()));
    Ok(())
}

struct Screen {
    spec: String,
    quiet: bool,
    live: bool,
}

impl Screen {
    fn clear(&self) {
        if self.live {
            eprint!("\r\x1b[K");
        }
    }
}

impl Listener for Screen {
    fn up(&mut self, guest: &Guest) {
        let Guest { world, release, .. } = guest;
        if !self.quiet {
            outln!("{} ({release}) as {} guest, model of policy {}", self.spec, world.platform, world.policy);
        }
        if let Some(why) = &guest.log_unread {
            outln!("guest log: {why}");
        }
    }

    fn progress(&mut self, steps: u64, elapsed: Duration) {
        if self.live {
            let rate = rate(steps, elapsed);
            eprint!("\r\x1b[K{steps} steps, {rate:.0} steps/s");
            let _ = io::stderr().flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn command(words: &[&str]) -> String {
        let cli = Cli::parse_from([&["copra", "explore"], words].concat());
        let Command::Explore(args) = cli.command else { panic!("not explore") };
        replay_command(&args, Policy::OpenEperm, "./explore-1.toml")
    }

    #[test]
    fn what_could_not_be_repeated_is_no_agreement() {
        assert_eq!(exit(false, false, 0), Exit::Success);
        assert_eq!(exit(false, false, 1), Exit::Inconclusive);
        assert_eq!(exit(false, false, 1).code(), 1);
        assert_eq!(exit(false, true, 1), Exit::Interrupted);
        assert_eq!(exit(true, true, 1), Exit::Finding);
    }

    #[test]
    fn the_replay_is_of_the_same_guest() {
        assert_eq!(
            command(&[]),
            "copra run --kernel debian:6.12 --platform sev --policy open-eperm -v ./explore-1.toml"
        );
        let all = [
            "-k",
            "path:./bzImage",
            "-p",
            "tdx",
            "--kernel-config",
            "my config",
            "--rom",
            "shared",
            "--memory",
            "1024",
            "--timeout",
            "9",
            "--cmdline-append",
            "iomem=relaxed nopat",
            "--cmdline-append",
            "quiet",
            "--fail",
            "map-gpa:nth=3",
        ];
        let replay = command(&all);
        assert_eq!(
            replay,
            "copra run --kernel path:./bzImage --platform tdx --kernel-config 'my config' --rom shared --memory 1024 \
             --timeout 9 --fail map-gpa:nth=3 --cmdline-append 'iomem=relaxed nopat' --cmdline-append quiet --policy \
             open-eperm -v ./explore-1.toml"
        );
        // The command parses.
        let words =
            replay.replace('\'', "").replace("my config", "my-config").replace("relaxed nopat", "relaxed");
        assert!(Cli::try_parse_from(words.split(' ')).is_ok(), "{words}");
    }
}
