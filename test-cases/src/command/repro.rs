// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra repro`: the documented behaviour, told step by step, and the patch that ends it.

mod narrative;
mod observed;
mod transcript;

use std::path::Path;
use std::process::Child;

use serde_json::Value;
use types::Platform;

use self::observed::Observed;
use super::{Failed, host, kernels};
use crate::cli::{ReproArgs, ReproSubject};
use crate::exit::Exit;

/// The kernel whose patch closes the hole.
const PATCHED: &str = "build:open-eperm";

/// Reproduces, and says in plain words what it saw.
pub fn repro(args: &ReproArgs, quiet: bool) -> Result<Exit, Failed> {
    let place = host::choose();
    if let host::Place::Elsewhere(reason) = &place {
        outln!("{reason}.");
        outln!("Guests run on a KVM host inside QEMU instead: slower, with the same results.\n");
    }
    let folder = tempfile::tempdir().map_err(|error| {
        Failed::new(format!("making a temporary folder: {error}; free some space, or set TMPDIR"))
    })?;
    kernels::find(&args.kernel, None, quiet)?;
    let platform = args.platform.unwrap_or(args.subject.platform());
    let case = format!("repro/{}", args.subject);
    let stage = Stage { args, case, place, folder: folder.path() };
    let stock = Run::start(&stage, &args.kernel, platform)?.finish(&stage)?;
    let mut reproduced = match args.subject {
        ReproSubject::MmapHole => narrative::tell(&stock, platform),
        ReproSubject::SeptViolation | ReproSubject::RomSigbus => transcript::tell(&stock, platform),
    };

    if kernels::find_built(PATCHED, args.no_build, quiet)?.is_none() {
        outln!(
            "\nThe patched kernel was not looked at (--no-build); to see the denial: copra repro {}",
            args.subject
        );
        return Ok(verdict(reproduced));
    }
    let patched = patched(&stage, platform)?;
    reproduced &= match args.subject {
        ReproSubject::MmapHole => narrative::contrast(&stock, &patched, platform),
        ReproSubject::SeptViolation | ReproSubject::RomSigbus => transcript::contrast(&patched),
    };
    Ok(verdict(reproduced))
}

/// The patched kernel as the platform asked for, and as an ordinary guest, at the same time.
fn patched(stage: &Stage<'_>, platform: Platform) -> Result<Vec<Observed>, Failed> {
    let mut platforms = vec![platform];
    if platform != Platform::None && stage.args.subject == ReproSubject::MmapHole {
        platforms.push(Platform::None);
    }
    let runs: Vec<Run> = platforms
        .into_iter()
        .map(|platform| Run::start(stage, PATCHED, platform))
        .collect::<Result<_, _>>()?;
    runs.into_iter().map(|run| run.finish(stage)).collect()
}

fn verdict(reproduced: bool) -> Exit {
    if reproduced {
        outln!("\nREPRODUCED: every step came out as documented.");
        Exit::Success
    } else {
        outln!("\nNOT reproduced: the steps marked ✗ came out otherwise.");
        Exit::Finding
    }
}

/// What the runs of one reproduction have in common.
struct Stage<'a> {
    args: &'a ReproArgs,
    /// The case behind the narrative.
    case: String,
    place: host::Place,
    folder: &'a Path,
}

/// `copra run` of the case, its results by way of a file.
struct Run {
    child: Child,
    json: std::path::PathBuf,
    what: String,
}

impl Run {
    fn start(stage: &Stage<'_>, kernel: &str, platform: Platform) -> Result<Self, Failed> {
        let what = format!("{kernel} as {platform} guest");
        let json = stage.folder.join(format!("{}-{platform}.json", kernel.replace([':', '/'], "-")));
        let mut arguments: Vec<std::ffi::OsString> =
            vec!["run".into(), (&stage.case).into(), "--kernel".into(), kernel.into(), "--platform".into()];
        arguments.extend([platform.name().into(), "--json".into(), json.clone().into_os_string()]);
        if stage.args.verbose {
            arguments.push("--verbose".into());
        } else {
            arguments.push("--quiet".into());
        }
        let mut command = match &stage.place {
            host::Place::Here(_) => host::myself(&arguments).map_err(Failed::new)?,
            host::Place::Elsewhere(_) => host::elsewhere(&arguments).map_err(Failed::new)?,
        };
        command.env("COPRA_QUIET", "1");
        if !stage.args.verbose {
            command.stdout(std::process::Stdio::null());
        }
        eprintln!("copra: booting {what}");
        let child = command.spawn().map_err(|error| Failed::new(format!("starting {what}: {error}")))?;
        Ok(Self { child, json, what })
    }

    fn finish(mut self, stage: &Stage<'_>) -> Result<Observed, Failed> {
        let status =
            self.child.wait().map_err(|error| Failed::new(format!("waiting for {}: {error}", self.what)))?;
        let text = std::fs::read_to_string(&self.json).map_err(|_| {
            Failed::new(format!(
                "{} gave no results (exit code {}); see above",
                self.what,
                host::code(status)
            ))
        })?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| Failed::new(format!("reading the results of {}: {error}", self.what)))?;
        let observed = Observed::of(value, &stage.case)
            .ok_or_else(|| Failed::new(format!("{} did not run {}; see above", self.what, stage.case)))?;
        match observed.not_run() {
            Some(reason) => Err(Failed::new(format!(
                "{} did not come to the end of {}, which shows nothing: {reason}",
                self.what, stage.case
            ))),
            None => Ok(observed),
        }
    }
}
