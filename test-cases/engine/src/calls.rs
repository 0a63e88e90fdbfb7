// SPDX-License-Identifier: Apache-2.0 OR MIT
//! System calls with plain numbers, as steps of the agent.

use protocol::Step;

/// `unshare`.
const UNSHARE: u32 = 272;
/// `prctl`.
const PRCTL: u32 = 157;
/// `CLONE_NEWUSER`.
const CLONE_NEWUSER: u64 = 0x1000_0000;
/// `PR_SET_NO_NEW_PRIVS`.
const PR_SET_NO_NEW_PRIVS: u64 = 38;

/// unshare(2) with `CLONE_NEWUSER`.
pub const NEW_USER_NAMESPACE: Step<'static> =
    Step::Syscall { number: UNSHARE, arguments: [CLONE_NEWUSER, 0, 0, 0, 0, 0] };

/// prctl(2) with `PR_SET_NO_NEW_PRIVS`.
pub const NO_NEW_PRIVS: Step<'static> =
    Step::Syscall { number: PRCTL, arguments: [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0] };
