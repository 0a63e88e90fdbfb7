// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A vCPU's registers as a debugger sees them.

use kvm_bindings::{kvm_fpu, kvm_regs, kvm_sregs};
use types::VcpuId;

use crate::machine::{Machine, RunError};

/// All registers that a debugger shows.
#[derive(Debug, Clone)]
pub struct DebugRegisters {
    /// General registers, RIP, RFLAGS. RIP and those that are changed are set by [`Machine::set_debug_registers`].
    pub general: kvm_regs,
    /// Segments and control registers; not set.
    pub system: kvm_sregs,
    /// x87 and SSE.
    pub float: kvm_fpu,
}

impl Machine {
    /// Reads them, while the vCPU does not run.
    pub fn debug_registers(&self) -> Result<DebugRegisters, RunError> {
        let vcpu = self.vcpu(VcpuId::BOOT);
        let failed = |source| RunError::Kvm { attempt: "reading registers for a debugger", rip: 0, source };
        Ok(DebugRegisters {
            general: vcpu.regs().map_err(failed)?,
            system: vcpu.sregs().map_err(failed)?,
            float: vcpu.float().map_err(failed)?,
        })
    }

    /// Sets general, x87 and SSE registers.
    pub fn set_debug_registers(&mut self, registers: &DebugRegisters) -> Result<(), RunError> {
        let vcpu = self.vcpu(VcpuId::BOOT);
        let rip = registers.general.rip;
        let failed = |source| RunError::Kvm { attempt: "setting registers for a debugger", rip, source };
        vcpu.set_regs(&registers.general).map_err(failed)?;
        vcpu.set_float(&registers.float).map_err(failed)
    }
}
