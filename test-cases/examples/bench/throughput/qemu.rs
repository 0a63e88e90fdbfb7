// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's guests, with one device each: a shared folder needs RAM that another process maps, which a disk need not pay for.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Given, Pool, RAM, Rows, TAG, Tools, command_line, rows};
use crate::Outcome;

/// Room for virtiofsd to start.
const START: Duration = Duration::from_secs(60);

/// The rows of both devices; of a shared folder only where the pool is not used, as virtiofsd does not offer
/// `VIRTIO_F_ACCESS_PLATFORM`, without which a driver does not use it.
pub fn rows_of(tools: &Tools, given: &Given, pool: Pool) -> Outcome<Rows> {
    let mut found = rows(disk(&mut guest(tools, given, pool, ""), given, pool))?;
    if pool == Pool::Unused {
        found.extend(share(tools, given)?);
    }
    Ok(found)
}

/// A guest without devices but its console. `more` is added to the machine's properties.
fn guest(tools: &Tools, given: &Given, pool: Pool, more: &str) -> Command {
    let mut command = Command::new(&tools.qemu);
    command.arg("-M").arg(format!("microvm,accel=kvm,pcie=on{more}")).args(["-cpu", "host"]);
    command.arg("-m").arg(RAM.to_string());
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    command.arg("-kernel").arg(&given.vmlinux).arg("-initrd").arg(&given.initramfs);
    let force = if pool == Pool::Forced { " swiotlb=force" } else { "" };
    command.arg("-append").arg(format!("console=ttyS0 panic=-1 reboot=t {}{force}", command_line()));
    command.stdout(Stdio::piped());
    command
}

/// Like copra's: the host's page cache is used (`cache=writeback`).
fn disk<'a>(command: &'a mut Command, given: &Given, pool: Pool) -> &'a mut Command {
    let file = given.disk.display();
    command.arg("-drive").arg(format!("if=none,id=disk,format=raw,cache=writeback,file={file}"));
    let option = if pool == Pool::Forced { ",disable-legacy=on,iommu_platform=on" } else { "" };
    command.arg("-device").arg(format!("virtio-blk-pci,drive=disk{option}"))
}

/// With virtiofsd as the device's other half.
fn share(tools: &Tools, given: &Given) -> Outcome<Rows> {
    let socket = &given.socket;
    let _ = std::fs::remove_file(socket);
    let mut server = Command::new(&tools.virtiofsd);
    server.arg(format!("--socket-path={}", socket.display())).arg("-o");
    server.arg(format!("source={},sandbox=chroot,cache=auto", given.share.display()));
    let mut server = server.stderr(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let started = Instant::now();
    while !socket.exists() {
        if started.elapsed() > START || server.try_wait()?.is_some() {
            let _ = server.kill();
            return Err(format!("{} does not serve {}", tools.virtiofsd.display(), socket.display()).into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut command = guest(tools, given, Pool::Unused, ",memory-backend=ram");
    command.arg("-object").arg(format!("memory-backend-memfd,id=ram,size={RAM}M,share=on"));
    command.arg("-chardev").arg(format!("socket,id=fs,path={}", socket.display()));
    command.arg("-device").arg(format!("vhost-user-fs-pci,chardev=fs,tag={TAG},queue-size=1024"));
    let found = rows(&mut command);
    let _ = server.kill();
    server.wait()?;
    found
}
