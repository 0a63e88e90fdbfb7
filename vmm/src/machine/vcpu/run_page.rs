// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The memory KVM shares for one vCPU: `struct kvm_run`, and behind it the data of port accesses
//! (Documentation/virt/kvm/api.rst §5).

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{addr_of, addr_of_mut};

use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_HYPERCALL, KVM_EXIT_INTERNAL_ERROR,
    KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_IO_OUT, KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN,
    KVM_EXIT_SYSTEM_EVENT, KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR, kvm_run,
};
use kvm_ioctls::VcpuFd;

use super::entry::{Answer, VmEntry};
use super::exit::{HypercallExit, MmioReadExit, MsrExit, PortReadExit, Resume, VmExit};

/// The mapping. Every access to it is bounded by its length, and volatile: KVM writes to it.
#[derive(Debug)]
pub(super) struct RunPage {
    base: *mut u8,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone; KVM changes it only inside KVM_RUN, on the thread that calls it.
unsafe impl Send for RunPage {}

impl RunPage {
    /// Maps the page of a vCPU; `len` is what `KVM_GET_VCPU_MMAP_SIZE` returns.
    pub(super) fn map(vcpu: &VcpuFd, len: usize) -> io::Result<Self> {
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

    /// `len` bytes at `offset` of the mapping, if they lie in it.
    fn bytes(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let end = usize::try_from(offset).ok()?.checked_add(len)?;
        // SAFETY: `offset <= end <= self.len`, so the result stays inside the mapping.
        (end <= self.len).then(|| unsafe { self.base.add(offset as usize) })
    }

    /// Makes `KVM_RUN` return before it enters the guest (api.rst §5, `immediate_exit`).
    pub(super) fn set_immediate_exit(&self, on: bool) {
        // SAFETY: the mapping is writable for the whole structure.
        unsafe { addr_of_mut!((*self.run()).immediate_exit).write_volatile(u8::from(on)) };
    }

    /// Reads the exit.
    pub(super) fn decode(&self) -> VmExit {
        let run = self.run();
        // SAFETY: the mapping is readable for the whole structure.
        let reason = unsafe { addr_of!((*run).exit_reason).read_volatile() };
        // SAFETY (each read of a union member below): the same, `exit_reason` selects the member KVM filled in (api.rst
        // §5), and every member is plain data.
        match reason {
            KVM_EXIT_IO => self.decode_port(),
            KVM_EXIT_MMIO => {
                // SAFETY: see above.
                let mmio = unsafe { addr_of!((*run).__bindgen_anon_1.mmio).read_volatile() };
                let len = (mmio.len as usize).min(mmio.data.len());
                if mmio.is_write == 0 {
                    VmExit::MmioRead(MmioReadExit { gpa: mmio.phys_addr, len })
                } else {
                    VmExit::MmioWrite {
                        gpa: mmio.phys_addr,
                        data: mmio.data[..len].to_vec(),
                        resume: Resume::new(),
                    }
                }
            }
            reason @ (KVM_EXIT_X86_RDMSR | KVM_EXIT_X86_WRMSR) => {
                // SAFETY: see above.
                let msr = unsafe { addr_of!((*run).__bindgen_anon_1.msr).read_volatile() };
                let written = (reason == KVM_EXIT_X86_WRMSR).then_some(msr.data);
                VmExit::Msr(MsrExit { index: msr.index, written })
            }
            KVM_EXIT_HYPERCALL => {
                // SAFETY: see above.
                let call = unsafe { addr_of!((*run).__bindgen_anon_1.hypercall).read_volatile() };
                VmExit::Hypercall(HypercallExit { number: call.nr, arguments: call.args })
            }
            KVM_EXIT_HLT => VmExit::Halt(Resume::new()),
            KVM_EXIT_SHUTDOWN => VmExit::Shutdown(Resume::new()),
            KVM_EXIT_DEBUG => {
                // SAFETY: see above.
                let debug = unsafe { addr_of!((*run).__bindgen_anon_1.debug.arch).read_volatile() };
                VmExit::Debug {
                    exception: debug.exception,
                    address: debug.pc,
                    dr6: debug.dr6,
                    resume: Resume::new(),
                }
            }
            KVM_EXIT_INTR => VmExit::Interrupted(Resume::new()),
            KVM_EXIT_MEMORY_FAULT => VmExit::MemoryFault(Resume::new()),
            reason => VmExit::Failed { why: self.failure(reason), resume: Resume::new() },
        }
    }

    fn decode_port(&self) -> VmExit {
        // SAFETY: as in `decode`: the exit is a port access, so `io` is the member KVM filled in.
        let io = unsafe { addr_of!((*self.run()).__bindgen_anon_1.io).read_volatile() };
        let (size, count) = (usize::from(io.size), io.count as usize);
        let len = size.saturating_mul(count);
        let Some(data) = self.bytes(io.data_offset, len) else {
            let why = format!(
                "KVM placed {len} bytes of port data at offset {:#x} of the vCPU's {} bytes",
                io.data_offset, self.len
            );
            return VmExit::Failed { why, resume: Resume::new() };
        };
        if u32::from(io.direction) == KVM_EXIT_IO_OUT {
            // SAFETY: `bytes` has checked that they lie in the mapping.
            let data = (0..len).map(|at| unsafe { data.add(at).read_volatile() }).collect();
            VmExit::PortWrite { port: io.port, size, data, resume: Resume::new() }
        } else {
            VmExit::PortRead(PortReadExit { port: io.port, size, len, offset: io.data_offset })
        }
    }

    /// What KVM reported with an exit that ends the guest.
    fn failure(&self, reason: u32) -> String {
        let run = self.run();
        match reason {
            KVM_EXIT_SYSTEM_EVENT => {
                // SAFETY: as in `decode`.
                let event = unsafe { addr_of!((*run).__bindgen_anon_1.system_event).read_volatile() };
                format!("KVM reported system event {}", event.type_)
            }
            KVM_EXIT_FAIL_ENTRY => {
                // SAFETY: as in `decode`.
                let fail = unsafe { addr_of!((*run).__bindgen_anon_1.fail_entry).read_volatile() };
                format!(
                    "the processor refused to enter the guest (hardware reason {:#x})",
                    fail.hardware_entry_failure_reason
                )
            }
            KVM_EXIT_INTERNAL_ERROR => {
                // SAFETY: as in `decode`.
                let internal = unsafe { addr_of!((*run).__bindgen_anon_1.internal).read_volatile() };
                let data: Vec<String> =
                    internal.data.iter().take(internal.ndata as usize).map(|d| format!("{d:#x}")).collect();
                format!(
                    "KVM could not emulate an instruction (internal error {}, data [{}])",
                    internal.suberror,
                    data.join(" ")
                )
            }
            other => format!("KVM exit reason {other}, which copra does not handle"),
        }
    }

    /// Writes the answer to the last exit where KVM reads it at the next `KVM_RUN`. An entry is made of the exit it
    /// answers, so `kvm_run` holds that exit.
    pub(super) fn encode(&self, entry: VmEntry) {
        match entry.0 {
            Answer::None => {}
            Answer::PortRead { offset, data } => {
                let Some(to) = self.bytes(offset, data.len()) else { return };
                for (at, byte) in data.iter().enumerate() {
                    // SAFETY: `bytes` has checked that `data.len()` bytes from `to` on lie in the mapping.
                    unsafe { to.add(at).write_volatile(*byte) };
                }
            }
            // SAFETY: the exit was a device access, so `mmio` is the member in use; the mapping is writable.
            Answer::MmioRead { data } => unsafe {
                addr_of_mut!((*self.run()).__bindgen_anon_1.mmio.data).write_volatile(data);
            },
            // SAFETY: the exit was an MSR access, so `msr` is the member in use; the mapping is writable.
            Answer::Msr { value } => unsafe {
                addr_of_mut!((*self.run()).__bindgen_anon_1.msr.error)
                    .write_volatile(u8::from(value.is_none()));
                if let Some(value) = value {
                    addr_of_mut!((*self.run()).__bindgen_anon_1.msr.data).write_volatile(value);
                }
            },
            // SAFETY: the exit was a hypercall, so `hypercall` is the member in use; the mapping is writable.
            Answer::Hypercall { rax } => unsafe {
                addr_of_mut!((*self.run()).__bindgen_anon_1.hypercall.ret).write_volatile(rax);
            },
        }
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
    fn port_data_beyond_the_mapping_is_a_failure() {
        let page = page(&[]);
        for (offset, count, fits) in [
            (4096, 1024, true),
            (LEN as u64 - 4, 1, true),
            (LEN as u64 - 3, 1, false),
            (4096, u32::MAX, false),
            (u64::MAX, 1, false),
        ] {
            port(&page, 0, offset, count);
            match page.decode() {
                VmExit::PortRead(read) if fits => page.encode(read.answer(|data| data.fill(7))),
                VmExit::Failed { .. } if !fits => {}
                other => panic!("{offset:#x} {count}: {other:?}"),
            }
        }
        port(&page, KVM_EXIT_IO_OUT as u8, 4096, 1);
        let VmExit::PortWrite { port: 0x80, size: 4, data, .. } = page.decode() else { panic!() };
        assert_eq!(data, [7; 4]);
    }

    #[test]
    fn answers_are_written_where_kvm_takes_them_from() {
        let page = page(&[]);
        let msr = |page: &RunPage| {
            // SAFETY: plain data in a mapping of this test.
            let msr = unsafe { addr_of!((*page.run()).__bindgen_anon_1.msr).read_volatile() };
            (msr.data, msr.error)
        };
        set(&page, |run| run.exit_reason = KVM_EXIT_X86_RDMSR);
        let VmExit::Msr(read) = page.decode() else { panic!() };
        page.encode(read.answer(Some(9)));
        assert_eq!(msr(&page), (9, 0));
        let VmExit::Msr(read) = page.decode() else { panic!() };
        page.encode(read.answer(None));
        assert_eq!(msr(&page).1, 1);
        set(&page, |run| {
            run.exit_reason = KVM_EXIT_MMIO;
            run.__bindgen_anon_1.mmio.len = 4;
            run.__bindgen_anon_1.mmio.is_write = 0;
        });
        let VmExit::MmioRead(read) = page.decode() else { panic!() };
        page.encode(read.answer(|data| data.copy_from_slice(&[1, 2, 3, 4])));
        // SAFETY: plain data in a mapping of this test.
        let data = unsafe { addr_of!((*page.run()).__bindgen_anon_1.mmio.data).read_volatile() };
        assert_eq!(data, [1, 2, 3, 4, 0, 0, 0, 0]);
        assert!(RunPage::mapped(64, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1).is_err());
    }

    proptest! {
        #[test]
        fn any_kvm_run_page_is_decoded_and_answered_within_it(
            reason in 0u32..60,
            rest in prop::collection::vec(any::<u8>(), 0..128),
        ) {
            let page = page(&[&[0; 8][..], &reason.to_le_bytes(), &[0; 20], &rest].concat());
            match page.decode() {
                VmExit::PortWrite { data, .. } => prop_assert!(data.len() <= LEN),
                VmExit::PortRead(read) => page.encode(read.answer(|data| data.fill(1))),
                VmExit::MmioRead(read) => page.encode(read.answer(|data| data.fill(1))),
                VmExit::Msr(msr) => page.encode(msr.answer(Some(1))),
                VmExit::Hypercall(call) => page.encode(call.answer(1)),
                _ => {}
            }
        }
    }
}
