// SPDX-License-Identifier: Apache-2.0 OR MIT
//! System calls.

use core::arch::asm;
use core::ffi::CStr;

use protocol::Errno;

/// What a call gave.
pub type Result<T> = core::result::Result<T, Errno>;

pub const O_RDWR: u32 = 2;
pub const O_WRONLY: u32 = 1;
pub const O_CREAT: u32 = 0o100;
pub const O_TRUNC: u32 = 0o1000;
pub const O_NOCTTY: u32 = 0o400;
pub const O_NONBLOCK: u32 = 0o4000;
pub const O_DIRECTORY: u32 = 0o200_000;
pub const O_CLOEXEC: u32 = 0o2_000_000;

pub const PROT_READ: u32 = 1;
pub const PROT_WRITE: u32 = 2;
pub const MAP_SHARED: u32 = 1;
pub const MAP_PRIVATE: u32 = 2;
pub const MAP_FIXED: u32 = 0x10;
pub const MAP_ANONYMOUS: u32 = 0x20;
pub const MAP_POPULATE: u32 = 0x8000;

pub const REBOOT_RESTART: u32 = 0x0123_4567;
pub const REBOOT_POWER_OFF: u32 = 0x4321_fedc;
pub const REBOOT_HALT: u32 = 0xcdef_0123;

pub const POLLIN: i16 = 1;

/// Any system call.
///
/// # Safety
/// The call must not write to memory that Rust owns, except as the wrappers here document.
pub unsafe fn raw(number: u64, arguments: [u64; 6]) -> Result<u64> {
    let result: i64;
    // SAFETY: the kernel keeps all registers but these; the caller vouches for what the call does.
    unsafe {
        asm!("syscall", inlateout("rax") number => result,
             in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
             in("r10") arguments[3], in("r8") arguments[4], in("r9") arguments[5],
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    if (-4095..0).contains(&result) {
        Err(Errno(result.unsigned_abs() as u16))
    } else {
        Ok(result.cast_unsigned())
    }
}

/// What a system call can be given: numbers, sign-extended where they have one, and pointers.
trait Argument {
    fn word(self) -> u64;
}

macro_rules! arguments {
    ($($unsigned:ty)*; $($signed:ty)*) => {
        $(impl Argument for $unsigned {
            fn word(self) -> u64 {
                self as u64
            }
        })*
        $(impl Argument for $signed {
            fn word(self) -> u64 {
                i64::from(self).cast_unsigned()
            }
        })*
    };
}
arguments!(bool u8 u32 u64 usize; i32 i64);

impl<T> Argument for *const T {
    fn word(self) -> u64 {
        self as u64
    }
}

impl<T> Argument for *mut T {
    fn word(self) -> u64 {
        self as u64
    }
}

/// A call that takes plain numbers, or buffers that the safe wrappers below vouch for.
macro_rules! call {
    ($number:literal $(, $argument:expr)*) => {{
        let mut arguments = [0u64; 6];
        let given: &[u64] = &[$(Argument::word($argument)),*];
        arguments[..given.len()].copy_from_slice(given);
        // SAFETY: the wrapper around this hands over only numbers, and buffers borrowed for the time of the call.
        unsafe { raw($number, arguments) }
    }};
}

mod process;
mod socket;
pub use process::*;
pub use socket::*;

/// A file descriptor.
pub type File = i32;

pub fn open(path: &CStr, flags: u32, mode: u32) -> Result<File> {
    call!(2, path.as_ptr(), flags, mode).map(|file| file as File)
}

pub fn close(file: File) -> Result<u64> {
    call!(3, file)
}

pub fn lseek(file: File, offset: i64, whence: u8) -> Result<u64> {
    call!(8, file, offset, whence)
}

pub fn read(file: File, buffer: &mut [u8]) -> Result<usize> {
    call!(0, file, buffer.as_mut_ptr(), buffer.len()).map(|count| count as usize)
}

pub fn pread(file: File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    call!(17, file, buffer.as_mut_ptr(), buffer.len(), offset).map(|count| count as usize)
}

pub fn write(file: File, bytes: &[u8]) -> Result<usize> {
    call!(1, file, bytes.as_ptr(), bytes.len()).map(|count| count as usize)
}

pub fn pwrite(file: File, bytes: &[u8], offset: u64) -> Result<usize> {
    call!(18, file, bytes.as_ptr(), bytes.len(), offset).map(|count| count as usize)
}

/// Reads to an address the kernel has to check: one of the bad buffers.
pub fn read_at_address(file: File, offset: Option<u64>, address: u64, len: u64) -> Result<u64> {
    match offset {
        None => call!(0, file, address, len),
        Some(offset) => call!(17, file, address, len, offset),
    }
}

/// Writes from an address the kernel has to check: one of the bad buffers.
pub fn write_at_address(file: File, offset: Option<u64>, address: u64, len: u64) -> Result<u64> {
    match offset {
        None => call!(1, file, address, len),
        Some(offset) => call!(18, file, address, len, offset),
    }
}

pub fn getdents(file: File, buffer: &mut [u8]) -> Result<usize> {
    call!(217, file, buffer.as_mut_ptr(), buffer.len()).map(|count| count as usize)
}

pub fn stat(path: &CStr, status: &mut [u8; 144]) -> Result<u64> {
    call!(4, path.as_ptr(), status.as_mut_ptr())
}

pub fn uname(names: &mut [u8; 390]) -> Result<u64> {
    call!(63, names.as_mut_ptr())
}

/// `syslog(2)`.
pub fn kernel_log(action: u32, buffer: &mut [u8]) -> Result<usize> {
    call!(103, action, buffer.as_mut_ptr(), buffer.len()).map(|count| count as usize)
}

/// `mmap` where nothing of ours is: the address is a hint, and the kernel never gives memory that is in use.
pub fn mmap(hint: u64, len: u64, prot: u32, flags: u32, file: File, offset: u64) -> Result<u64> {
    call!(9, hint, len, prot, flags, file, offset)
}

/// # Safety
/// Nothing may refer to the range any more.
pub unsafe fn munmap(address: u64, len: u64) -> Result<u64> {
    call!(11, address, len)
}

/// Fresh zeroed memory that is never unmapped.
pub fn memory(len: usize, flags: u32) -> Result<&'static mut [u8]> {
    let address = mmap(0, len as u64, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0)?;
    // SAFETY: the range is new, readable, writable, zeroed, and ours for good.
    Ok(unsafe { core::slice::from_raw_parts_mut(address as *mut u8, len) })
}

/// A file in memory of this length, which a program started later does not keep.
pub fn memory_file(len: usize) -> Result<File> {
    const CLOSE_ON_EXEC: u32 = 1;
    let file = call!(319, c"copra".as_ptr(), CLOSE_ON_EXEC)? as File;
    call!(77, file, len)?;
    Ok(file)
}

/// A file's memory, never unmapped.
pub fn map_file(file: File, len: usize, flags: u32) -> Result<&'static mut [u8]> {
    let address = mmap(0, len as u64, PROT_READ | PROT_WRITE, flags, file, 0)?;
    // SAFETY: the range is new, readable, writable, and ours for good; the file has the length.
    Ok(unsafe { core::slice::from_raw_parts_mut(address as *mut u8, len) })
}

