// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The root folder of a command: the host's, read-only, with folders of the guest's own over it.

use std::fmt;
use std::path::PathBuf;

use protocol::Step;
use vmm::device::virtio::VirtioKind;

use super::Order;

/// Where it is under the agent's root.
pub(super) const PLACE: &str = "/host";
/// What to do where it cannot be mounted.
pub(super) const ADVICE: &str =
    "its kernel needs CONFIG_VIRTIO_PCI, CONFIG_FUSE_FS and CONFIG_VIRTIO_FS built in";
/// The tag of the host's root.
const ROOT_TAG: &str = "root";
/// `MS_RDONLY`.
const READ_ONLY: u32 = 1;

/// `MS_BIND`.
const BIND: u32 = 4096;

/// Folders that are the guest's own, kept in its memory.
const OWN: [&str; 3] = ["/tmp", "/run", "/var/tmp"];
/// Links that a device folder has everywhere.
const LINKS: [(&str, &str); 4] =
    [("/proc/self/fd", "/dev/fd"), ("fd/0", "/dev/stdin"), ("fd/1", "/dev/stdout"), ("fd/2", "/dev/stderr")];

/// One part of it.
pub(super) struct Part {
    source: String,
    target: String,
    kind: &'static str,
    flags: u32,
    options: &'static str,
    /// Without it the command is not run.
    pub(super) required: bool,
}

impl Part {
    pub(super) fn step(&self) -> Step<'_> {
        let (source, target) = (self.source.as_bytes(), self.target.as_bytes());
        match self.kind {
            "" => Step::Symlink { target: source, path: target },
            kind => Step::Mount {
                source,
                target,
                kind: kind.as_bytes(),
                flags: self.flags,
                options: self.options.as_bytes(),
            },
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) at {}", self.source, self.kind, self.target)
    }
}

/// The host's folders as devices.
pub(super) fn shares(order: &Order) -> Vec<VirtioKind> {
    let root = VirtioKind::Files {
        tag: ROOT_TAG.to_owned(),
        root: PathBuf::from("/"),
        above: order.above.clone(),
        writable: false,
    };
    let writable = order.writable.iter().enumerate().map(|(index, writable)| VirtioKind::Files {
        tag: tag(index),
        root: writable.shared.clone(),
        above: Vec::new(),
        writable: true,
    });
    std::iter::once(root).chain(writable).collect()
}

fn tag(index: usize) -> String {
    format!("writable-{index}")
}

/// What is mounted, in this order.
pub(super) fn parts(order: &Order) -> Vec<Part> {
    let place = |path: &str| format!("{PLACE}{path}");
    let mount = |source: &str, path: &str, kind, options, required| Part {
        source: source.to_owned(),
        target: place(path),
        kind,
        flags: 0,
        options,
        required,
    };
    let mut parts = vec![Part { flags: READ_ONLY, ..mount(ROOT_TAG, "", "virtiofs", "", true) }];
    parts.push(mount("proc", "/proc", "proc", "", true));
    parts.push(mount("sysfs", "/sys", "sysfs", "", true));
    parts.push(mount("devtmpfs", "/dev", "devtmpfs", "", true));
    parts.push(mount("devpts", "/dev/pts", "devpts", "ptmxmode=0666,mode=0620,gid=5", false));
    parts.push(mount("tmpfs", "/dev/shm", "tmpfs", "mode=1777", false));
    parts.push(mount("securityfs", "/sys/kernel/security", "securityfs", "", false));
    parts.push(mount("debugfs", "/sys/kernel/debug", "debugfs", "", false));
    parts.push(mount("tracefs", "/sys/kernel/tracing", "tracefs", "", false));
    parts.extend(LINKS.map(|(leads, path)| mount(leads, path, "", "", false)));
    // The current folder is to be seen as it is.
    let hidden = OWN.into_iter().filter(|path| !order.folder.starts_with(path));
    parts.extend(hidden.map(|path| mount("tmpfs", path, "tmpfs", "mode=1777", false)));
    for (index, writable) in order.writable.iter().enumerate() {
        let path = writable.path.to_string_lossy();
        let whole = mount(&tag(index), &path, "virtiofs", "", true);
        let Some(name) = &writable.file else {
            parts.push(whole);
            continue;
        };
        // A file system's root is a folder, so that a file is bound to its path from one beside the command's root.
        let folder = format!("/{}", tag(index));
        let source = format!("{folder}/{}", name.to_string_lossy());
        parts.push(Part { target: folder, ..whole });
        parts.push(Part { flags: BIND, ..mount(&source, &path, "none", "", true) });
    }
    parts
}
