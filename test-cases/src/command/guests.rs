//! What commands that boot guests of their own have in common.

use std::time::Duration;

use super::kernels::Found;
use crate::engine::{Target, Watcher};
use crate::observation::KvmHost;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::report::{CaseResult, Report};
use crate::setup::Setup;

/// A silent guest counts as hung after this.
const LIMIT: Duration = Duration::from_secs(60);
/// Guest memory in MiB.
const MEMORY: u64 = 512;

/// A kernel as a guest of the usual kind, held to no policy.
pub fn target(found: &Found, platform: Platform, host: &KvmHost) -> Target {
    Target {
        kernel: found.facts.clone(),
        image: found.image.clone(),
        config: found.config.clone(),
        platform,
        policy: Policy::Upstream,
        setup: Setup::default(),
        watch: None,
        memory_mib: MEMORY,
        command_line: Vec::new(),
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
