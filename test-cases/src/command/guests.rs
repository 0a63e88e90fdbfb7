// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest of a command: its kernel, the programs of its cases, the host it runs on.

use std::num::NonZeroUsize;
use std::time::Duration;

use engine::report::{CaseResult, Report};
use guest_kernel::Programs;
use types::{Platform, Policy};

use super::kernels::{self, Found};
use super::{Failed, host, start_over};
use crate::cli::{CommonOptions, DEFAULT_MEMORY, DEFAULT_TIMEOUT, ManyOptions};
use engine::case::Case;
use engine::guest::Target;
use engine::layouts::{self, NamedLayout};
use engine::observation::KvmHost;
use engine::run::{Activity, Watcher};
use engine::setup::Setup;
use vmm::platform::failure::{ConversionFailure, Failures};

/// The files of a guest that may be fetched over the network.
#[derive(Debug)]
pub struct Ready {
    found: Found,
    programs: Programs,
    layout: NamedLayout,
    fail: Failures,
}

impl Ready {
    /// Finds kernel and programs, fetched or built if need be. Options that no host can run are reported first.
    pub fn find(options: &CommonOptions, cases: &[Case], quiet: bool) -> Result<Self, Failed> {
        let layout = layout(options)?;
        layout.check(options.platform, options.memory).map_err(Failed::new)?;
        let fail = failures(&options.fail, options.platform)?;
        let found = kernels::find(&options.kernel, options.kernel_config.as_deref(), quiet)?;
        Ok(Self { found, programs: kernels::programs(cases, quiet), layout, fail })
    }

    /// The kernel.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// The guest of these options, checked against the policy its kernel was built for.
    pub fn target(self, options: &CommonOptions, many: &ManyOptions, host: &KvmHost) -> Target {
        let defaults = default_target(&self.found, options.platform, host);
        let memory_mib = self.layout.memory_mib.unwrap_or(options.memory);
        Target {
            setup: Setup { layout: self.layout.layout, fail: self.fail, ..defaults.setup },
            memory_mib,
            boots: many.boot,
            guests: many.guests.map_or_else(|| guests_for(memory_mib), usize::from),
            command_line: [&defaults.command_line[..], &options.cmdline_append].concat(),
            limit: Duration::from_secs(options.timeout),
            programs: self.programs,
            ..defaults
        }
    }
}

/// The rules of `--fail`, which must be for the guest's platform.
fn failures(rules: &[ConversionFailure], platform: Platform) -> Result<Failures, Failed> {
    let rules = Failures::new(rules).map_err(Failed::new)?;
    rules.check(platform).map_err(Failed::new)?;
    Ok(rules)
}

/// What firmware gives the guest of these options.
fn layout(options: &CommonOptions) -> Result<NamedLayout, Failed> {
    let mut layout = match &options.layout {
        Some(given) => layouts::find(given).map_err(Failed::new)?,
        None => NamedLayout::usual(),
    };
    layout.layout.rom = options.rom.or(layout.layout.rom);
    Ok(layout)
}

/// The guest of these options, in this process or, where KVM does not work, in the same command on the KVM host in QEMU.
pub fn target(
    options: &CommonOptions,
    many: &ManyOptions,
    cases: &[Case],
    quiet: bool,
) -> Result<Target, Failed> {
    let ready = Ready::find(options, cases, quiet)?;
    let host = start_over::kvm_host(host::choose_for(options.platform))?;
    Ok(ready.target(options, many, &host))
}

/// A kernel as a guest with every option at its default, checked against the policy the kernel was built for.
pub fn default_target(found: &Found, platform: Platform, host: &KvmHost) -> Target {
    Target {
        kernel: found.facts.clone(),
        image: found.image.clone(),
        config: found.config.clone(),
        platform,
        policy: found.facts.policy.unwrap_or(Policy::Upstream),
        setup: Setup::default(),
        watch: None,
        memory_mib: DEFAULT_MEMORY,
        boots: false,
        shuffle: None,
        guests: guests_for(DEFAULT_MEMORY),
        command_line: found.command_line.clone(),
        programs: Programs::default(),
        limit: Duration::from_secs(DEFAULT_TIMEOUT),
        console: false,
        host: host.clone(),
        timeline: None,
    }
}

/// How many guests of this size this machine has processors and memory for.
pub fn guests_for(memory_mib: u64) -> usize {
    /// MiB that a guest takes beside its memory.
    const OVERHEAD: u64 = 64;
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let available = available_mib().unwrap_or(u64::MAX);
    let fitting = usize::try_from(available / 2 / (memory_mib + OVERHEAD)).unwrap_or(usize::MAX);
    processors.min(fitting).max(1)
}

/// `MemAvailable` of /proc/meminfo.
fn available_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? >> 10)
}

/// Reports the boots of guests on standard error, and nothing else.
pub struct Silent {
    quiet: bool,
}

impl Silent {
    /// Reports nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }
}

impl Watcher for Silent {
    fn progress(&mut self, activity: &Activity<'_>) {
        if !self.quiet && matches!(activity, Activity::Boot { .. }) {
            eprintln!("copra: {activity}");
        }
    }

    fn up(&mut self, _report: &Report) {}

    fn case(&mut self, _result: &CaseResult) {}
}
