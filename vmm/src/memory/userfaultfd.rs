// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The part of userfaultfd(2) that decides who may access a page: register, unregister, copy, wake.
//!
//! Written against `include/uapi/linux/userfaultfd.h`; the crate of that name needs libclang to build.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref};

use super::cipher::PAGE;

const UFFD_API: u64 = 0xaa;
/// `UFFD_FEATURE_THREAD_ID`: each event names the thread that faulted.
const FEATURE_THREAD_ID: u64 = 1 << 8;
/// `UFFDIO_REGISTER_MODE_MISSING`: faults on pages that are not there.
const MODE_MISSING: u64 = 1;
const EVENT_PAGEFAULT: u8 = 0x12;
/// `UFFD_PAGEFAULT_FLAG_WRITE`.
const FLAG_WRITE: u64 = 1;

#[repr(C)]
#[derive(Default)]
struct Api {
    version: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Default)]
struct Range {
    start: u64,
    len: u64,
}

#[repr(C)]
#[derive(Default)]
struct Register {
    range: Range,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Default)]
struct Copy {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    copied: i64,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Message {
    event: u8,
    reserved1: u8,
    reserved2: u16,
    reserved3: u32,
    flags: u64,
    address: u64,
    thread: u32,
    padding: u32,
}

const _: () = assert!(size_of::<Message>() == 32);

/// Request numbers, as functions the macro makes.
mod request {
    use super::{Api, Copy, Register, UFFD_API};
    vmm_sys_util::ioctl_iowr_nr!(UFFDIO_REGISTER, UFFD_API as u32, 0x00, Register);
    vmm_sys_util::ioctl_iowr_nr!(UFFDIO_COPY, UFFD_API as u32, 0x03, Copy);
    vmm_sys_util::ioctl_iowr_nr!(UFFDIO_API, UFFD_API as u32, 0x3f, Api);
}
/// `_IOR`, unlike its neighbours.
const UFFDIO_UNREGISTER: libc::c_ulong = 0x8010_aa01;
/// `_IOR` as well.
const UFFDIO_WAKE: libc::c_ulong = 0x8010_aa02;
/// `USERFAULTFD_IOC_NEW` on /dev/userfaultfd.
const USERFAULTFD_IOC_NEW: libc::c_ulong = 0xaa00;

/// An access of a page that is registered and not there.
#[derive(Debug, Clone, Copy)]
pub struct PageFault {
    /// Host virtual address of the page.
    pub address: u64,
    /// The access was a write.
    pub write: bool,
    /// Thread that accessed it.
    pub thread: u32,
}

/// An open userfaultfd, non-blocking.
#[derive(Debug)]
pub struct Userfaultfd {
    file: File,
}

impl Userfaultfd {
    /// Opens one that also sees faults taken inside KVM: by the system call where privilege or
    /// `vm.unprivileged_userfaultfd` allows, else through /dev/userfaultfd.
    pub fn open() -> io::Result<Self> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: the call takes flags only and returns a new descriptor or -1.
        let mut fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) } as RawFd;
        if fd < 0 {
            let refused = io::Error::last_os_error();
            let Ok(device) = File::options().read(true).write(true).open("/dev/userfaultfd") else {
                return Err(refused);
            };
            // SAFETY: the ioctl takes flags by value and returns a new descriptor or -1.
            fd = unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW, flags) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: `fd` was just returned by the kernel and has no other owner.
        let uffd = Self { file: unsafe { File::from_raw_fd(fd) } };
        let mut api = Api { version: UFFD_API, features: FEATURE_THREAD_ID, ioctls: 0 };
        // SAFETY: `api` is the struct this ioctl reads and writes, and lives through the call.
        check(unsafe { ioctl_with_mut_ref(&uffd.file, request::UFFDIO_API(), &mut api) })?;
        Ok(uffd)
    }

    /// From now on an access of a page missing in `[start, start + len)` waits until it is resolved.
    pub fn register(&self, start: u64, len: u64) -> io::Result<()> {
        let mut request = Register { range: Range { start, len }, mode: MODE_MISSING, ioctls: 0 };
        // SAFETY: `request` is the struct this ioctl reads and writes, and lives through the call.
        check(unsafe { ioctl_with_mut_ref(&self.file, request::UFFDIO_REGISTER(), &mut request) })
    }

    /// From now on nothing in `[start, start + len)` waits; what is missing is made of zeros.
    pub fn unregister(&self, start: u64, len: u64) -> io::Result<()> {
        let range = Range { start, len };
        // SAFETY: `range` is the struct this ioctl reads, and lives through the call.
        check(unsafe { ioctl_with_ref(&self.file, UFFDIO_UNREGISTER, &range) })
    }

    /// Wakes the threads that wait for the page at `page`, which is present already.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where it was not: the guest has found zeros in place of what it held.
    pub fn wake_present(&self, page: u64) -> io::Result<()> {
        match self.copy_some(page, &[0; PAGE]) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => self.wake(page, PAGE as u64),
            Ok(_) => Err(io::ErrorKind::NotFound.into()),
            Err(e) => Err(e),
        }
    }

    /// Puts copies of `pages` at `dst` and wakes the threads that wait for them.
    ///
    /// # Errors
    /// EEXIST where a page is there already; those before it have been put.
    pub fn copy(&self, dst: u64, pages: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < pages.len() {
            done += self.copy_some(dst + done as u64, &pages[done..])?;
        }
        Ok(())
    }

    /// One request, of which the kernel may carry out the first part only; gives the bytes put.
    fn copy_some(&self, dst: u64, pages: &[u8]) -> io::Result<usize> {
        loop {
            let mut request =
                Copy { dst, src: pages.as_ptr() as u64, len: pages.len() as u64, ..Default::default() };
            // SAFETY: `src` is valid for `len` bytes and `dst` lies in a registered mapping of this process;
            // the kernel refuses anything else with an error.
            let result =
                check(unsafe { ioctl_with_mut_ref(&self.file, request::UFFDIO_COPY(), &mut request) });
            match result {
                Ok(()) => return Ok(pages.len()),
                // `fs/userfaultfd.c:userfaultfd_copy()`: EAGAIN for a part, whose length is in `copied`, and where the
                // mapping was about to change.
                Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => match usize::try_from(request.copied) {
                    Ok(copied) if copied > 0 => return Ok(copied),
                    _ => {}
                },
                Err(e) => return Err(e),
            }
        }
    }

    /// Lets the threads that wait in `[start, start + len)` retry the access.
    pub fn wake(&self, start: u64, len: u64) -> io::Result<()> {
        let range = Range { start, len };
        // SAFETY: `range` is the struct this ioctl reads, and lives through the call.
        check(unsafe { ioctl_with_ref(&self.file, UFFDIO_WAKE, &range) })
    }

    /// Takes the next fault, `None` if there is none now.
    pub fn next(&self) -> io::Result<Option<PageFault>> {
        let mut raw = [0u8; size_of::<Message>()];
        loop {
            match (&self.file).read(&mut raw) {
                Ok(n) if n == raw.len() => {}
                Ok(_) => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| raw[at + i]));
            if raw[0] == EVENT_PAGEFAULT {
                return Ok(Some(PageFault {
                    address: word(std::mem::offset_of!(Message, address)) & !0xfff,
                    write: word(std::mem::offset_of!(Message, flags)) & FLAG_WRITE != 0,
                    thread: word(std::mem::offset_of!(Message, thread)) as u32,
                }));
            }
        }
    }
}

impl AsRawFd for Userfaultfd {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
