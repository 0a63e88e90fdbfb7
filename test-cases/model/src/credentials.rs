// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who a task is and what it may: user, capabilities, user namespace (`kernel/cred.c`, `security/commoncap.c`).

use crate::capability;

/// What the kernel checks a task by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Real, effective and saved user; they never differ here.
    pub uid: u32,
    /// The same for the group.
    pub gid: u32,
    /// Permitted and effective capabilities; they never differ here.
    pub permitted: u64,
    /// It is in a new user namespace without an ID map.
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
    /// `kernel/capability.c:capable()`: checks the initial user namespace, in which capabilities of another one are not valid.
    pub const fn capable(&self, number: u8) -> bool {
        !self.in_namespace && self.has(number)
    }

    /// `ns_capable()` with the task's own user namespace.
    pub(crate) const fn has(&self, number: u8) -> bool {
        self.permitted >> number & 1 != 0
    }

    /// `fs/namei.c:generic_permission()` for a file of root's with these permissions for the owner and for all others
    /// (4 read, 2 write). The group is root's, which has no more than the others.
    pub const fn may_open(&self, owner: u32, others: u32, requested: u32) -> bool {
        let granted = if self.uid == 0 { owner } else { others };
        // `capable_wrt_inode_uidgid()`: root must have a name in the task's namespace.
        granted & requested == requested
            || self.capable(capability::DAC_OVERRIDE)
            || requested & 2 == 0 && self.capable(capability::DAC_READ_SEARCH)
    }
}
