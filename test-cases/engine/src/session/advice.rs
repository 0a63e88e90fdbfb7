// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which option or command helps with a failure of the VMM, whose own messages name none.

use vmm::boot::linux::LoadError;
use vmm::machine::MachineError;
use vmm::memory::MemoryError;

/// The end of the error's message.
pub(super) fn on(error: &MachineError) -> &'static str {
    match error {
        MachineError::Kvm { .. } => "; run `copra doctor` to see what this host can do",
        MachineError::Capability { .. } => ", or run on `scripts/kvm-host --qemu`",
        MachineError::Memory(MemoryError::Ram(_))
        | MachineError::Load(LoadError::KernelTooLarge { .. } | LoadError::InitramfsTooLarge { .. }) => {
            " (--memory)"
        }
        MachineError::Load(LoadError::Layout(_)) => " (--layout, --rom)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use crate::session::SessionError;

    use super::*;

    #[test]
    fn a_failure_of_the_vmm_names_the_option_that_helps() {
        let message = |error: MachineError| SessionError::from(error).to_string();
        let large = LoadError::KernelTooLarge { need: 300, have: 192 };
        assert!(message(large.into()).ends_with("give the guest more (--memory)"));
        let capability = MachineError::Capability { capability: "KVM_CAP_X", purpose: "tests" };
        assert!(message(capability).ends_with("scripts/kvm-host --qemu`"));
    }
}
