// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What commands that boot guests of their own have in common.

use std::time::Duration;

use engine::report::{CaseResult, Report};
use types::{Platform, Policy};

use super::Failed;
use super::kernels::{self, Found};
use crate::cli::GuestArgs;
use engine::guest::Target;
use engine::observation::KvmHost;
use engine::run::Watcher;
use engine::setup::Setup;

/// A silent guest counts as hung after this.
const LIMIT: Duration = Duration::from_secs(60);
/// Guest memory in MiB.
pub(super) const MEMORY: u64 = 512;

/// The kernel of a command's guest, fetched or built if need be. What no host could run is told before.
pub fn find(args: &GuestArgs, quiet: bool) -> Result<Found, Failed> {
    engine::guest::check(args.memory).map_err(Failed::new)?;
    kernels::find(&args.kernel, args.kernel_config.as_deref(), quiet)
}

/// The guest a command was asked for, held to the policy its kernel was built for.
pub fn target(args: &GuestArgs, found: &Found, host: &KvmHost) -> Target {
    Target {
        policy: found.facts.policy.unwrap_or(Policy::Upstream),
        setup: Setup { rom: args.rom, ..Setup::default() },
        memory_mib: args.memory,
        command_line: [&found.command_line[..], &args.cmdline_append].concat(),
        limit: Duration::from_secs(args.timeout),
        ..usual(found, args.platform, host)
    }
}

/// A kernel as a guest of the usual kind, held to no policy.
pub fn usual(found: &Found, platform: Platform, host: &KvmHost) -> Target {
    Target {
        kernel: found.facts.clone(),
        image: found.image.clone(),
        config: found.config.clone(),
        platform,
        policy: Policy::Upstream,
        setup: Setup::default(),
        watch: None,
        memory_mib: MEMORY,
        command_line: found.command_line.clone(),
        programs: guest_kernel::Programs::default(),
        limit: LIMIT,
        console: false,
        host: host.clone(),
    }
}

/// Says on standard error when a guest boots, and nothing else.
pub struct Silent {
    quiet: bool,
}

impl Silent {
    /// Says nothing at all if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }
}

impl Watcher for Silent {
    fn progress(&mut self, text: &str) {
        if !self.quiet && text.starts_with("booting") {
            eprintln!("copra: {text}");
        }
    }

    fn up(&mut self, _report: &Report) {}

    fn case(&mut self, _result: &CaseResult) {}
}
