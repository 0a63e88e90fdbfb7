// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Intel TDX: the calls of the TDX module and of the hypervisor behind it, answered for one TD with one vCPU.

mod leaf;
mod module;
mod report;
mod vmcall;

use kvm_bindings::kvm_regs;
use types::{AccessKind, Mode, Platform, VcpuId, View};

use self::module::Module;
pub use self::module::TdState;
use super::guest_type::{GuestActivity, NoEvidence};
use super::services::{Consequence, Next, Services, Termination};
use super::sev::{LEAF_ENCRYPTED_MEMORY, LEAF_KVM_FEATURES, LEAF_LARGEST_EXTENDED};
use super::{MsrRange, PlatformModel, PlatformState};
use crate::memory::protected::Architecture;
use crate::memory::{Content, GuestMemory, Mismatch};
use crate::x86::cpuid::{CpuidTable, LEAF_ADDRESS_SIZES};
use crate::x86::exception::Exception;
use crate::x86::opcode::Opcode;

/// Largest basic leaf, and the vendor.
const LEAF_VENDOR: u32 = 0;
/// Frequencies of the TSC and its crystal (Intel SDM volume 2, CPUID leaf 15H).
const LEAF_TSC: u32 = 0x15;
/// Frequencies of the processor (leaf 16H).
const LEAF_FREQUENCY: u32 = 0x16;
/// TDX identity (`arch/x86/include/asm/shared/tdx.h:TDX_CPUID_LEAF_ID`).
const LEAF_TDX: u32 = 0x21;

/// Crystal behind the TSC, as TDX fixes it: 25 MHz (TDX Module base specification, TSC virtualization).
const CRYSTAL_HZ: u32 = 25_000_000;

/// #VE.
const VECTOR_VE: u8 = 20;

/// Platform `tdx`.
#[derive(Debug)]
pub struct Tdx {
    shared_bit: u8,
    mode: Mode,
    module: Module,
}

impl Tdx {
    /// A TD whose shared bit is `shared_bit`, one below its guest physical address width.
    pub fn new(shared_bit: u8, mode: Mode, sept_ve_disable: bool) -> Self {
        Self { shared_bit, mode, module: Module::new(shared_bit, sept_ve_disable) }
    }
}

impl PlatformModel for Tdx {
    fn kind(&self) -> Platform {
        Platform::Tdx
    }

    fn content(&self) -> Content {
        Content::SeparateBacking { architecture: Architecture::Tdx, mode: self.mode }
    }

    fn save(&self) -> PlatformState {
        PlatformState::Tdx(self.module.state.clone())
    }

    fn restore(&mut self, state: &PlatformState) -> bool {
        let PlatformState::Tdx(state) = state else { return false };
        self.module.state = state.clone();
        true
    }

    fn encryption_bit(&self) -> Option<u8> {
        Some(self.shared_bit)
    }

    fn view_with_bit(&self) -> View {
        View::Shared
    }

    fn cpuid(&self, table: &mut CpuidTable) {
        /// `kvm_para.h:KVM_FEATURE_NOP_IO_DELAY`; what else KVM offers needs memory the hypervisor can write.
        const NOP_IO_DELAY: u32 = 1 << 1;
        // `arch/x86/kernel/cpu/amd.c:bsp_determine_snp` takes every AuthenticAMD guest for AMD's kind.
        let [ebx, edx, ecx] = words(b"GenuineIntel");
        table.edit(LEAF_VENDOR, |leaf| {
            leaf.eax = leaf.eax.max(LEAF_TDX);
            (leaf.ebx, leaf.ecx, leaf.edx) = (ebx, ecx, edx);
        });
        table.edit(LEAF_LARGEST_EXTENDED, |leaf| (leaf.ebx, leaf.ecx, leaf.edx) = (ebx, ecx, edx));
        table.remove(LEAF_ENCRYPTED_MEMORY);
        if let Some(hz) = table.tsc_hz() {
            table.remove(LEAF_TSC);
            table.edit(LEAF_TSC, |leaf| {
                (leaf.eax, leaf.ebx, leaf.ecx) = (1, (hz / u64::from(CRYSTAL_HZ)) as u32, CRYSTAL_HZ);
            });
            table.remove(LEAF_FREQUENCY);
            table.edit(LEAF_FREQUENCY, |leaf| leaf.eax = (hz / 1_000_000) as u32);
        }
        let [ebx, edx, ecx] = words(b"IntelTDX    ");
        table.remove(LEAF_TDX);
        table.edit(LEAF_TDX, |leaf| (leaf.ebx, leaf.edx, leaf.ecx) = (ebx, edx, ecx));
        table.edit(LEAF_KVM_FEATURES, |leaf| leaf.eax &= NOP_IO_DELAY);
        table.edit(LEAF_ADDRESS_SIZES, |leaf| {
            leaf.eax = (leaf.eax & !0xff) | (leaf.eax & 0xff).max(u32::from(self.shared_bit) + 1);
        });
    }

    fn msrs(&self) -> &'static [MsrRange] {
        &[]
    }

    fn read_msr(&mut self, _vcpu: VcpuId, _index: u32) -> Option<u64> {
        None
    }

    fn write_msr(&mut self, _vcpu: VcpuId, _index: u32, _value: u64, _memory: &GuestMemory) -> Option<()> {
        None
    }

    fn guest_type_evidence(&self, activity: &GuestActivity) -> Result<String, NoEvidence> {
        match activity.calls(Opcode::Tdcall) {
            0 => Err(NoEvidence("made no call of the TDX module (TDCALL)")),
            calls => Ok(format!("{calls} times TDCALL, {} pages converted", activity.conversions)),
        }
    }

    fn opcodes(&self) -> &'static [Opcode] {
        &[Opcode::Tdcall]
    }

    fn instruction(&mut self, _opcode: Opcode, regs: &mut kvm_regs, services: &mut dyn Services) -> Next {
        self.module.tdcall(regs, services)
    }

    /// TDX Module base specification, "Secure EPT violations": with `SEPT_VE_DISABLE` a TD exit, else #VE, which the
    /// module turns into a double fault if the last one's information was not fetched.
    fn denied(&mut self, mismatch: &Mismatch, address: u64, exact: bool) -> Consequence {
        if self.module.raises_ve() && !exact {
            return Consequence::Resume;
        }
        let information = module::VeInfo {
            reason: module::EXIT_REASON_EPT_VIOLATION,
            qualification: match mismatch.kind {
                AccessKind::Read => 1,
                AccessKind::Write => 1 << 1,
                AccessKind::Fetch => 1 << 2,
            },
            linear_address: address,
            physical_address: mismatch.gpa,
        };
        if self.module.raises_ve() && self.module.take_ve(information) {
            Consequence::Exception(Exception { vector: VECTOR_VE, error_code: None, address: None })
        } else {
            Consequence::End(Termination::SeptViolation { gpa: mismatch.gpa })
        }
    }

    /// There is no secure EPT entry for device memory and none can be made.
    fn private_device(&mut self, gpa: u64) -> Consequence {
        Consequence::End(Termination::NoMemory { gpa })
    }
}

/// A vendor text as CPUID gives it: EBX, EDX, ECX.
fn words(text: &[u8; 12]) -> [u32; 3] {
    std::array::from_fn(|i| u32::from_le_bytes(std::array::from_fn(|j| text[4 * i + j])))
}

#[cfg(test)]
mod tests;
