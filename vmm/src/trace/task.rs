// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which task a vCPU runs, without debug information.

use super::backtrace::KernelMemory;
use crate::boot::image::{SymbolTable, Vmlinux};
use crate::stored::{Reader, StoredError, Writer};

/// include/linux/sched.h: `TASK_COMM_LEN`.
const COMM_SIZE: usize = 16;
/// `include/linux/init_task.h:INIT_TASK_COMM`, the first task's name, as it is in the image.
const FIRST_COMM: &[u8; COMM_SIZE] = b"swapper\0\0\0\0\0\0\0\0\0";
/// `struct task_struct` is smaller.
const MAX_TASK_SIZE: usize = 32 << 10;
/// Where the pointer to the current task is in each CPU's area: its own variable until 6.1 and since 6.15; between
/// them, the first field of `struct pcpu_hot` (arch/x86/include/asm/current.h).
const CURRENT: [&str; 2] = ["current_task", "pcpu_hot"];
/// Kernel addresses are in the upper half.
const KERNEL_HALF: u64 = 1 << 63;

/// Where one kernel keeps the names of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskNames {
    /// Of the pointer to the current task, in each CPU's area.
    current: u64,
    /// Of `comm` in `struct task_struct`.
    comm: u64,
}

impl TaskNames {
    /// Finds the places. The structure's layout depends on the kernel's configuration, but the first task is
    /// in the image, and its name is known (`init/init_task.c`).
    pub fn of(kernel: &Vmlinux<'_>, symbols: &SymbolTable) -> Option<Self> {
        let current = CURRENT.iter().find_map(|name| symbols.address_of(name))?;
        let address = symbols.address_of("init_task")?;
        let data = kernel.data_from(address)?;
        let room = symbols.next_after(address).map_or(u64::MAX, |next| next - address);
        let size = data.len().min(MAX_TASK_SIZE).min(usize::try_from(room).unwrap_or(usize::MAX));
        let comm = data[..size].windows(COMM_SIZE).position(|window| window == FIRST_COMM)?;
        Some(Self { current, comm: comm as u64 })
    }

    /// Appends the places.
    pub(crate) fn encode(self, to: &mut Writer) {
        to.u64(self.current);
        to.u64(self.comm);
    }

    /// Takes them back.
    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredError> {
        Ok(Self {
            current: from.u64("place of the current task")?,
            comm: from.u64("place of a task's name")?,
        })
    }

    /// The name of the task that a vCPU runs, given its GS base while it is in the kernel. (In user space, that is
    /// what `SWAPGS` would load.)
    pub fn current(&self, memory: &dyn KernelMemory, gs_base: u64) -> Option<String> {
        // Each CPU's area is linked to 0, or since 6.15 to an address in the image; the base is the distance.
        let mut task = [0; 8];
        let task =
            read(memory, gs_base.wrapping_add(self.current), &mut task).then(|| u64::from_le_bytes(task))?;
        let mut comm = [0; COMM_SIZE];
        read(memory, task.wrapping_add(self.comm), &mut comm).then(|| name(&comm))?
    }
}

/// Reads kernel memory.
fn read(memory: &dyn KernelMemory, address: u64, buffer: &mut [u8]) -> bool {
    address >= KERNEL_HALF
        && address.checked_add(buffer.len() as u64).is_some()
        && memory.read(address, buffer)
}

