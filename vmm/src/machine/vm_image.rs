// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What KVM keeps of a VM beside its memory and its vCPUs: interrupt controllers, interval timer, clock.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_clock_data, kvm_irqchip,
    kvm_pit_state2,
};
use kvm_ioctls::{Error, VmFd};
use serde::{Deserialize, Serialize};

/// A VM at one instant.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct VmImage {
    chips: Vec<kvm_irqchip>,
    pit: kvm_pit_state2,
    /// Nanoseconds of the clock that KVM's paravirtual clocks show.
    clock: u64,
}

impl VmImage {
    /// Saves it, while no vCPU runs.
    pub fn save(vm: &VmFd) -> Result<Self, Error> {
        let chip = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            vm.get_irqchip(&mut chip).map(|()| chip)
        };
        let chips = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];
        Ok(Self {
            chips: chips.into_iter().map(chip).collect::<Result<_, _>>()?,
            pit: vm.get_pit2()?,
            clock: vm.get_clock()?.clock,
        })
    }

    /// Makes `vm` what it was then.
    pub fn restore(&self, vm: &VmFd) -> Result<(), Error> {
        self.chips.iter().try_for_each(|chip| vm.set_irqchip(chip))?;
        vm.set_pit2(&self.pit)?;
        vm.set_clock(&kvm_clock_data { clock: self.clock, ..Default::default() })
    }
}
