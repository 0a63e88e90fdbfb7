// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Confines this process before a guest can act on it: no other program, no network, and of the host's files only those named.
//!
//! Files by Landlock (Documentation/userspace-api/landlock.rst), for the calling thread and those it starts; system calls by
//! seccomp, for all threads. What a VMM needs goes on: KVM's and userfaultfd's ioctls, threads, timers, signals.

use std::collections::BTreeMap;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Landlock's version whose rights are restricted, as far as the kernel has them: files, and TCP. Later ones restrict ioctls of
/// devices, which are KVM's.
const LANDLOCK: ABI = ABI::V4;
/// Numbers of the x32 ABI have this bit (`arch/x86/include/uapi/asm/unistd.h:__X32_SYSCALL_BIT`); the filter's check of the
/// architecture does not tell it from x86-64.
const X32: i64 = 0x4000_0000;
/// System calls with numbers of their own there: execve, ptrace, `process_vm_readv`, `process_vm_writev`, `kexec_load`, execveat
/// (`arch/x86/entry/syscalls/syscall_64.tbl`).
const X32_ONLY: [i64; 6] = [520, 521, 539, 540, 528, 545];

/// System calls that are refused with EPERM. `io_uring` is among them as its requests pass no filter.
const REFUSED: [i64; 33] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_iopl,
];

/// The files that remain accessible. Paths that do not exist are left out.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Folders and files that may be read.
    pub readable: Vec<PathBuf>,
    /// Folders and files that may be read and changed.
    pub writable: Vec<PathBuf>,
}

/// What is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confined {
    /// System calls and files.
    Whole,
    /// System calls only: this kernel has no Landlock, or it is switched off.
    SystemCalls,
}

/// Why a process is not confined.
#[derive(Debug, thiserror::Error)]
pub enum ConfinementError {
    /// Landlock.
    #[error("restricting the VMM's files by Landlock: {0}")]
    Landlock(#[from] RulesetError),
    /// The filter.
    #[error("building the VMM's filter of system calls: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// Seccomp.
    #[error("filtering the VMM's system calls by seccomp: {0}; the kernel needs CONFIG_SECCOMP_FILTER")]
    Seccomp(#[from] seccompiler::Error),
}

/// Confines this process for good.
pub fn enter(files: &Files) -> Result<Confined, ConfinementError> {
    let filter = filter()?;
    let status = restrict_files(files)?;
    seccompiler::apply_filter_all_threads(&filter)?;
    Ok(if status == RulesetStatus::NotEnforced { Confined::SystemCalls } else { Confined::Whole })
}

/// Whether this kernel can restrict files: the version of its Landlock.
pub fn landlock_version() -> Option<u32> {
    const VERSION: u32 = 1;
    // SAFETY: with this flag there is no structure, and the call gives a number.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION)
    };
    u32::try_from(version).ok()
}

fn restrict_files(files: &Files) -> Result<RulesetStatus, RulesetError> {
    let all = AccessFs::from_all(LANDLOCK);
    let change = all & !AccessFs::Execute;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let status = Ruleset::default()
        .handle_access(all)?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .create()?
        .add_rules(path_beneath_rules(&files.readable, read))?
        .add_rules(path_beneath_rules(&files.writable, change))?
        .restrict_self()?;
    Ok(status.ruleset)
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let numbers = REFUSED.into_iter().flat_map(|number| [number, number | X32]);
    let rules: BTreeMap<i64, _> =
        numbers.chain(X32_ONLY.map(|number| number | X32)).map(|number| (number, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::x86_64)?.try_into()
}
