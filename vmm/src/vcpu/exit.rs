// SPDX-License-Identifier: Apache-2.0 OR MIT
//! KVM's exits as values that own nothing of the vCPU, so that registers can be read while one is handled, and the page
//! through which they come and are answered.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{addr_of, addr_of_mut};

use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_HYPERCALL, KVM_EXIT_INTERNAL_ERROR,
    KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_IO_OUT, KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN,
    KVM_EXIT_SYSTEM_EVENT, KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR, kvm_run,
};
use kvm_ioctls::VcpuFd;

/// Why the vCPU came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// OUT or OUTS: `data` holds `data.len() / size` items.
    PortWrite {
        /// Port.
        port: u16,
        /// Bytes of one item.
        size: usize,
        /// Items written, first to last.
        data: Vec<u8>,
    },
    /// IN or INS: answer with [`RunPage::complete_port_read`].
    PortRead {
        /// Port.
        port: u16,
        /// Bytes of one item.
        size: usize,
        /// Items wanted.
        count: usize,
    },
    /// Store to an address no memory slot backs.
    MmioWrite {
        /// GPA with any encryption bit.
        gpa: u64,
        /// Bytes stored.
        data: Vec<u8>,
    },
    /// Load from an address no memory slot backs: answer with [`RunPage::complete_mmio_read`].
    MmioRead {
        /// GPA with any encryption bit.
        gpa: u64,
        /// Bytes wanted.
        len: usize,
    },
    /// RDMSR of a filtered MSR: answer with [`RunPage::complete_msr`].
    ReadMsr(u32),
    /// WRMSR of a filtered MSR: answer with [`RunPage::complete_msr`].
    WriteMsr(u32, u64),
    /// VMCALL/VMMCALL KVM hands on: answer with [`RunPage::complete_hypercall`].
    Hypercall {
        /// Number.
        number: u64,
        /// RBX, RCX, RDX, RSI, ...
        arguments: [u64; 6],
    },
    /// HLT with nothing to wait for inside KVM.
    Halt,
    /// Triple fault.
    Shutdown,
    /// A breakpoint or single step.
    Debug,
    /// A signal or `immediate_exit` called the vCPU out.
    Interrupted,
    /// KVM could not reach the memory behind an address: a page held back.
    MemoryFault,
    /// KVM gave up.
    Failed(String),
}

/// An answer to something else than the vCPU's last exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "answering {answer}: the vCPU's last exit (KVM exit reason {reason}) takes no such answer of {len} bytes"
)]
pub struct NotPending {
    answer: &'static str,
    reason: u32,
    len: usize,
}

/// The memory KVM shares for one vCPU: `struct kvm_run`, and behind it the data of port accesses
/// (Documentation/virt/kvm/api.rst §5). Every access is bounded by the mapping, and raw: KVM writes to it.
#[derive(Debug)]
pub struct RunPage {
    base: *mut u8,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone; KVM changes it only inside KVM_RUN, on the thread that calls it.
unsafe impl Send for RunPage {}

impl RunPage {
    /// Maps the page of a vCPU; `len` is what `KVM_GET_VCPU_MMAP_SIZE` gives.
    pub fn map(vcpu: &VcpuFd, len: usize) -> io::Result<Self> {
        Self::mapped(len, libc::MAP_SHARED, vcpu.as_raw_fd())
    }

