// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra spec`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use types::{Platform, Policy};

use super::guest::one_of;

/// Which kernel, platforms and policies.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra spec -p tdx --policy mmap-zeros         one table: Debian's 6.12 for clouds as tdx guest
  copra spec --release 7.3 -p snp               another release of Debian's
  copra spec -k build:range-deny -p sev         a kernel in the cache, or fetched or built
  copra spec --config ~/linux/.config           the configuration of your kernel
  copra spec --release 6.12 --also 7.3 --json   both, and for programs

No kernel is booted. With several policies the first is shown whole, the others by what differs from it.")]
pub struct SpecArgs {
    /// A kernel, `debian:SERIES`, `build:NAME`, `path:FILE` or `tree:DIR`: its configuration, release and policy
    #[arg(short, long, value_name = "KERNEL")]
    pub kernel: Option<String>,

    /// A .config instead; its first lines name the release
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The release, where the configuration does not name it; without a configuration, Debian's for it [default: 6.12]
    #[arg(long, value_name = "RELEASE")]
    pub release: Option<String>,

    /// Show what differs in this release of Debian's kernels; may be given several times
    #[arg(long, value_name = "RELEASE")]
    pub also: Vec<String>,

    /// A simulated platform; may be given several times [default: all]
    #[arg(short, long = "platform", value_name = "PLATFORM", value_parser = one_of!(Platform))]
    pub platforms: Vec<Platform>,

    /// A policy; may be given several times [default: that of the kernel named by -k, else all]
    #[arg(long = "policy", value_name = "POLICY", value_parser = one_of!(Policy))]
    pub policies: Vec<Policy>,

    /// Add to the kernel's command line, for example `lockdown=integrity`; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub cmdline_append: Vec<String>,

    /// As Markdown
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,

    /// As JSON
    #[arg(long)]
    pub json: bool,
}
