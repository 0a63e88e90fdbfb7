//! `copra audit`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::run::one_of;
use crate::platform::Platform;
use crate::setup::RomArea;

/// Which kernel as which guest.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra audit                                    Debian's 6.12 kernel as SEV guest
  copra audit -k path:./bzImage -p tdx -v        your kernel, with the evidence
  copra audit -k build:open-eperm -p snp --cases found/

Exit codes: 0 no hole, 1 a hole, 2 could not run, 130 interrupted. Notes are no holes.")]
pub struct AuditArgs {
    /// The kernel: `debian:SERIES`, `build:NAME` or `path:FILE`
    #[arg(short, long, default_value = "debian:6.12", value_name = "KERNEL")]
    pub kernel: String,

    /// What the guest believes it runs on
    #[arg(short, long, default_value = "sev", value_name = "PLATFORM", value_parser = one_of!(Platform))]
    pub platform: Platform,

    /// The kernel's .config, where it cannot be found next to the image
    #[arg(long, value_name = "FILE")]
    pub kernel_config: Option<PathBuf>,

    /// The ROM area at launch [default: unaccepted on snp, validated elsewhere]
    #[arg(long, value_name = "STATE", value_parser = one_of!(RomArea))]
    pub rom: Option<RomArea>,

    /// Show the evidence of every finding
    #[arg(short, long)]
    pub verbose: bool,

    /// Write the findings as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the case that shows each finding into this folder
    #[arg(long, value_name = "FOLDER")]
    pub cases: Option<PathBuf>,

    /// Guest memory in MiB
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub memory: u64,
}
