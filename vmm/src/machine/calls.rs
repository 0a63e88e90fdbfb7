// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls to the platform's module, firmware or hypervisor, which reach the VMM as writes to a port.

use types::VcpuId;

use super::services::MachineServices;
use super::timeline::Moment;
use super::vcpu_state::VcpuState;
use super::{Machine, RunError, Stop};
use crate::layout::{self, PAGE_SIZE};
use crate::platform::failure::{Conversion, Refusal};
use crate::platform::services::Next;
use crate::trace::RecordedCall;
use crate::trace::conversion::RecordedConversion;
use crate::x86::opcode::Opcode;
use crate::x86::walk;

/// How an OUT was handled.
pub(super) enum TrappedInstruction {
    /// It was a call, which was answered; `Some` if the run ends.
    Answered(Option<Stop>),
    /// It was an OUT to a device.
    OrdinaryOut,
}

/// Bytes of `out %eax, $imm8`.
const OUT_LENGTH: u64 = 2;

/// What an OUT replaces.
#[derive(Clone, Copy)]
enum Call {
    /// An instruction of the kernel's that the loader rewrote.
    Rewritten(Opcode),
    /// The hypercall page.
    Page,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Rewritten(opcode) => opcode.name(),
            Self::Page => "hypercall page",
        }
    }
}

impl Machine {
    /// Handles an OUT that may replace a call to the platform.
    pub(super) fn handle_trapped_instruction(
        &mut self,
        id: VcpuId,
        port: u16,
    ) -> Result<TrappedInstruction, RunError> {
        let call = match Opcode::of_port(port) {
            Some(opcode) if self.platform.opcodes().contains(&opcode) => Call::Rewritten(opcode),
            None if port == layout::HYPERCALL_PORT && self.platform.hypercall_page().is_some() => Call::Page,
            _ => return Ok(TrappedInstruction::OrdinaryOut),
        };
        let failed = |source| RunError::Kvm { attempt: "answering a call", rip: 0, source };
        let state = self.vcpu_state(id)?;
        let VcpuState { mut regs, ref sregs, tables, .. } = state;
        let (rip, cpl) = (regs.rip, sregs.ss.dpl);
        // Root in the guest may have I/O permission; an OUT of a program is no call.
        let genuine = cpl == 0
            && match call {
                Call::Rewritten(opcode) => self.sites.at(rip).is_some_and(|site| site.opcode == opcode),
                Call::Page => walk::translate(&*self.memory, &tables, rip)
                    .is_some_and(|t| Some(t.gpa & !(PAGE_SIZE - 1)) == self.platform.hypercall_page()),
            };
        if !genuine {
            let why = format!(
                "port {port:#x} replaces this call, but the write (CPL {cpl}) came from an address where no instruction was rewritten: nothing was done"
            );
            self.records.bad_calls.push(RecordedCall { vcpu: id, call: call.name(), why, rip });
            return Ok(TrappedInstruction::OrdinaryOut);
        }
        self.records.stats.calls += 1;
        match call {
            Call::Rewritten(opcode) => self.activity.count(opcode),
            Call::Page => self.activity.page_calls += 1,
        }
        self.mark(id, Moment::Call { name: call.name(), registers: &regs });
        let platform = &mut self.platform;
        let mut services = MachineServices {
            vcpu: &self.vcpus[id.index()],
            devices: &mut self.devices,
            memory: &self.memory,
            cpuid: &self.cpuid,
            tables,
            rip,
            bad_calls: &mut self.records.bad_calls,
            refuser: &mut self.refuser,
            conversions: Vec::new(),
            requested: None,
            submitted: None,
        };
        let (next, length) = match call {
            Call::Rewritten(opcode) => {
                (platform.instruction(opcode, &mut regs, &mut services), Opcode::LEN as u64)
            }
            Call::Page => (platform.page_call(&mut regs, &mut services), OUT_LENGTH),
        };
        let (requested, submitted) = (services.requested, services.submitted);
        let conversions = services.conversions;
        self.mark(id, Moment::CallEnded);
        self.record_conversions(&state, conversions);
        if self.memory.has_changes() {
            let at = self.instruction(&state, true);
            self.record_changes(Some(&at));
        }
        if let Next::Fault(exception) = next {
            return self.raise(id, exception).map(TrappedInstruction::Answered);
        }
        // RIP is at the OUT; with RIP moved KVM does not complete it a second time.
        regs.rip = rip.wrapping_add(length);
        self.vcpu(id).set_regs(&regs).map_err(failed)?;
        submitted.map_or(Ok(()), |what| self.on_submission(id, what))?;
        Ok(TrappedInstruction::Answered(match next {
            Next::Resume => requested.map(super::run::stop),
            Next::End(termination) => Some(Stop::Terminated(termination)),
            Next::Fault(_) => None,
        }))
    }

    /// Answers a hypercall that KVM hands on; gives RAX.
    pub(super) fn answer_hypercall(
        &mut self,
        id: VcpuId,
        number: u64,
        arguments: &[u64; 6],
    ) -> Result<u64, RunError> {
        let state = self.vcpu_state(id)?;
        let mut services = MachineServices {
            vcpu: &self.vcpus[id.index()],
            devices: &mut self.devices,
            memory: &self.memory,
            cpuid: &self.cpuid,
            tables: state.tables,
            rip: state.regs.rip,
            bad_calls: &mut self.records.bad_calls,
            refuser: &mut self.refuser,
            conversions: Vec::new(),
            requested: None,
            submitted: None,
        };
        let rax = self.platform.hypercall(number, arguments, &mut services);
        let conversions = services.conversions;
        self.record_conversions(&state, conversions);
        Ok(rax)
    }

    /// Records the conversions that were refused, and, where all are to be, the others.
    fn record_conversions(&mut self, state: &VcpuState, conversions: Vec<(Conversion, Option<Refusal>)>) {
        for (conversion, refusal) in conversions {
            let number = self.records.conversions.count(conversion.call);
            if refusal.is_some() || self.config.record_conversions {
                let at = self.instruction(state, true);
                self.records.conversions.push(RecordedConversion { number, conversion, refusal, at });
            }
        }
    }
}
