// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra trace`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::ExecOptions;

/// What is recorded, in which guest.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra trace -p tdx -o boot.json                   the boot alone
  copra trace -p sev -o exec.json -- dd if=/dev/mem of=/dev/null bs=64 skip=15360 count=1
  copra trace -p snp -o case.json repro/mmap-hole   a case

Open the file at https://ui.perfetto.dev, or with trace_processor. Each vCPU is a track: where it runs the guest, each exit with its
kind and duration, calls to the module, firmware or hypervisor, conversions, injected interrupts, forbidden accesses. Recording takes
time itself, some microseconds for each exit.

Exit codes: of a command as of copra exec, of cases as of copra run, of the boot alone 0.")]
pub struct TraceArgs {
    /// The guest
    #[command(flatten)]
    pub options: ExecOptions,

    /// The file
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// Cases to run, named as for `copra run`
    #[arg(value_name = "CASE", conflicts_with = "command")]
    pub cases: Vec<String>,

    /// A command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}
