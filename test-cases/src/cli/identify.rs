// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra identify`.

use clap::Args;

use super::guest::DEFAULT_KERNEL;

/// Which kernel.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra identify -k path:./bzImage --kernel-config .config
  copra identify -k build:range-deny

Exit codes: 0 it follows a policy of the thread, or none (upstream); 1 it matches no policy; 2 could not run.")]
pub struct IdentifyArgs {
    /// The kernel: `debian:SERIES`, `build:NAME` or `path:FILE`
    #[arg(short, long, default_value = DEFAULT_KERNEL, value_name = "KERNEL")]
    pub kernel: String,

    /// The kernel's .config, where it cannot be found next to the image
    #[arg(long, value_name = "FILE")]
    pub kernel_config: Option<std::path::PathBuf>,

    /// As JSON
    #[arg(long)]
    pub json: bool,
}