    fn mapped(len: usize, flags: libc::c_int, fd: libc::c_int) -> io::Result<Self> {
        if len < size_of::<kvm_run>() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: a new mapping at an address of the kernel's choice; it replaces nothing.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0)
        };
        if base == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self { base: base.cast(), len })
        }
    }

    /// The structure at the start; `mapped` has checked that it fits, and mappings are aligned to pages.
    fn run(&self) -> *mut kvm_run {
        self.base.cast()
    }

    fn reason(&self) -> u32 {
        // SAFETY: `run` points into the mapping, which is readable for the whole structure.
        unsafe { addr_of!((*self.run()).exit_reason).read_volatile() }
    }

    /// `len` bytes at `offset` of the mapping, if they lie in it.
    fn bytes(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let end = usize::try_from(offset).ok()?.checked_add(len)?;
        // SAFETY: `offset <= end <= self.len`, so the result stays inside the mapping.
        (end <= self.len).then(|| unsafe { self.base.add(offset as usize) })
    }

    /// Reads the exit.
    pub fn decode(&self) -> Exit {
        let run = self.run();
        // SAFETY (each read of a union member below): the mapping is readable for the whole structure, `exit_reason` says
        // which member KVM filled in (api.rst §5), and every member is plain data.
        match self.reason() {
            KVM_EXIT_IO => {
                // SAFETY: see above.
                let io = unsafe { addr_of!((*run).__bindgen_anon_1.io).read_volatile() };
                let (size, count) = (usize::from(io.size), io.count as usize);
                let len = size.saturating_mul(count);
                let Some(data) = self.bytes(io.data_offset, len) else {
                    return Exit::Failed(format!(
                        "KVM placed {len} bytes of port data at offset {:#x} of the vCPU's {} bytes",
                        io.data_offset, self.len
                    ));
                };
                if u32::from(io.direction) == KVM_EXIT_IO_OUT {
                    // SAFETY: `bytes` has checked that they lie in the mapping.
                    let data = (0..len).map(|at| unsafe { data.add(at).read_volatile() }).collect();
                    Exit::PortWrite { port: io.port, size, data }
                } else {
                    Exit::PortRead { port: io.port, size, count }
                }
            }
            KVM_EXIT_MMIO => {
                // SAFETY: see above.
                let mmio = unsafe { addr_of!((*run).__bindgen_anon_1.mmio).read_volatile() };
                let len = (mmio.len as usize).min(mmio.data.len());
                if mmio.is_write == 0 {
                    Exit::MmioRead { gpa: mmio.phys_addr, len }
                } else {
                    Exit::MmioWrite { gpa: mmio.phys_addr, data: mmio.data[..len].to_vec() }
                }
            }
            reason @ (KVM_EXIT_X86_RDMSR | KVM_EXIT_X86_WRMSR) => {
                // SAFETY: see above.
                let msr = unsafe { addr_of!((*run).__bindgen_anon_1.msr).read_volatile() };
                if reason == KVM_EXIT_X86_RDMSR {
                    Exit::ReadMsr(msr.index)
                } else {
                    Exit::WriteMsr(msr.index, msr.data)
                }
            }
            KVM_EXIT_HYPERCALL => {
                // SAFETY: see above.
                let call = unsafe { addr_of!((*run).__bindgen_anon_1.hypercall).read_volatile() };
                Exit::Hypercall { number: call.nr, arguments: call.args }
            }
            KVM_EXIT_HLT => Exit::Halt,
            KVM_EXIT_SHUTDOWN => Exit::Shutdown,
            KVM_EXIT_DEBUG => Exit::Debug,
            KVM_EXIT_INTR => Exit::Interrupted,
            KVM_EXIT_MEMORY_FAULT => Exit::MemoryFault,
            KVM_EXIT_SYSTEM_EVENT => {
                // SAFETY: see above.
                let event = unsafe { addr_of!((*run).__bindgen_anon_1.system_event).read_volatile() };
                Exit::Failed(format!("KVM reported system event {}", event.type_))
            }
            KVM_EXIT_FAIL_ENTRY => {
                // SAFETY: see above.
                let fail = unsafe { addr_of!((*run).__bindgen_anon_1.fail_entry).read_volatile() };
                Exit::Failed(format!(
                    "the processor refused to enter the guest (hardware reason {:#x})",
                    fail.hardware_entry_failure_reason
                ))
            }
            KVM_EXIT_INTERNAL_ERROR => {
                // SAFETY: see above.
                let internal = unsafe { addr_of!((*run).__bindgen_anon_1.internal).read_volatile() };
                let data: Vec<String> =
                    internal.data.iter().take(internal.ndata as usize).map(|d| format!("{d:#x}")).collect();
                Exit::Failed(format!(
                    "KVM could not emulate an instruction (internal error {}, data [{}])",
                    internal.suberror,
                    data.join(" ")
                ))
            }
            other => Exit::Failed(format!("KVM exit reason {other}, which copra does not know")),
        }
    }

    fn not_pending(&self, answer: &'static str, len: usize) -> NotPending {
        NotPending { answer, reason: self.reason(), len }
    }

    /// Answers a [`Exit::PortRead`] with every byte it asked for.
    pub fn complete_port_read(&self, data: &[u8]) -> Result<(), NotPending> {
        let wrong = || self.not_pending("a port read", data.len());
        let Exit::PortRead { size, count, .. } = self.decode() else { return Err(wrong()) };
        // SAFETY: the exit is a port access, so `io` is the member KVM filled in.
        let offset = unsafe { addr_of!((*self.run()).__bindgen_anon_1.io.data_offset).read_volatile() };
        let len = size.saturating_mul(count);
        let to = self.bytes(offset, len).filter(|_| data.len() == len).ok_or_else(wrong)?;
        for (at, byte) in data.iter().enumerate() {
            // SAFETY: `bytes` has checked that `len` bytes from `to` on lie in the mapping.
            unsafe { to.add(at).write_volatile(*byte) };
        }
        Ok(())
    }

    /// Answers a [`Exit::MmioRead`] with every byte it asked for.
    pub fn complete_mmio_read(&self, data: &[u8]) -> Result<(), NotPending> {
        match self.decode() {
            Exit::MmioRead { len, .. } if len == data.len() => {}
            _ => return Err(self.not_pending("a device read", data.len())),
        }
        let mut bytes = [0; 8];
        let len = data.len().min(bytes.len());
        bytes[..len].copy_from_slice(&data[..len]);
        // SAFETY: the exit is a device access, so `mmio` is the member KVM filled in; the mapping is writable.
        unsafe { addr_of_mut!((*self.run()).__bindgen_anon_1.mmio.data).write_volatile(bytes) };
        Ok(())
    }

    /// Answers a filtered MSR access: the value read, or `None` for #GP. A write that is taken passes its own value.
    pub fn complete_msr(&self, value: Option<u64>) -> Result<(), NotPending> {
        if !matches!(self.decode(), Exit::ReadMsr(_) | Exit::WriteMsr(..)) {
            return Err(self.not_pending("an MSR access", size_of::<u64>()));
        }
        // SAFETY: the exit is an MSR access, so `msr` is the member KVM filled in; the mapping is writable.
        unsafe {
            addr_of_mut!((*self.run()).__bindgen_anon_1.msr.error).write_volatile(u8::from(value.is_none()));
            if let Some(value) = value {
                addr_of_mut!((*self.run()).__bindgen_anon_1.msr.data).write_volatile(value);
            }
        }
        Ok(())
    }

    /// Answers a hypercall with RAX.
    pub fn complete_hypercall(&self, rax: u64) -> Result<(), NotPending> {
        if !matches!(self.decode(), Exit::Hypercall { .. }) {
            return Err(self.not_pending("a hypercall", size_of::<u64>()));
        }
        // SAFETY: the exit is a hypercall, so `hypercall` is the member KVM filled in; the mapping is writable.
        unsafe { addr_of_mut!((*self.run()).__bindgen_anon_1.hypercall.ret).write_volatile(rax) };
        Ok(())
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `mapped`, unmapped once.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEN: usize = 3 * 4096;

    /// A page with these bytes at its start.
    fn page(start: &[u8]) -> RunPage {
        let page = RunPage::mapped(LEN, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1).unwrap();
        for (at, byte) in start.iter().enumerate() {
            // SAFETY: shorter than the mapping.
            unsafe { page.bytes(at as u64, 1).unwrap().write_volatile(*byte) };
        }
        page
    }

    fn set(page: &RunPage, edit: impl FnOnce(&mut kvm_run)) {
        // SAFETY: the mapping is large enough, initialised with zeros, and used by this test alone.
        edit(unsafe { &mut *page.run() });
    }

    fn port(page: &RunPage, direction: u8, offset: u64, count: u32) {
        set(page, |run| {
            run.exit_reason = KVM_EXIT_IO;
            // SAFETY: plain data.
            let io = unsafe { &mut run.__bindgen_anon_1.io };
            (io.direction, io.size, io.port, io.count, io.data_offset) = (direction, 4, 0x80, count, offset);
        });
    }

    #[test]
    fn port_data_beyond_the_mapping_is_a_failure_and_takes_no_answer() {
        let page = page(&[]);
        for (offset, count, fits) in [
            (4096, 1024, true),
            (LEN as u64 - 4, 1, true),
            (LEN as u64 - 3, 1, false),
            (4096, u32::MAX, false),
            (u64::MAX, 1, false),
        ] {
            port(&page, 0, offset, count);
            assert_eq!(matches!(page.decode(), Exit::PortRead { .. }), fits, "{offset:#x} {count}");
            if count < 4096 {
                let answer = vec![7; 4 * count as usize];
                assert_eq!(page.complete_port_read(&answer).is_ok(), fits);
            }
        }
        port(&page, KVM_EXIT_IO_OUT as u8, 4096, 1);
        assert_eq!(page.decode(), Exit::PortWrite { port: 0x80, size: 4, data: vec![7; 4] });
        let refused = page.complete_port_read(&[0; 4]).unwrap_err().to_string();
        assert!(refused.contains("a port read") && refused.contains("reason 2"), "{refused}");
    }

    #[test]
    fn an_answer_reaches_only_the_exit_it_is_for() {
        let page = page(&[]);
        set(&page, |run| run.exit_reason = KVM_EXIT_X86_RDMSR);
        page.complete_msr(Some(9)).unwrap();
        // SAFETY: plain data.
        set(&page, |run| assert_eq!(unsafe { run.__bindgen_anon_1.msr.data }, 9));
        assert!(page.complete_mmio_read(&[0; 4]).is_err());
        assert!(page.complete_hypercall(0).is_err());
        assert!(page.complete_port_read(&[]).is_err());
        assert!(RunPage::mapped(64, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1).is_err());
    }

    proptest! {
        #[test]
        fn whatever_stands_in_the_page_is_decoded_within_it(
            reason in 0u32..60,
            rest in prop::collection::vec(any::<u8>(), 0..128),
        ) {
            let page = page(&[&[0; 8][..], &reason.to_le_bytes(), &[0; 20], &rest].concat());
            if let Exit::PortWrite { data, .. } = page.decode() {
                prop_assert!(data.len() <= LEN);
            }
        }
    }
}
