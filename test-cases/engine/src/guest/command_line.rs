// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's command line.

use vmm::boot::linux::base_command_line;

use super::target::Target;
use crate::setup::Setup;

/// The command line a guest gets. It is quiet unless the console is shown, since each line of it costs time; a panic is
/// printed all the same. `dma`: it has devices that access its memory.
pub(crate) fn command_line(target: &Target, setup: Setup, dma: bool) -> String {
    let mut line = base_command_line(setup.layout.has_efi(target.platform), dma);
    if !target.console {
        line.push_str(" quiet loglevel=3");
    }
    for text in target.command_line.iter().cloned().chain(setup.words()) {
        line.push(' ');
        line.push_str(&text);
    }
    line
}
