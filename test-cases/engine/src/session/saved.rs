// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest whose agent waits, saved together with the host's end of the agent's channel.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use protocol::{Event, Link};
use vmm::machine::MachineConfig;
use vmm::snapshot::file::FileError;
use vmm::snapshot::{RestoreStats, Snapshot, SnapshotError};
use vmm::stored::{Reader, StoredError, Writer};
use vmm::trace::kernel::KernelNames;

use super::{GuestFiles, ReportedCursors, Session};

/// A guest at one instant, between two batches.
#[derive(Debug)]
pub struct SavedGuest {
    machine: Snapshot,
    link: Link,
    greeting: Arc<Vec<u8>>,
    boot_time: Duration,
    around: Surroundings,
}

/// What a saved guest needs beside its bytes.
#[derive(Debug)]
pub struct Surroundings {
    /// The machine it ran on.
    pub config: MachineConfig,
    /// Names of its kernel.
    pub names: Option<Arc<KernelNames>>,
    /// The files it started with.
    pub files: Arc<GuestFiles>,
    /// Set by another thread to stop the guest at once.
    pub interrupt: Arc<AtomicBool>,
}

/// Bytes are no saved guest.
#[derive(Debug, thiserror::Error)]
pub enum NoSavedGuest {
    /// What comes before the machine cannot be read.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// It cannot be read.
    #[error("reading it: {0}")]
    Read(#[from] io::Error),
    /// The agent's greeting is not one.
    #[error("it has no greeting of the agent")]
    Greeting,
    /// The machine.
    #[error(transparent)]
    Machine(#[from] FileError),
}

impl SavedGuest {
    /// Starts another guest that is where the saved one was.
    pub fn start(&self) -> Result<Session, SnapshotError> {
        let Surroundings { config, names, files, interrupt } = &self.around;
        let machine = self.machine.start(config, names.clone())?;
        Ok(Session {
            reported: ReportedCursors::all_of(&machine),
            machine,
            link: self.link.clone(),
            greeting: Arc::clone(&self.greeting),
            boot_time: self.boot_time,
            names: names.clone(),
            files: Arc::clone(files),
            interrupt: Arc::clone(interrupt),
            debugger: None,
            fail_fast: false,
        })
    }

    /// Bytes of guest memory in it that are not zeros.
    pub fn filled(&self) -> u64 {
        self.machine.filled()
    }

    /// Writes it behind `before`, which is the caller's. It must have been saved before any batch was sent.
    pub fn write(&self, before: &[u8], to: &mut impl Write) -> io::Result<()> {
        let mut head = Writer::default();
        head.bytes(before);
        head.u64(self.boot_time.as_nanos() as u64);
        head.bytes(&self.greeting);
        self.machine.encode(&mut head).map_err(io::Error::other)?;
        let head = head.into_bytes();
        to.write_all(&(head.len() as u64).to_le_bytes())?;
        to.write_all(&head)?;
        self.machine.write_pages(to)
    }

    /// Reads what [`Self::write`] wrote: the caller's bytes, and the guest.
    pub fn read(from: &mut impl Read, around: Surroundings) -> Result<(Vec<u8>, Self), NoSavedGuest> {
        let mut length = [0; size_of::<u64>()];
        from.read_exact(&mut length)?;
        let mut head = Vec::new();
        from.take(u64::from_le_bytes(length)).read_to_end(&mut head)?;
        let mut head = Reader::new(&head);
        let before = head.bytes("what comes before it")?.to_vec();
        Ok((before, Self::decode(head, from, around)?))
    }

    fn decode(
        mut from: Reader<'_>,
        pages: &mut impl Read,
        around: Surroundings,
    ) -> Result<Self, NoSavedGuest> {
        let boot_time = Duration::from_nanos(from.u64("time of its boot")?);
        let greeting = from.bytes("greeting")?;
        let mut link = Link::new();
        let mut events = greeting.iter().filter_map(|byte| link.receive(*byte, &mut ()));
        let greeted = matches!(events.next(), Some(Event::Hello(_))) && events.next().is_none();
        drop(events);
        if !greeted {
            return Err(NoSavedGuest::Greeting);
        }
        Ok(Self {
            machine: Snapshot::decode(from, pages)?,
            link,
            greeting: Arc::new(greeting.to_vec()),
            boot_time,
            around,
        })
    }
}

impl Session {
    /// Saves the guest, to be restored later.
    pub fn save(&mut self) -> Result<SavedGuest, SnapshotError> {
        Ok(SavedGuest {
            machine: self.machine.save()?,
            link: self.link.clone(),
            greeting: Arc::clone(&self.greeting),
            boot_time: self.boot_time,
            around: Surroundings {
                config: self.machine.config().clone(),
                names: self.names.clone(),
                files: Arc::clone(&self.files),
                interrupt: Arc::clone(&self.interrupt),
            },
        })
    }

    /// Makes the guest, which has not ended, what it was when it was saved.
    ///
    /// # Errors
    /// Where that failed. The guest is of no use then.
    pub fn restore(&mut self, saved: &SavedGuest) -> Result<RestoreStats, SnapshotError> {
        let stats = self.machine.restore(&saved.machine)?;
        self.link = saved.link.clone();
        self.reported = ReportedCursors::all_of(&self.machine);
        Ok(stats)
    }

    /// The same for a guest that has ended.
    pub fn revive(self, saved: &SavedGuest) -> Result<Self, SnapshotError> {
        let machine = self.machine.revive(&saved.machine)?;
        Ok(Self { reported: ReportedCursors::all_of(&machine), machine, link: saved.link.clone(), ..self })
    }
}
