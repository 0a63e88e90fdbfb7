// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who a task is and what it may: user, capabilities, user namespace (`kernel/cred.c`, `security/commoncap.c`).

use super::prediction::Prediction;
use super::task::Task;
use super::world::World;
use crate::capability;
use types::Errno;

/// What the kernel checks a task by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Real, effective and saved user; they never differ here.
    pub uid: u32,
    /// The same for the group.
    pub gid: u32,
    /// Permitted and effective capabilities; they never differ here.
    pub permitted: u64,
    /// It is in a user namespace of its own, without any mapping of users.
    pub in_namespace: bool,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// `SUID_DUMP_USER`: /proc/PID belongs to the task's own user.
    pub dumpable: bool,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            uid: 0,
            gid: 0,
            permitted: capability::ALL,
            in_namespace: false,
            no_new_privs: false,
            dumpable: true,
        }
    }
}

impl Credentials {
    /// `kernel/capability.c:capable()`: asks the initial user namespace, in which capabilities of another one count for nothing.
    pub const fn capable(&self, number: u8) -> bool {
        !self.in_namespace && self.has(number)
    }

    /// `ns_capable()` with the task's own user namespace.
    const fn has(&self, number: u8) -> bool {
        self.permitted >> number & 1 != 0
    }

    /// `fs/namei.c:generic_permission()` for a file of root's with these permissions for the owner and for all others
    /// (4 read, 2 write). The group is root's, which has no more than the others.
    pub const fn may_open(&self, owner: u32, others: u32, wanted: u32) -> bool {
        let granted = if self.uid == 0 { owner } else { others };
        // `capable_wrt_inode_uidgid()`: root must have a name in the task's namespace.
        granted & wanted == wanted
            || self.capable(capability::DAC_OVERRIDE)
            || wanted & 2 == 0 && self.capable(capability::DAC_READ_SEARCH)
    }
}

/// capset(2) without some capabilities. Files that are open stay usable: they are checked at open(2) only.
pub fn drop_caps(task: &mut Task, mask: u64) -> Prediction {
    task.process.credentials.permitted &= !mask;
    Prediction::value(0)
}

/// setgroups(2), setresgid(2) and setresuid(2), up to the first that fails. `keep`: `PR_SET_KEEPCAPS` before, and what is
/// permitted made effective again after.
pub fn set_user(task: &mut Task, uid: u32, gid: u32, keep: bool) -> Prediction {
    let credentials = &mut task.process.credentials;
    // `kernel/groups.c:may_setgroups()`: never where the namespace maps no groups.
    if credentials.in_namespace || !credentials.has(capability::SETGID) {
        return Prediction::failed(Errno::EPERM);
    }
    credentials.dumpable &= credentials.gid == gid;
    credentials.gid = gid;
    // `kernel/sys.c:__sys_setresuid()`.
    if uid != credentials.uid && !credentials.has(capability::SETUID) {
        return Prediction::failed(Errno::EPERM);
    }
    // `kernel/cred.c:commit_creds()`.
    credentials.dumpable &= credentials.uid == uid;
    // `security/commoncap.c:cap_emulate_setxuid()`.
    if credentials.uid == 0 && uid != 0 && !keep {
        credentials.permitted = 0;
    }
    credentials.uid = uid;
    Prediction::value(0)
}

/// unshare(2) with `CLONE_NEWUSER`: all capabilities, in a namespace that owns nothing (`kernel/user_namespace.c:create_user_ns`).
pub fn user_namespace(world: &World, task: &mut Task) -> Prediction {
    if !world.config.user_ns {
        // Debian's `unprivileged_userns_clone` (kernel/fork.c:ksys_unshare) is 0 there, and comes first.
        let refused = !task.process.credentials.capable(capability::SYS_ADMIN);
        return Prediction::failed(if refused { Errno::EPERM } else { Errno::EINVAL });
    }
    // The creator has no name in the namespace it is in.
    if task.process.credentials.in_namespace {
        return Prediction::failed(Errno::EPERM);
    }
    task.process.credentials.in_namespace = true;
    task.process.credentials.permitted = capability::ALL;
    Prediction::value(0)
}

/// prctl(2) with `PR_SET_NO_NEW_PRIVS`.
pub fn no_new_privs(task: &mut Task) -> Prediction {
    task.process.credentials.no_new_privs = true;
    Prediction::value(0)
}
