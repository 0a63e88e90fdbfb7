// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An executable specification of /dev/mem, /dev/port and related files: the result of every system call and access in a given guest.
//!
//! Pure: a [`World`] (kernel, policy, platform, memory map), a [`Task`] (its files and mappings) and an [`Op`] go in, a
//! [`Prediction`] comes out: errno or count to the byte, the source of every byte, and every access to physical memory,
//! in order and through which encryption view. Each function follows one function of the kernel and names it. A kernel
//! that disagrees is a finding, or the model is wrong; `copra explore` searches for such differences.
//!
//! | file | kernel source it follows |
//! |---|---|
//! | `iomem` | `kernel/resource.c` |
//! | `allowed` | `arch/x86/mm/init.c:devmem_is_allowed` |
//! | `memtype` | `arch/x86/mm/pat/memtype.c` |
//! | `remap` | `kernel/iomem.c:memremap`, `arch/x86/mm/ioremap.c` |
//! | `lockdown` | `security/lockdown/lockdown.c` |
//! | `open`, `seek` | `drivers/char/mem.c:open_port`, `memory_lseek`, `fs/open.c` |
//! | `transfer`, `read`, `write`, `port` | `fs/read_write.c`, `drivers/char/mem.c:read_mem`, `write_mem`, `read_port` |
//! | `space`, `map`, `user_access` | `mm/vma.c`, `mm/mmap.c:do_mmap`, `mm/mprotect.c`, `mm/mremap.c`, `drivers/char/mem.c:mmap_mem`, `mm/memory.c:wp_page_copy` |
//! | `process` | `kernel/fork.c`, `fs/exec.c`, `security/commoncap.c` |
//! | `remote` | `mm/memory.c:__access_remote_vm`, `generic_access_phys`, `fs/proc/base.c:mem_rw` |
//! | `credentials` | `kernel/cred.c`, `kernel/sys.c:__sys_setresuid`, `security/commoncap.c` |
//! | `ports` | `arch/x86/kernel/ioport.c` |
//! | `kcore`, `msr`, `pci` | `fs/proc/kcore.c`, `arch/x86/kernel/msr.c`, `drivers/pci/pci-sysfs.c` |
//! | `events` | none: the events that a page state causes |
//! | `reason` | names them all: each prediction lists the decisions that led to it |

mod allowed;
mod anonymous;
pub mod cache_mode;
pub mod capability;
pub mod class;
mod credentials;
mod done;
pub mod events;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
mod io_permission;
pub mod iomem;
pub mod kcore;
pub mod lockdown;
mod map;
mod mapping;
pub mod memtype;
mod msr;
mod op;
mod open;
mod page;
pub mod pci;
mod port;
mod ports;
mod prediction;
mod process;
mod read;
mod reason;
pub mod release;
mod remap;
mod remote;
mod seek;
mod set_credentials;
mod space;
mod task;
#[cfg(test)]
mod tests;
mod transfer;
mod user_access;
pub mod world;
mod write;

pub use self::allowed::{Allowed, devmem_is_allowed};
pub use self::credentials::Credentials;
pub use self::op::{Node, Op, Through};
pub use self::page::PAGE;
pub use self::prediction::{Effect, Outcome, Piece, Prediction, Source};
pub use self::reason::Reason;
pub use self::space::Area;
pub use self::task::{OpenFile, Slot, Task};
pub use self::world::{KernelConfig, World};

/// The predicted result of `op` in this guest; `task` becomes the state after it.
pub fn step(world: &World, task: &mut Task, op: &Op) -> Prediction {
    // The next step of any kind uses the buffer for itself.
    let left = task.left.take();
    match op {
        Op::Open { file, node, flags } => open::open(world, task, *file, *node, *flags),
        Op::Close { file } => open::close(task, *file),
        Op::DropCaps { mask } => set_credentials::drop_caps(task, *mask),
        Op::SetUser { uid, gid, keep } => set_credentials::set_user(task, *uid, *gid, *keep),
        Op::UserNamespace => set_credentials::user_namespace(world, task),
        Op::NoNewPrivs => set_credentials::no_new_privs(task),
        Op::Lseek { file, offset, whence } => seek::lseek(task, *file, *offset, *whence),
        Op::Read { file, at, len, buffer } => transfer::read(world, task, *file, *at, *len, *buffer),
        Op::Write { file, at, data, buffer } => transfer::write(world, task, *file, *at, data, *buffer),
        Op::Mmap { map, file, offset, len, prot, flags } => {
            let args = mapping::MmapArgs { offset: *offset, len: *len, prot: *prot, flags: *flags };
            map::mmap(world, task, *map, *file, &args)
        }
        Op::MmapOver { map, over, file, offset, len, prot, flags } => {
            let args = mapping::MmapArgs { offset: *offset, len: *len, prot: *prot, flags: *flags };
            map::mmap_over(world, task, *map, *over, *file, &args)
        }
        Op::Mprotect { map, offset, len, prot } => map::mprotect(task, *map, *offset, *len, *prot),
        Op::Mremap { map, to, len } => map::mremap(world, task, *map, *to, *len),
        Op::Munmap { map } => map::munmap(world, task, *map),
        Op::Fork => process::fork(world, task),
        Op::Exit => process::exit(world, task),
        Op::Exec => process::exec(world, task),
        Op::SendFile { file } => process::send_file(world, task, *file),
        Op::ReceiveFile { file } => process::receive_file(task, *file),
        Op::Left { from, len } => transfer::left(left, u64::from(*from), u64::from(*len)),
        Op::Load { map, offset, len, width } => user_access::load(world, task, *map, *offset, *len, *width),
        Op::Store { map, offset, data, width } => user_access::store(task, *map, *offset, data, *width),
        Op::Fetch { through, map, offset, len } => remote::fetch(world, task, *through, *map, *offset, *len),
        Op::Ioperm { from, count, on } => ports::ioperm(world, task, *from, *count, *on),
        Op::Iopl { level } => ports::iopl(world, task, *level),
        Op::PortIn { port, width } => ports::port_in(task, *port, *width),
        Op::Put { through, map, offset, data } => remote::put(world, task, *through, *map, *offset, data),
    }
}
