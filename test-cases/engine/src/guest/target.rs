// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parameters of a run, and what is derived from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use guest_kernel::Programs;
use guest_kernel::initramfs::Initramfs;
use types::{Platform, Policy};
use vmm::machine::timeline::Timeline;

use super::stored::KernelImage;
use crate::case::Case;
use crate::observation::{KernelFacts, KvmHost};
use crate::setup::Setup;

/// The parameters of a run.
#[derive(Debug, Clone)]
pub struct Target {
    /// The kernel, as far as known without booting it.
    pub kernel: KernelFacts,
    /// Its image.
    pub image: KernelImage,
    /// Every option it was built with, where known.
    pub config: Option<BTreeMap<String, String>>,
    /// The simulated platform.
    pub platform: Platform,
    /// The policy it is judged by.
    pub policy: Policy,
    /// What else was chosen about the guest.
    pub setup: Setup,
    /// Note every change of the page at this address.
    pub watch: Option<u64>,
    /// Guest RAM in MiB.
    pub memory_mib: u64,
    /// Added to the kernel's command line.
    pub command_line: Vec<String>,
    /// Programs for cases that run some; they are in the guest only if one of the cases does.
    pub programs: Programs,
    /// Every guest is booted, though one may have been kept by an earlier run.
    pub boots: bool,
    /// Run the cases in an order of this number's.
    pub shuffle: Option<u64>,
    /// Guests that run cases at the same time.
    pub guests: usize,
    /// Seconds after which a silent guest counts as hung.
    pub limit: Duration,
    /// Show the guest's console on standard error as it is written.
    pub console: bool,
    /// Where KVM runs.
    pub host: KvmHost,
    /// Records what the guests do.
    pub timeline: Option<Arc<dyn Timeline>>,
}

impl Target {
    /// The policy, as far as the kernel's options let it be one.
    pub(crate) fn policy_in_force(&self) -> Policy {
        let is_strict =
            |config: &BTreeMap<String, String>| config.get("STRICT_DEVMEM").is_some_and(|value| value == "y");
        self.policy.in_force(self.config.as_ref().is_none_or(is_strict))
    }

    /// The agent, and the programs that the cases run: they are some MiB, which every boot would have to unpack.
    pub(crate) fn initramfs(&self, cases: &[Case]) -> io::Result<Vec<u8>> {
        let mut initramfs = Initramfs::new();
        let programs: Vec<&str> = cases.iter().flat_map(Case::programs).collect();
        for (path, file) in self.programs.files_of(&programs) {
            initramfs = initramfs.program(path, &fs::read(file)?);
        }
        initramfs.build()
    }

    /// Why a case cannot run, if a program of its is not there.
    pub(crate) fn missing_program_of(&self, case: &Case) -> Option<String> {
        let lacks = |program| self.programs.lacks(program).map(|why| format!("no {program}: {why}"));
        case.programs().into_iter().find_map(lacks)
    }
}
