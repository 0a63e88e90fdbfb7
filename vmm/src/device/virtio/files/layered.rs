// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Folders of the host as one FUSE file system: a file of an upper one hides the file of that path below it, and a folder that
//! several have shows the names of all. With more than one, nothing can be changed.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{
    CreateIn, FsOptions, OpenOptions, ROOT_ID, SetattrValid, stat64, statvfs64,
};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, ZeroCopyReader, ZeroCopyWriter,
};

use super::folder::Folder;

/// The library's numbers of files have 56 bits (`VFS_MAX_INO`); those above them are the layer.
const LAYER_SHIFT: u32 = 56;
/// Bytes of names that are read from the host at once.
const LIST_SIZE: u32 = 1 << 16;

/// Merged folders that are open at a time.
const MOST_LISTINGS: usize = 256;

/// A file of one of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    layer: usize,
    inode: u64,
}

impl Node {
    /// Layer 0 keeps the library's numbers, its root among them.
    const fn number(self) -> u64 {
        (self.layer as u64) << LAYER_SHIFT | self.inode
    }

    const fn of_number(number: u64) -> Self {
        Self { layer: (number >> LAYER_SHIFT) as usize, inode: number & ((1 << LAYER_SHIFT) - 1) }
    }
}

/// A folder that several layers have, under the number of the uppermost.
#[derive(Debug)]
struct Merged {
    /// From the uppermost, with how often each was looked up in its layer.
    members: Vec<(Node, u64)>,
    /// How often the guest has looked it up.
    lookups: u64,
}

/// The names in an open merged folder.
type Listing = Vec<(u64, u32, CString)>;

/// The folders.
pub(super) struct Layered {
    /// From the lowest.
    layers: Vec<Folder>,
    merged: Mutex<HashMap<u64, Merged>>,
    listings: Mutex<HashMap<u64, Listing>>,
    next_listing: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn is_folder(entry: &Entry) -> bool {
    entry.attr.st_mode & libc::S_IFMT == libc::S_IFDIR
}

impl Layered {
    /// One folder, and what is above it, from the lowest.
    pub(super) fn new(layers: Vec<Folder>) -> Self {
        let this = Self {
            layers,
            merged: Mutex::default(),
            listings: Mutex::default(),
            next_listing: AtomicU64::default(),
        };
        this.merge_roots();
        this
    }

    fn merge_roots(&self) {
        lock(&self.merged).clear();
        lock(&self.listings).clear();
        if self.layers.len() > 1 {
            let root = |layer| (Node { layer, inode: ROOT_ID }, 1);
            let members = (0..self.layers.len()).rev().map(root).collect();
            lock(&self.merged).insert(ROOT_ID, Merged { members, lookups: 1 });
        }
    }

    /// The layer of a file, and its number there.
    fn route(&self, number: u64) -> io::Result<(&Folder, u64)> {
        let node = Node::of_number(number);
        Ok((self.layers.get(node.layer).ok_or_else(|| error(libc::EBADF))?, node.inode))
    }

    /// The only layer, which can be changed.
    fn single(&self) -> io::Result<&Folder> {
        match self.layers.as_slice() {
            [one] => Ok(one),
            _ => Err(error(libc::EROFS)),
        }
    }

    /// The folders that a folder consists of, from the uppermost; `None` if it is one of a layer.
    fn members(&self, number: u64) -> Option<Vec<Node>> {
        let merged = lock(&self.merged);
        Some(merged.get(&number)?.members.iter().map(|(node, _)| *node).collect())
    }

    /// Looks a name up in all members; gives the entry of the uppermost, and every folder of that name.
    fn find(&self, context: &Context, members: &[Node], name: &CStr) -> io::Result<(Entry, Vec<Node>)> {
        let mut found: Option<(Entry, Vec<Node>)> = None;
        for member in members {
            let folder = self.layers.get(member.layer).ok_or_else(|| error(libc::EBADF))?;
            let entry = match (folder.lookup(context, member.inode, name), &found) {
                (Ok(entry), _) => entry,
                (Err(error), _) if error.raw_os_error() == Some(libc::ENOENT) => continue,
                (Err(error), None) => return Err(error),
                // What is below cannot be had.
                (Err(_), Some(_)) => break,
            };
            let node = Node { layer: member.layer, inode: entry.inode };
            match &mut found {
                None if !is_folder(&entry) => return Ok((entry, vec![node])),
                None => found = Some((entry, vec![node])),
                Some((_, nodes)) if is_folder(&entry) => nodes.push(node),
                Some(_) => {
                    folder.forget(context, entry.inode, 1);
                    break;
                }
            }
        }
        found.ok_or_else(|| error(libc::ENOENT))
    }

