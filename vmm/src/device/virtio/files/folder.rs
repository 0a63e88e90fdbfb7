// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A folder of the host as a FUSE file system, read-only unless the guest may change it.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, FsOptions, OpenOptions, SetattrValid, stat64, statvfs64};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, ZeroCopyReader, ZeroCopyWriter,
};
use fuse_backend_rs::passthrough::{CachePolicy, Config, PassthroughFs};

/// How long the guest may keep names and attributes: the folder is not expected to change meanwhile.
const KEEP: Duration = Duration::from_secs(60);

/// Requests of up to 1 MiB (`MAX_REQ_PAGES` of the library). The guest's kernel divides a write into requests of one page without the
/// first, and all transfers into requests of 32 pages without the second (`fs/fuse/inode.c:process_init_reply`).
const LARGE_REQUESTS: FsOptions = FsOptions::BIG_WRITES.union(FsOptions::MAX_PAGES);

/// `O_DIRECT` is of the guest's page cache: the host's is used in any case, and the guest's buffers need not have the alignment that
/// the host's file system wants.
const fn without_direct(flags: u32) -> u32 {
    flags & !libc::O_DIRECT.cast_unsigned()
}

/// File systems made by the kernel of what it knows, whose files may block their reader, or change the host or this process
/// (`/proc/PID/mem`). A guest has its own.
const MADE_BY_KERNEL: [&str; 14] = [
    "proc",
    "sysfs",
    "debugfs",
    "tracefs",
    "securityfs",
    "cgroup",
    "cgroup2",
    "pstore",
    "bpf",
    "configfs",
    "efivarfs",
    "fusectl",
    "mqueue",
    "devpts",
];

/// The folder.
pub(super) struct Folder {
    inner: PassthroughFs,
    /// Whether the file system with this device number is one of [`MADE_BY_KERNEL`].
    made_by_kernel: Mutex<HashMap<u64, bool>>,
    writable: bool,
    /// The guest's users are this process's user: it may not act as another.
    one_user: bool,
}

impl Folder {
    pub(super) fn new(root: &Path, writable: bool) -> io::Result<Self> {
        // What cannot be listed is no folder, or not readable.
        std::fs::read_dir(root)?;
        let root_dir = root.to_str().ok_or_else(|| io::Error::other("its path is not UTF-8"))?.to_owned();
        let keep = if writable { Duration::from_secs(1) } else { KEEP };
        let config = Config {
            root_dir,
            entry_timeout: keep,
            attr_timeout: keep,
            cache_policy: if writable { CachePolicy::Auto } else { CachePolicy::Always },
            ..Config::default()
        };
        // SAFETY: takes and changes nothing.
        let one_user = unsafe { libc::geteuid() } != 0;
        let inner = PassthroughFs::new(config)?;
        Ok(Self { inner, made_by_kernel: Mutex::default(), writable, one_user })
    }

    /// Refuses what is in a file system made by the kernel; its root can be had, for the guest to mount its own over it.
    fn check_place(&self, context: &Context, folder: u64) -> io::Result<()> {
        let device = self.inner.getattr(context, folder, None)?.0.st_dev;
        let mut known = self.made_by_kernel.lock().unwrap_or_else(PoisonError::into_inner);
        let made_by_kernel = *known.entry(device).or_insert_with(|| {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            mounts.lines().filter_map(mount).any(|(of, kind)| of == device && MADE_BY_KERNEL.contains(&kind))
        });
        if made_by_kernel { Err(io::Error::from_raw_os_error(libc::EACCES)) } else { Ok(()) }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EROFS)) }
    }
}

/// Device number and type of a file system, from a line of `mountinfo` (`Documentation/filesystems/proc.rst` §3.5).
fn mount(line: &str) -> Option<(u64, &str)> {
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    let kind = line.split_once(" - ")?.1.split(' ').next()?;
    Some((libc::makedev(major.parse().ok()?, minor.parse().ok()?), kind))
}

/// Calls that go through as they are, and calls that change something.
macro_rules! forward {
    (reads { $($read:ident($($a:ident: $t:ty),*) -> $r:ty;)* } changes { $($change:ident($($b:ident: $u:ty),*) -> $s:ty;)* }) => {
        $(fn $read(&self, context: &Context, $($a: $t),*) -> $r {
            self.inner.$read(context, $($a),*)
        })*
        $(fn $change(&self, context: &Context, $($b: $u),*) -> $s {
            self.check_writable()?;
            self.inner.$change(context, $($b),*)
        })*
    };
}