/// A task's name. Tasks name themselves (`PR_SET_NAME`), with any bytes; the kernel ends it with a NUL.
fn name(comm: &[u8; COMM_SIZE]) -> Option<String> {
    let length = comm.iter().position(|&b| b == 0)?;
    Some(comm[..length].escape_ascii().to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::boot::image::{extract_vmlinux, synth};

    /// Where `init_task` is in the synthetic kernel.
    const INIT_TASK: u64 = synth::VIRTUAL + synth::DATA + 0x200;
    /// Where its name is in the file, and how far behind its beginning.
    const COMM_IN_FILE: usize = 0x3300;
    const COMM: u64 = 0x100;
    /// A CPU's area, and a task.
    const GS_BASE: u64 = 0xffff_8880_0f00_0000;
    const TASK: u64 = 0xffff_8880_0100_2000;

    /// One pointer and one name.
    struct Memory {
        pointer_at: u64,
        task: u64,
        comm: [u8; COMM_SIZE],
    }

    impl KernelMemory for Memory {
        fn read(&self, virtual_address: u64, buffer: &mut [u8]) -> bool {
            if virtual_address == self.pointer_at && buffer.len() == 8 {
                buffer.copy_from_slice(&self.task.to_le_bytes());
            } else if virtual_address == TASK + COMM && buffer.len() == COMM_SIZE {
                buffer.copy_from_slice(&self.comm);
            } else {
                return false;
            }
            true
        }
    }

    fn places(map: &str, name_at: usize, name: &[u8]) -> Option<TaskNames> {
        let mut file = synth::elf();
        synth::put(&mut file, name_at, name);
        TaskNames::of(&extract_vmlinux(&file).unwrap(), &SymbolTable::from_map(map))
    }

    fn map(current: &str, address: u64) -> String {
        format!("{address:x} D {current}\n{INIT_TASK:x} D init_task\n{:x} D next\n", INIT_TASK + 0x200)
    }

    #[test]
    fn the_current_tasks_name() {
        let in_image = synth::VIRTUAL + synth::DATA + 0x780;
        // 6.1, 6.12, and since 6.15 at an address in the image.
        for (current, address, gs_base) in [
            ("current_task", 0x1fb80, GS_BASE),
            ("pcpu_hot", 0x35000, GS_BASE),
            ("current_task", in_image, GS_BASE.wrapping_sub(in_image)),
        ] {
            let places = places(&map(current, address), COMM_IN_FILE, FIRST_COMM).unwrap();
            assert_eq!(places, TaskNames { current: address, comm: COMM });
            let pointer_at = gs_base.wrapping_add(address);
            let memory = Memory { pointer_at, task: TASK, comm: *b"agent\0rest\0\0\0\0\0\0" };
            assert_eq!(places.current(&memory, gs_base).as_deref(), Some("agent"));
            assert_eq!(places.current(&memory, gs_base + 8), None);
            let memory = Memory { pointer_at, task: TASK, comm: *b"a\x1b[2Jb\xff\"\0\0\0\0\0\0\0\0" };
            assert_eq!(places.current(&memory, gs_base).as_deref(), Some(r#"a\x1b[2Jb\xff\""#));
            let memory = Memory { pointer_at, task: TASK, comm: [b'x'; COMM_SIZE] };
            assert_eq!(places.current(&memory, gs_base), None, "no end");
            let memory = Memory { pointer_at, task: 0, comm: [0; COMM_SIZE] };
            assert_eq!(places.current(&memory, gs_base), None, "no task");
        }
    }

    #[test]
    fn what_is_not_there_is_not_guessed() {
        let good = map("pcpu_hot", 0x35000);
        assert!(places(&good, COMM_IN_FILE, FIRST_COMM).is_some());
        assert!(places(&good, COMM_IN_FILE, b"swapper/0").is_none());
        assert!(places(&good, COMM_IN_FILE + 0x100, FIRST_COMM).is_none(), "behind the next symbol");
        assert!(places(&map("pcpu", 0x35000), COMM_IN_FILE, FIRST_COMM).is_none());
        assert!(places("35000 D pcpu_hot\n", COMM_IN_FILE, FIRST_COMM).is_none());
        assert!(places("35000 D pcpu_hot\n36000 D init_task\n", COMM_IN_FILE, FIRST_COMM).is_none());
    }

    proptest! {
        #[test]
        fn any_memory_is_survived(gs_base: u64, task: u64, comm: [u8; COMM_SIZE], current: u64) {
            let places = TaskNames { current, comm: COMM };
            let memory = Memory { pointer_at: gs_base.wrapping_add(current), task, comm };
            if let Some(name) = places.current(&memory, gs_base) {
                prop_assert!(name.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
            }
        }
    }
}
