// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Evidence that a kernel runs as a guest of its platform. A kernel without support for the platform boots as an ordinary
//! guest, and its results would be meaningless.

use crate::x86::opcode::Opcode;

/// What the guest did that depends on its type.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GuestActivity {
    /// Calls by each rewritten instruction, in the order of [`Opcode`]'s variants.
    pub(crate) calls: [u64; 4],
    /// Calls through the hypercall page.
    pub page_calls: u64,
    /// Pages whose state the guest changed, or whose view it declared.
    pub conversions: u64,
    /// Physical address in CR3, with the encryption bit.
    pub cr3: u64,
}

impl GuestActivity {
    /// Counts a rewritten instruction.
    pub fn count(&mut self, opcode: Opcode) {
        self.calls[opcode as usize] += 1;
    }

    /// How often the guest executed it.
    pub fn calls(&self, opcode: Opcode) -> u64 {
        self.calls[opcode as usize]
    }
}

/// The guest did not do what a guest of its platform does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it {0}")]
pub struct NoEvidence(pub &'static str);

/// SEV and SNP: the kernel puts the C-bit into CR3 (`arch/x86/include/asm/processor.h:load_cr3`, `__sme_pa`), which an
/// ordinary kernel has no reason to set.
pub(super) fn c_bit_in_cr3(activity: &GuestActivity, c_bit: u8) -> Result<(), NoEvidence> {
    if activity.cr3 >> c_bit & 1 == 1 {
        Ok(())
    } else {
        Err(NoEvidence("runs on page tables without the C-bit in CR3"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{HostFacts, Options, PlatformModel, make};
    use types::Platform;

    fn platform(kind: Platform) -> Box<dyn PlatformModel> {
        let options =
            Options { encryption_bit: Some(38), seed: 0, mode: types::Mode::Record, sept_ve_disable: true };
        make(kind, &HostFacts { physical_bits: 40 }, &options)
    }

    /// What a guest of each platform does.
    fn right(kind: Platform) -> GuestActivity {
        let mut activity = GuestActivity::default();
        match kind {
            Platform::None => {}
            Platform::Sev => activity.cr3 = 1 << 38 | 0x1000,
            Platform::Snp => {
                activity.cr3 = 1 << 38 | 0x1000;
                activity.count(Opcode::Pvalidate);
                activity.count(Opcode::Vmgexit);
            }
            Platform::Tdx => activity.count(Opcode::Tdcall),
            Platform::Vbs => (activity.page_calls, activity.conversions) = (1, 1),
        }
        activity
    }

    #[test]
    fn a_guest_shows_the_evidence_of_its_own_platform_and_of_no_other() {
        for &kind in Platform::ALL {
            for &guest in Platform::ALL {
                let found = platform(kind).guest_type_evidence(&right(guest));
                // SNP is SEV with more; and every guest will do as an ordinary one.
                let expected = kind == guest
                    || kind == Platform::None
                    || (kind, guest) == (Platform::Sev, Platform::Snp);
                assert_eq!(found.is_ok(), expected, "{guest} on {kind}: {found:?}");
            }
        }
    }

    #[test]
    fn a_guest_without_evidence_is_refused_whatever_else_it_does() {
        for kind in Platform::ALL.iter().copied().filter(|kind| *kind != Platform::None) {
            let busy = GuestActivity { conversions: 1000, cr3: 0x1000, ..GuestActivity::default() };
            assert!(platform(kind).guest_type_evidence(&busy).is_err(), "{kind}");
        }
    }
}
