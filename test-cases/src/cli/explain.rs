// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra explain`.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use types::Mode;

use super::guest::{CommonOptions, ManyOptions, one_of};
use engine::place::parse_number;

/// Which page, in which guest, and the cases to run there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra explain 0x472 repro/sept-violation -p tdx   from launch to the end of the guest
  copra explain 0x20000 repro/mmap-hole -p snp      low RAM, accessed by three paths

Exit codes: 0 history printed, 2 could not run, 130 interrupted.")]
pub struct ExplainArgs {
    /// A guest physical address in the page, without the C-bit or shared bit
    #[arg(value_name = "GPA", value_parser = address)]
    pub gpa: u64,

    /// Cases to run, named as for `copra run`; if none is named, only the boot is shown
    #[arg(value_name = "CASE")]
    pub cases: Vec<String>,

    /// The guest
    #[command(flatten)]
    pub guest: CommonOptions,

    /// How many guests
    #[command(flatten)]
    pub many: ManyOptions,

    /// The consequence of a forbidden access; a case that depends on one sets its own mode
    #[arg(long, default_value = "faithful", value_name = "MODE", value_parser = one_of!(Mode))]
    pub mode: Mode,
}

fn address(text: &str) -> Result<u64, String> {
    parse_number(text).ok_or_else(|| format!("`{text}` is not an address: write it as in 0x472"))
}
