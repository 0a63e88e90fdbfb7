// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra exec` and `copra shell`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use super::guest::CommonOptions;

/// Which command, in which guest.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra exec -p tdx -- /bin/ls -l /
  copra exec -k tree:. -p snp -- ./tools/testing/selftests/x86/test_vsyscall_64
  copra exec --package dmidecode -p snp -- dmidecode --no-sysfs
  dmesg | copra exec -p sev -- wc -l
  copra exec --writable results -- sh -c 'make -C tests > results/log'

The command sees this machine's files read-only, but for those of --writable and --copy; /tmp, /run and /var/tmp are empty and its own, unless the current folder is in
one of them. Forbidden accesses made while it
ran are listed on standard error when it has ended.

Exit codes: that of the command; 128 and the signal's number if one ended it; 126 if it could not be started, 127 if it was not
found; 1 with --strict if there were forbidden accesses; 2 if the guest did not come up or ended; 130 after Ctrl-C.")]
pub struct ExecArgs {
    /// The guest
    #[command(flatten)]
    pub options: ExecOptions,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Which shell, in which guest.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  copra shell -p tdx               your shell in a TDX guest, with this machine's files
  copra shell -k tree:. -p snp -- bash --norc

The terminal is the guest's: every key goes there, Ctrl-C too. The guest ends with the shell (exit, Ctrl-D). Forbidden accesses made
meanwhile are listed then. Exit codes: as of copra exec.")]
pub struct ShellArgs {
    /// The guest
    #[command(flatten)]
    pub options: ExecOptions,

    /// The command and its arguments [default: $SHELL, else /bin/sh]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// A guest for a command.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct ExecOptions {
    /// Which kernel as which guest
    #[command(flatten)]
    pub guest: CommonOptions,

    /// A Debian package, by its name or as the path of a .deb; may be given several times. Its files are seen in place of this
    /// machine's, with the packages it depends on and this machine does not have; nothing is installed here
    #[arg(long, value_name = "DEB")]
    pub package: Vec<String>,

    /// A folder of this machine that the command may change; may be given several times
    #[arg(long, value_name = "DIR")]
    pub writable: Vec<PathBuf>,

    /// A file or folder of this machine, copied for the command, which may change the copy: it is at the same path, and lost
    /// afterwards; may be given several times
    #[arg(long, value_name = "PATH")]
    pub copy: Vec<PathBuf>,

    /// A file of this machine as a disk, read-only: /dev/vda, /dev/vdb; may be given several times
    #[arg(long, value_name = "FILE")]
    pub disk: Vec<PathBuf>,

    /// The same, but the guest writes the file; these disks come after the others
    #[arg(long, value_name = "FILE")]
    pub writable_disk: Vec<PathBuf>,

    /// Forbidden accesses change what they do on hardware, and may end the guest
    #[arg(long)]
    pub faithful: bool,

    /// Leave `VIRTIO_F_ACCESS_PLATFORM` out of what devices offer, so that drivers give them any address
    #[arg(long)]
    pub virtio_legacy_dma: bool,

    /// End the guest at the first forbidden access, also while it boots
    #[arg(long)]
    pub fail_fast: bool,

    /// Exit with 1 if there were forbidden accesses
    #[arg(long)]
    pub strict: bool,

    /// Show backtraces of forbidden accesses
    #[arg(short, long)]
    pub verbose: bool,

    /// Write the result, with every forbidden access, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write as KTAP whether the command succeeded, and whether there was a forbidden access; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub ktap: Option<PathBuf>,
}

impl ExecOptions {
    /// Where reports are written.
    pub fn reports(&self) -> [Option<&Path>; 2] {
        [self.json.as_deref(), self.ktap.as_deref()]
    }
}
