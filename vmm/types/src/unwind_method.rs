// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a backtrace was made.

use crate::names::named;

named! {
    /// How the frames were found.
    pub enum UnwindMethod ("unwinder") {
        Orc = "orc", "by the kernel's own tables, to the end of the stack or to the number of frames kept, or until nothing more was found";
        StackScan = "stack-scan", "by looking for return addresses on the stack: old ones may be among them";
        OrcThenScan = "orc-then-scan", "by the kernel's tables, then by looking for return addresses";
    }
}
