// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that stays shared when it is no longer needed: the driver of each virtio device is unbound, bound and unbound again, and
//! what was shared when it was bound and still is at the end is left over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use protocol::{Outcome, Step};
use types::{AccessEvent, PageChange, PageState, PlacedRegion, View};
use vmm::device::virtio::{ConsolePort, NullPeer, VirtioConfig, VirtioKind};
use vmm::memory::history::StateChange;
use vmm::trace::RecordedChange;

use super::place::Pages;
use super::{Finding, Invariant, Weight};
use crate::guest::{EngineError, PreparedKernel, Target, placed};
use crate::runner;
use crate::session::{Ended, Session, SessionError};

/// Where the devices of virtio's PCI driver are.
const DRIVER: &str = "/sys/bus/pci/drivers/virtio-pci";
/// What came of it.
#[derive(Debug, Default)]
pub struct Rebound {
    /// The devices whose drivers were unbound and bound, by PCI address.
    pub devices: Vec<Device>,
    /// Why there are none.
    pub not_checked: Option<String>,
    /// Forbidden accesses meanwhile.
    pub events: Vec<AccessEvent>,
    /// Regions of the guest.
    pub regions: Vec<PlacedRegion>,
}

/// What a device's driver shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its PCI address.
    pub address: String,
    /// Its driver.
    pub driver: String,
    /// Pages that were shared when it was bound, and private again after it was unbound.
    pub returned: usize,
    /// Pages that were shared when it was bound and still are, with what happened to each.
    pub left: Vec<(u64, Vec<PageChange>)>,
}

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// No guest.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No guest.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The guest ended.
    #[error("the guest ended when the driver of {device} was {what}: {ended}")]
    Ended {
        /// The device.
        device: String,
        /// What was done.
        what: &'static str,
        /// How it ended.
        ended: Box<Ended>,
    },
    /// More was recorded than is kept.
    #[error("of {device}, {count} {what} were not kept; what is left shared is not known")]
    NotKept {
        /// The device.
        device: String,
        /// What.
        what: &'static str,
        /// How many.
        count: u64,
    },
    /// A driver was not unbound or bound.
    #[error(
        "writing {device} to {DRIVER}/{file} gave {outcome}; unbinding drivers is what this part of the audit needs"
    )]
    Refused {
        /// The device.
        device: String,
        /// The file.
        file: &'static str,
        /// What the guest answered.
        outcome: String,
    },
}

/// Boots a guest with virtio devices, and unbinds and binds each one's driver.
pub fn rebind(target: &Target, interrupt: &Arc<AtomicBool>) -> Result<Rebound, DevicesError> {
    if target.config.as_ref().is_some_and(lacks_virtio) {
        let not_checked = Some("the kernel has no CONFIG_VIRTIO_PCI=y".to_owned());
        return Ok(Rebound { not_checked, ..Rebound::default() });
    }
    let kernel = PreparedKernel::with_agent(target)?.with_names().with_devices(devices());
    let mut session = kernel.boot(kernel.read()?, target, target.setup, interrupt)?;
    let regions = placed(session.machine());
    let mut rebinding = Rebinding { session: &mut session, limit: target.limit };
    let mut rebound = Rebound { regions, ..Rebound::default() };
    let booted = rebinding.session.machine().events().cursor();
    for address in rebinding.addresses()? {
        let device = rebinding.device(address)?;
        rebound.devices.push(device);
    }
    if rebound.devices.is_empty() {
        rebound.not_checked =
            Some(format!("the kernel has no virtio driver built in ({DRIVER} has no device)"));
    }
    let recorded = runner::events_since(&session, booted, &rebound.regions);
    if recorded.dropped > 0 {
        let (device, what) = ("all devices".to_owned(), "forbidden accesses");
        return Err(DevicesError::NotKept { device, what, count: recorded.dropped });
    }
    rebound.events = recorded.events;
    Ok(rebound)
}

/// The configuration, by names without `CONFIG_`, has no driver for them built in.
fn lacks_virtio(config: &BTreeMap<String, String>) -> bool {
    config.get("VIRTIO_PCI").is_none_or(|value| value != "y")
}

/// Devices that need nothing of the host.
fn devices() -> Vec<VirtioConfig> {
    let port = ConsolePort { name: "unused".to_owned(), peer: Arc::new(NullPeer) };
    let kinds = [VirtioKind::Console(vec![port]), VirtioKind::Random];
    kinds.map(|kind| VirtioConfig { kind, access_platform: true }).into()
}

