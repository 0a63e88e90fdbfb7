// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread that handles userfaults while the vCPU waits.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::poll::PollContext;

use super::{GuestMemory, MemoryError};

/// Runs until dropped.
#[derive(Debug)]
pub struct FaultHandler {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl FaultHandler {
    /// Starts the thread; `None` if this memory has one view and needs none.
    pub fn start(memory: &Arc<GuestMemory>) -> Result<Option<Self>, MemoryError> {
        if memory.uffd().is_none() {
            return Ok(None);
        }
        let stop = EventFd::new(libc::EFD_CLOEXEC).map_err(MemoryError::Userfaultfd)?;
        let wait = stop.try_clone().map_err(MemoryError::Userfaultfd)?;
        let memory = Arc::clone(memory);
        let thread = std::thread::Builder::new()
            .name("copra-faults".into())
            .spawn(move || {
                if let Err(e) = serve(&memory, &wait) {
                    memory.fail(MemoryError::Userfaultfd(e));
                }
            })
            .map_err(MemoryError::Userfaultfd)?;
        Ok(Some(Self { stop, thread: Some(thread) }))
    }
}

impl Drop for FaultHandler {
    fn drop(&mut self) {
        if self.stop.write(1).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn serve(memory: &GuestMemory, stop: &EventFd) -> io::Result<()> {
    const FAULT: u32 = 0;
    const STOP: u32 = 1;
    let Some(uffd) = memory.uffd() else { return Ok(()) };
    let errno = |e: vmm_sys_util::errno::Error| io::Error::from_raw_os_error(e.errno());
    let poll = PollContext::<u32>::new().map_err(errno)?;
    poll.add(&Descriptor(uffd.as_raw_fd()), FAULT).map_err(errno)?;
    poll.add(stop, STOP).map_err(errno)?;
    loop {
        let ready = poll.wait().map_err(errno)?;
        if ready.iter_readable().any(|e| e.token() == STOP) {
            return Ok(());
        }
        while let Some(fault) = uffd.next()? {
            memory.on_fault(fault);
        }
    }
}

struct Descriptor(std::os::fd::RawFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0
    }
}
