// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line of `copra`.

mod audit;
mod boot_audit;
mod exec;
mod explain;
mod explore;
mod gdb;
mod guest;
mod identify;
mod kernel;
mod matrix;
mod reports;
mod run;
mod spec;
mod suite;
mod trace;

use clap::{Args, Parser, Subcommand};

pub use audit::AuditArgs;
pub use boot_audit::BootAuditArgs;
pub use exec::{ExecArgs, ExecOptions, ShellArgs};
pub use explain::ExplainArgs;
pub use explore::ExploreArgs;
pub use gdb::{GdbArgs, StartPoint};
pub use guest::{CommonOptions, DEFAULT_KERNEL, DEFAULT_MEMORY, DEFAULT_TIMEOUT, ManyOptions};
pub use identify::IdentifyArgs;
pub use kernel::{KernelArgs, KernelBuildArgs, KernelCommand, KernelFetchArgs, KernelSourceArgs};
pub use matrix::MatrixArgs;
pub use reports::{DiffArgs, MergeArgs, PageArgs};
pub use run::{ReproArgs, ReproSubject, RunArgs};
pub use spec::SpecArgs;
pub use suite::SuiteArgs;
pub use trace::TraceArgs;

const EXAMPLES: &str = "\
Examples:
  copra doctor                          check whether this machine can run copra
  copra repro mmap-hole                 see the hole, and the patch that closes it
  copra run                             every case on Debian's 6.12 kernel as SEV guest
  copra run 'mmap/*' --platform none    the same guest without encryption
  copra run --kernel path:./vmlinux --policy open-eperm
                                        check your own kernel against a policy

Exit codes: 0 as specified or done, 1 a finding, 2 could not run, 130 interrupted.
Nothing here is secret from this host: confidential guests are simulated, not isolated.";

/// What may root do with /dev/mem in a confidential guest?
///
/// Boots stock Linux kernels under plain KVM as simulated confidential guests, runs the cases there, and
/// compares the results with a policy.
#[derive(Debug, Parser)]
#[command(name = "copra", version, after_help = EXAMPLES, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Print no progress, only results
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reproduce a documented hole, step by step, and show the patch that closes it
    Repro(ReproArgs),
    /// Run cases in a guest and compare the results with the policy
    Run(RunArgs),
    /// Run a command of yours in a guest, with this machine's files, and list the forbidden accesses
    Exec(ExecArgs),
    /// The same with a shell and this terminal
    Shell(ShellArgs),
    /// Run KUnit, or a program that prints KTAP or TAP, in a guest: each test with the forbidden accesses it made
    Suite(SuiteArgs),
    /// Debug a guest with gdb, its page states enforced
    Gdb(GdbArgs),
    /// Record a boot, a command or cases as a timeline that Perfetto opens
    Trace(TraceArgs),
    /// Search for unlisted holes: access every region by every path and check invariants
    Audit(AuditArgs),
    /// Boot a kernel in many firmware layouts: forbidden accesses, warnings, deaths, each with the simplest layout
    BootAudit(BootAuditArgs),
    /// Identify the policy a kernel follows from its behaviour
    Identify(IdentifyArgs),
    /// Compare kernels: what is denied, what leaks, what breaks, as tables for a mail and as a page
    Matrix(MatrixArgs),
    /// Print what each operation on /dev/mem gives at each place, under each policy, and which kernel function decides it
    Spec(SpecArgs),
    /// Show the history of one page: every change of its state, with the code that caused it
    Explain(ExplainArgs),
    /// Try random sequences of steps and compare the kernel with the model of /dev/mem
    Explore(ExploreArgs),
    /// Compare two reports: denials lost and gained, holes, verdicts, boots, the kernel itself
    Diff(DiffArgs),
    /// Merge the reports of all shards of a run
    Merge(MergeArgs),
    /// Write the reports of several runs as one HTML page: what changed, verdicts, accesses, memory, times
    Page(PageArgs),
    /// List cases, kernels, platforms, policies, layouts and regions
    List(ListArgs),
    /// Check whether this machine can run copra, and what to do if not
    Doctor,
    /// Build, list and fetch kernels
    Kernel(KernelArgs),
}

/// What to list; without an option, the cases.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[command(after_help = "Examples:
  copra list                   cases, one line each
  copra list --policies        what a policy claims
  copra list --json --regions  for scripts")]
pub struct ListArgs {
    /// The cases that come with copra
    #[arg(long)]
    pub cases: bool,
    /// The kernels that can be named, and which of them are in the cache
    #[arg(long)]
    pub kernels: bool,
    /// The simulated platforms
    #[arg(long)]
    pub platforms: bool,
    /// The policies a kernel can be checked against
    #[arg(long)]
    pub policies: bool,
    /// The guest layouts that come with copra
    #[arg(long)]
    pub layouts: bool,
    /// The memory regions that cases name
    #[arg(long)]
    pub regions: bool,
    /// As JSON, one object per line
    #[arg(long)]
    pub json: bool,
}

impl ListArgs {
    /// Whether the cases are to be listed: they are also what is listed when nothing is named.
    pub const fn lists_cases(&self) -> bool {
        self.cases || !(self.kernels || self.platforms || self.policies || self.layouts || self.regions)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_has_useful_defaults() {
        let Command::Run(run) = parse("copra run").unwrap().command else { panic!() };
        assert_eq!(run.guest.kernel, "debian:6.12");
        assert_eq!(run.guest.platform.name(), "sev");
        assert!(run.policy.is_none() && run.cases.is_empty() && !run.ktap);
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest_and_exit_code_2() {
        for (line, near) in [
            ("copra run --platform svm", "sev"),
            ("copra run --policy open-perm", "open-eperm"),
            ("copra repro mmap-whole", "mmap-hole"),
            ("copra runn", "run"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(near), "{line}: {error}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        assert!(parse("copra run --timeout 0").is_err());
        assert!(parse("copra run --memory 0").is_err());
        assert!(parse("copra run --memory 512 --timeout 5").is_ok());
    }

    #[test]
    fn kernel_build_takes_several_patches_and_fragments() {
        let line = "copra kernel build --base 6.12 --patch a --patch b --config c --name mine";
        let Command::Kernel(kernel) = parse(line).unwrap().command else { panic!() };
        let KernelCommand::Build(build) = kernel.command else { panic!() };
        assert_eq!((build.patches.len(), build.fragments.len(), build.name.as_str()), (2, 1, "mine"));
    }

    #[test]
    fn quiet_goes_anywhere() {
        assert!(parse("copra run -q").unwrap().quiet);
        assert!(parse("copra -q run").unwrap().quiet);
    }

    #[test]
    fn the_help_texts_stay_as_they_are() {
        let mut command = Cli::command().term_width(100);
        command.build();
        insta::assert_snapshot!("help", command.render_long_help());
        for name in [
            "repro", "run", "exec", "shell", "suite", "gdb", "trace", "spec", "diff", "merge", "page",
            "list", "kernel",
        ] {
            let help = command.find_subcommand_mut(name).unwrap().render_long_help();
            insta::assert_snapshot!(format!("help-{name}"), help);
        }
    }
}