/// A guest whose drivers are unbound and bound.
struct Rebinding<'a> {
    session: &'a mut Session,
    limit: Duration,
}

impl Rebinding<'_> {
    /// Devices that have the driver.
    fn addresses(&mut self) -> Result<Vec<String>, DevicesError> {
        let step = Step::ListDir { path: DRIVER.as_bytes(), skip: 0 };
        let names = self.session.text(&step, self.limit).map_err(ended("all devices", "looked for"))?;
        let names = names.unwrap_or_default();
        Ok(names.lines().filter(|name| name.starts_with("0000:")).map(str::to_owned).collect())
    }

    fn device(&mut self, address: String) -> Result<Device, DevicesError> {
        let driver = self.driver(&address)?;
        self.write(&address, "unbind", "unbound")?;
        let cursor = self.session.machine().history().cursor();
        self.session.machine().memory().watch_all(true);
        self.write(&address, "bind", "bound")?;
        let (changes, dropped) = self.session.machine().history().since(cursor);
        if dropped > 0 {
            return Err(DevicesError::NotKept { device: address, what: "conversions", count: dropped });
        }
        let made_shared: BTreeSet<u64> =
            changes.iter().filter(|change| is_sharing(change)).map(|change| change.gpa).collect();
        self.write(&address, "unbind", "unbound again")?;
        self.session.machine().memory().watch_all(false);
        let shared: BTreeSet<u64> = self.session.machine().memory().shared_pages().into_iter().collect();
        let left = made_shared
            .intersection(&shared)
            .map(|page| (*page, runner::changes_of(self.session, cursor, *page)));
        let left: Vec<_> = left.filter(|(_, changes)| !is_of_pool(changes)).collect();
        let returned = made_shared.difference(&shared).count();
        self.write(&address, "bind", "bound again")?;
        Ok(Device { address, driver, returned, left })
    }

    /// The driver of the virtio device behind the PCI device.
    fn driver(&mut self, address: &str) -> Result<String, DevicesError> {
        let failed = || ended(address, "looked for");
        let folder = format!("{DRIVER}/{address}");
        let step = Step::ListDir { path: folder.as_bytes(), skip: 0 };
        let names = self.session.text(&step, self.limit).map_err(failed())?.unwrap_or_default();
        let Some(device) = names.lines().find(|name| name.starts_with("virtio")) else {
            return Ok("no driver".to_owned());
        };
        let file = format!("{folder}/{device}/uevent");
        let step = Step::ReadFile { path: file.as_bytes(), offset: 0, len: 4096 };
        let text = self.session.text(&step, self.limit).map_err(failed())?.unwrap_or_default();
        let driver = text.lines().find_map(|line| line.strip_prefix("DRIVER="));
        Ok(driver.unwrap_or("no driver").to_owned())
    }

    fn write(&mut self, device: &str, file: &'static str, what: &'static str) -> Result<(), DevicesError> {
        let path = format!("{DRIVER}/{file}");
        let step = Step::WriteFile { path: path.as_bytes(), create: false, data: device.as_bytes() };
        match self.session.step(&step, self.limit).map_err(ended(device, what))? {
            Outcome::Value(_) => Ok(()),
            outcome => Err(DevicesError::Refused {
                device: device.to_owned(),
                file,
                outcome: format!("{outcome:?}"),
            }),
        }
    }
}

/// The change makes its page shared, or declares again that it is.
fn is_sharing(change: &RecordedChange) -> bool {
    match change.change {
        StateChange::State { to, .. } => to == PageState::Shared,
        StateChange::Declared(view) => view == View::Shared,
        _ => false,
    }
}

/// A pool that drivers take memory from grew: what is in it stays shared (`kernel/dma/pool.c:atomic_pool_expand`,
/// `kernel/dma/swiotlb.c:swiotlb_alloc_tlb`).
fn is_of_pool(changes: &[PageChange]) -> bool {
    const POOLS: [&str; 2] = ["atomic_pool_expand", "swiotlb_alloc_tlb"];
    let mut frames = changes.iter().flat_map(|change| &change.backtrace);
    frames.any(|frame| POOLS.iter().any(|pool| frame.starts_with(pool)))
}

fn ended(device: &str, what: &'static str) -> impl FnOnce(Ended) -> DevicesError {
    let device = device.to_owned();
    move |ended| DevicesError::Ended { device, what, ended: Box::new(ended) }
}

