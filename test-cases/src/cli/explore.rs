// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra explore`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::guest::{CommonOptions, ManyOptions, one_of};
use types::Policy;

/// How many steps, in which guest, and where a disagreement is written.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra explore                                  20,000 steps in Debian's 6.12 kernel as SEV guest
  copra explore --seed 7 --steps 100000 -p tdx   more steps, from another seed, in a TDX guest
  copra explore -k build:mine --policy open-eperm
                                                 check your kernel against the model of a policy

Exit codes: 0 kernel and model agreed, 1 they disagreed, also if that did not repeat, 2 could not run, 130 interrupted.")]
pub struct ExploreArgs {
    /// Seed of the random number generator: the same seed gives the same steps
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    pub seed: u64,

    /// Steps to execute
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,

    /// The guest
    #[command(flatten)]
    pub guest: CommonOptions,

    /// How many guests
    #[command(flatten)]
    pub many: ManyOptions,

    /// The policy the model follows [default: the one the kernel was built for, else upstream]
    #[arg(long, value_name = "POLICY", value_parser = one_of!(Policy))]
    pub policy: Option<Policy>,

    /// Where the first disagreement is written as a case [default: explore-SEED.toml]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
