// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The root of the page tables is private whatever CR3 says.
//!
//! With SEV the processor takes page tables for private in every mode (Documentation/arch/x86/amd-memory-encryption.rst), and kernels
//! rely on it: `arch/x86/kernel/relocate_kernel_64.S:identity_mapped` and `arch/x86/boot/compressed/ident_map_64.c` load CR3 without the
//! encryption bit. KVM does not intercept that here, so the walk goes to the shared view, and is corrected there. On SEV that works once
//! the guest reports its conversions (`KVM_HC_MAP_GPA_RANGE`): before, an access through the other view converts a page.

use types::{VcpuId, View};

use super::vcpu_state::VcpuState;
use super::{Machine, RunError};
use crate::layout::PAGE_SIZE;
use crate::memory::Mismatch;

/// CR0.PG.
const PAGING: u64 = 1 << 31;

impl Machine {
    /// The pending access is a page walk that begins in the shared view because CR3 lacks the encryption bit: gives CR3 the bit, and
    /// has the guest go on. The guest sees the bit if it reads CR3.
    pub(super) fn forces_root_private(
        &self,
        id: VcpuId,
        state: &VcpuState,
        mismatch: &Mismatch,
    ) -> Result<bool, RunError> {
        let private = self.platform.private_mask();
        let is_plain = private != 0 && state.sregs.cr0 & PAGING != 0 && state.sregs.cr3 & private == 0;
        let root = state.sregs.cr3 & !(PAGE_SIZE - 1);
        if !is_plain || (mismatch.view, mismatch.gpa) != (View::Shared, root) {
            return Ok(false);
        }
        let sregs = kvm_bindings::kvm_sregs { cr3: state.sregs.cr3 | private, ..state.sregs };
        let failed = |source| RunError::Kvm { attempt: "setting CR3", rip: state.regs.rip, source };
        self.vcpu(id).set_sregs(&sregs).map_err(failed)?;
        self.memory.dismiss_pending()?;
        Ok(true)
    }
}
