//! `copra explore`: random steps, compared with the model.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::host::{self, Place};
use super::{Failed, guests, interrupt, run};
use crate::cli::ExploreArgs;
use crate::engine::Target;
use crate::exit::Exit;
use crate::explore::coverage::Operation;
use crate::explore::{self, Disagreement, Explored, Listener, Plan};
use crate::model::World;

/// Outcomes told of each operation.
const TOLD: usize = 6;

/// Operations of a disagreement shown.
const SHOWN: usize = 24;

/// Explores and tells.
pub fn explore(args: &ExploreArgs, quiet: bool) -> Result<Exit, Failed> {
    let found = guests::find(&args.guest, quiet)?;
    let host = match host::choose_for(args.guest.platform) {
        Place::Here(host) => host,
        Place::Elsewhere(_) => return run::start_over(),
    };
    let usual = guests::target(&args.guest, &found, &host);
    let target = Target { policy: args.policy.unwrap_or(usual.policy), ..usual };
    let plan = Plan { seed: args.seed, steps: args.steps };
    let mut screen =
        Screen { spec: args.guest.kernel.clone(), quiet, live: io::stderr().is_terminal() && !quiet };
    let explored = explore::explore(&target, plan, &mut screen, &interrupt::flag()?).map_err(Failed::new)?;
    screen.clear();
    tell(args, &explored);
    match &explored.disagreement {
        Some(found) => {
            show(args, found)?;
            Ok(Exit::Finding)
        }
        None if explored.interrupted => Ok(Exit::Interrupted),
        None => Ok(Exit::Success),
    }
}

fn tell(args: &ExploreArgs, explored: &Explored) {
    let rate = rate(explored.steps, explored.elapsed);
    println!(
        "seed {}: {} steps in {:.1} s, {rate:.0} steps/s, {} forbidden accesses, {} boot{}",
        args.seed,
        explored.steps,
        explored.elapsed.as_secs_f64(),
        explored.events,
        explored.boots,
        if explored.boots == 1 { "" } else { "s" }
    );
    println!("coverage: {} combinations of operation, memory and outcome", explored.coverage.combinations());
    for Operation { name, count, regions, outcomes } in explored.coverage.by_operation() {
        let shown: Vec<String> =
            outcomes.iter().take(TOLD).map(|(outcome, count)| format!("{outcome} {count}")).collect();
        let more = outcomes.len().saturating_sub(TOLD);
        let more = if more > 0 { format!(", {more} more") } else { String::new() };
        println!("  {name:<15} {count:>7}  {regions:>2} kinds of memory: {}{more}", shown.join(", "));
    }
    if explored.unrepeated > 0 {
        println!(
            "not repeatable: {} sequences had other forbidden accesses once, and not again",
            explored.unrepeated
        );
    }
    if explored.disagreement.is_none() {
        println!("disagreements: none");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than a few digits")]
fn rate(steps: u64, elapsed: Duration) -> f64 {
    steps as f64 / elapsed.as_secs_f64().max(1e-9)
}

fn show(args: &ExploreArgs, found: &Disagreement) -> Result<(), Failed> {
    let file = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("explore-{}.toml", args.seed)));
    println!("disagreement: {}", found.difference.text);
    let left_out = found.ops.len().saturating_sub(SHOWN);
    if left_out > 0 {
        println!("  ({left_out} operations before these)");
    }
    for op in found.ops.iter().skip(left_out) {
        println!("  {op}");
    }
    if !found.repeats {
        println!("  (did not come again when these were repeated)");
    }
    fs::write(&file, &found.case).map_err(|error| {
        Failed::new(format!("writing the case {}: {error}; give another place (--out)", file.display()))
    })?;
    println!(
        "replay: copra run --kernel {} --platform {} -v {}",
        args.guest.kernel,
        args.guest.platform,
        if file.is_absolute() { file.display().to_string() } else { format!("./{}", file.display()) }
    );
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
    fn up(&mut self, world: &World, release: &str) {
        if !self.quiet {
            println!(
                "{} ({release}) as {} guest, model of policy {}",
                self.spec, world.platform, world.policy
            );
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