impl Rebound {
    /// What was done, in one line.
    pub fn summary(&self) -> String {
        if let Some(why) = &self.not_checked {
            return format!("memory left shared when a device is unbound was not looked for: {why}");
        }
        let drivers: Vec<String> = self
            .devices
            .iter()
            .map(|device| format!("{} ({})", device.driver, counted(device.returned)))
            .collect();
        format!(
            "unbound, bound and unbound again, with what was private again after it: {}",
            drivers.join(", ")
        )
    }
}

/// What it shows.
pub fn findings(rebound: &Rebound) -> Vec<Finding> {
    let left = rebound.devices.iter().filter(|device| !device.left.is_empty());
    let mut found: Vec<Finding> = left.map(|device| finding(device, &rebound.regions)).collect();
    for event in &rebound.events {
        let sentence = format!("unbinding and binding drivers of devices makes a {}", event.kind);
        let invariant = Invariant::OneView;
        let pages = Pages::of(event.gpa);
        let mut finding =
            Finding { pages, gpa: event.gpa, ..Finding::new(invariant, Weight::Hole, sentence) };
        finding.evidence = vec![event.to_string()];
        finding.code_path.clone_from(&event.backtrace);
        finding.finish(&rebound.regions);
        found.push(finding);
    }
    found
}

fn counted(pages: usize) -> String {
    format!("{pages} page{}", if pages == 1 { "" } else { "s" })
}

fn finding(device: &Device, regions: &[PlacedRegion]) -> Finding {
    let sentence =
        format!("{} leaves shared what it shared for its device, when it is unbound: {{}}", device.driver);
    let mut finding = Finding::new(Invariant::NothingLeftBehind, Weight::Hole, sentence);
    for (page, _) in &device.left {
        finding.pages.add(&Pages::of(*page));
    }
    if let Some((page, changes)) = device.left.first() {
        let place = &device.address;
        finding.evidence.push(format!("{} of {place}, the first at {page:#x}:", counted(device.left.len())));
        for change in changes {
            let by = change.symbol.as_deref().map(|symbol| format!(" at {symbol}")).unwrap_or_default();
            finding.evidence.push(format!("{}{by}", change.what));
            finding.evidence.extend(change.backtrace.iter().map(|frame| format!("  {frame}")));
        }
        let by = changes.iter().find(|change| !change.backtrace.is_empty());
        finding.code_path = by.map(|change| change.backtrace.clone()).unwrap_or_default();
    }
    finding.gpa = device.left.first().map_or(0, |(page, _)| *page);
    finding.finish(regions);
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_the_driver_is_known_by_its_configuration() {
        let config = |text: &str| {
            let option = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            option.into_iter().collect::<BTreeMap<_, _>>()
        };
        assert!(!lacks_virtio(&config("VIRTIO_PCI=y")));
        assert!(lacks_virtio(&config("VIRTIO_PCI=m")) && lacks_virtio(&config("PCI=y")));
    }

    #[test]
    fn a_page_that_is_left_over_is_a_finding_with_the_path_that_shared_it() {
        let change = PageChange {
            what: "declared shared by the guest".to_owned(),
            symbol: Some("memcpy+0x1/0x2".to_owned()),
            task: None,
            backtrace: vec!["dma_direct_alloc+0x1/0x2".to_owned()],
        };
        let device = |left| Device {
            address: "0000:00:04.0".to_owned(),
            driver: "virtio_rng".to_owned(),
            returned: 3,
            left,
        };
        let devices =
            vec![device(vec![]), device(vec![(0x12_3000, vec![change.clone()]), (0x12_4000, vec![change])])];
        let found = findings(&Rebound { devices, ..Rebound::default() });
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].name,
            "virtio_rng leaves shared what it shared for its device, when it is unbound: 0x123000-0x124fff"
        );
        assert_eq!((found[0].gpa, found[0].weight), (0x12_3000, Weight::Hole));
        assert_eq!(found[0].code_path, ["dma_direct_alloc+0x1/0x2"]);
        assert_eq!(found[0].evidence[0], "2 pages of 0000:00:04.0, the first at 0x123000:");
        assert_eq!(found[0].evidence[1], "declared shared by the guest at memcpy+0x1/0x2");
        assert_eq!(found[0].evidence[2], "  dma_direct_alloc+0x1/0x2");
    }
}
