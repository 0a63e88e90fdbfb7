// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Boots one kernel with one initramfs and prints its console: `boot PLATFORM KERNEL INITRAMFS MIB SECONDS [CMDLINE…]`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use vmm::boot::image;
use vmm::boot::linux::LinuxBoot;
use vmm::machine::{Machine, MachineConfig, Stop};
use vmm::trace::kernel::KernelNames;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [platform, kernel, initramfs, mib, seconds, rest @ ..] = arguments.as_slice() else {
        return Err("usage: boot PLATFORM KERNEL INITRAMFS MIB SECONDS [CMDLINE…]".into());
    };
    let start = Instant::now();
    let file = image::read(kernel.as_ref())?;
    let kernel = Arc::new(image::extract_vmlinux(&file)?.into_owned());
    let names = Arc::new(KernelNames::new(Arc::clone(&kernel)));
    let initramfs = std::fs::read(initramfs)?;
    println!("read after {:?}", start.elapsed());
    let config = MachineConfig { ram: mib.parse::<u64>()? << 20, ..MachineConfig::new(platform.parse()?) };
    let mut machine = Machine::new(&config)?;
    let command_line = rest.join(" ");
    let names = Some(names);
    machine.boot_linux(
        &LinuxBoot { kernel: &kernel, sites: None, initramfs: &initramfs, command_line: &command_line },
        names.clone(),
    )?;
    println!("loaded after {:?}", start.elapsed());
    let deadline = Instant::now() + Duration::from_secs(seconds.parse()?);
    loop {
        match machine.run(deadline, &AtomicBool::new(false))? {
            Stop::Agent => {
                let bytes = machine.take_from_agent();
                println!("agent wrote {} bytes after {:?}: {bytes:02x?}", bytes.len(), start.elapsed());
            }
            stop => {
                println!("{stop}");
                break;
            }
        }
    }
    println!("{}", machine.console().text());
    if let (Some(names), Some(at)) = (&names, machine.current_instruction(types::VcpuId::BOOT)) {
        let trace = at.backtrace.as_ref().map(|trace| names.frames(trace).join(" < "));
        println!("task {:?} at {:#x}: {}", at.task, at.rip, trace.unwrap_or_default());
    }
    println!("{:?}", machine.stats());
    println!("unaccepted {} kB", machine.memory().unaccepted() >> 10);
    for call in machine.bad_calls().all().iter().take(20) {
        println!("{call}");
    }
    for event in machine.events().all() {
        println!("{event}");
        if let (Some(names), Some(trace)) = (&names, event.at.as_ref().and_then(|at| at.backtrace.as_ref())) {
            println!("  {:?}: {}", trace.method, names.frames(trace).join(" < "));
        }
    }
    Ok(())
}
