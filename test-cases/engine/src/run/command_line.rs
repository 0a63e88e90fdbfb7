// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a kernel is told.

use types::Platform;
use vmm::boot::linux::base_command_line;

/// The command line a guest gets: quiet unless the console is to be shown, since each line of it costs; a kernel that
/// dies is loud all the same.
pub(crate) fn command_line(
    platform: Platform,
    loud: bool,
    added: impl IntoIterator<Item = String>,
) -> String {
    let mut line = base_command_line(platform);
    if !loud {
        line.push_str(" quiet loglevel=3");
    }
    for text in added {
        line.push(' ');
        line.push_str(&text);
    }
    line
}