    /// Keeps a folder that several layers have until the guest forgets it.
    fn keep(&self, number: u64, nodes: &[Node]) {
        let mut merged = lock(&self.merged);
        let folder = merged.entry(number).or_insert_with(|| Merged { members: Vec::new(), lookups: 0 });
        folder.lookups = folder.lookups.saturating_add(1);
        for node in nodes {
            match folder.members.iter_mut().find(|(known, _)| known == node) {
                Some((_, count)) => *count += 1,
                None => folder.members.push((*node, 1)),
            }
        }
    }

    fn forget_one(&self, context: &Context, number: u64, count: u64) {
        let mut merged = lock(&self.merged);
        let Some(folder) = merged.get_mut(&number) else {
            drop(merged);
            if let Ok((folder, inode)) = self.route(number) {
                folder.forget(context, inode, count);
            }
            return;
        };
        folder.lookups = folder.lookups.saturating_sub(count);
        if folder.lookups > 0 || number == ROOT_ID {
            return;
        }
        let members = merged.remove(&number).map(|folder| folder.members).unwrap_or_default();
        drop(merged);
        for (node, count) in members {
            if let Some(folder) = self.layers.get(node.layer) {
                folder.forget(context, node.inode, count);
            }
        }
    }

    /// The names in all members, each once.
    fn list(&self, context: &Context, members: &[Node]) -> io::Result<Listing> {
        let mut listing = Listing::new();
        let mut known = HashSet::new();
        for member in members {
            let folder = self.layers.get(member.layer).ok_or_else(|| error(libc::EBADF))?;
            let (handle, ..) = folder.opendir(context, member.inode, libc::O_RDONLY.cast_unsigned())?;
            let handle = handle.unwrap_or_default();
            let mut offset = 0;
            let end = loop {
                let start = offset;
                let read = folder.readdir(context, member.inode, handle, LIST_SIZE, offset, &mut |entry| {
                    offset = entry.offset;
                    let name = CString::new(entry.name)?;
                    if known.insert(name.clone()) {
                        listing.push((entry.ino, entry.type_, name));
                    }
                    Ok(1)
                });
                match read {
                    Ok(()) if offset != start => {}
                    end => break end,
                }
            };
            let flags = libc::O_RDONLY.cast_unsigned();
            let closed = folder.releasedir(context, member.inode, flags, handle);
            end.and(closed)?;
        }
        Ok(listing)
    }

