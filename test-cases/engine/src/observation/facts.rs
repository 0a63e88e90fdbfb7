// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel, platform and host of a run, and the guest's counters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{BadCall, GuestLayout, Mode, PlacedRegion, Platform, Policy, RomArea};

use crate::setup::Setup;
use vmm::platform::failure::Failures;

/// The kernel under test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFacts {
    /// The kernel as the user named it: `debian:6.12`.
    pub spec: String,
    /// `uname -r`.
    pub release: String,
    /// `uname -v`.
    pub version: String,
    /// The package version, where it came from a package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// The image's SHA-256.
    pub sha256: String,
    /// The image's GNU build id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// The SHA-256 of its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_sha256: Option<String>,
    /// Its policy, where known without running it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// The options that matter here, without `CONFIG_`.
    pub config: BTreeMap<String, String>,
    /// The command line it was booted with.
    pub cmdline: String,
    /// The lines of its log that name the guest type it detected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// The platform the guest runs on, and the KVM host that runs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlatformFacts {
    /// The platform.
    pub platform: Platform,
    /// The address bit that selects the view, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view_bit: Option<u8>,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// What is simulated, one sentence each.
    pub simulated: Vec<String>,
    /// What real hardware has and this does not, one sentence each.
    pub not_simulated: Vec<String>,
    /// Where KVM ran.
    pub kvm: KvmHost,
    /// Instructions of the kernel image that were replaced.
    pub rewritten: Vec<RewrittenOpcode>,
    /// Kernel modules in the guest's initramfs that contain such instructions and were left alone: they fault there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unserved_modules: Vec<String>,
    /// Why functions or tasks have no names in this report, where they have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names_lacking: Option<String>,
    /// Why a guest's log could not be read, where it could not: its type then rests on what the VMM saw alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_unread: Option<String>,
    /// Where the guest's regions are.
    pub regions: Vec<PlacedRegion>,
    /// Forbidden accesses during the first boot, before any case.
    pub boot_events: Vec<types::AccessEvent>,
    /// Malformed calls during the first boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad_calls: Vec<BadCall>,
    /// What the guest did before its agent came up that only a guest of its platform does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_type: Option<String>,
    /// Memory not accepted when the agent was up, where there is such a thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unaccepted: Option<Unaccepted>,
    /// The changes of the watched page until the agent was up (`copra explain`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<types::PageChange>,
    /// How the guest was set up.
    pub setup: SetupFacts,
    /// Seconds from the start of the VMM's work to the agent's greeting, first boot.
    pub boot_seconds: f64,
    /// When the first guest was booted, in seconds since 1970, if an earlier run booted and kept it; this run restored it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted_at: Option<u64>,
}

/// Where KVM ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "where", rename_all = "kebab-case")]
pub enum KvmHost {
    /// On this machine.
    Direct,
    /// In a virtual machine that emulates a processor with virtualisation.
    Emulated {
        /// What emulates it: `QEMU 7.2 (TCG)`.
        by: String,
    },
}

/// An instruction that was replaced because KVM does not exit to user space for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrittenOpcode {
    /// Its address.
    #[serde(serialize_with = "super::address", deserialize_with = "types::json::read_address")]
    pub address: u64,
    /// What it was: `TDCALL`.
    pub was: String,
    /// The first 8 bytes of the SHA-256 of the code around it, before the rewrite.
    pub code_hash: String,
}

/// The unaccepted memory that guest and VMM count at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unaccepted {
    /// `Unaccepted` in /proc/meminfo, KiB.
    pub guest_kib: u64,
    /// Pages the VMM holds back, KiB.
    pub vmm_kib: u64,
}

/// How the guest was set up, as far as it can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupFacts {
    /// What follows a forbidden access; a case may override it.
    pub mode: Mode,
    /// The ROM area, where it was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rom: Option<RomArea>,
    /// #VE instead of the TD's end.
    pub sept_ve: bool,
    /// Percent of the free RAM launched unaccepted.
    pub unaccepted_percent: u8,
    /// What firmware gave the guest, where anything but the two before was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<GuestLayout>,
    /// The rules by which conversions of memory fail.
    #[serde(default, skip_serializing_if = "Failures::is_empty")]
    pub fail: Failures,
}

impl From<Setup> for SetupFacts {
    fn from(setup: Setup) -> Self {
        let Setup { mode, layout, sept_ve, lockdown: _, iomem: _, mutant: _, fail } = setup;
        let unaccepted_percent = layout.unaccepted.percent;
        let mut usual = GuestLayout { rom: layout.rom, ..GuestLayout::default() };
        usual.unaccepted.percent = unaccepted_percent;
        let chosen = (layout != usual).then_some(layout);
        Self { mode, rom: layout.rom, sept_ve, unaccepted_percent, layout: chosen, fail }
    }
}

/// What the run cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Guests booted.
    pub boots: u64,
    /// Exits from the guest to the VMM.
    pub exits: u64,
    /// Page faults the VMM handled.
    pub faults: u64,
    /// Pages that changed from one view to the other.
    pub conversions: u64,
    /// Forbidden accesses outside of any case.
    pub boot_events: u64,
    /// Forbidden accesses in all, those a guest's later claim made legal not counted.
    pub mismatches: u64,
    /// Forbidden accesses beyond what is kept of one guest.
    pub not_kept: u64,
    /// Pages the guests accepted or validated.
    pub accepted: u64,
    /// Calls to the platform's module, firmware and hypervisor.
    pub calls: u64,
    /// MSR accesses the VMM answered.
    pub msrs: u64,
    /// Exceptions the VMM raised.
    pub exceptions: u64,
    /// Conversions refused because a rule says so.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub refused: u64,
}

impl Counters {
    /// The sums.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            boots: self.boots + other.boots,
            exits: self.exits + other.exits,
            faults: self.faults + other.faults,
            conversions: self.conversions + other.conversions,
            boot_events: self.boot_events + other.boot_events,
            mismatches: self.mismatches + other.mismatches,
            not_kept: self.not_kept + other.not_kept,
            accepted: self.accepted + other.accepted,
            calls: self.calls + other.calls,
            msrs: self.msrs + other.msrs,
            exceptions: self.exceptions + other.exceptions,
            refused: self.refused + other.refused,
        }
    }
}