/// # Safety
/// Nothing but steps may refer to the range.
pub unsafe fn mprotect(address: u64, len: u64, prot: u32) -> Result<u64> {
    call!(10, address, len, prot)
}

/// # Safety
/// Nothing but steps may refer to the range, nor to the `len` bytes from `target` if the flags have `MREMAP_FIXED`.
pub unsafe fn mremap(address: u64, old: u64, len: u64, flags: u32, target: u64) -> Result<u64> {
    call!(25, address, old, len, flags, target)
}

/// `FD_CLOEXEC` of a descriptor, on or off.
pub fn close_on_exec(file: File, on: bool) -> Result<u64> {
    set_flags(file, 2, u32::from(on))
}

/// Whether the number is a descriptor.
pub fn is_open(file: File) -> bool {
    set_flags(file, 1, 0).is_ok()
}

pub fn unlink(path: &CStr) -> Result<u64> {
    call!(87, path.as_ptr())
}

pub fn mlock(address: u64, len: usize) -> Result<u64> {
    call!(149, address, len)
}

pub fn mount(kind: &CStr, place: &CStr) -> Result<u64> {
    call!(165, kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, 0)
}

/// `mount` of something with options; `kind` and `options` may be empty.
pub fn mount_with(source: &CStr, place: &CStr, kind: &CStr, flags: u32, options: &CStr) -> Result<u64> {
    call!(165, source.as_ptr(), place.as_ptr(), kind.as_ptr(), flags, options.as_ptr())
}

