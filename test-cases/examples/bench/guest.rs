// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One guest of copra's, in a process of its own.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use engine::session::{GuestFiles, Plan, Session, Worker};
use guest_kernel::initramfs::Initramfs;
use vmm::boot::image;
use vmm::boot::linux::base_command_line;
use vmm::machine::MachineConfig;

use crate::figures::MIB;
use crate::{MEMORY, Outcome};

/// Room for one step.
const LIMIT: Duration = Duration::from_secs(60);

/// Boots to the agent and prints what it cost.
pub fn boot(platform: &str, vmlinux: &str) -> Outcome<()> {
    let session = session(platform, vmlinux, "")?;
    // The parent stops its watch at this line.
    println!("ready");
    let stats = session.machine().stats();
    let resident = session.machine().memory().resident()?;
    println!(
        "exits {} calls {} msr {} faults {} moves {} vmm_mib {:.1} guest_mib {:.1}",
        stats.exits,
        stats.calls + stats.hypercalls,
        stats.msr,
        stats.memory.faults,
        stats.memory.declared_moves + stats.memory.implicit_moves + stats.memory.conversions,
        (own_resident()?.saturating_sub(resident)) as f64 / MIB,
        resident as f64 / MIB
    );
    std::io::stdout().flush()?;
    Ok(())
}

/// Boots to the agent and prints the kernel's log, whose times show where the kernel spent them. On a machine whose clock
/// counts instructions a microsecond there is a thousand instructions. `more` is added to the command line, as
/// `initcall_debug`.
pub fn log(platform: &str, vmlinux: &str, more: &str) -> Outcome<()> {
    let mut session = session(platform, vmlinux, more)?;
    println!("{} s from the start of the VMM's work to the agent", session.boot_time().as_secs_f64());
    println!("{:?}", session.machine().stats());
    let log = session.kernel_log(Worker::New, LIMIT).map_err(|ended| ended.to_string())?;
    println!("{}", log.map_err(|outcome| format!("the kernel's log cannot be read: {outcome:?}"))?);
    Ok(())
}

/// The machine of every guest here.
pub fn config(platform: &str) -> Outcome<MachineConfig> {
    Ok(MachineConfig { ram: MEMORY << 20, ..MachineConfig::new(platform.parse()?) })
}

/// Boots to the agent.
pub fn session(platform: &str, vmlinux: &str, more: &str) -> Outcome<Session> {
    let kernel = image::into_vmlinux(image::read(vmlinux.as_ref())?)?;
    let machine = config(platform)?;
    let efi = machine.layout.has_efi(machine.platform);
    let command_line = format!("{} quiet loglevel=3 {more}", base_command_line(efi, false));
    let plan = Plan {
        machine,
        kernel: &kernel,
        sites: None,
        names: None,
        files: Arc::new(GuestFiles::new(Initramfs::new().build()?)),
        command_line: &command_line,
        boot_limit: Duration::from_secs(120),
        interrupt: Arc::new(AtomicBool::new(false)),
        debugger: None,
        fail_fast: false,
    };
    Ok(Session::boot(&plan)?)
}

/// Resident bytes of this process.
pub fn own_resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse::<u64>()? << 10)
}
