// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's services for a platform's firmware and hypervisor while they handle a guest's call.

use std::time::Duration;

use types::VcpuId;

use super::vcpu::Vcpu;
use crate::device::{Devices, Request, Submission};
use crate::memory::GuestMemory;
use crate::platform::failure::{Conversion, Refusal, Refuser};
use crate::platform::services::Services;
use crate::trace::RecordedCall;
use crate::trace::log::Log;
use crate::x86::cpuid::{CpuidTable, Leaf};
use crate::x86::walk::{self, PageTables};

/// Malformed calls kept of one guest.
pub(super) const MAX_BAD_CALLS: usize = 4096;
/// Changes of the watched page kept of one guest.
pub(super) const MAX_CHANGES: usize = 1 << 16;
/// Conversions kept of one guest.
pub(super) const MAX_CONVERSIONS: usize = 1 << 14;
/// How long a guest that halts by a call waits: an interrupt that comes meanwhile is taken a little later.
const IDLE: Duration = Duration::from_millis(1);

/// Parts of a machine, borrowed for one call.
pub(super) struct MachineServices<'a> {
    pub vcpu: &'a Vcpu,
    pub devices: &'a mut Devices,
    pub memory: &'a GuestMemory,
    pub cpuid: &'a CpuidTable,
    pub tables: PageTables,
    pub rip: u64,
    pub bad_calls: &'a mut Log<RecordedCall>,
    pub refuser: &'a mut Refuser,
    /// Conversions that the guest requested, and how each was refused.
    pub conversions: Vec<(Conversion, Option<Refusal>)>,
    /// What a device requested meanwhile.
    pub requested: Option<Request>,
    /// What was submitted to a device.
    pub submitted: Option<Submission>,
}

impl Services for MachineServices<'_> {
    fn vcpu(&self) -> VcpuId {
        self.vcpu.id()
    }

    fn memory(&self) -> &GuestMemory {
        self.memory
    }

    fn translate(&self, virtual_address: u64) -> Option<u64> {
        walk::translate(self.memory, &self.tables, virtual_address).map(|page| page.address)
    }

    fn port_read(&mut self, port: u16, size: usize) -> u32 {
        let mut data = [0; 4];
        let size = size.min(data.len());
        self.devices.port_read(port, &mut data[..size]);
        u32::from_le_bytes(data)
    }

    fn port_write(&mut self, port: u16, size: usize, value: u32) {
        let data = value.to_le_bytes();
        let requested = self.devices.port_write(port, &data[..size.min(data.len())]);
        self.requested = self.requested.or(requested);
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) -> bool {
        if self.memory.ram().offset(gpa).is_some() {
            return false;
        }
        self.devices.load(gpa, data);
        true
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) -> bool {
        if self.memory.ram().offset(gpa).is_some() {
            return false;
        }
        self.submitted = self.devices.store(gpa, data).or(self.submitted);
        true
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf {
        self.cpuid.subleaf(leaf, subleaf).unwrap_or_default()
    }

    fn read_msr(&mut self, index: u32) -> Option<u64> {
        self.vcpu.read_msr(index)
    }

    fn write_msr(&mut self, index: u32, value: u64) -> bool {
        matches!(self.vcpu.set_msrs(&[(index, value)]), Ok(1))
    }

    fn idle(&mut self) {
        std::thread::sleep(IDLE);
    }

    fn refuse(&mut self, conversion: &Conversion) -> Option<Refusal> {
        let refusal = self.refuser.decide(conversion);
        self.conversions.push((*conversion, refusal));
        refusal
    }

    fn report_bad_call(&mut self, call: &'static str, why: String) {
        self.bad_calls.push(RecordedCall { vcpu: self.vcpu.id(), call, why, rip: self.rip });
    }
}
