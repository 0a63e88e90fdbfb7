// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra audit`.

use std::path::PathBuf;

use clap::Args;

use super::guest::{CommonOptions, ManyOptions};

/// Which kernel as which guest.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra audit                                    Debian's 6.12 kernel as SEV guest
  copra audit -k path:./bzImage -p tdx -v        your kernel, with the evidence
  copra audit -k build:open-eperm -p snp --cases found/
  copra audit --conversions -p tdx               each conversion of a boot refused in turn
  copra audit --kexec -p tdx                     what the kernel leaves to the next one

Exit codes: 0 no hole, 1 a hole or a forbidden access while booting that is not known, 2 could not run or could not
access every place, 130 interrupted. Notes are not holes.")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct AuditArgs {
    /// The guest
    #[command(flatten)]
    pub guest: CommonOptions,

    /// How many guests
    #[command(flatten)]
    pub many: ManyOptions,

    /// Refuse the conversions of memory of a boot in turn, one of each call site, in a boot each (docs/conversions.md)
    #[arg(long, conflicts_with_all = ["cases", "fail"])]
    pub conversions: bool,

    /// The same with every conversion, not one of each call site
    #[arg(long, requires = "conversions")]
    pub every: bool,

    /// Start the kernel once more, by kexec and by a panic with a crash kernel loaded: what it leaves shared or unaccepted that the
    /// next one takes for private, and what the jump itself accesses (docs/kexec.md)
    #[arg(long, conflicts_with_all = ["cases", "conversions"])]
    pub kexec: bool,

    /// Show the evidence of every finding
    #[arg(short, long)]
    pub verbose: bool,

    /// Write the findings as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write a case that reproduces each finding into this folder
    #[arg(long, value_name = "FOLDER")]
    pub cases: Option<PathBuf>,
}
