// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The initramfs of the guests whose devices are measured: the script, busybox, and the driver that Debian has as a module.

use std::fs;
use std::path::Path;

use guest_kernel::initramfs::Initramfs;
use guest_kernel::{Cache, Catalogue, Silent};
use vmm::boot::opcode::scan_module_file;

use crate::Outcome;

const SCRIPT: &[u8] = include_bytes!("guest.sh");
const BUSYBOX: &str = "/bin/busybox";
/// The driver, below a kernel's folder of modules.
const DRIVER: &str = "kernel/drivers/block/virtio_blk.ko.xz";

/// Writes the initramfs for the guests of a kernel; fetches what is in it, so this is not done inside the KVM host.
pub fn write_files(spec: &str, to: &str) -> Outcome<()> {
    let catalogue = Catalogue::new(Cache::open()?, Box::new(Silent));
    let kernel = catalogue.resolve(&spec.parse()?)?;
    let programs = catalogue.programs(&[BUSYBOX])?;
    let (_, busybox) =
        programs.files.iter().find(|(path, _)| path == BUSYBOX).ok_or("there is no busybox")?;
    let mut initramfs = Initramfs::new().program("guest.sh", SCRIPT).program(BUSYBOX, &fs::read(busybox)?);
    if let Some(package) = kernel.package.as_ref().filter(|package| package.name.starts_with("linux-image-"))
    {
        // As copra has modules for `copra exec`, which are kept for both.
        let modules =
            catalogue.modules(package, &kernel.release, &|module| match scan_module_file(module) {
                Ok(opcodes) if opcodes.is_empty() => None,
                found => Some(format!("{found:?}")),
            })?;
        let folder = Path::new("usr/lib/modules").join(&kernel.release).join(DRIVER);
        initramfs = initramfs.file("virtio_blk.ko.xz", &fs::read(modules.root.join(folder))?);
    }
    Ok(fs::write(to, initramfs.build()?)?)
}
