// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest to explore, and the facts of it that the model needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use protocol::Step;
use types::{GuestLayout, Mode, PageState, Platform, View};
use vmm::boot::firmware;
use vmm::layout;
use vmm::machine::Machine;
use vmm::memory::ram::Ram;
use vmm::snapshot::SnapshotError;

use crate::guest::{EngineError, GuestLog, PreparedKernel, Target, check_guest_type};
use crate::run::kept;
use crate::session::{Ended, SavedGuest, Session, SessionError};
use crate::setup::Setup;
use model::iomem::{BadIomem, Iomem};
use model::lockdown::Level;
use model::release::{BadRelease, Release};
use model::world::Memory;
use model::{KernelConfig, PAGE, World};

/// Most of /proc/iomem that is read.
const IOMEM: u32 = 32 << 10;

/// Most of /proc/cpuinfo that is read: more than one processor's part.
const CPUINFO: u32 = 8 << 10;

/// Why there is no guest to explore.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// Kernel, platform or memory cannot be had.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It did not come up.
    #[error("the guest did not come up: {0}")]
    Session(#[from] SessionError),
    /// It could not be saved, or no other one started from what was saved.
    #[error("saving or restoring the guest: {0}")]
    Snapshot(#[from] SnapshotError),
    /// It ended while its facts were read.
    #[error("the guest ended while its facts were read: {0}")]
    Ended(#[from] Ended),
    /// A fact that the model needs is missing.
    #[error("the guest does not show {0}, from which the model takes what it has to know")]
    Silent(&'static str),
    /// There is more of /proc/iomem than is read.
    #[error(
        "the guest's /proc/iomem has {0} bytes or more, of which no more are read; give the guest fewer devices"
    )]
    Long(u32),
    /// A line of /proc/iomem has no meaning.
    #[error(transparent)]
    Iomem(#[from] BadIomem),
    /// It is another guest than it was started as.
    #[error("{0}")]
    Type(String),
    /// Its release cannot be read.
    #[error(transparent)]
    Release(#[from] BadRelease),
    /// The kernel's configuration is not known.
    #[error("{0} has no known configuration; give the model one with --kernel-config")]
    NoConfig(String),
}

/// A kernel ready to be booted again and again.
pub struct Kernel {
    prepared: PreparedKernel,
    config: Option<BTreeMap<String, String>>,
}

/// A running guest, and what it reports of itself.
#[derive(Debug)]
pub struct Booted {
    /// The guest.
    pub session: Session,
    /// It when its agent answered.
    pub saved: SavedGuest,
    /// An earlier run booted and kept it.
    pub kept: bool,
    /// Its resource tree.
    pub iomem: Iomem,
    /// `uname -r`.
    pub release: String,
    /// `ospke` in /proc/cpuinfo.
    pub protection_keys: bool,
    /// Why its log could not be read, if it could not.
    pub log_unread: Option<String>,
}

/// A running guest with its model.
#[derive(Debug)]
pub struct Guest {
    /// The guest.
    pub session: Session,
    /// It before the first sequence.
    pub saved: SavedGuest,
    /// An earlier run booted and kept it.
    pub kept: bool,
    /// The guest as the model has it.
    pub world: World,
    /// `uname -r`.
    pub release: String,
    /// Why its log could not be read, if it could not.
    pub log_unread: Option<String>,
    /// How long one batch may take.
    pub limit: std::time::Duration,
    /// Why it could not be restored after a sequence: no other sequence may run in this guest then.
    pub not_restored: Option<SnapshotError>,
}

impl Guest {
    /// Takes another guest, as this one was before the first sequence.
    pub fn renew(&mut self) -> Result<(), GuestError> {
        self.session = self.saved.start()?;
        self.not_restored = None;
        Ok(())
    }
}

impl Kernel {
    /// It is read when the first guest boots.
    pub fn new(target: &Target) -> Result<Self, GuestError> {
        Ok(Self { prepared: PreparedKernel::with_agent(target)?, config: target.config.clone() })
    }

    /// Has forbidden accesses recorded with backtraces, which cost time.
    #[must_use]
    pub fn with_names(self) -> Self {
        Self { prepared: self.prepared.with_names(), ..self }
    }

    /// A guest whose forbidden accesses are recorded and change nothing: one that an earlier run kept, else a new one.
    pub fn boot(&self, target: &Target, interrupt: &Arc<AtomicBool>) -> Result<Guest, GuestError> {
        if self.config.is_none() {
            return Err(GuestError::NoConfig(target.kernel.spec.clone()));
        }
        let booted = self.session(target, interrupt)?;
        let world = self.world(target, &booted)?;
        let Booted { session, saved, kept, release, log_unread, .. } = booted;
        Ok(Guest {
            session,
            saved,
            kept,
            world,
            release,
            log_unread,
            limit: target.limit,
            not_restored: None,
        })
    }

    /// The same without a model.
    pub fn session(&self, target: &Target, interrupt: &Arc<AtomicBool>) -> Result<Booted, GuestError> {
        // Without names no event costs a backtrace; the case that is written has them when it is run.
        let setup = Setup { mode: Mode::Record, ..target.setup };
        let found = kept::find(&self.prepared, target, setup, interrupt);
        let kept = found.is_some();
        let (mut session, saved) = if let Some(saved) = found {
            (saved.start()?, saved)
        } else {
            let mut session = self.prepared.boot(self.prepared.read()?, target, setup, interrupt)?;
            let saved = session.save()?;
            (session, saved)
        };
        let uname = session.text(&Step::Uname, target.limit)?.ok_or(GuestError::Silent("uname"))?;
        let release = uname.lines().nth(2).unwrap_or_default().to_owned();
        let log = GuestLog::read(&mut session, target.limit)?;
        let log_unread = log.unread();
        check_guest_type(&session, &log, target.platform, &target.kernel.spec, &release)
            .map_err(GuestError::Type)?;
        let step = Step::ReadFile { path: b"/proc/iomem", offset: 0, len: IOMEM };
        let iomem = session.text(&step, target.limit)?.ok_or(GuestError::Silent("/proc/iomem"))?;
        if iomem.len() >= IOMEM as usize {
            return Err(GuestError::Long(IOMEM));
        }
        let step = Step::ReadFile { path: b"/proc/cpuinfo", offset: 0, len: CPUINFO };
        let cpuinfo = session.text(&step, target.limit)?.ok_or(GuestError::Silent("/proc/cpuinfo"))?;
        let protection_keys = cpuinfo.split_whitespace().any(|flag| flag == "ospke");
        // Facts were read of a guest that has run; what comes starts from the instant its agent answered.
        session.restore(&saved)?;
        Ok(Booted {
            session,
            saved,
            kept,
            iomem: Iomem::parse(&iomem)?,
            release,
            protection_keys,
            log_unread,
        })
    }

    /// The model of a guest.
    pub fn world(&self, target: &Target, booted: &Booted) -> Result<World, GuestError> {
        let options = self.config.as_ref().ok_or_else(|| GuestError::NoConfig(target.kernel.spec.clone()))?;
        let release = Release::of_version(&booted.release)?;
        let machine = booted.session.machine();
        let world = World {
            config: KernelConfig::of(options),
            policy: target.policy,
            platform: target.platform,
            release,
            lockdown: Level::None,
            iomem_checks: None,
            physical_bits: machine.guest_physical_bits(),
            protection_keys: booted.protection_keys,
            encryption_bit: machine.platform().encryption_bit(),
            iomem: booted.iomem.clone(),
            memory: memory(machine),
            uncached: uncached(*machine.ram(), target.platform, release).into_iter().collect(),
            kept: if options.get("DMI").is_some_and(|value| value == "y") {
                smbios_page(machine.platform().kind(), machine.layout(), machine.ram()).into_iter().collect()
            } else {
                Vec::new()
            },
        };
        Ok(with_command_line(world, &target.command_line))
    }
}

/// The guest with these words on its kernel's command line.
pub(crate) fn with_command_line(world: World, command_line: &[String]) -> World {
    let words = || command_line.iter().flat_map(|text| text.split_whitespace());
    let pat = world.config.pat && !words().any(|word| word == "nopat");
    World {
        config: KernelConfig { pat, ..world.config },
        lockdown: words().filter_map(level).max().unwrap_or(Level::None),
        iomem_checks: words().filter_map(iomem_checks).next_back(),
        ..world
    }
}

fn level(word: &str) -> Option<Level> {
    match word {
        "lockdown=integrity" => Some(Level::Integrity),
        "lockdown=confidentiality" => Some(Level::Confidentiality),
        _ => None,
    }
}

/// `kernel/resource.c:strict_iomem()`, which searches for a part of the text.
fn iomem_checks(word: &str) -> Option<bool> {
    let value = word.strip_prefix("iomem=")?;
    match (value.contains("relaxed"), value.contains("strict")) {
        (_, true) => Some(true),
        (true, false) => Some(false),
        (false, false) => None,
    }
}

/// The page of the SMBIOS table, which the kernel maps for good to show it in sysfs.
pub(crate) fn smbios_page(
    platform: Platform,
    layout: &GuestLayout,
    ram: &Ram,
) -> Option<std::ops::Range<u64>> {
    let start = firmware::smbios_table(layout.smbios_of(platform), ram)?;
    Some(start..start + PAGE)
}

/// What the MTRRs do not cache, as the kernel reads them: some guests override the processor's MTRRs.
pub(crate) fn uncached(ram: Ram, platform: Platform, release: Release) -> Option<std::ops::Range<u64>> {
    let since = |major, minor| release >= Release { major, minor };
    match platform {
        // `arch/x86/hyperv/ivm.c:hv_vtom_init()`: everything is cached.
        Platform::Vbs if since(6, 6) => None,
        // `arch/x86/kernel/kvm.c:kvm_init_platform()`: nothing is from the end of e820 RAM below 4 GiB on.
        Platform::Snp | Platform::Tdx if since(6, 12) => Some(ram.unaccepted_table().start..layout::HIGH_RAM),
        _ => Some(layout::DEVICE_HOLE..layout::HIGH_RAM),
    }
}

/// Pages the model makes predictions for, except those of devices: others are private RAM, or must not be read.
pub fn watched_pages(machine: &Machine) -> impl Iterator<Item = u64> {
    let ram = machine.ram();
    (0..layout::HIGH_MEMORY).chain(ram.efi()..ram.low_end()).step_by(PAGE as usize)
}

fn memory(machine: &Machine) -> Memory {
    let ram = machine.ram();
    let states = watched_pages(machine).filter_map(|gpa| {
        let state = match machine.memory().state(gpa) {
            Some(PageState::Shared) => PageState::Shared,
            Some(PageState::Unaccepted) => PageState::Unaccepted,
            None if machine.memory().declared(gpa)? == View::Shared => PageState::Shared,
            Some(PageState::Private) | None => return None,
        };
        Some((gpa, state))
    });
    Memory {
        backed: ram.backed().iter().map(|(gpa, len)| *gpa..gpa + len).collect(),
        page_states: states.collect(),
        top: ram.end(),
    }
}
