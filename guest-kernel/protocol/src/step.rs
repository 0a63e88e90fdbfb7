// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The steps that the agent executes.

use self::field::Field;
use crate::Error;
use crate::wire::{Reader, Sink};

mod field;
mod operand;
mod repeat;
#[macro_use]
mod table;

pub use operand::{Buffer, Reset, Via, Width};

/// Most arguments of an [`Step::Execute`], the program's name not counted.
pub const MAX_ARGUMENTS: usize = 14;

/// The address hint for the mapping of a slot. The kernel takes it as long as nothing is there, so fault addresses can
/// be distinguished and are the same in every run.
pub const fn map_address(map: u8) -> u64 {
    0x1000_0000_0000 + map as u64 * crate::MAP_STRIDE
}

steps! {
    /// `open(path, flags, mode)` into a slot; what was open there is closed first. Returns 0.
    0x01 Open {
        /// Slot.
        file: u8,
        /// Path.
        path: &'a [u8],
        /// `O_*`.
        flags: u32,
        /// Permissions of a created file.
        mode: u32,
    }
    /// `close`.
    0x02 Close {
        /// Slot.
        file: u8,
    }
    /// `lseek`. The new offset as `i64`, so one above 2^63 is negative.
    0x03 Lseek {
        /// Slot.
        file: u8,
        /// Offset.
        offset: i64,
        /// `SEEK_SET` 0, `SEEK_CUR` 1, `SEEK_END` 2.
        whence: u8,
    }
    /// `read`.
    0x04 Read {
        /// Slot.
        file: u8,
        /// Bytes; more than [`crate::MAX_DATA`] only with a bad buffer.
        len: u64,
        /// Destination.
        buffer: Buffer,
    }
    /// `pread64`.
    0x05 Pread {
        /// Slot.
        file: u8,
        /// Offset.
        offset: u64,
        /// Bytes; more than [`crate::MAX_DATA`] only with a bad buffer.
        len: u64,
        /// Destination.
        buffer: Buffer,
    }
    /// `write`.
    0x06 Write {
        /// Slot.
        file: u8,
        /// What to write.
        data: &'a [u8],
        /// Source.
        buffer: Buffer,
    }
    /// `pwrite64`.
    0x07 Pwrite {
        /// Slot.
        file: u8,
        /// Offset.
        offset: u64,
        /// What to write.
        data: &'a [u8],
        /// Source.
        buffer: Buffer,
    }
    /// `mmap` into a map slot, at [`map_address`]; what was mapped there is unmapped first. Returns the address.
    0x08 Mmap {
        /// Map slot.
        map: u8,
        /// Slot; 255 for none (anonymous memory).
        file: u8,
        /// Offset in the file, as given to the system call.
        offset: u64,
        /// Bytes.
        len: u64,
        /// `PROT_*`.
        prot: u32,
        /// `MAP_*`.
        flags: u32,
    }
    /// `munmap` of the whole mapping.
    0x09 Munmap {
        /// Map slot.
        map: u8,
    }
    /// Loads from a mapping, one access of the width for each element. May go beyond the end.
    0x0a Peek {
        /// Map slot.
        map: u8,
        /// Offset in the mapping.
        offset: u64,
        /// Bytes; a multiple of the width.
        len: u32,
        /// Access width.
        width: Width,
    }
    /// Stores to a mapping, one access of the width for each element.
    0x0b Poke {
        /// Map slot.
        map: u8,
        /// Offset in the mapping.
        offset: u64,
        /// What to store; a multiple of the width.
        data: &'a [u8],
        /// Access width.
        width: Width,
    }
    /// `pread` of /proc/PID/mem at an address in a mapping.
    0x0c ProcMemRead {
        /// Whose memory.
        via: Via,
        /// Map slot.
        map: u8,
        /// Offset in the mapping.
        offset: u64,
        /// Bytes.
        len: u32,
    }
    /// `pwrite` of /proc/PID/mem at an address in a mapping.
    0x0d ProcMemWrite {
        /// Whose memory.
        via: Via,
        /// Map slot.
        map: u8,
        /// Offset in the mapping.
        offset: u64,
        /// What to write.
        data: &'a [u8],
    }
    /// `process_vm_readv` at an address in a mapping.
    0x0e VmRead {
        /// Whose memory.
        via: Via,
        /// Map slot.
        map: u8,
        /// Offset in the mapping.
        offset: u64,
        /// Bytes.
        len: u32,
    }
    /// `process_vm_writev` at an address in a mapping.
    0x0f VmWrite {
        /// Whose memory.
        via: Via,
        /// Map slot.
        map: u8,
        /// Offset in the mapping.
        offset: u64,
        /// What to write.
        data: &'a [u8],
    }
    /// `PTRACE_PEEKDATA` on a stopped child, word by word.
    0x10 PtracePeek {
        /// Map slot.
        map: u8,
        /// Offset in the mapping.
        offset: u64,
        /// Bytes; a multiple of 8.
        len: u32,
    }
    /// `PTRACE_POKEDATA` on a stopped child, word by word. Returns the words written.
    0x11 PtracePoke {
        /// Map slot.
        map: u8,
        /// Offset in the mapping.
        offset: u64,
        /// What to write; a multiple of 8 bytes.
        data: &'a [u8],
    }
    /// `stat`: gives [`crate::FileStatus`].
    0x12 Stat {
        /// Path.
        path: &'a [u8],
    }
    /// `open`, `pread` until the length or the end, `close`.
    0x13 ReadFile {
        /// Path.
        path: &'a [u8],
        /// Offset.
        offset: u64,
        /// Bytes.
        len: u32,
    }
    /// `open` for writing, `write`, `close`.
    0x14 WriteFile {
        /// Path.
        path: &'a [u8],
        /// Create it, or empty it if it is there.
        create: bool,
        /// What to write.
        data: &'a [u8],
    }
    /// Names in a folder, without `.` and `..`, each ended by a line feed. The value is how many there are in all; names
    /// from number `skip` on are given as far as they fit.
    0x15 ListDir {
        /// Path.
        path: &'a [u8],
        /// Names to leave out at the front.
        skip: u32,
    }
    /// `uname`: six lines (system, node, release, version, machine, domain).
    0x16 Uname
    /// `iopl`.
    0x17 Iopl {
        /// Level, 0 to 3.
        level: u8,
    }
    /// `ioperm`.
    0x18 Ioperm {
        /// First port.
        from: u64,
        /// Ports.
        count: u64,
        /// Allow or forbid.
        on: bool,
    }
    /// `IN` in user mode. The value read.
    0x19 PortIn {
        /// Port.
        port: u16,
        /// Byte, word or long.
        width: Width,
    }
    /// `OUT` in user mode.
    0x1a PortOut {
        /// Port.
        port: u16,
        /// Byte, word or long.
        width: Width,
        /// What to write.
        value: u32,
    }
    /// Any system call with plain numbers, but those that fork.
    0x1b Syscall {
        /// Number.
        number: u32,
        /// Arguments.
        arguments: [u64; 6],
    }
    /// Takes capabilities away from the worker (effective, permitted, inheritable); the bits of the mask.
    0x1c DropCaps {
        /// `1 << CAP_*`.
        mask: u64,
    }
    /// Drops the worker's groups, then `setresgid`, then `setresuid`.
    0x1d SetUser {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// `PR_SET_KEEPCAPS` before, and the permitted capabilities made effective again after.
        keep: bool,
    }
    /// The kernel log, oldest first, from a byte offset. The value is the log's whole length.
    0x1e KernelLog {
        /// Offset.
        offset: u32,
        /// Bytes.
        len: u32,
    }
    /// Stores a number where the host reads it without a frame ([`crate::window::Directory`]).
    0x1f Marker {
        /// The number.
        value: u64,
    }
    /// Ends the worker, and with it the batch. The next batch starts a new one.
    0x20 ExitWorker
    /// Ends the batch; when its results are sent, ends the guest.
    0x21 Reset {
        /// How.
        kind: Reset,
    }
    /// Executes the next `steps` steps `count` times; iteration *i* with `stride * i` added to the offset (or port, or
    /// number) of those whose bit is set in `moving`.
    0x22 Repeat {
        /// Iterations.
        count: u32,
        /// Steps, at most [`crate::MAX_REPEATED`]; not `Repeat`, `Reset` or `ExitWorker`.
        steps: u8,
        /// What is added at each iteration.
        stride: i64,
        /// Bit *i*: step *i* moves.
        moving: u32,
        /// Bytes of data that are reported; where there is more, its digest is too.
        keep: u32,
    }
    /// `fork` and `execve`. The value is the wait status (`si_status` above bit 8, the signal below), the data what the
    /// program wrote to standard output and standard error, as far as it fits. `ETIMEDOUT` if it had to be killed.
    0x23 Execute {
        /// Path of the program, also its argument 0.
        path: &'a [u8],
        /// Further arguments, each ended by a zero byte; at most [`MAX_ARGUMENTS`].
        arguments: &'a [u8],
        /// Bytes of output that are reported; what comes after them is thrown away.
        len: u32,
        /// Milliseconds it may take.
        limit_ms: u32,
    }
    /// `mmap` with `MAP_FIXED` where the mapping of slot `over` was put. Returns the address.
    0x24 MmapOver {
        /// Map slot.
        map: u8,
        /// The slot whose place it takes; may be the same.
        over: u8,
        /// Slot.
        file: u8,
        /// Offset in the file, as given to the system call.
        offset: u64,
        /// Bytes, at most [`crate::MAP_STRIDE`].
        len: u64,
        /// `PROT_*`.
        prot: u32,
        /// `MAP_*`.
        flags: u32,
    }
    /// `mprotect` of a part of a mapping.
    0x25 Mprotect {
        /// Map slot.
        map: u8,
        /// Offset in the mapping.
        offset: u64,
        /// Bytes.
        len: u64,
        /// `PROT_*`.
        prot: u32,
    }
    /// `mremap` of the whole mapping: without flags if both slots are the same, else with `MREMAP_MAYMOVE` and
    /// `MREMAP_FIXED` to where the mapping of slot `to` would be put. Returns the address.
    0x26 Mremap {
        /// Map slot.
        map: u8,
        /// The slot it is in afterwards; what was mapped there is unmapped first.
        to: u8,
        /// The new length.
        len: u64,
    }
    /// `fork`: the child executes the steps that follow, and `ExitWorker` ends it, after which its parent goes on.
    0x27 Fork
    /// `execve` of the agent by the worker: what is open and not marked to be closed stays, what is mapped goes.
    0x28 Exec
    /// `sendmsg` with `SCM_RIGHTS`: an open file to the worker's own pair of sockets.
    0x29 SendFile {
        /// Slot.
        file: u8,
    }
    /// `recvmsg` of the first file sent; what was open in the slot is closed first.
    0x2a ReceiveFile {
        /// Slot.
        file: u8,
    }
    /// The buffer that the read of the step just before was given, whatever came of it; bytes the kernel stored nothing
    /// to are [`crate::UNTOUCHED`].
    0x2b Left {
        /// First byte.
        from: u32,
        /// Bytes.
        len: u32,
    }
    /// `mknod` of a character device with mode 0600; a file that is there is removed first.
    0x2c MakeNode {
        /// Path.
        path: &'a [u8],
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    }
    /// `mount`; the folder is made if it is missing.
    0x2d Mount {
        /// What is mounted.
        source: &'a [u8],
        /// The folder.
        target: &'a [u8],
        /// The kind of file system; empty for none.
        kind: &'a [u8],
        /// `MS_*`.
        flags: u32,
        /// The file system's options.
        options: &'a [u8],
    }
    /// `symlink`.
    0x2f Symlink {
        /// Where it leads.
        target: &'a [u8],
        /// Its path.
        path: &'a [u8],
    }
    /// Runs a command under another root folder until it ends. The value is its wait status.
    0x2e Command {
        /// Its root folder.
        root: &'a [u8],
        /// Its current folder, under the root.
        folder: &'a [u8],
        /// What it has as standard input, output and error: three paths under the agent's root, each ended by a zero byte.
        files: &'a [u8],
        /// They are a terminal, which controls it.
        terminal: bool,
        /// Its arguments, each ended by a zero byte. A first one without a slash is looked for in `PATH`.
        arguments: &'a [u8],
        /// Its environment, each variable ended by a zero byte.
        environment: &'a [u8],
    }
}
