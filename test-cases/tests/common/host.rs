// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Carries out a plan where KVM works: in this process, or in one KVM host inside QEMU.

use std::path::Path;
use std::process::Command;

use engine::case::Case;
use engine::library;
use guest_kernel::{Cache, Catalogue, Silent};

use super::job::Plan;

/// The option with which a test binary is started again to carry out a plan.
pub const INNER: &str = "--carry-out";

/// Carries out a plan in `folder`, which holds the outcomes afterwards.
pub fn carry_out(plan: &Plan, folder: &Path) -> Result<(), String> {
    fetch_programs()?;
    let text = serde_json::to_string(plan).map_err(|error| error.to_string())?;
    std::fs::write(folder.join("plan"), text).map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = if works_here() {
        Command::new(program)
    } else {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/kvm-host");
        let mut command = Command::new(script);
        command.args(["--qemu", "--"]).arg(program);
        command
    };
    let output = command.arg(INNER).arg(folder).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// The programs that cases run; inside the KVM host there is no network.
fn fetch_programs() -> Result<(), String> {
    let cases = library::all().map_err(|error| error.to_string())?;
    let programs: Vec<&str> = cases.iter().flat_map(Case::programs).collect();
    let cache = Cache::open().map_err(|error| error.to_string())?;
    let catalogue = Catalogue::new(cache, Box::new(Silent));
    catalogue.programs(&programs).map(|_| ()).map_err(|error| error.to_string())
}

fn works_here() -> bool {
    match std::env::var("COPRA_KVM_HOST").as_deref() {
        _ if std::env::var_os("COPRA_IN_KVM_HOST").is_some() => true,
        Ok("qemu") => false,
        Ok("here") => true,
        _ => vmm::probe::probe(types::Platform::Sev).is_ok(),
    }
}
