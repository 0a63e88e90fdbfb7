// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One virtual processor: its descriptor, the `kvm_run` it shares with KVM, entries into the guest and exits from it.

mod entry;
pub mod exit;
pub mod heartbeat;
pub mod image;
mod run_page;
pub mod statistics;

use std::io;

use kvm_bindings::{Msrs, kvm_coalesced_mmio, kvm_fpu, kvm_guest_debug, kvm_msr_entry, kvm_regs, kvm_sregs};
use kvm_ioctls::{Error, VcpuFd};
use types::VcpuId;

pub use self::entry::VmEntry;
use self::exit::Resume;
pub use self::exit::VmExit;
use self::run_page::RunPage;

/// Exits that one instruction may have: a string instruction has one per page at most, and KVM splits an access in two.
const MAX_EXITS_OF_AN_INSTRUCTION: usize = 4096;

/// RFLAGS.RF, which a processor may save as 1 at an exit in the middle of an instruction (Intel SDM volume 3, "Saving RIP,
/// RSP, RFLAGS, and SSP").
const RESUME_FLAG: u64 = 1 << 16;

/// A vCPU that does not run at present.
#[derive(Debug)]
pub struct Vcpu {
    id: VcpuId,
    fd: VcpuFd,
    page: RunPage,
    /// Its registers at the last forbidden access.
    last_access: Option<kvm_regs>,
}

impl Vcpu {
    /// Wraps a new vCPU, and returns its first entry. `run_size` is what `KVM_GET_VCPU_MMAP_SIZE` returns.
    pub fn new(id: VcpuId, fd: VcpuFd, run_size: usize) -> io::Result<(Self, VmEntry)> {
        let page = RunPage::map(&fd, run_size)?;
        Ok((Self { id, fd, page, last_access: None }, Resume::new().entry()))
    }

    /// Which.
    pub fn id(&self) -> VcpuId {
        self.id
    }

    /// Runs the guest (`KVM_RUN`) until it exits.
    pub fn run(&mut self, entry: VmEntry) -> Result<VmExit, Error> {
        self.page.encode(entry);
        match self.fd.run() {
            Ok(_) => Ok(self.page.decode()),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                Ok(VmExit::Interrupted(Resume::new()))
            }
            Err(error) if error.errno() == libc::EFAULT => Ok(VmExit::MemoryFault(Resume::new())),
            Err(error) => Err(error),
        }
    }

    /// Has KVM complete the exit that `entry` answers, without entering the guest: registers are those after the
    /// instruction then. An instruction of several exits, of which more come, is given zeros.
    pub fn complete(&mut self, entry: VmEntry) -> Result<VmEntry, Error> {
        let mut entry = entry;
        self.page.set_immediate_exit(true);
        let mut completed = Err(Error::new(libc::ELOOP));
        for _ in 0..MAX_EXITS_OF_AN_INSTRUCTION {
            entry = match self.run(entry) {
                Ok(VmExit::PortRead(read)) => read.answer(|_| {}),
                Ok(VmExit::MmioRead(read)) => read.answer(|_| {}),
                Ok(VmExit::PortWrite { resume, .. } | VmExit::MmioWrite { resume, .. }) => resume.entry(),
                exit => {
                    completed = exit.map(|_| Resume::new().entry());
                    break;
                }
            };
        }
        self.page.set_immediate_exit(false);
        completed
    }

    /// General registers.
    pub fn regs(&self) -> Result<kvm_regs, Error> {
        self.fd.get_regs()
    }

    /// Sets the general registers.
    pub fn set_regs(&self, regs: &kvm_regs) -> Result<(), Error> {
        self.fd.set_regs(regs)
    }

    /// Segment and control registers.
    pub fn sregs(&self) -> Result<kvm_sregs, Error> {
        self.fd.get_sregs()
    }

    /// Sets segment and control registers.
    pub fn set_sregs(&self, sregs: &kvm_sregs) -> Result<(), Error> {
        self.fd.set_sregs(sregs)
    }

    /// x87 and SSE registers.
    pub fn float(&self) -> Result<kvm_fpu, Error> {
        self.fd.get_fpu()
    }

    /// Sets them.
    pub fn set_float(&self, registers: &kvm_fpu) -> Result<(), Error> {
        self.fd.set_fpu(registers)
    }

    /// Sets where the guest stops for a debugger.
    pub fn set_guest_debug(&self, request: &kvm_guest_debug) -> Result<(), Error> {
        self.fd.set_guest_debug(request)
    }

    /// RDMSR as KVM itself answers it; `None` is #GP.
    pub fn read_msr(&self, index: u32) -> Option<u64> {
        let entry = kvm_msr_entry { index, ..Default::default() };
        let mut list = Msrs::from_entries(&[entry]).ok()?;
        match self.fd.get_msrs(&mut list) {
            Ok(1) => list.as_slice().first().map(|entry| entry.data),
            _ => None,
        }
    }

    /// Sets MSRs in order, and returns how many KVM accepted before it refused one.
    pub fn set_msrs(&self, values: &[(u32, u64)]) -> Result<usize, Error> {
        let entry = |&(index, data): &(u32, u64)| kvm_msr_entry { index, data, ..Default::default() };
        let entries: Vec<kvm_msr_entry> = values.iter().map(entry).collect();
        let list = Msrs::from_entries(&entries).map_err(|_| Error::new(libc::EINVAL))?;
        self.fd.set_msrs(&list)
    }

    /// The address that KVM's page walk returns for a virtual address.
    pub fn translate(&self, address: u64) -> Option<u64> {
        self.fd.translate_gva(address).ok().filter(|t| t.valid != 0).map(|t| t.physical_address)
    }

    /// Whether a forbidden access, at which registers are `regs`, is the first one of its instruction or of an iteration
    /// of it (REP): the registers change only when one is complete.
    pub fn begins_instruction(&mut self, regs: &kvm_regs) -> bool {
        let regs = kvm_regs { rflags: regs.rflags & !RESUME_FLAG, ..*regs };
        self.last_access.replace(regs) != Some(regs)
    }

    /// Takes the next port write that KVM coalesced without an exit.
    pub fn next_coalesced(&mut self) -> Option<kvm_coalesced_mmio> {
        self.fd.coalesced_mmio_read().ok().flatten()
    }
}
