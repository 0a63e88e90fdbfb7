// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a vCPU executes: read from its registers and its kernel's memory while it does not run.

use kvm_bindings::{kvm_regs, kvm_sregs};

use types::VcpuId;

use super::{Machine, RunError};
use crate::layout::PAGE_SIZE;
use crate::memory::{GuestMemory, Mismatch};
use crate::platform::guest_type::{GuestActivity, NoEvidence};
use crate::trace::Instruction;
use crate::trace::backtrace::{KernelMemory, Registers};
use crate::trace::code_page::CodePage;
use crate::trace::operand::{self, LONGEST_INSTRUCTION, Operand};
use crate::x86::walk::{self, PageTables};

/// What SWAPGS loads: the kernel's GS base while the vCPU is in user mode (Intel SDM volume 4).
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;
/// The privilege level of programs.
const USER_MODE: u8 = 3;

/// A vCPU's registers while it does not run.
pub(super) struct VcpuState {
    pub id: VcpuId,
    pub regs: kvm_regs,
    pub sregs: kvm_sregs,
    pub tables: PageTables,
}

struct Virtual<'a> {
    memory: &'a GuestMemory,
    tables: PageTables,
}

impl KernelMemory for Virtual<'_> {
    fn read(&self, virtual_address: u64, buffer: &mut [u8]) -> bool {
        walk::read(self.memory, &self.tables, virtual_address, buffer)
    }
}

impl Machine {
    /// The instruction at a vCPU's RIP, for a guest that does not answer.
    pub fn current_instruction(&self, id: VcpuId) -> Option<Instruction> {
        let state = self.vcpu_state(id).ok()?;
        Some(self.instruction(&state, true))
    }

    /// What the guest has done that only a guest of its platform does.
    pub fn guest_type_evidence(&self) -> Result<String, NoEvidence> {
        self.platform.guest_type_evidence(&self.guest_activity())
    }

    /// The same as numbers. Memory counts what it did in this machine: a guest that was saved in another one did more.
    pub(crate) fn guest_activity(&self) -> GuestActivity {
        let memory = self.memory.counters();
        let here = memory.declared_moves + memory.implicit_moves + memory.conversions;
        GuestActivity {
            conversions: here.max(self.activity.conversions),
            cr3: self.vcpu(VcpuId::BOOT).sregs().map_or(0, |sregs| sregs.cr3),
            ..self.activity.clone()
        }
    }

    pub(super) fn vcpu_state(&self, id: VcpuId) -> Result<VcpuState, RunError> {
        let failed = |source| RunError::Kvm { attempt: "reading the vCPU's registers", rip: 0, source };
        let regs = self.vcpu(id).regs().map_err(failed)?;
        let sregs = self.vcpu(id).sregs().map_err(failed)?;
        let tables = self.platform.page_tables(&sregs);
        Ok(VcpuState { id, regs, sregs, tables })
    }

    /// The instruction at RIP (near it where `exact` is false), with the task that runs it and its callers.
    pub(super) fn instruction(&self, state: &VcpuState, exact: bool) -> Instruction {
        let VcpuState { id, regs, sregs, tables } = state;
        let cpl = sregs.ss.dpl;
        let (mut task, mut backtrace) = (None, None);
        if let Some(names) = self.kernel.clone() {
            let gs_base =
                if cpl == 0 { Some(sregs.gs.base) } else { self.vcpu(*id).read_msr(MSR_KERNEL_GS_BASE) };
            let memory = Virtual { memory: &self.memory, tables: *tables };
            task = gs_base.and_then(|base| {
                let kernel = || Virtual { memory: &self.memory, tables: self.kernel_tables(sregs) };
                names.task(&memory, base).or_else(|| names.task(&kernel(), base))
            });
            let registers = Registers { rip: regs.rip, rsp: regs.rsp, rbp: regs.rbp };
            backtrace = (cpl == 0).then(|| names.backtrace(&memory, registers));
        }
        let user_code = if cpl == USER_MODE { self.code_page(tables, regs.rip) } else { None };
        Instruction {
            vcpu: *id,
            rip: regs.rip,
            cpl,
            cr3: sregs.cr3,
            rsp: regs.rsp,
            exact,
            task,
            backtrace,
            open_log_lines: self.open_log_lines(),
            user_code,
        }
    }

    /// The page of code that an address is in.
    fn code_page(&self, tables: &PageTables, rip: u64) -> Option<CodePage> {
        let mut bytes = [0; PAGE_SIZE as usize];
        walk::read(&*self.memory, tables, rip & !(PAGE_SIZE - 1), &mut bytes)
            .then(|| self.last_code_page.borrow_mut().digest(&bytes))
    }

    /// The tables that map the kernel. With page table isolation user mode runs on others, which map little of it: the
    /// page behind the kernel's (`arch/x86/entry/calling.h:PTI_USER_PGTABLE_BIT`).
    fn kernel_tables(&self, sregs: &kvm_sregs) -> PageTables {
        const PTI_USER_PGTABLE: u64 = 1 << 12;
        self.platform.page_tables(&kvm_sregs { cr3: sregs.cr3 & !PTI_USER_PGTABLE, ..*sregs })
    }

    /// The bytes of the inaccessible page that the instruction at RIP accesses.
    pub(super) fn operand(&self, state: &VcpuState, mismatch: &Mismatch) -> Option<Operand> {
        let VcpuState { regs, sregs, tables, .. } = state;
        let translate = |address| walk::translate(&*self.memory, tables, address);
        // The instruction may end in a page that is not there.
        let mut code = [0; LONGEST_INSTRUCTION];
        let mut len = LONGEST_INSTRUCTION;
        while len > 0 && !walk::read(&*self.memory, tables, regs.rip, &mut code[..len]) {
            len -= 1;
        }
        operand::locate(&code[..len], regs, sregs, |address| {
            translate(address)
                .is_some_and(|t| (t.view, t.gpa & !(PAGE_SIZE - 1)) == (mismatch.view, mismatch.gpa))
        })
    }
}
