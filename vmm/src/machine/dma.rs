// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Devices that access guest memory: what is submitted to them is done while the guest is stopped, and forbidden accesses become
//! events.

use types::{DmaOrigin, VcpuId};

use super::{Machine, RunError};
use crate::device::Submission;
use crate::layout::PAGE_SIZE;
use crate::memory::dma::{DmaMemory, Forbidden, ForbiddenDma};
use crate::trace::RecordedAccess;
use crate::trace::operand::Operand;

impl Machine {
    /// The guest has submitted something to a device.
    pub(super) fn on_submission(&mut self, id: VcpuId, what: Submission) -> Result<(), RunError> {
        self.serve(id, what)?;
        // An answer may give another queue something to do: a console's control messages do.
        self.serve_input(id)
    }

    /// Gives the guest what the host has for it.
    pub(super) fn serve_input(&mut self, id: VcpuId) -> Result<(), RunError> {
        if self.devices.virtio.is_empty() {
            return Ok(());
        }
        self.devices.report_changes();
        for queue in self.devices.virtio.with_input() {
            self.serve(id, Submission::Queue(queue))?;
        }
        Ok(())
    }

    fn serve(&mut self, id: VcpuId, what: Submission) -> Result<(), RunError> {
        let bit = self.platform.encryption_bit().map(|bit| (1 << bit, self.platform.view_with_bit()));
        let memory = DmaMemory::new(&self.memory, bit);
        self.devices.serve(what, &memory);
        let Forbidden { accesses, more } = memory.into_forbidden();
        self.records.events.count_dropped(more);
        if accesses.is_empty() {
            return Ok(());
        }
        let Some(kind) = self.devices.kind(what) else { return Ok(()) };
        let queue = match what {
            Submission::Queue(notification) => Some(notification.queue),
            Submission::Probe => None,
        };
        // RIP is behind the store that notified the device.
        let state = self.vcpu_state(id)?;
        let at = self.instruction(&state, false);
        for ForbiddenDma { gpa, len, view, kind: access, state, chain } in accesses {
            let offset = gpa % PAGE_SIZE;
            self.records.events.push(RecordedAccess {
                number: 0,
                count: 1,
                gpa: gpa - offset,
                view,
                state,
                kind: access,
                operand: Some(Operand { address: gpa, offset, len }),
                device: Some(DmaOrigin { kind, queue, chain }),
                at: Some(at.clone()),
            });
        }
        Ok(())
    }
}
