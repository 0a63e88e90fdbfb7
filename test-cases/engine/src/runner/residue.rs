// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state that a step changes beyond its case, and whether it can be restored.

use std::ops::Range;

use vmm::machine::Machine;

use crate::case::{Action, Case};
use crate::observation::Answer;
use types::Signal;

/// The interrupt controllers inside KVM, whose registers are not put back: IOAPIC and local APIC.
const INTERRUPT_CONTROLLERS: Range<u64> = 0xfec0_0000..0xfef0_0000;

/// The state that a step which succeeded changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residue {
    /// Nothing beyond the process that does the case's steps, which ends with the case.
    Nothing,
    /// Bytes in a file or mapping: of /dev/mem they are put back, of another file they are not.
    Bytes,
    /// State of the kernel or of a device, for this reason.
    Kernel(&'static str),
}

/// The state that a step changes if it succeeds.
pub const fn of(action: &Action) -> Residue {
    match action {
        // Descriptors, mappings, credentials, port permissions and namespaces end with the process; memory types of
        // mappings are freed with them. Reading changes no state that a case can observe.
        Action::Open { .. }
        | Action::Close { .. }
        | Action::Lseek { .. }
        | Action::Read { .. }
        | Action::Pread { .. }
        | Action::Mmap { over: None, .. }
        | Action::Munmap { .. }
        | Action::Peek { .. }
        | Action::SelfMemRead { .. }
        | Action::VmReadv { .. }
        | Action::PtracePeek { .. }
        | Action::Stat { .. }
        | Action::ReadFile { .. }
        | Action::PortIn { .. }
        | Action::Iopl { .. }
        | Action::Ioperm { .. }
        | Action::Setuid { .. }
        | Action::DropCaps { .. }
        | Action::KeepCaps { .. }
        | Action::UserNamespace
        | Action::NoNewPrivs
        | Action::Buffer { .. }
        | Action::Mremap { .. }
        | Action::Fork
        | Action::Exec
        | Action::SendFile { .. }
        | Action::ReceiveFile { .. }
        | Action::Exit
        | Action::KernelLog
        // The guest ends, or the call failed.
        | Action::Reboot
        | Action::Memory { .. }
        // The state of `unaccepted` memory is checked before a case that names it.
        | Action::KcoreRead { .. } => Residue::Nothing,
        Action::Write { .. }
        | Action::Pwrite { .. }
        | Action::Poke { .. }
        | Action::SelfMemWrite { .. } => Residue::Bytes,
        Action::Run { .. } => Residue::Kernel("a program was run, which may change anything in the guest"),
        Action::WriteFile { .. } => Residue::Kernel("a file was written, which may be a setting of the kernel"),
        // Up to 6.15 a mapping that is split leaves an entry in the kernel's table of cachings for good, and O_SYNC mappings of
        // that page fail from then on (`arch/x86/mm/pat/memtype_interval.c:memtype_erase()`).
        Action::Mmap { over: Some(_), .. } | Action::Mprotect { .. } => {
            Residue::Kernel("a mapping may have been split, whose memtype entry the kernel then never frees")
        }
        Action::Mknod { .. } => Residue::Kernel("a device node was made, which remains"),
        Action::PortOut { .. } => Residue::Kernel("a port was written, which may change a device"),
    }
}

/// Whether a step of the case may change state that is not restored, as far as known before it runs.
pub fn may_remain(case: &Case) -> bool {
    let to_other_files = |action: &Action| match action {
        Action::Open { path, flags, .. } => path != "/dev/mem" && flags.0 & libc::O_ACCMODE != libc::O_RDONLY,
        _ => false,
    };
    case.steps.iter().any(|step| match of(&step.action) {
        Residue::Kernel(_) => true,
        Residue::Bytes | Residue::Nothing => to_other_files(&step.action),
    })
}

/// Why the guest cannot be used for another case after this step, if so. `place`: the guest physical address a write to /dev/mem
/// went to.
pub fn remains(machine: &Machine, action: &Action, answer: &Answer, place: Option<u64>) -> Option<String> {
    match answer {
        Answer::TimedOut => {
            return Some("a step did not come back, so a process of the guest may still be at it".into());
        }
        // `kernel/exit.c:make_task_dead()` after an oops, with locks that are never released.
        Answer::Signalled { signal: Signal::SIGKILL } => {
            return Some("the process of a step was killed, as it is after an oops of the kernel".into());
        }
        _ => {}
    }
    let Residue::Kernel(reason) = of(action) else {
        return bytes_remain(machine, action, answer, place);
    };
    // A program changes things before it fails; system calls that fail have changed nothing.
    let happened = matches!(action, Action::Run { .. }) || matches!(answer, Answer::Returned { .. });
    let tried = !matches!(answer, Answer::NotReached { .. } | Answer::NotRun { .. });
    (happened && tried).then(|| reason.to_owned())
}

fn bytes_remain(machine: &Machine, action: &Action, answer: &Answer, place: Option<u64>) -> Option<String> {
    if of(action) != Residue::Bytes || !matches!(answer, Answer::Returned { .. }) {
        return None;
    }
    let Some(place) = place else {
        return Some(
            "a file other than /dev/mem was written, which may change a device or the kernel".into(),
        );
    };
    let (_, gpa) = machine.platform().split(place);
    INTERRUPT_CONTROLLERS
        .contains(&gpa)
        .then(|| format!("{gpa:#x} was written, a register of an interrupt controller inside KVM"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::parse;

    fn case(step: &str) -> Case {
        let text = format!("title = \"t\"\nwhy = \"w\"\n[[step]]\nid = \"s\"\n{step}\nexpect = \"ok\"\n");
        parse(&text, "t").unwrap()
    }

    #[test]
    fn programs_settings_and_ports_remain_and_what_a_process_holds_does_not() {
        for step in [
            "do = \"run\"\nprogram = \"/bin/busybox\"\nargs = [\"true\"]",
            "do = \"write-file\"\npath = \"/proc/sys/kernel/randomize_va_space\"\ntext = \"0\"",
            "do = \"port-out\"\nport = 0x80\nwidth = 1\nvalue = 0",
            "do = \"open\"\npath = \"/dev/port\"\nflags = \"O_RDWR\"\nas = \"port\"",
        ] {
            assert!(may_remain(&case(step)), "{step}");
        }
        for step in [
            "do = \"open\"\npath = \"/dev/mem\"\nflags = \"O_RDWR\"\nas = \"mem\"",
            "do = \"open\"\npath = \"/dev/port\"\nflags = \"O_RDONLY\"\nas = \"port\"",
            "do = \"ioperm\"\nport = 0x80\ncount = 1\non = true",
            "do = \"read-file\"\npath = \"/proc/iomem\"\nlen = 64",
        ] {
            assert!(!may_remain(&case(step)), "{step}");
        }
    }
}
