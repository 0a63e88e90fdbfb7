// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a vCPU left the guest. An exit owns nothing of the vCPU, so registers can be read while it is handled, and it
//! is the only thing its answer can be made of.

use super::entry::{Answer, VmEntry};

/// One exit of `KVM_RUN`.
#[derive(Debug)]
pub enum VmExit {
    /// OUT or OUTS: `data` holds `data.len() / size` items.
    PortWrite {
        /// Port.
        port: u16,
        /// Bytes of one item.
        size: usize,
        /// Items written, first to last.
        data: Vec<u8>,
        /// The way on.
        resume: Resume,
    },
    /// IN or INS.
    PortRead(PortReadExit),
    /// Store to an address no memory slot backs.
    MmioWrite {
        /// GPA with any encryption bit.
        gpa: u64,
        /// Bytes stored.
        data: Vec<u8>,
        /// The way on.
        resume: Resume,
    },
    /// Load from an address no memory slot backs.
    MmioRead(MmioReadExit),
    /// RDMSR or WRMSR of a filtered MSR.
    Msr(MsrExit),
    /// VMCALL or VMMCALL that KVM passes to user space.
    Hypercall(HypercallExit),
    /// HLT with nothing to wait for inside KVM.
    Halt(Resume),
    /// Triple fault.
    Shutdown(Resume),
    /// A breakpoint or single step.
    Debug {
        /// #DB or #BP.
        exception: u32,
        /// Linear address of the instruction.
        address: u64,
        /// DR6.
        dr6: u64,
        /// The way on.
        resume: Resume,
    },
    /// A signal or `immediate_exit` ended `KVM_RUN`.
    Interrupted(Resume),
    /// KVM could not access the memory behind an address: an inaccessible page.
    MemoryFault(Resume),
    /// KVM could not go on.
    Failed {
        /// What KVM reported.
        why: String,
        /// The way on.
        resume: Resume,
    },
}

/// An exit that takes no answer has one of these; it makes the next entry.
#[derive(Debug)]
pub struct Resume {
    _made_here: (),
}

impl Resume {
    pub(super) const fn new() -> Self {
        Self { _made_here: () }
    }

    /// Enters the guest again as it is.
    pub fn entry(self) -> VmEntry {
        let Self { _made_here: () } = self;
        VmEntry(Answer::None)
    }
}

/// IN or INS.
#[derive(Debug)]
pub struct PortReadExit {
    /// Port.
    pub port: u16,
    /// Bytes of one item.
    pub size: usize,
    pub(super) len: usize,
    pub(super) offset: u64,
}

impl PortReadExit {
    /// Answers with every byte: `fill` gets all items, first to last.
    pub fn answer(self, fill: impl FnOnce(&mut [u8])) -> VmEntry {
        let mut data = vec![0; self.len];
        fill(&mut data);
        VmEntry(Answer::PortRead { offset: self.offset, data })
    }
}

/// A load from a device.
#[derive(Debug)]
pub struct MmioReadExit {
    /// GPA with any encryption bit.
    pub gpa: u64,
    /// Bytes wanted, 8 at most.
    pub(super) len: usize,
}

impl MmioReadExit {
    /// Bytes wanted.
    pub fn size(&self) -> usize {
        self.len
    }

    /// Answers with every byte.
    pub fn answer(self, fill: impl FnOnce(&mut [u8])) -> VmEntry {
        let mut data = [0; 8];
        fill(&mut data[..self.len]);
        VmEntry(Answer::MmioRead { data })
    }
}

/// RDMSR or WRMSR of a filtered MSR.
#[derive(Debug)]
pub struct MsrExit {
    /// MSR.
    pub index: u32,
    /// The value of a WRMSR.
    pub written: Option<u64>,
}

impl MsrExit {
    /// Answers with the value read (a write passes its own), or with #GP.
    pub fn answer(self, value: Option<u64>) -> VmEntry {
        VmEntry(Answer::Msr { value })
    }
}

/// A hypercall.
#[derive(Debug)]
pub struct HypercallExit {
    /// Number.
    pub number: u64,
    /// RBX, RCX, RDX, RSI, ...
    pub arguments: [u64; 6],
}

impl HypercallExit {
    /// Answers with RAX.
    pub fn answer(self, rax: u64) -> VmEntry {
        VmEntry(Answer::Hypercall { rax })
    }
}
