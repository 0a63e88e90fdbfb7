// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a sequence changed is put back, or the guest is of no more use.

use types::View;
use vmm::machine::{Machine, MachineError};
use vmm::memory::MemoryError;

use model::PAGE;

/// One page.
type Page = [u8; PAGE as usize];

/// Something is not as it was before the sequence.
#[derive(Debug, thiserror::Error)]
pub enum NotRestored {
    /// Firmware's pages, conversions or device memory.
    #[error("restoring firmware's pages and device memory failed: {0}")]
    Firmware(#[from] MachineError),
    /// The contents of a page.
    #[error("restoring the page at {gpa:#x} failed: {source}")]
    Page {
        /// Its first address.
        gpa: u64,
        /// Why.
        source: MemoryError,
    },
}

/// What can be restored: a machine.
pub trait Restore {
    /// Firmware's pages, conversions and device memory as they were at the start.
    fn restore_firmware(&mut self) -> Result<(), MachineError>;
    /// What the private view shows of a page.
    fn read(&self, gpa: u64, page: &mut Page) -> Result<(), MemoryError>;
    /// Writes a page through the private view.
    fn write(&self, gpa: u64, page: &Page) -> Result<(), MemoryError>;
}

impl Restore for Machine {
    fn restore_firmware(&mut self) -> Result<(), MachineError> {
        Self::restore_firmware(self)
    }

    fn read(&self, gpa: u64, page: &mut Page) -> Result<(), MemoryError> {
        self.memory().read(View::Private, gpa, page)
    }

    fn write(&self, gpa: u64, page: &Page) -> Result<(), MemoryError> {
        self.memory().write(gpa, page)
    }
}

/// Restores what a sequence changed: everything it has written, `residue` being the pages with the boot loader's markers,
/// and pages whose contents are in the `in_other_view` view.
///
/// # Errors
/// With the first failure; the rest is not tried, since the guest cannot be used any more.
pub fn restore(
    machine: &mut impl Restore,
    has_written: bool,
    residue: impl Iterator<Item = u64>,
    in_other_view: impl Iterator<Item = u64>,
) -> Result<(), NotRestored> {
    if has_written {
        machine.restore_firmware()?;
    }
    let failed = |gpa| move |source| NotRestored::Page { gpa, source };
    let mut page = [0; PAGE as usize];
    for gpa in residue {
        vmm::marker::fill(vmm::marker::Tag::Private, gpa, &mut page);
        machine.write(gpa, &page).map_err(failed(gpa))?;
    }
    for gpa in in_other_view {
        // A private write of what the private view shows brings the page back.
        machine.read(gpa, &mut page).map_err(failed(gpa))?;
        machine.write(gpa, &page).map_err(failed(gpa))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Fails at its `failing`th operation.
    struct Fake {
        done: Cell<usize>,
        failing: usize,
    }

    impl Fake {
        fn operation(&self, gpa: u64) -> Result<(), MemoryError> {
            let done = self.done.replace(self.done.get() + 1);
            if done == self.failing { Err(MemoryError::NotRam { gpa, len: 0 }) } else { Ok(()) }
        }
    }

    impl Restore for Fake {
        fn restore_firmware(&mut self) -> Result<(), MachineError> {
            Ok(self.operation(0)?)
        }

        fn read(&self, gpa: u64, _: &mut Page) -> Result<(), MemoryError> {
            self.operation(gpa)
        }

        fn write(&self, gpa: u64, _: &Page) -> Result<(), MemoryError> {
            self.operation(gpa)
        }
    }

    #[test]
    fn no_failure_is_lost() {
        // Firmware, two pages of residue, and two in_other_view pages that are read and written.
        const OPERATIONS: usize = 1 + 2 + 2 * 2;
        for failing in 0..=OPERATIONS {
            let mut fake = Fake { done: Cell::new(0), failing };
            let result = restore(&mut fake, true, [1, 2].into_iter(), [3, 4].into_iter());
            assert_eq!(result.is_ok(), failing == OPERATIONS, "operation {failing}");
        }
        let mut fake = Fake { done: Cell::new(0), failing: 0 };
        assert!(restore(&mut fake, false, std::iter::empty(), std::iter::empty()).is_ok());
    }
}
