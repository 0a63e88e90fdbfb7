// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra boot-audit`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use types::Platform;

use super::guest::{DEFAULT_KERNEL, DEFAULT_MEMORY, DEFAULT_TIMEOUT, memory, one_of};

/// Which kernel, in which guests.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra boot-audit                               Debian's 6.12 in every layout, on every platform
  copra boot-audit -k tree:. -p tdx -p snp       your tree, on two platforms
  copra boot-audit --fuzz 100 --seed 7 -p tdx    100 layouts at random, the same ones for the same seed
  copra boot-audit --layout ./mine.toml --cmdline 'nosmp' --cmdline 'memory_hotplug.online_policy=online'
                                                 one layout with three command lines: the usual one and these

Exit codes: 0 no finding, 1 a death, a warning or a forbidden access that is not known, 2 could not run or a boot gave no
result, 130 interrupted.")]
pub struct BootAuditArgs {
    /// The kernel: `debian:SERIES`, `build:NAME`, `path:FILE` or `tree:DIR`
    #[arg(short, long, default_value = DEFAULT_KERNEL, value_name = "KERNEL")]
    pub kernel: String,

    /// The kernel's .config, where it cannot be found next to the image
    #[arg(long, value_name = "FILE")]
    pub kernel_config: Option<PathBuf>,

    /// A platform; may be given several times [default: all that the kernel is built for]
    #[arg(short, long = "platform", value_name = "PLATFORM", value_parser = one_of!(Platform))]
    pub platforms: Vec<Platform>,

    /// A layout, by name (`copra list --layouts`) or file; may be given several times [default: all]
    #[arg(long = "layout", value_name = "NAME|FILE")]
    pub layouts: Vec<String>,

    /// Boot each layout once more with this added to the command line; may be given several times
    #[arg(long = "cmdline", value_name = "TEXT", allow_hyphen_values = true)]
    pub command_lines: Vec<String>,

    /// Draw this many layouts at random for each platform, instead of those that have names
    #[arg(long, value_name = "N", conflicts_with = "layouts", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub fuzz: Option<u32>,

    /// The layouts that are drawn follow from this number
    #[arg(long, default_value_t = 1, value_name = "SEED", requires = "fuzz")]
    pub seed: u64,

    /// Do not search for the simplest layout that shows a finding
    #[arg(long)]
    pub no_shrink: bool,

    /// Write the simplest layout of each finding into this folder, to be given to `--layout`
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,

    /// Guest memory in MiB, where a layout does not say
    #[arg(long, default_value_t = DEFAULT_MEMORY, value_name = "MIB", value_parser = memory())]
    pub memory: u64,

    /// Seconds after which a guest without output counts as hung
    #[arg(long, default_value_t = DEFAULT_TIMEOUT, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,

    /// Guests that boot at the same time [default: one per processor, as far as memory allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub guests: Option<u16>,

    /// Show every boot, and the evidence of every finding
    #[arg(short, long)]
    pub verbose: bool,

    /// Write boots and findings as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
