// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A variable of a guest's kernel, read without its page tables: at a guest's end these may be anything.

use crate::trace::backtrace::KernelMemory;
use crate::trace::kernel::KernelNames;
use types::{PageState, View};

use crate::layout::PAGE_SIZE;
use crate::memory::GuestMemory;
use crate::x86::walk::page_pieces;

/// The memory of the kernel's image, by its virtual addresses.
pub(super) struct ImageMemory<'a> {
    pub memory: &'a GuestMemory,
    pub names: &'a KernelNames,
}

impl KernelMemory for ImageMemory<'_> {
    fn read(&self, virtual_address: u64, buffer: &mut [u8]) -> bool {
        // The image is mapped in whole pages, so pages begin where they begin in physical memory.
        page_pieces(virtual_address, buffer.len()).all(|(at, range)| {
            self.names
                .physical_of_address(at)
                .filter(|gpa| is_kernels(self.memory, *gpa))
                .is_some_and(|gpa| self.memory.read(View::Private, gpa, &mut buffer[range]).is_ok())
        })
    }
}

/// The page is private RAM of the guest's: the kernel uses no other for its image.
fn is_kernels(memory: &GuestMemory, gpa: u64) -> bool {
    matches!(memory.state(gpa), None | Some(PageState::Private))
        && memory.declared(gpa) == Some(View::Private)
}

/// The `N` bytes at `gpa`, which lies in the image of the kernel; `None` where the page is not private RAM of the
/// guest's any more, or holds nothing but zeros: a conversion destroyed what the kernel kept there.
pub(super) fn read<const N: usize>(memory: &GuestMemory, gpa: u64) -> Option<[u8; N]> {
    let lost = !is_kernels(memory, gpa);
    let mut page = [0; PAGE_SIZE as usize];
    memory.read(View::Private, gpa & !(PAGE_SIZE - 1), &mut page).ok()?;
    if lost || page.iter().all(|byte| *byte == 0) {
        return None;
    }
    let start = (gpa % PAGE_SIZE) as usize;
    page.get(start..start + N)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Content;
    use crate::memory::ram::Ram;

    const AT: u64 = 0x20_0010;

    fn memory(content: Content) -> GuestMemory {
        let memory = GuestMemory::unenforced(Ram::new(crate::layout::MIN_RAM).unwrap(), content).unwrap();
        memory.write(AT, &7_u32.to_le_bytes()).unwrap();
        memory
    }

    #[test]
    fn a_variable_is_read_through_the_private_view() {
        assert_eq!(read(&memory(Content::OneView), AT), Some(7_u32.to_le_bytes()));
    }

    #[test]
    fn a_page_of_zeros_holds_no_variable() {
        assert_eq!(read::<4>(&memory(Content::OneView), AT + PAGE_SIZE), None);
    }

    #[test]
    fn what_lies_across_pages_or_outside_ram_is_not_read() {
        assert_eq!(read::<4>(&memory(Content::OneView), (AT | (PAGE_SIZE - 1)) - 1), None);
        assert_eq!(read::<4>(&memory(Content::OneView), 1 << 40), None);
    }
}
