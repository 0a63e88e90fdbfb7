// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra gdb`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ExecOptions;

/// Which guest, and how gdb reaches it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra gdb -p sev -- dd if=/dev/mem of=/dev/null bs=64 skip=15360 count=1
                                   stops before the command starts; set breakpoints then
  copra gdb -k tree:. -p tdx       stops at the kernel's first instruction
  gdb -ex 'target remote | copra gdb --stdio -p snp -- true'

The line that copra prints starts gdb with the kernel's symbols, at the addresses it runs at. Page states stay enforced: gdb reads
memory through the guest's page tables and the view they name, and makes no forbidden access. One of the guest's stops it with SIGBUS at
its instruction; with `handle SIGBUS nostop print` it is only shown. `monitor help` lists what only copra knows.

The command's standard input is empty. Exit codes: as of copra exec; 130 if gdb kills the guest.")]
pub struct GdbArgs {
    /// The guest
    #[command(flatten)]
    pub options: ExecOptions,

    /// Where gdb connects
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1234", conflicts_with = "stdio")]
    pub listen: SocketAddr,

    /// Speak with gdb on standard input and output; the command's output is on standard error then
    #[arg(long)]
    pub stdio: bool,

    /// Where the guest first stops [default: command if there is one, else entry]
    #[arg(long, value_name = "POINT")]
    pub at: Option<StartPoint>,

    /// Where the file with the kernel's symbols is written [default: in the cache]
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,

    /// The command and its arguments; without one the guest runs until gdb kills it, or Ctrl-C
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Where a guest first stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StartPoint {
    /// At the kernel's first instruction
    Entry,
    /// When it has booted, before the command starts
    Command,
}
