// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra run` and `copra repro`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use engine::report::shard::Shard;
use types::{Mode, Platform, Policy};

use super::guest::{CommonOptions, DEFAULT_KERNEL, ManyOptions, one_of};
use types::names::named;

named! {
    /// What can be reproduced.
    pub enum ReproSubject ("reproduction") {
        MmapHole = "mmap-hole", "mmap(2) of low memory gives bytes that read(2) denies, through another encryption view";
        SeptViolation = "sept-violation", "one byte read from /dev/mem, and the guest is terminated at its reboot";
        RomSigbus = "rom-sigbus", "a load from the unvalidated ROM area of an SNP guest ends in SIGBUS";
        KexecUnaccepted = "kexec-unaccepted", "kexec in a TD puts the next kernel into memory that was never accepted";
    }
}

impl ReproSubject {
    /// The platform it was reported on.
    pub const fn platform(self) -> Platform {
        match self {
            Self::MmapHole => Platform::Sev,
            Self::SeptViolation | Self::KexecUnaccepted => Platform::Tdx,
            Self::RomSigbus => Platform::Snp,
        }
    }
}

/// What to run, on what, and where the results are written.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[command(after_help = "Examples:
  copra run                                  every case, Debian's 6.12 kernel, SEV guest
  copra run mmap/low-ram -v                  one case, with every byte it read
  copra run 'read/*' tag:view                cases by pattern and by tag
  copra run ./my-case.toml                   a case of your own
  copra run --platform none --json out.json  an ordinary guest, results for a program
  copra run --shard 1/4 --json 1.json        a quarter of them; `copra merge` puts four reports together
  copra run --kernel build:mine --ktap       a kernel you built, output as from kselftest
  git bisect run copra run --bisect -k tree:. --policy open-eperm open/modes
                                             the commit that introduced the failure

Exit codes: 0 all as specified (known holes included), 1 a denial is missing, a result is unexpected,
a case is inconclusive, or a boot made a forbidden access that is not known, 2 could not run,
130 interrupted; with --bisect 125 and 128 instead of 2, and 125 if inconclusive. Reports are always written, with
the cases that ran.")]
pub struct RunArgs {
    /// Cases by name, theme, pattern, `tag:NAME`, or path of a .toml file or folder; all if none is named
    #[arg(value_name = "CASE")]
    pub cases: Vec<String>,

    /// The guest
    #[command(flatten)]
    pub guest: CommonOptions,

    /// How many guests
    #[command(flatten)]
    pub many: ManyOptions,

    /// The policy the kernel is checked against [default: the one the kernel was built for, else upstream]
    #[arg(long, value_name = "POLICY", value_parser = one_of!(Policy))]
    pub policy: Option<Policy>,

    /// Run one part of the cases, for several machines: the part of a case depends on its name alone; see `copra merge`
    #[arg(long, value_name = "INDEX/COUNT")]
    pub shard: Option<Shard>,

    /// Run the cases in an order of this number's; it changes no verdict
    #[arg(long, value_name = "SEED")]
    pub shuffle: Option<u64>,

    /// Write everything that was observed as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write a JUnit report; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,

    /// Print results as KTAP
    #[arg(long)]
    pub ktap: bool,

    /// Show the evidence for every case, not only for those that failed
    #[arg(short, long)]
    pub verbose: bool,

    /// The consequence of a forbidden access; a case that depends on one sets its own mode
    #[arg(long, default_value = "record", value_name = "MODE", value_parser = one_of!(Mode))]
    pub mode: Mode,

    /// TDX: raise #VE for private memory not accepted, instead of ending the TD
    #[arg(long)]
    pub sept_ve: bool,

    /// SNP, TDX: percent of the free RAM that is launched unaccepted [default: 100, or the layout's]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub unaccepted: Option<u8>,

    /// Show the guest's console output as it is written
    #[arg(long)]
    pub console: bool,

    /// Exit with the codes of `git bisect run`: 125 for a commit that does not build or boot, 128 where nothing can be tested
    #[arg(long)]
    pub bisect: bool,
}

/// What to reproduce.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  copra repro mmap-hole
  copra repro mmap-hole --platform none  the hole exists without encryption too
  copra repro mmap-hole --no-build       without the patched kernel, whose build takes some minutes
  copra repro sept-violation             the first report: a TDX guest is terminated after a read
  copra repro rom-sigbus                 the report for SEV-SNP
  copra repro kexec-unaccepted           kexec in a TD; there is no patched kernel for it

Exit codes: 0 the documented behaviour was reproduced, the patch's denial included; 1 it was not;
2 could not run.")]
pub struct ReproArgs {
    /// What to reproduce
    #[arg(value_name = "WHAT", value_parser = one_of!(ReproSubject))]
    pub subject: ReproSubject,

    /// The kernel that shows it: `debian:SERIES`, `build:NAME`, `path:FILE` or `tree:DIR`
    #[arg(short, long, default_value = DEFAULT_KERNEL, value_name = "KERNEL")]
    pub kernel: String,

    /// The platform that is simulated for the guest [default: the platform it was reported on]
    #[arg(short, long, value_name = "PLATFORM", value_parser = one_of!(Platform))]
    pub platform: Option<Platform>,

    /// Do not build the patched kernel; show it only if it is in the cache
    #[arg(long)]
    pub no_build: bool,

    /// Also show every step of the case
    #[arg(short, long)]
    pub verbose: bool,
}
