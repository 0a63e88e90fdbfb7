// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The start of a kernel that the guest has loaded itself, in place of its decompressor.

use std::sync::Arc;

use types::{VcpuId, View};

use super::kimage::PurgatoryEnd;
use super::{Machine, MachineError};
use crate::boot::image::Vmlinux;
use crate::boot::next_kernel::{self, ENTRY_64};
use crate::boot::opcode::Sites;

/// `boot_params.efi_info.efi_loader_signature` (arch/x86/include/uapi/asm/bootparam.h).
const EFI_SIGNATURE: u64 = 0x1c0;

impl Machine {
    /// The guest is at the end of purgatory: puts the kernel where its decompressor would, with its instructions rewritten, and has
    /// the vCPU enter it with the registers and page tables that the guest has.
    pub fn enter_next_kernel(
        &mut self,
        end: PurgatoryEnd,
        kernel: &Vmlinux<'_>,
        sites: Option<&Sites>,
    ) -> Result<(), MachineError> {
        let at = end.entry - ENTRY_64;
        let placed = next_kernel::place(&self.memory, self.platform.as_ref(), kernel, sites, at)?;
        self.memory.map_gpa_range_disabled();
        self.sites = placed.sites;
        self.kernel = self.kernel.as_ref().map(|names| Arc::new(names.moved(placed.moved)));
        let failed = |attempt| move |source| MachineError::Kvm { attempt, source };
        let vcpu = self.vcpu(VcpuId::BOOT);
        let mut regs = vcpu.regs().map_err(failed("reading the vCPU's registers"))?;
        regs.rip = placed.rip;
        vcpu.set_regs(&regs).map_err(failed("setting the vCPU's registers"))
    }

    /// Whether the boot parameters for the next kernel, in RSI at the end of purgatory, have EFI's tables: without them it knows of
    /// no unaccepted memory.
    pub fn next_kernel_has_efi(&self) -> Option<bool> {
        let regs = self.vcpu(VcpuId::BOOT).regs().ok()?;
        let mut signature = [0; 4];
        self.memory.read(View::Private, regs.rsi + EFI_SIGNATURE, &mut signature).ok()?;
        Some(signature != [0; 4])
    }
}
