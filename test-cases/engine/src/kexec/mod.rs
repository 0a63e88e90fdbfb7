// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a kernel leaves to the next one: by kexec, and by a panic with a crash kernel loaded.
//!
//! A guest loads its own kernel once more and jumps to it. At the jump the pages are listed that the next kernel takes for private
//! and that are shared or not accepted; then the jump is made, and what it accesses is recorded.

mod jump;
mod left;
mod load;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use guest_kernel::initramfs::Initramfs;
use protocol::Outcome;
use types::names::named;
use types::{AccessEvent, PageState};
use vmm::machine::debug::BreakpointError;

use self::jump::{FUNCTION, Jump};
pub use self::jump::{PURGATORY, RELOCATOR};
pub use self::left::Left;
use self::load::{IMAGE, INITRAMFS};
use crate::guest::{EngineError, PreparedKernel, Target, command_line, placed};
use crate::runner;
use crate::session::{Ended, Session, SessionError};

/// `HdrS` (Documentation/arch/x86/boot.rst), and where a bzImage has it: `kexec_file_load(2)` takes nothing else
/// (`arch/x86/kernel/kexec-bzimage64.c:bzImage64_probe`).
const BZIMAGE: (&[u8], usize) = (b"HdrS", 0x202);
/// Memory for a crash kernel.
const CRASH_KERNEL: &str = "crashkernel=128M";

named! {
    /// By which way the next kernel is started.
    pub enum Way ("way to the next kernel") {
        Kexec = "kexec", "reboot(2) starts the kernel that was loaded";
        Panic = "panic", "a panic starts the crash kernel";
    }
}

/// What came of the jump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The next kernel came up.
    Up,
    /// The guest ended on the way.
    Ended(String),
}

/// What a kernel left to the next one.
#[derive(Debug, Clone)]
pub struct Handover {
    /// How it was started.
    pub way: Way,
    /// The kernel's release.
    pub release: String,
    /// Pages that the next kernel takes for private and that are not.
    pub left: Vec<Left>,
    /// Conversions that were not kept, so that code may be missing.
    pub not_kept: u64,
    /// Forbidden accesses from the loading on, up to the next kernel's first instruction.
    pub events: Vec<AccessEvent>,
    /// Those of the next kernel, until it came up.
    pub next_events: Vec<AccessEvent>,
    /// Events that were not kept.
    pub events_not_kept: u64,
    /// Whether the next kernel finds the table of unaccepted memory; `None` where it was not entered.
    pub knows_table: Option<bool>,
    /// Why copra did not unpack the next kernel, so that its decompressor ran, with instructions that are not rewritten.
    pub not_entered: Option<String>,
    /// What came after the jump.
    pub next: Next,
}

/// Why the jump shows nothing.
#[derive(Debug, thiserror::Error)]
pub enum KexecError {
    /// No guest.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No guest.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The guest ended before it had loaded the next kernel.
    #[error("the guest ended before it had loaded the next kernel: {0}")]
    Ended(Box<Ended>),
    /// The image is of a kind that a kernel cannot load.
    #[error("{0} is no bzImage: kexec_file_load(2) takes nothing else; give the bzImage of this kernel")]
    NoBzImage(String),
    /// The image cannot be read.
    #[error("reading the kernel {file}: {source}")]
    Image {
        /// File.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The guest's kernel refused to load it.
    #[error(
        "loading the next kernel: {what} gave {outcome}; the kernel needs CONFIG_KEXEC_FILE, for a panic CONFIG_CRASH_DUMP too, and must \
         not be locked down"
    )]
    Load {
        /// What failed.
        what: &'static str,
        /// What the guest answered.
        outcome: String,
    },
    /// The kernel ran on.
    #[error("the kernel was loaded, but starting it gave {0}")]
    NotStarted(String),
    /// The jump cannot be found.
    #[error(
        "the image has no symbol {FUNCTION} that copra can read (CONFIG_KALLSYMS), so the jump cannot be found"
    )]
    NoSymbol,
    /// The guest cannot be stopped there.
    #[error("stopping the guest at {FUNCTION}(): {0}")]
    Breakpoint(#[from] BreakpointError),
    /// The debugger.
    #[error("stopping the guest at {FUNCTION}(): {0}")]
    Debugger(std::io::Error),
    /// The guest ended on its way to the jump.
    #[error("the guest ended before it reached {FUNCTION}(): {0}")]
    NotReached(String),
}