    /// Part of an open merged folder from `offset`, which counts names, until `add` takes no more.
    fn each(
        &self,
        handle: u64,
        offset: u64,
        mut add: impl FnMut(DirEntry<'_>, &CStr) -> io::Result<usize>,
    ) -> io::Result<()> {
        let listings = lock(&self.listings);
        let listing = listings.get(&handle).ok_or_else(|| error(libc::EBADF))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (ino, type_, name)) in listing.iter().enumerate().skip(start) {
            let offset = index as u64 + 1;
            let entry = DirEntry { ino: *ino, offset, type_: *type_, name: name.to_bytes() };
            if add(entry, name)? == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Calls for a file of one layer, and calls that change something.
macro_rules! forward {
    (reads { $($read:ident(inode $(, $a:ident: $t:ty)*) -> $r:ty;)* } changes { $($change:ident($($b:ident: $u:ty),*) -> $s:ty;)* }) => {
        $(fn $read(&self, context: &Context, inode: u64, $($a: $t),*) -> $r {
            let (folder, inode) = self.route(inode)?;
            folder.$read(context, inode, $($a),*)
        })*
        $(fn $change(&self, context: &Context, $($b: $u),*) -> $s {
            self.single()?.$change(context, $($b),*)
        })*
    };
}

impl FileSystem for Layered {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        self.merge_roots();
        let mut options = capable;
        for folder in &self.layers {
            options &= folder.init(capable)?;
        }
        Ok(options)
    }

    fn destroy(&self) {
        self.layers.iter().for_each(FileSystem::destroy);
        self.merge_roots();
    }

    fn id_remap(&self, context: &mut Context) -> io::Result<()> {
        self.layers.first().map_or(Ok(()), |folder| folder.id_remap(context))
    }

    fn lookup(&self, context: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        let members = match self.members(parent) {
            Some(members) => members,
            None => vec![Node::of_number(parent)],
        };
        let (mut entry, nodes) = self.find(context, &members, name)?;
        let Some(first) = nodes.first() else { return Err(error(libc::ENOENT)) };
        entry.inode = first.number();
        if nodes.len() > 1 {
            self.keep(entry.inode, &nodes);
        }
        Ok(entry)
    }

    fn forget(&self, context: &Context, inode: u64, count: u64) {
        self.forget_one(context, inode, count);
    }

    fn batch_forget(&self, context: &Context, requests: Vec<(u64, u64)>) {
        for (inode, count) in requests {
            self.forget_one(context, inode, count);
        }
    }

    fn opendir(&self, context: &Context, inode: u64, flags: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        let Some(members) = self.members(inode) else {
            let (folder, inode) = self.route(inode)?;
            return folder.opendir(context, inode, flags);
        };
        // No descriptor of the host's bounds them.
        if lock(&self.listings).len() >= MOST_LISTINGS {
            return Err(error(libc::EMFILE));
        }
        let listing = self.list(context, &members)?;
        let handle = self.next_listing.fetch_add(1, Ordering::Relaxed);
        lock(&self.listings).insert(handle, listing);
        Ok((Some(handle), OpenOptions::empty()))
    }

    fn readdir(
        &self,
        context: &Context,
        inode: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry<'_>) -> io::Result<usize>,
    ) -> io::Result<()> {
        if self.members(inode).is_some() {
            return self.each(handle, offset, |entry, _| add(entry));
        }
        let (folder, inode) = self.route(inode)?;
        folder.readdir(context, inode, handle, size, offset, add)
    }

    fn readdirplus(
        &self,
        context: &Context,
        inode: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry<'_>, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        if self.members(inode).is_some() {
            return self.each(handle, offset, |mut dir_entry, name| {
                // What has gone meanwhile is left out.
                let Ok(entry) = self.lookup(context, inode, name) else { return Ok(1) };
                let number = entry.inode;
                dir_entry.ino = entry.attr.st_ino;
                let added = add(dir_entry, entry);
                if !added.as_ref().is_ok_and(|count| *count > 0) {
                    self.forget_one(context, number, 1);
                }
                added
            });
        }
        let layer = Node::of_number(inode).layer;
        let (folder, inode) = self.route(inode)?;
        folder.readdirplus(context, inode, handle, size, offset, &mut |dir_entry, mut entry| {
            entry.inode = Node { layer, inode: entry.inode }.number();
            add(dir_entry, entry)
        })
    }

    fn releasedir(&self, context: &Context, inode: u64, flags: u32, handle: u64) -> io::Result<()> {
        if self.members(inode).is_some() {
            lock(&self.listings).remove(&handle);
            return Ok(());
        }
        let (folder, inode) = self.route(inode)?;
        folder.releasedir(context, inode, flags, handle)
    }

    fn fsyncdir(&self, context: &Context, inode: u64, datasync: bool, handle: u64) -> io::Result<()> {
        if self.members(inode).is_some() {
            return Ok(());
        }
        let (folder, inode) = self.route(inode)?;
        folder.fsyncdir(context, inode, datasync, handle)
    }

    forward! {
        reads {
            open(inode, flags: u32, fuse_flags: u32) -> io::Result<(Option<u64>, OpenOptions, Option<u32>)>;
            getattr(inode, handle: Option<u64>) -> io::Result<(stat64, Duration)>;
            readlink(inode) -> io::Result<Vec<u8>>;
            read(inode, handle: u64, to: &mut dyn ZeroCopyWriter, size: u32, offset: u64, owner: Option<u64>, flags: u32) -> io::Result<usize>;
            flush(inode, handle: u64, owner: u64) -> io::Result<()>;
            fsync(inode, datasync: bool, handle: u64) -> io::Result<()>;
            release(inode, flags: u32, handle: u64, flush: bool, flock: bool, owner: Option<u64>) -> io::Result<()>;
            statfs(inode) -> io::Result<statvfs64>;
            access(inode, mask: u32) -> io::Result<()>;
            lseek(inode, handle: u64, offset: u64, whence: u32) -> io::Result<u64>;
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
            create(parent: u64, name: &CStr, how: CreateIn) -> io::Result<(Entry, Option<u64>, OpenOptions, Option<u32>)>;
            write(inode: u64, handle: u64, from: &mut dyn ZeroCopyReader, size: u32, offset: u64, owner: Option<u64>, delayed: bool, flags: u32, fuse_flags: u32) -> io::Result<usize>;
            fallocate(inode: u64, handle: u64, mode: u32, offset: u64, len: u64) -> io::Result<()>;
        }
    }
}
