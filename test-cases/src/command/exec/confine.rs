// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Confines this process before the guest's first instruction: the guest drives its devices and sees the host's files.

use std::path::{Path, PathBuf};

use engine::exec::Order;
use guest_kernel::Cache;
use vmm::confinement::{self, Confined, Files};

use super::Failed;

/// What the VMM opens for a guest, and a terminal.
const DEVICES: [&str; 4] = ["/dev/kvm", "/dev/userfaultfd", "/dev/null", "/dev/tty"];

/// Everything is readable, as the command sees it; the cache, `--writable` folders, writable disks and the folders of reports can be
/// changed. From now on no program can be started.
pub fn confine(reports: &[Option<&Path>], order: &Order, quiet: bool) -> Result<Confined, Failed> {
    let files = Files { readable: vec!["/".into()], writable: writable(reports, order)? };
    let confined = confinement::enter(&files).map_err(Failed::new)?;
    if confined == Confined::SystemCalls && !quiet {
        eprintln!(
            "copra: this kernel has no Landlock: what the VMM may change of this machine's files is not restricted (see copra doctor)"
        );
    }
    Ok(confined)
}

fn writable(reports: &[Option<&Path>], order: &Order) -> Result<Vec<PathBuf>, Failed> {
    let cache = Cache::open().map_err(Failed::new)?;
    let mut writable: Vec<PathBuf> = DEVICES.iter().map(PathBuf::from).collect();
    writable.push(cache.root().to_owned());
    writable.extend(order.writable.iter().map(|writable| writable.shared.clone()));
    writable.extend(order.disks.iter().filter(|disk| disk.writable).map(|disk| disk.file.clone()));
    let files = reports.iter().flatten().filter(|path| **path != Path::new("-"));
    writable.extend(files.map(|path| folder_of(path)));
    Ok(writable)
}

/// Where a report's temporary file is; of a name alone, the current folder.
fn folder_of(path: &Path) -> PathBuf {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// For reports.
pub const fn name(confined: Confined) -> &'static str {
    match confined {
        Confined::Whole => "files and system calls",
        Confined::SystemCalls => "system calls",
    }
}