impl FileSystem for Folder {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        // The library clears the process's file mode mask.
        // SAFETY: takes and changes nothing but the mask.
        let mask = unsafe { libc::umask(0o077) };
        let options = self.inner.init(capable);
        // SAFETY: as above.
        unsafe { libc::umask(mask) };
        Ok(options? | LARGE_REQUESTS)
    }

    fn destroy(&self) {
        // SAFETY: as in `init`.
        let mask = unsafe { libc::umask(0o077) };
        self.inner.destroy();
        // SAFETY: as in `init`.
        unsafe { libc::umask(mask) };
    }

    fn id_remap(&self, context: &mut Context) -> io::Result<()> {
        if self.one_user {
            // To the library that is: as this process.
            (context.uid, context.gid) = (0, 0);
        }
        Ok(())
    }

    fn open(
        &self,
        context: &Context,
        inode: u64,
        flags: u32,
        fuse_flags: u32,
    ) -> io::Result<(Option<u64>, OpenOptions, Option<u32>)> {
        let changes = libc::O_ACCMODE | libc::O_TRUNC | libc::O_APPEND | libc::O_CREAT;
        if flags.cast_signed() & changes != libc::O_RDONLY {
            self.check_writable()?;
        }
        self.inner.open(context, inode, without_direct(flags), fuse_flags)
    }

    fn create(
        &self,
        context: &Context,
        parent: u64,
        name: &CStr,
        mut how: CreateIn,
    ) -> io::Result<(Entry, Option<u64>, OpenOptions, Option<u32>)> {
        self.check_writable()?;
        how.flags = without_direct(how.flags);
        self.inner.create(context, parent, name, how)
    }

    fn read(
        &self,
        context: &Context,
        inode: u64,
        handle: u64,
        to: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        owner: Option<u64>,
        flags: u32,
    ) -> io::Result<usize> {
        self.inner.read(context, inode, handle, to, size, offset, owner, without_direct(flags))
    }

    fn write(
        &self,
        context: &Context,
        inode: u64,
        handle: u64,
        from: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        owner: Option<u64>,
        delayed: bool,
        flags: u32,
        fuse_flags: u32,
    ) -> io::Result<usize> {
        self.check_writable()?;
        let flags = without_direct(flags);
        self.inner.write(context, inode, handle, from, size, offset, owner, delayed, flags, fuse_flags)
    }

    fn lookup(&self, context: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        // The library follows `..` (for NFS), and a folder that the host has moved meanwhile leads out of this one by it.
        if matches!(name.to_bytes(), b"." | b"..") {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.check_place(context, parent)?;
        self.inner.lookup(context, parent, name)
    }

    fn opendir(&self, context: &Context, inode: u64, flags: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        self.check_place(context, inode)?;
        self.inner.opendir(context, inode, flags)
    }

    fn batch_forget(&self, context: &Context, requests: Vec<(u64, u64)>) {
        self.inner.batch_forget(context, requests);
    }

    forward! {
        reads {
            forget(inode: u64, count: u64) -> ();
            getattr(inode: u64, handle: Option<u64>) -> io::Result<(stat64, Duration)>;
            readlink(inode: u64) -> io::Result<Vec<u8>>;
            flush(inode: u64, handle: u64, owner: u64) -> io::Result<()>;
            fsync(inode: u64, datasync: bool, handle: u64) -> io::Result<()>;
            release(inode: u64, flags: u32, handle: u64, flush: bool, flock: bool, owner: Option<u64>) -> io::Result<()>;
            statfs(inode: u64) -> io::Result<statvfs64>;
            readdir(inode: u64, handle: u64, size: u32, offset: u64, add: &mut dyn FnMut(DirEntry<'_>) -> io::Result<usize>) -> io::Result<()>;
            readdirplus(inode: u64, handle: u64, size: u32, offset: u64, add: &mut dyn FnMut(DirEntry<'_>, Entry) -> io::Result<usize>) -> io::Result<()>;
            fsyncdir(inode: u64, datasync: bool, handle: u64) -> io::Result<()>;
            releasedir(inode: u64, flags: u32, handle: u64) -> io::Result<()>;
            access(inode: u64, mask: u32) -> io::Result<()>;
            lseek(inode: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64>;
        }
        changes {
            setattr(inode: u64, attributes: stat64, handle: Option<u64>, valid: SetattrValid) -> io::Result<(stat64, Duration)>;
            symlink(target: &CStr, parent: u64, name: &CStr) -> io::Result<Entry>;
            mknod(parent: u64, name: &CStr, mode: u32, device: u32, mask: u32) -> io::Result<Entry>;
            mkdir(parent: u64, name: &CStr, mode: u32, mask: u32) -> io::Result<Entry>;
            unlink(parent: u64, name: &CStr) -> io::Result<()>;
            rmdir(parent: u64, name: &CStr) -> io::Result<()>;
            rename(from: u64, name: &CStr, to: u64, new_name: &CStr, flags: u32) -> io::Result<()>;
            link(inode: u64, parent: u64, name: &CStr) -> io::Result<Entry>;
            fallocate(inode: u64, handle: u64, mode: u32, offset: u64, len: u64) -> io::Result<()>;
        }
    }
}
