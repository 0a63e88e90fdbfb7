// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra explain`.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use types::Mode;

use super::guest::{CommonOptions, one_of};
use engine::place::parse_number;

/// Which page, in which guest, and what is done there meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra explain 0x472 repro/sept-violation -p tdx   from the launch to the guest's end
  copra explain 0x20000 repro/mmap-hole -p snp      low RAM, met through three paths

Exit codes: 0 history printed, 2 could not run, 130 interrupted.")]
pub struct ExplainArgs {
    /// A guest physical address in the page, without any encryption bit
    #[arg(value_name = "GPA", value_parser = address)]
    pub gpa: u64,

    /// Cases to run meanwhile, named as for `copra run`; none: the boot alone
    #[arg(value_name = "CASE")]
    pub cases: Vec<String>,

    /// The guest
    #[command(flatten)]
    pub guest: CommonOptions,

    /// What follows a forbidden access; a case that depends on it says so itself
    #[arg(long, default_value = "faithful", value_name = "MODE", value_parser = one_of!(Mode))]
    pub mode: Mode,
}

fn address(text: &str) -> Result<u64, String> {
    parse_number(text).ok_or_else(|| format!("`{text}` is no address: write it as in 0x472"))
}