pub fn symlink(target: &CStr, path: &CStr) -> Result<u64> {
    call!(88, target.as_ptr(), path.as_ptr())
}

pub fn chroot(path: &CStr) -> Result<u64> {
    call!(161, path.as_ptr())
}

pub fn chdir(path: &CStr) -> Result<u64> {
    call!(80, path.as_ptr())
}

pub fn mkdir(path: &CStr) -> Result<u64> {
    call!(83, path.as_ptr(), 0o755)
}

/// A character device node; the numbers as `include/linux/kdev_t.h:new_encode_dev()` packs them.
pub fn mknod(path: &CStr, major: u32, minor: u32) -> Result<u64> {
    call!(133, path.as_ptr(), 0o020_600, minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

pub fn sync() {
    let _ = call!(162);
}

pub fn reboot(command: u32) {
    let _ = call!(169, 0xfee1_dead_u32, 0x2812_1969, command, 0);
}

/// Makes `to` another name of `from`, one that a program started later keeps.
pub fn duplicate(from: File, to: File) -> Result<u64> {
    call!(33, from, to)
}

/// Both ends of a pipe.
pub struct Pipe {
    pub reads: File,
    pub writes: File,
}

/// A new pipe.
pub fn pipe() -> Result<Pipe> {
    let mut files = [0; 2];
    call!(293, files.as_mut_ptr(), O_CLOEXEC)?;
    Ok(Pipe { reads: files[0], writes: files[1] })
}

/// One byte to a pipe whose other end may be gone; SIGPIPE must be ignored.
pub fn send_byte(file: File, byte: u8) -> Result<u64> {
    let byte = [byte];
    call!(1, file, byte.as_ptr(), 1)
}

/// Ignores SIGPIPE, here and in every process forked later.
pub fn ignore_broken_pipes() {
    on_broken_pipe(1);
}

/// Lets SIGPIPE end this process and programs it becomes, as they are used to.
pub fn restore_sigpipe() {
    on_broken_pipe(0);
}

/// Takes `SIG_DFL` (0) or `SIG_IGN` (1).
fn on_broken_pipe(handler: u64) {
    const SIGPIPE: u32 = 13;
    // `struct kernel_sigaction`: handler, flags, restorer, mask.
    let action = [handler, 0, 0, 0];
    let _ = call!(13, SIGPIPE, action.as_ptr(), 0, 8);
}

/// Waits until there is something to read, or the other end is gone; false after `milliseconds`.
pub fn wait_readable(file: File, milliseconds: u32) -> bool {
    #[repr(C)]
    struct Poll {
        file: File,
        events: i16,
        happened: i16,
    }
    let mut poll = Poll { file, events: POLLIN, happened: 0 };
    call!(7, &raw mut poll, 1, milliseconds.min(i32::MAX.cast_unsigned())).unwrap_or_default() != 0
}

/// Milliseconds since some time in the past.
pub fn milliseconds() -> u64 {
    const MONOTONIC: u32 = 1;
    let mut time = [0u64; 2];
    let _ = call!(228, MONOTONIC, time.as_mut_ptr());
    time[0] * 1000 + time[1] / 1_000_000
}

pub fn sched_yield() {
    let _ = call!(24);
}

pub fn sleep(milliseconds: u32) {
    let _ = call!(7, 0, 0, milliseconds);
}

pub fn ioctl(file: File, request: u32, argument: u64) -> Result<u64> {
    call!(16, file, request, argument)
}

/// `fcntl`.
pub fn set_flags(file: File, command: u32, flags: u32) -> Result<u64> {
    call!(72, file, command, flags)
}

pub fn random(buffer: &mut [u8]) {
    const INSECURE: u32 = 4;
    let _ = call!(318, buffer.as_mut_ptr(), buffer.len(), INSECURE);
}

/// `rt_sigaction` with the kernel's own structure.
///
/// # Safety
/// The handler must be one, and its restorer return from it.
pub unsafe fn signal_action(signal: u32, action: &[u64; 4]) -> Result<u64> {
    call!(13, signal, action.as_ptr(), 0, 8)
}

/// # Safety
/// The stack must be ours for good.
pub unsafe fn signal_stack(stack: &'static mut [u8]) -> Result<u64> {
    let description = [stack.as_mut_ptr() as u64, 0, stack.len() as u64];
    call!(131, description.as_ptr(), 0)
}
