// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pages that a kernel started by this one would take for private, and that are not.
//!
//! A kernel that kexec or a panic starts knows of memory what firmware's map of it and the table of unaccepted memory state: RAM
//! that the table does not list is private and accepted. It has no list of the pages that the kernel before it shared.

use types::PageState;

use super::Machine;
use crate::boot::efi;
use crate::layout::PAGE_SIZE;
use crate::memory::ram::E820Type;

impl Machine {
    /// Those pages of RAM, ascending, with their states now. `knows_table`: the next kernel finds the table of unaccepted memory.
    pub fn taken_for_private(&self, knows_table: bool) -> Vec<(u64, PageState)> {
        let ram = self.memory.ram().e820().into_iter().filter(|entry| entry.kind == E820Type::Ram);
        let pages = ram.flat_map(|entry| (entry.start..entry.start + entry.len).step_by(PAGE_SIZE as usize));
        pages.filter_map(|gpa| Some((gpa, self.not_private(gpa, knows_table)?))).collect()
    }

    fn not_private(&self, gpa: u64, knows_table: bool) -> Option<PageState> {
        let state = self.memory.state(gpa).or_else(|| self.memory.declared(gpa).map(PageState::from))?;
        match state {
            PageState::Private => None,
            PageState::Shared => Some(state),
            PageState::Unaccepted => {
                let table = self.unaccepted_table.filter(|_| knows_table);
                let listed = table.and_then(|at| efi::lists_as_unaccepted(&self.memory, at, gpa));
                (!listed.unwrap_or(false)).then_some(state)
            }
        }
    }
}
