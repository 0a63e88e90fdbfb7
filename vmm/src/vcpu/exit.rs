//! KVM's exits as values that own nothing of the vCPU, so that registers can be read while one is handled.

use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_HYPERCALL, KVM_EXIT_INTERNAL_ERROR,
    KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_IO_OUT, KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN,
    KVM_EXIT_SYSTEM_EVENT, KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR, kvm_run,
};

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
    /// IN or INS: answer with [`complete_port_read`].
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
    /// Load from an address no memory slot backs: answer with [`complete_mmio_read`].
    MmioRead {
        /// GPA with any encryption bit.
        gpa: u64,
        /// Bytes wanted.
        len: usize,
    },
    /// RDMSR of a filtered MSR: answer with [`complete_msr`].
    ReadMsr(u32),
    /// WRMSR of a filtered MSR: answer with [`complete_msr`].
    WriteMsr(u32, u64),
    /// VMCALL/VMMCALL KVM hands on: answer with [`complete_hypercall`].
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

/// Reads the exit out of the shared page.
pub fn decode(run: &kvm_run) -> Exit {
    // SAFETY (each union read below): `exit_reason` says which member KVM filled in
    // (Documentation/virt/kvm/api.rst §5).
    match run.exit_reason {
        KVM_EXIT_IO => {
            // SAFETY: see above.
            let io = unsafe { run.__bindgen_anon_1.io };
            let (size, count) = (usize::from(io.size), io.count as usize);
            if u32::from(io.direction) == KVM_EXIT_IO_OUT {
                Exit::PortWrite {
                    port: io.port,
                    size,
                    data: io_bytes(run, io.data_offset, size * count).to_vec(),
                }
            } else {
                Exit::PortRead { port: io.port, size, count }
            }
        }
        KVM_EXIT_MMIO => {
            // SAFETY: see above.
            let mmio = unsafe { run.__bindgen_anon_1.mmio };
            let len = (mmio.len as usize).min(mmio.data.len());
            if mmio.is_write == 0 {
                Exit::MmioRead { gpa: mmio.phys_addr, len }
            } else {
                Exit::MmioWrite { gpa: mmio.phys_addr, data: mmio.data[..len].to_vec() }
            }
        }
        // SAFETY: see above.
        KVM_EXIT_X86_RDMSR => Exit::ReadMsr(unsafe { run.__bindgen_anon_1.msr.index }),
        KVM_EXIT_X86_WRMSR => {
            // SAFETY: see above.
            let msr = unsafe { run.__bindgen_anon_1.msr };
            Exit::WriteMsr(msr.index, msr.data)
        }
        KVM_EXIT_HYPERCALL => {
            // SAFETY: see above.
            let call = unsafe { run.__bindgen_anon_1.hypercall };
            Exit::Hypercall { number: call.nr, arguments: call.args }
        }
        KVM_EXIT_HLT => Exit::Halt,
        KVM_EXIT_SHUTDOWN => Exit::Shutdown,
        KVM_EXIT_DEBUG => Exit::Debug,
        KVM_EXIT_INTR => Exit::Interrupted,
        KVM_EXIT_MEMORY_FAULT => Exit::MemoryFault,
        KVM_EXIT_SYSTEM_EVENT => {
            // SAFETY: see above.
            let kind = unsafe { run.__bindgen_anon_1.system_event.type_ };
            Exit::Failed(format!("KVM reported system event {kind}"))
        }
        KVM_EXIT_FAIL_ENTRY => {
            // SAFETY: see above.
            let fail = unsafe { run.__bindgen_anon_1.fail_entry };
            Exit::Failed(format!(
                "the processor refused to enter the guest (hardware reason {:#x})",
                fail.hardware_entry_failure_reason
            ))
        }
        KVM_EXIT_INTERNAL_ERROR => {
            // SAFETY: see above.
            let internal = unsafe { run.__bindgen_anon_1.internal };
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

/// Answers a [`Exit::PortRead`].
pub fn complete_port_read(run: &mut kvm_run, data: &[u8]) {
    // SAFETY: called only after `decode` gave a PortRead, so `io` is the live member.
    let io = unsafe { run.__bindgen_anon_1.io };
    let len = data.len().min(usize::from(io.size) * io.count as usize);
    // SAFETY: KVM places `size * count` bytes at `data_offset` within the mapping that `run` starts
    // (api.rst §5, KVM_EXIT_IO).
    unsafe {
        let at = std::ptr::from_mut(run).cast::<u8>().add(io.data_offset as usize);
        std::ptr::copy_nonoverlapping(data.as_ptr(), at, len);
    }
}

/// Answers a [`Exit::MmioRead`].
pub fn complete_mmio_read(run: &mut kvm_run, data: &[u8]) {
    // SAFETY: called only after `decode` gave a MmioRead, so `mmio` is the live member.
    let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
    let len = data.len().min(mmio.data.len());
    mmio.data[..len].copy_from_slice(&data[..len]);
}

/// Answers a filtered MSR access: the value read, or `None` for #GP. A write that is taken passes its own value.
pub fn complete_msr(run: &mut kvm_run, value: Option<u64>) {
    // SAFETY: called only after `decode` gave a ReadMsr or WriteMsr, so `msr` is the live member.
    let msr = unsafe { &mut run.__bindgen_anon_1.msr };
    msr.error = u8::from(value.is_none());
    if let Some(value) = value {
        msr.data = value;
    }
}

/// Answers a hypercall with RAX.
pub fn complete_hypercall(run: &mut kvm_run, rax: u64) {
    run.__bindgen_anon_1.hypercall.ret = rax;
}

fn io_bytes(run: &kvm_run, offset: u64, len: usize) -> &[u8] {
    // SAFETY: KVM places `size * count` bytes at `data_offset` within the mapping that `run` starts
    // (api.rst §5, KVM_EXIT_IO), and does not touch them until the next KVM_RUN.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(run).cast::<u8>().add(offset as usize), len) }
}