/// Boots the kernel, has it start itself once more, and gives what it left and what came of it.
pub fn hand_over(target: &Target, way: Way, interrupt: &Arc<AtomicBool>) -> Result<Handover, KexecError> {
    let target = &with_crash_kernel(target, way);
    let kernel = PreparedKernel::new(target, initramfs(target)?)?.with_names().recording_conversions();
    let mut session = kernel.boot(kernel.read()?, target, target.setup, interrupt)?;
    let regions = placed(session.machine());
    let booted = session.machine().events().cursor();
    let line = command_line(target, kernel.effective(target.setup), false);
    load::load(&mut session, &line, way == Way::Panic, target.limit)?;
    let jump = stop_at_jump(&mut session, &kernel)?;
    let step = match way {
        Way::Kexec => load::reboot(),
        Way::Panic => load::panic(),
    };
    let next = match session.start_next_kernel(&step, target.limit) {
        Ok(None) => Next::Up,
        Ok(Some(outcome)) => return Err(KexecError::NotStarted(answer(&outcome))),
        Err(ended) => Next::Ended(ended.text),
    };
    jump.name_code(session.machine());
    let found = jump.found();
    let Some([with_table, without]) = found.pages else {
        let how = match next {
            Next::Up => "but the next kernel came up".to_owned(),
            Next::Ended(text) => text,
        };
        return Err(KexecError::NotReached(how));
    };
    let pages = if found.knows_table.unwrap_or(true) { with_table } else { without };
    let conversions = session.machine().conversions();
    let left = left::ranges(&pages, conversions.all(), session.names(), &regions);
    let mut recorded = runner::events_since(&session, booted, &regions);
    for event in recorded.events.iter_mut().filter(|event| event.symbol.is_none()) {
        event.symbol = found.names.get(&event.rip).cloned();
    }
    let of_next = found.entered.map_or(0, |at| runner::events_since(&session, at, &regions).events.len());
    let next_events = recorded.events.split_off(recorded.events.len().saturating_sub(of_next));
    Ok(Handover {
        way,
        release: kernel.release().unwrap_or_default(),
        left,
        not_kept: conversions.dropped(),
        events: recorded.events,
        next_events,
        events_not_kept: recorded.dropped,
        knows_table: found.knows_table,
        not_entered: found.no_entry,
        next,
    })
}

/// The agent, the kernel, and the agent alone for the next kernel.
fn initramfs(target: &Target) -> Result<Vec<u8>, KexecError> {
    let file = target.image.path.display().to_string();
    let image =
        fs::read(&target.image.path).map_err(|source| KexecError::Image { file: file.clone(), source })?;
    let (magic, at) = BZIMAGE;
    if image.get(at..at + magic.len()) != Some(magic) {
        return Err(KexecError::NoBzImage(file));
    }
    let agent = Initramfs::new().build().map_err(EngineError::Initramfs)?;
    let files = Initramfs::new().file(IMAGE, &image).file(INITRAMFS, &agent);
    Ok(files.build().map_err(EngineError::Initramfs)?)
}

fn with_crash_kernel(target: &Target, way: Way) -> Target {
    let mut target = target.clone();
    if way == Way::Panic && !target.command_line.iter().any(|text| text.contains("crashkernel=")) {
        target.command_line.push(CRASH_KERNEL.to_owned());
    }
    target
}

fn stop_at_jump(session: &mut Session, kernel: &PreparedKernel) -> Result<Arc<Jump>, KexecError> {
    let symbols = session.names().and_then(|names| names.symbols());
    let address = symbols.and_then(|symbols| symbols.address_of(FUNCTION)).ok_or(KexecError::NoSymbol)?;
    let relocator = symbols.and_then(|symbols| symbols.address_of(RELOCATOR));
    let jump = Arc::new(Jump::new(address, relocator, kernel.shared_image()));
    session.machine_mut().start_debugging().map_err(KexecError::Debugger)?;
    session.machine_mut().add_breakpoint(address)?;
    session.set_debugger(Some(Arc::clone(&jump) as _));
    Ok(jump)
}

fn answer(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed { errno, .. } => errno.to_string(),
        outcome => format!("{outcome:?}"),
    }
}

impl Handover {
    /// Bytes that are in this state though the next kernel takes them for private.
    pub fn bytes(&self, state: PageState) -> u64 {
        self.left.iter().filter(|left| left.state == state).map(|left| left.len).sum()
    }

    /// Something was left, or accessed.
    pub fn is_finding(&self) -> bool {
        !self.left.is_empty() || !self.events.is_empty() || !self.next_events.is_empty()
    }
}
