// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra kernel`.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::guest::one_of;
use types::Policy;

/// What to do with kernels.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra kernel list
  copra kernel fetch debian:6.12
  copra kernel source ~/linux-6.12
  copra kernel build --base 6.12 --policy open-eperm --name open-eperm
  copra kernel build --base 6.12 --patch 0001-mine.patch --config mine.config --name mine
  copra run --kernel build:mine")]
pub struct KernelArgs {
    /// What to do
    #[command(subcommand)]
    pub command: KernelCommand,
}

/// What to do with kernels.
#[derive(Debug, Subcommand)]
pub enum KernelCommand {
    /// Build a kernel from Debian's linux-source, with a policy's patch, your patches and options
    Build(KernelBuildArgs),
    /// List the kernels that can be named, and which of them are in the cache
    List,
    /// Download a packaged kernel without installing it
    Fetch(KernelFetchArgs),
    /// Copy the source that copra's kernels are built from to a folder, to change it and run it as `tree:DIR`
    Source(KernelSourceArgs),
}

/// What to build.
#[derive(Debug, Args)]
pub struct KernelBuildArgs {
    /// The series of linux-source to start from
    #[arg(long, default_value = "6.12", value_name = "SERIES")]
    pub base: String,

    /// Apply the patch and options of this policy
    #[arg(long, value_name = "POLICY", value_parser = one_of!(Policy))]
    pub policy: Option<Policy>,

    /// Apply a patch with `patch -p1`; may be given several times, applied in this order
    #[arg(long = "patch", value_name = "FILE")]
    pub patches: Vec<PathBuf>,

    /// Merge a fragment of kernel options; may be given several times, later ones override earlier ones
    #[arg(long = "config", value_name = "FILE")]
    pub fragments: Vec<PathBuf>,

    /// The name by which to run it: `build:NAME`
    #[arg(long, value_name = "NAME")]
    pub name: String,
}

/// What to copy.
#[derive(Debug, Args)]
pub struct KernelSourceArgs {
    /// The series of linux-source
    #[arg(long, default_value = "6.12", value_name = "SERIES")]
    pub base: String,

    /// The folder to create
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// What to fetch.
#[derive(Debug, Args)]
pub struct KernelFetchArgs {
    /// The kernels, as in `debian:6.12`
    #[arg(required = true, value_name = "KERNEL")]
    pub kernels: Vec<String>,
}
