//! `copra explore`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::run::one_of;
use crate::platform::Platform;
use crate::policy::Policy;

/// How long, in which guest, and where a disagreement goes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra explore                                  20,000 steps in Debian's 6.12 kernel as SEV guest
  copra explore --seed 7 --steps 100000 -p tdx   more, and other ones, in a TDX guest
  copra explore -k build:mine --policy open-eperm
                                                 does your kernel do what the policy says, everywhere?

Exit codes: 0 kernel and model agreed, 1 they disagreed, 2 could not run, 130 interrupted.")]
pub struct ExploreArgs {
    /// Where random numbers start: the same seed gives the same steps
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    pub seed: u64,

    /// Steps to execute
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,

    /// The kernel: `debian:SERIES`, `build:NAME` or `path:FILE`
    #[arg(short, long, default_value = "debian:6.12", value_name = "KERNEL")]
    pub kernel: String,

    /// What the guest believes it runs on
    #[arg(short, long, default_value = "sev", value_name = "PLATFORM", value_parser = one_of!(Platform))]
    pub platform: Platform,

    /// The policy the model follows [default: the one the kernel was built for, else upstream]
    #[arg(long, value_name = "POLICY", value_parser = one_of!(Policy))]
    pub policy: Option<Policy>,

    /// The kernel's .config, where it cannot be found next to the image
    #[arg(long, value_name = "FILE")]
    pub kernel_config: Option<PathBuf>,

    /// Where the first disagreement is written as a case [default: explore-SEED.toml]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Guest memory in MiB
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub memory: u64,

    /// Seconds after which a silent guest counts as hung
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,

    /// Add to the kernel's command line; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub cmdline_append: Vec<String>,
}
