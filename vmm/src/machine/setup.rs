// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Makes the VM: the order of ioctls that works on every KVM.

use std::cell::RefCell;
use std::sync::Arc;

use kvm_bindings::{
    KVM_CAP_EXIT_HYPERCALL, KVM_CAP_X86_DISABLE_EXITS, KVM_CAP_X86_USER_SPACE_MSR, KVM_MAX_CPUID_ENTRIES,
    KVM_MSR_EXIT_REASON_FILTER, KVM_PIT_SPEAKER_DUMMY, KVM_X86_DISABLE_EXITS_HLT, kvm_enable_cap,
    kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{
    Cap, IoEventAddress, Kvm, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd,
};

use types::VcpuId;

use super::dirty_log::LoggedSlot;
use super::vcpu::Vcpu;
use super::{Machine, MachineConfig, MachineError, Parts, Records};
use crate::boot::opcode::Sites;
use crate::device::Devices;
use crate::layout::{self, PAGE_SIZE};
use crate::memory::ram::Ram;
use crate::memory::{FaultHandler, GuestMemory};
use crate::platform::failure::Refuser;
use crate::platform::guest_type::GuestActivity;
use crate::platform::{self, HostFacts, MsrRange, Options, PlatformModel};
use crate::trace::output::OutputMarks;
use crate::x86::cpuid::{self, CpuidTable};
use crate::x86::mtrr;

/// Port writes that KVM collects without an exit each, by port and bytes: data bytes of both serial ports, and PCI
/// configuration addresses. Every burst ends with an access that does exit. A reset through 0xcf9, in the middle of the
/// latter, is seen at the next heartbeat.
pub(super) const COALESCED_WRITES: [(u16, u32); 3] =
    [(layout::COM1, 1), (layout::COM2, 1), (layout::PCI_CONFIG_ADDRESS, 4)];

fn failed(attempt: &'static str) -> impl Fn(kvm_ioctls::Error) -> MachineError {
    move |source| MachineError::Kvm { attempt, source }
}

pub(super) fn machine(config: &MachineConfig, parts: Parts) -> Result<Machine, MachineError> {
    let kvm = Kvm::new().map_err(MachineError::Open)?;
    let supported = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(failed("reading which CPUID leaves KVM supports"))?;
    let mut table = CpuidTable::new(&supported);
    let host = HostFacts { physical_bits: cpuid::physical_address_bits(&table) };
    let options = Options {
        encryption_bit: config.encryption_bit,
        seed: config.seed,
        mode: config.mode,
        sept_ve_disable: config.sept_ve_disable,
    };
    let platform = platform::make(config.platform, &host, &options);
    let ram = Ram::laid_out(config.ram, &config.layout, config.platform)
        .map_err(crate::memory::MemoryError::Ram)?;
    check_encryption_bit(platform.as_ref(), host)?;

    let vm = Arc::new(kvm.create_vm().map_err(failed("creating a VM"))?);
    require(&vm)?;
    // Before the memory slots: a filter set soon after them waits some milliseconds for a grace period (synchronize_srcu in
    // `arch/x86/kvm/x86.c:kvm_vm_ioctl_set_msr_filter`, which is expedited only if none ended shortly before).
    msrs(&vm, platform.msrs())?;
    enable(
        &vm,
        KVM_CAP_X86_DISABLE_EXITS,
        u64::from(KVM_X86_DISABLE_EXITS_HLT),
        "letting HLT stay in the guest",
    )?;
    vm.set_tss_address(layout::KVM_TSS as usize).map_err(failed("placing KVM's TSS"))?;
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP).map_err(failed("placing KVM's identity map"))?;
    vm.create_irq_chip().map_err(failed("creating the interrupt controllers"))?;
    let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
    vm.create_pit2(pit).map_err(failed("creating the interval timer"))?;

    let (memory, faults) = match parts.memory {
        Some(memory) => memory,
        None => make_memory(ram, platform.as_ref())?,
    };
    let slots = give_memory(&vm, &memory, platform.as_ref())?;
    if vm.check_extension(Cap::ExitHypercall) {
        let map_gpa_range = 1 << platform::HYPERCALL_MAP_GPA_RANGE;
        enable(&vm, KVM_CAP_EXIT_HYPERCALL, map_gpa_range, "receiving page conversion hypercalls")?;
    }

    let mut fd = vm.create_vcpu(u64::from(VcpuId::BOOT.0)).map_err(failed("creating a vCPU"))?;
    if let Ok(khz) = fd.get_tsc_khz() {
        table.set_tsc_hz(u64::from(khz) * 1000);
    }
    cpuid::common(&mut table, 0);
    platform.cpuid(&mut table);
    // A guest that was saved keeps what it has seen.
    let table = parts.cpuid.unwrap_or(table);
    let too_many = || failed("putting the guest's CPUID table together")(kvm_ioctls::Error::new(libc::E2BIG));
    fd.set_cpuid2(&table.to_kvm().ok_or_else(too_many)?).map_err(failed("setting the guest's CPUID"))?;
    if fd.map_coalesced_mmio_ring().is_ok() {
        for (port, len) in COALESCED_WRITES {
            let _ = vm.register_coalesced_mmio(IoEventAddress::Pio(u64::from(port)), len);
        }
    }
    let (vcpu, entry) = Vcpu::new(VcpuId::BOOT, fd, vm.run_size()).map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
        failed("mapping the vCPU's exits")(kvm_ioctls::Error::new(errno))
    })?;
    // A KVM that refuses some of them leaves a guest without.
    vcpu.set_msrs(&mtrr::values(host.physical_bits)).map_err(failed("setting memory types"))?;
    if let Some(gpa) = config.watch {
        memory.watch(gpa);
    }
    let mut devices = Devices::new(&vm);
    let records = Records::default();
    devices.console.sink_mut().echo = config.echo_console;
    devices.console.sink_mut().marks = OutputMarks::new(records.events.count());
    if let Some(seconds) = config.clock {
        devices.set_clock(seconds);
    }
    add_dma_devices(&mut devices, config, &vm)?;
    let mut machine = Machine {
        vcpus: vec![vcpu],
        entries: vec![Some(entry)],
        dirty: None,
        faults,
        memory,
        config: config.clone(),
        slots,
        msrs: kvm.get_msr_index_list().map_or_else(|_| Vec::new(), |list| list.as_slice().to_vec()),
        platform,
        refuser: Refuser::new(config.failures),
        devices,
        vm,
        host,
        cpuid: table,
        kernel: None,
        sites: Sites::default(),
        unserved_modules: Vec::new(),
        unaccepted_table: None,
        records,
        debugging: None,
        recording: None,
        last_code_page: RefCell::default(),
        activity: GuestActivity::default(),
        idle_halts: 0,
        interrupts_off_beats: 0,
    };
    machine.start_recording();
    Ok(machine)
}

