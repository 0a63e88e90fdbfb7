// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra suite`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args};
use types::Mode;

use super::guest::{CommonOptions, ManyOptions, one_of};

/// Which suite, in which guest.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("suite").required(true).args(["kunit", "command"]), after_help = "Examples:
  copra suite -k build:kunit -p tdx --kunit           every KUnit suite of that kernel, while it boots
  copra suite -k tree:. -p snp --kunit 'devmem.*mmap*' some tests of one suite, in a kernel of yours
  copra suite -p sev -- ./tools/testing/selftests/size/get_size
                                                      a program that prints KTAP or TAP, as from kselftest
  copra suite -p sev --writable . -- make -C tools/testing/selftests TARGETS=mm run_tests

Each test is a case of the report, with the forbidden accesses made while it ran. One that made any has failed, and so has
one with a result `not ok`. A plan that is not fulfilled, an output without a plan or cut short, and a guest that ended are
never a pass. KUnit prints by the kernel's log; of a command only standard output counts, and is shown in the reports.

Exit codes: 0 every test passed or was skipped, 1 a test failed or a forbidden access was made, 2 could not run or did not
run to its end, 130 interrupted.")]
pub struct SuiteArgs {
    /// The guest
    #[command(flatten)]
    pub guest: CommonOptions,

    /// How many guests
    #[command(flatten)]
    pub many: ManyOptions,

    /// Run the KUnit suites that are built into the kernel, or those that FILTER names: `SUITE.TEST`, with `*` and `?`
    #[arg(long, value_name = "FILTER", num_args = 0..=1)]
    pub kunit: Option<Option<String>>,

    /// A command that prints KTAP or TAP, and its arguments; it sees this machine's files as with `copra exec`
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,

    /// A Debian package whose files the command sees in place of this machine's, as with `copra exec`; may be given several times
    #[arg(long, value_name = "DEB")]
    pub package: Vec<String>,

    /// A folder of this machine that the command may change; may be given several times
    #[arg(long, value_name = "DIR")]
    pub writable: Vec<PathBuf>,

    /// The consequence of a forbidden access
    #[arg(long, default_value = "record", value_name = "MODE", value_parser = one_of!(Mode))]
    pub mode: Mode,

    /// Write everything that was observed as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write a JUnit report; `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,

    /// Print results as KTAP
    #[arg(long)]
    pub ktap: bool,

    /// Show the evidence for every test, not only for those that failed
    #[arg(short, long)]
    pub verbose: bool,

    /// Show the guest's console output as it is written
    #[arg(long)]
    pub console: bool,
}
