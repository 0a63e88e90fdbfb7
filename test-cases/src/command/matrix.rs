// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra matrix`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use engine::matrix::{Combination, Matrix, operations};
use engine::report::{CaseResult, Report, RunEnd};
use guest_kernel::{KernelSpec, Programs};
use types::{Platform, Policy};

use super::kernels::Found;
use super::output::Output;
use super::{Failed, guests, host, interrupt, kernels, start_over};
use crate::cli::{DEFAULT_KERNEL, MatrixArgs};
use crate::exit::Exit;
use crate::matrix::{html, json, table};
use crate::report::plain::{in_json, plain};
use engine::guest::Target;
use engine::matrix::programs::judge::judge;
use engine::matrix::programs::{runnable, skip};
use engine::observation::KvmHost;
use engine::run::{Activity, Watcher};

/// The platforms that are simulated by default.
const PLATFORMS: [Platform; 4] = [Platform::None, Platform::Sev, Platform::Snp, Platform::Tdx];

/// Boots every kernel on every platform once, runs every operation there, and prints the results as tables.
pub fn matrix(args: &MatrixArgs, quiet: bool) -> Result<Exit, Failed> {
    let platforms = if args.platforms.is_empty() { PLATFORMS.to_vec() } else { args.platforms.clone() };
    engine::guest::check(args.memory).map_err(Failed::new)?;
    for path in [&args.html, &args.json].into_iter().flatten().filter(|path| *path != Path::new("-")) {
        Output::check(path)?;
    }
    // Kernels are fetched and built where there are a network and a compiler.
    let found = find(args, quiet)?;
    let programs = kernels::programs(&operations::cases(), quiet);
    let host = start_over::kvm_host(host::choose())?;
    let common = Common { memory: args.memory, host: &host, programs: &programs, quiet };
    let mut matrix = fill(&found, &platforms, &common)?;
    skip(&mut matrix, &programs);
    judge(&mut matrix);
    write(args, &matrix)?;
    let interrupted = matrix.combinations.len() < found.len() * platforms.len();
    let failed = matrix.combinations.iter().any(|combination| combination.failed.is_some());
    Ok(match (interrupted, failed) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::CouldNotRun,
        (false, false) => Exit::Success,
    })
}

/// The kernels that were named; else Debian's and those of policies that are in the cache, or built with --build.
fn find(args: &MatrixArgs, quiet: bool) -> Result<Vec<Found>, Failed> {
    if !args.kernels.is_empty() {
        return args.kernels.iter().map(|spec| kernels::find(spec, None, quiet)).collect();
    }
    let build = args.build && !host::is_inside();
    let mut found = Vec::new();
    match kernels::find(DEFAULT_KERNEL, None, quiet) {
        Ok(kernel) => found.push(kernel),
        Err(error) if host::is_inside() => return Err(error),
        Err(error) => eprintln!("copra: without {DEFAULT_KERNEL}: {error}"),
    }
    let mut reported = String::new();
    for known in kernels::catalogue(true)?.list() {
        let KernelSpec::Build(name) = &known.spec else { continue };
        let is_policy = Policy::ALL.iter().any(|policy| policy.name() == name.as_str());
        if is_policy && (build || known.kernel.is_some()) {
            match kernels::find_built(&known.spec, !build, quiet) {
                Ok(kernel) => found.extend(kernel),
                Err(error) if host::is_inside() => return Err(error),
                Err(error) => {
                    let error = error.to_string();
                    let why = if reported == error { "for the same reason" } else { &error };
                    eprintln!("copra: without {}: {why}", known.spec);
                    reported = error;
                }
            }
        }
    }
    if found.is_empty() {
        let why = if args.build {
            "no kernel is in the cache, and none could be built; name one with --kernel"
        } else {
            "no kernel is in the cache; name one with --kernel, or give --build"
        };
        return Err(Failed::new(why));
    }
    // The unpatched kernel is the first column.
    found.sort_by_key(|found| found.facts.policy.map_or(0, |policy| policy as u8));
    Ok(found)
}

/// What all guests have in common.
struct Common<'a> {
    memory: u64,
    host: &'a KvmHost,
    programs: &'a Programs,
    quiet: bool,
}

fn fill(found: &[Found], platforms: &[Platform], common: &Common<'_>) -> Result<Matrix, Failed> {
    let interrupt = interrupt::flag()?;
    let cases = runnable(operations::cases(), common.programs);
    let mut matrix = Matrix::default();
    let total = found.len() * platforms.len();
    for platform in platforms {
        for kernel in found {
            let started = Instant::now();
            let target = Target {
                memory_mib: common.memory,
                programs: common.programs.clone(),
                policy: Policy::Upstream,
                ..guests::default_target(kernel, *platform, common.host)
            };
            let number = matrix.combinations.len() + 1;
            let mut screen = Screen {
                quiet: common.quiet,
                head: format!("{number}/{total} {} as {platform} guest", kernel.facts.spec),
            };
            let combination = match engine::run::run(&target, &cases, &mut screen, &interrupt) {
                Ok(Report { ended: RunEnd::Interrupted, .. }) => return Ok(matrix),
                Ok(report) => Combination::of(&report),
                Err(error) => Combination::failed(&kernel.facts, *platform, error.to_string()),
            };
            screen.end(&combination, started);
            matrix.combinations.push(combination);
        }
    }
    Ok(matrix)
}

fn write(args: &MatrixArgs, matrix: &Matrix) -> Result<(), Failed> {
    let is_stdout = |path: &Path| path == Path::new("-");
    let place = |path: &Path, text: &str| {
        let text = plain(text);
        let done =
            if is_stdout(path) { io::stdout().write_all(text.as_bytes()) } else { fs::write(path, &*text) };
        done.map_err(|error| Failed::new(format!("writing {}: {error}; give another place", path.display())))
    };
    if let Some(path) = &args.html {
        place(path, &html::page(matrix))?;
    }
    if let Some(path) = &args.json {
        place(path, &(in_json(&format!("{:#}", json::value(matrix))) + "\n"))?;
    }
    if [&args.html, &args.json].into_iter().flatten().any(|path| is_stdout(path)) {
        return Ok(());
    }
    let text = if args.markdown { table::markdown(matrix) } else { table::text(matrix) };
    place(Path::new("-"), &text)
}

/// One line per combination on standard error.
struct Screen {
    quiet: bool,
    head: String,
}

impl Screen {
    fn end(&self, combination: &Combination, started: Instant) {
        let what = match &combination.failed {
            Some(why) => format!("failed: {why}"),
            None => format!("{:.1} s", started.elapsed().as_secs_f64()),
        };
        if !self.quiet || combination.failed.is_some() {
            eprintln!("copra: {}: {what}", self.head);
        }
    }
}

impl Watcher for Screen {
    fn progress(&mut self, _activity: &Activity<'_>) {}

    fn up(&mut self, _report: &Report) {}

    fn case(&mut self, _result: &CaseResult) {}
}
