// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures what it costs to save a guest, to restore it in place and after its end, and to start another one from the
//! snapshot, beside a boot of the same kernel: `restore VMLINUX PLATFORM ROUNDS`.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use engine::session::{GuestFiles, Plan, Session};
use guest_kernel::initramfs::Initramfs;
use protocol::{Batch, Buffer, Outcome, Step};
use vmm::boot::image;
use vmm::boot::linux::base_command_line;
use vmm::machine::MachineConfig;

const MEMORY: u64 = 256;
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vmlinux, platform, rounds] = &arguments[..] else {
        return Err("usage: restore VMLINUX PLATFORM ROUNDS".into());
    };
    let rounds: u32 = rounds.parse()?;
    let file = image::read(vmlinux.as_ref())?;
    let kernel = image::extract_vmlinux(&file)?;
    let command_line = format!("{} quiet loglevel=3", base_command_line(platform.parse()?));
    let plan = Plan {
        machine: MachineConfig { ram: MEMORY << 20, ..MachineConfig::new(platform.parse()?) },
        kernel: &kernel,
        sites: None,
        names: None,
        files: Arc::new(GuestFiles::new(Initramfs::new().build()?)),
        command_line: &command_line,
        boot_limit: Duration::from_secs(120),
        interrupt: Arc::new(AtomicBool::new(false)),
    };
    let started = Instant::now();
    let mut session = Session::boot(&plan)?;
    println!("boot {:?}", started.elapsed());
    let started = Instant::now();
    let saved = session.save()?;
    println!("save {:?} ({} MiB)", started.elapsed(), saved.filled() >> 20);
    for round in 0..rounds {
        let started = Instant::now();
        let outcomes = case(&mut session)?;
        let ran = started.elapsed();
        let started = Instant::now();
        let stats = session.restore(&saved)?;
        println!(
            "round {round}: case {ran:?} restore {:?} {stats:?} {:?}",
            started.elapsed(),
            outcomes.last()
        );
    }
    for round in 0..3 {
        let started = Instant::now();
        let mut other = saved.start()?;
        let start = started.elapsed();
        let started = Instant::now();
        case(&mut other)?;
        let ran = started.elapsed();
        let started = Instant::now();
        let stats = other.restore(&saved)?;
        println!("start {round}: {start:?} case {ran:?} restore {:?} {stats:?}", started.elapsed());
    }
    for round in 0..3 {
        let mut batch = Batch::new().new_worker();
        batch.push(&Step::Reset { kind: protocol::Reset::Restart });
        let end = session.execute(&batch, LIMIT).map(|_| session.await_end(LIMIT));
        let started = Instant::now();
        session = session.revive(&saved)?;
        let revived = started.elapsed();
        let started = Instant::now();
        case(&mut session)?;
        println!(
            "revive {round}: {revived:?}, then case {:?} ({:?})",
            started.elapsed(),
            end.map(|e| e.text)
        );
    }
    Ok(())
}

fn case(session: &mut Session) -> Result<Vec<Outcome>, Box<dyn Error>> {
    let mut outcomes = Vec::new();
    let steps = [
        Step::Open { file: 0, path: b"/dev/mem", flags: 0, mode: 0 },
        Step::Pread { file: 0, offset: 0x20000, len: 64, buffer: Buffer::Good },
        Step::Pread { file: 0, offset: 0xf0000, len: 64, buffer: Buffer::Good },
        Step::Uname,
    ];
    for (index, step) in steps.iter().enumerate() {
        let mut batch = Batch::new();
        if index == 0 {
            batch = batch.new_worker();
        }
        batch.push(step);
        outcomes.extend(session.execute(&batch, LIMIT)?.outcomes);
    }
    Ok(outcomes)
}