/// Adds the devices that access guest memory.
fn add_dma_devices(
    devices: &mut Devices,
    config: &MachineConfig,
    vm: &Arc<VmFd>,
) -> Result<(), MachineError> {
    for device in &config.virtio {
        devices.add_virtio(device.kind.make(config.seed)?, vm, device.access_platform);
    }
    if config.dma_probe {
        devices.add_dma_probe();
    }
    Ok(())
}

fn make_memory(
    ram: Ram,
    platform: &dyn PlatformModel,
) -> Result<(Arc<GuestMemory>, Option<FaultHandler>), MachineError> {
    let memory = Arc::new(GuestMemory::new(ram, platform.content())?);
    let faults = FaultHandler::start(&memory)?;
    Ok((memory, faults))
}

fn give_memory(
    vm: &VmFd,
    memory: &GuestMemory,
    platform: &dyn PlatformModel,
) -> Result<Vec<LoggedSlot>, MachineError> {
    let mut slots = Vec::new();
    for (slot, number) in memory.slots().iter().zip(0u32..) {
        let region = kvm_userspace_memory_region {
            slot: number,
            flags: 0,
            guest_phys_addr: platform.alias(slot.view, slot.gpa),
            memory_size: slot.len,
            userspace_addr: slot.hva,
        };
        // SAFETY: `hva` points at `len` bytes that live as long as `memory`, which the machine keeps until after
        // its VM is gone.
        unsafe { vm.set_user_memory_region(region) }.map_err(failed("giving guest memory to KVM"))?;
        let first = memory.ram().offset(slot.gpa).unwrap_or_default() / PAGE_SIZE;
        slots.push(LoggedSlot { region, first: first as usize });
    }
    Ok(slots)
}

fn check_encryption_bit(platform: &dyn PlatformModel, host: HostFacts) -> Result<(), MachineError> {
    let lowest = (u64::BITS - layout::BAR64.leading_zeros()) as u8;
    match platform.encryption_bit() {
        Some(bit) if bit < lowest || bit >= host.physical_bits => {
            Err(MachineError::EncryptionBit { bit, lowest, bits: host.physical_bits })
        }
        _ => Ok(()),
    }
}

/// What stock KVM has had for years and copra cannot do without.
fn require(vm: &VmFd) -> Result<(), MachineError> {
    let needs = [
        (Cap::Irqchip, "KVM_CAP_IRQCHIP", "interrupt controllers"),
        (Cap::Pit2, "KVM_CAP_PIT2", "an interval timer"),
        (Cap::UserMemory, "KVM_CAP_USER_MEMORY", "guest memory"),
        (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT", "deadlines"),
        (Cap::X86UserSpaceMsr, "KVM_CAP_X86_USER_SPACE_MSR", "answering confidential-guest MSRs"),
        (Cap::X86MsrFilter, "KVM_CAP_X86_MSR_FILTER", "answering confidential-guest MSRs"),
    ];
    needs
        .into_iter()
        .find(|(cap, ..)| !vm.check_extension(*cap))
        .map_or(Ok(()), |(_, capability, purpose)| Err(MachineError::Capability { capability, purpose }))
}

fn enable(vm: &VmFd, cap: u32, argument: u64, attempt: &'static str) -> Result<(), MachineError> {
    let mut request = kvm_enable_cap { cap, ..Default::default() };
    request.args[0] = argument;
    vm.enable_cap(&request).map_err(failed(attempt))
}

fn msrs(vm: &VmFd, ranges: &[MsrRange]) -> Result<(), MachineError> {
    if ranges.is_empty() {
        return Ok(());
    }
    enable(vm, KVM_CAP_X86_USER_SPACE_MSR, u64::from(KVM_MSR_EXIT_REASON_FILTER), "receiving MSR accesses")?;
    // A clear bit denies, and a denied access exits.
    let bitmaps: Vec<Vec<u8>> = ranges.iter().map(|r| vec![0; r.count.div_ceil(8) as usize]).collect();
    let filter: Vec<MsrFilterRange<'_>> = ranges
        .iter()
        .zip(&bitmaps)
        .map(|(range, bitmap)| MsrFilterRange {
            flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
            base: range.first,
            msr_count: range.count,
            bitmap,
        })
        .collect();
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &filter).map_err(failed("filtering MSR accesses"))
}
