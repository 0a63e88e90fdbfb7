// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra matrix`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use types::Platform;

use super::guest::{DEFAULT_MEMORY, memory, one_of};

/// Which kernels on which platforms, and where the tables are written.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra matrix --html matrix.html                every policy's kernel in the cache, as none, sev, snp, tdx
  copra matrix --build                           build those that are missing first
  copra matrix -k build:upstream -k path:./bzImage -p snp
                                                 your kernel beside the one it is based on

The table on standard output is at most 100 columns wide, for a mail.

Exit codes: 0 every combination ran, 2 some could not run (the others are reported),
130 interrupted.")]
pub struct MatrixArgs {
    /// A kernel, `debian:SERIES`, `build:NAME` or `path:FILE`; may be given several times
    /// [default: debian:6.12 and every policy's kernel in the cache]
    #[arg(short, long = "kernel", value_name = "KERNEL")]
    pub kernels: Vec<String>,

    /// The platforms that are simulated; may be given several times [default: none, sev, snp, tdx]
    #[arg(short, long = "platform", value_name = "PLATFORM", value_parser = one_of!(Platform))]
    pub platforms: Vec<Platform>,

    /// Build the kernels of policies that are not in the cache; some minutes each
    #[arg(long, conflicts_with = "kernels")]
    pub build: bool,

    /// Write a self-contained HTML page with the tables and every guest's memory map; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Write every cell as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Print the tables as Markdown
    #[arg(long)]
    pub markdown: bool,

    /// Guest memory in MiB
    #[arg(long, default_value_t = DEFAULT_MEMORY, value_name = "MIB", value_parser = memory())]
    pub memory: u64,
}
