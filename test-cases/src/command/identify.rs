// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra identify`: which policy a kernel follows.

use engine::report::RunEnd;
use serde_json::json;
use types::{Platform, Policy};

use super::{Failed, guests, host, interrupt, kernels, start_over};
use crate::cli::IdentifyArgs;
use crate::exit::Exit;
use engine::guest::Target;
use engine::identify;

/// Boots the kernel twice and identifies its policy from the results.
pub fn identify(args: &IdentifyArgs, quiet: bool) -> Result<Exit, Failed> {
    let found = kernels::find(&args.kernel, args.kernel_config.as_deref(), quiet)?;
    let host = start_over::kvm_host(host::choose())?;
    let case = identify::case();
    let mut reports = Vec::new();
    for platform in [Platform::Sev, Platform::None] {
        let defaults = guests::default_target(&found, platform, &host);
        let target = Target { policy: Policy::Upstream, ..defaults };
        let cases = std::slice::from_ref(&case);
        let report = engine::run::run(&target, cases, &mut guests::Silent::new(quiet), &interrupt::flag()?)
            .map_err(Failed::new)?;
        match &report.ended {
            RunEnd::Interrupted => return Ok(Exit::Interrupted),
            RunEnd::Failed(why) => return Err(Failed::new(why)),
            RunEnd::Complete => reports.push(report),
        }
    }
    let [confidential, ordinary] = reports.as_slice() else { return Ok(Exit::CouldNotRun) };
    let identity = identify::identify(confidential, ordinary);
    if args.json {
        let value = json!({
            "schema": "copra-identify/1",
            "copra": env!("CARGO_PKG_VERSION"),
            "kernel": confidential.kernel,
            "identity": identity,
        });
        outln!("{value:#}");
    } else {
        outln!("{} ({})", confidential.kernel.spec, confidential.kernel.release);
        match &identity {
            Some(identity) if identity.policy == Policy::Upstream => {
                outln!("follows none of the thread's policies: {}", identity.policy.about());
            }
            Some(identity) => outln!("follows {}: {}", identity.policy, identity.policy.about()),
            None => outln!("matches no policy of the thread"),
        }
        for line in identity.iter().flat_map(|identity| &identity.because) {
            outln!("  {line}");
        }
    }
    Ok(if identity.is_some() { Exit::Success } else { Exit::Finding })
}
