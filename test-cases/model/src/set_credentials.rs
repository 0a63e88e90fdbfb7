// SPDX-License-Identifier: Apache-2.0 OR MIT
//! System calls that change credentials (`kernel/sys.c`, `kernel/capability.c`, `kernel/user_namespace.c`).

use types::Errno;

use super::prediction::Prediction;
use super::task::Task;
use super::world::World;
use crate::capability;

/// capset(2) without some capabilities. Open files stay usable: they are checked at open(2) only.
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
        // Debian's `unprivileged_userns_clone` (kernel/fork.c:ksys_unshare) is 0 there, and is checked first.
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
