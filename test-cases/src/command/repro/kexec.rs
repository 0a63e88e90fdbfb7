// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra repro kexec-unaccepted`: kexec puts the next kernel into memory that was never accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::guest::Target;
use engine::kexec::{self, Handover, Next, PURGATORY, RELOCATOR, Way};
use engine::observation::KvmHost;
use types::{AccessEvent, AccessTarget, Mode, PageState, Platform, SimilarAccesses};

use super::super::kernels::Found;
use super::super::{Failed, guests};
use super::Stopped;
use super::narrative::sign;
use crate::exit::Exit;

/// MiB of the guest's memory. All of it is below 4 GiB, so that its end, where kexec puts the next kernel, is not accepted when the
/// kernel has booted.
const MEMORY: u64 = 1024;

/// Reproduces it, in a guest that hardware would end and in one that runs on.
pub fn reproduce(
    kernel: &Found,
    platform: Platform,
    host: &KvmHost,
    interrupt: &Arc<AtomicBool>,
) -> Result<Exit, Stopped> {
    let run = |mode| {
        let defaults = guests::default_target(kernel, platform, host);
        let mut target = Target { memory_mib: MEMORY, ..defaults };
        target.setup.layout.high_mib = 0;
        target.setup.mode = mode;
        match kexec::hand_over(&target, Way::Kexec, interrupt) {
            _ if interrupt.load(Ordering::Relaxed) => Err(Stopped::Interrupted),
            Ok(over) => Ok(over),
            Err(error) => Err(Stopped::Failed(Failed::new(error))),
        }
    };
    let faithful = run(Mode::Faithful)?;
    outln!("{} ({}) as {platform} guest of {MEMORY} MiB", kernel.facts.spec, faithful.release);
    outln!("The guest loads its own kernel with kexec_file_load(2), and starts it with reboot(2).\n");
    outln!("As on hardware (mode faithful):");
    let mut all = relocates(&faithful);
    all &= ends(&faithful);
    let recorded = run(Mode::Record)?;
    outln!("\nThe same where it goes on (mode record): how much memory it is");
    all &= relocates(&recorded);
    outln!(
        "\nThe pages that kexec chose are free memory which the page allocator has not accepted: kimage_load_segment() \
         (kernel/kexec_core.c) allocates the pages it copies from, but none at the destination. The fix \"kexec_core: Accept unaccepted \
         kexec segments' destination addresses\" accepts them when the kernel is loaded."
    );
    Ok(super::verdict(all))
}

/// The copy into its place meets memory that was not accepted.
fn relocates(over: &Handover) -> bool {
    let by = |event: &AccessEvent, name: &str| event.symbol.as_deref().is_some_and(|it| it.starts_with(name));
    let unaccepted = |event: &AccessEvent| event.state == AccessTarget::Page(PageState::Unaccepted);
    let found = over.events.iter().any(|event| by(event, RELOCATOR) && unaccepted(event));
    outln!("  {} {RELOCATOR} accesses memory that was not accepted", sign(found));
    for similar in SimilarAccesses::fold(&over.events) {
        if by(similar.first(), RELOCATOR) || by(similar.first(), PURGATORY) {
            outln!("      {similar}");
        }
    }
    found
}

fn ends(over: &Handover) -> bool {
    let (ended, how) = match &over.next {
        Next::Up => (false, "the next kernel came up".to_owned()),
        Next::Ended(text) => (true, format!("the guest ended: {text}")),
    };
    outln!("  {} {how}", sign(ended));
    ended
}
