// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Instructions that a #VC handler has the hypervisor emulate, and its accesses to devices.
//!
//! `arch/x86/coco/sev/shared.c:vc_handle_ioio`, `vc_handle_cpuid`, `vc_handle_rdtsc`; `arch/x86/coco/sev/core.c:vc_do_mmio`,
//! `vc_handle_msr`. No instruction raises #VC here, so Linux gets this far only if something makes it.

use super::events::{Answer, Event, Failure, need, scratch};
use super::ghcb::{Field, Ghcb, SHARED_BUFFER};
use crate::platform::services::Services;

/// `uapi/linux/kvm_para.h:KVM_ENOSYS`, negated as a hypercall returns it.
pub(super) const KVM_ENOSYS: u64 = (-1000i64).cast_unsigned();

/// Time stamp counter (AMD APM volume 2 appendix A).
const MSR_TSC: u32 = 0x10;
/// What RDTSCP gives in RCX.
const MSR_TSC_AUX: u32 = 0xc000_0103;
/// CPUID leaf that depends on XCR0.
const LEAF_XSAVE: u32 = 0xd;

/// `SW_EXITINFO1` of a port access (AMD APM volume 2 §15.10.2): IN rather than OUT.
const PORT_IN: u64 = 1 << 0;
/// INS, OUTS.
const PORT_STRING: u64 = 1 << 2;
/// [6:4]: size in bytes, one bit set.
const PORT_SIZE_SHIFT: u64 = 4;
/// [31:16]: port.
const PORT_SHIFT: u64 = 16;

/// Answers one of the instruction exits; `first` and `second` are `SW_EXITINFO1` and 2.
pub(super) fn answer(
    event: Event,
    first: u64,
    second: u64,
    ghcb: &mut Ghcb,
    services: &mut dyn Services,
) -> Answer {
    match event {
        Event::Rdtsc | Event::Rdtscp => time_stamp(event, ghcb, services),
        Event::Cpuid => cpuid(ghcb, services),
        Event::Port => port(first, second, ghcb, services),
        Event::Msr => msr(first, ghcb, services),
        Event::MmioRead | Event::MmioWrite => mmio(event, first, second, ghcb, services),
        Event::Rdpmc => {
            need(ghcb, Field::RCX)?;
            // No counters are offered.
            Err(Failure::GeneralProtection)
        }
        Event::Vmmcall => {
            need(ghcb, Field::RAX)?;
            need(ghcb, Field::CPL)?;
            // KVM answers the hypercalls it has itself, at VMMCALL; none is left for its user.
            ghcb.set(Field::RAX, KVM_ENOSYS);
            Ok(0)
        }
        Event::Monitor => {
            for field in [Field::RAX, Field::RCX, Field::RDX] {
                need(ghcb, field)?;
            }
            Ok(0)
        }
        Event::Mwait => {
            for field in [Field::RAX, Field::RCX] {
                need(ghcb, field)?;
            }
            services.idle();
            Ok(0)
        }
        // Caches are the host's business.
        _ => Ok(0),
    }
}

fn time_stamp(event: Event, ghcb: &mut Ghcb, services: &mut dyn Services) -> Answer {
    let stamp = services.read_msr(MSR_TSC).ok_or(Failure::GeneralProtection)?;
    ghcb.set(Field::RAX, stamp & u64::from(u32::MAX));
    ghcb.set(Field::RDX, stamp >> 32);
    if event == Event::Rdtscp {
        let processor = services.read_msr(MSR_TSC_AUX).ok_or(Failure::GeneralProtection)?;
        ghcb.set(Field::RCX, processor & u64::from(u32::MAX));
    }
    Ok(0)
}

fn cpuid(ghcb: &mut Ghcb, services: &mut dyn Services) -> Answer {
    let leaf = need(ghcb, Field::RAX)? as u32;
    let subleaf = need(ghcb, Field::RCX)? as u32;
    if leaf == LEAF_XSAVE {
        need(ghcb, Field::XCR0)?;
    }
    let found = services.cpuid(leaf, subleaf);
    for (field, value) in
        [(Field::RAX, found.eax), (Field::RBX, found.ebx), (Field::RCX, found.ecx), (Field::RDX, found.edx)]
    {
        ghcb.set(field, u64::from(value));
    }
    Ok(0)
}

fn port(information: u64, count: u64, ghcb: &mut Ghcb, services: &mut dyn Services) -> Answer {
    let size = match information >> PORT_SIZE_SHIFT & 7 {
        size @ (1 | 2 | 4) => size as usize,
        other => return Err(Failure::input(format!("port access of size {other:#b}"))),
    };
    let port = (information >> PORT_SHIFT) as u16;
    let input = information & PORT_IN != 0;
    if information & PORT_STRING == 0 {
        if input {
            let value = services.port_read(port, size);
            ghcb.set(Field::RAX, u64::from(value & mask(size)));
        } else {
            let value = need(ghcb, Field::RAX)? as u32;
            services.port_write(port, size, value & mask(size));
        }
        return Ok(0);
    }
    // More than the buffer holds is refused whatever SW_SCRATCH holds, so the loop is short.
    let len = usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(size))
        .filter(|len| *len <= SHARED_BUFFER.len())
        .ok_or_else(|| Failure::input(format!("string of {count:#x} port accesses")))?;
    let buffer = scratch(ghcb, len)?;
    for at in buffer.step_by(size) {
        let mut value = [0; 4];
        if input {
            value = services.port_read(port, size).to_le_bytes();
            ghcb.bytes_mut()[at..at + size].copy_from_slice(&value[..size]);
        } else {
            value[..size].copy_from_slice(&ghcb.bytes()[at..at + size]);
            services.port_write(port, size, u32::from_le_bytes(value));
        }
    }
    Ok(0)
}

/// The low `size` bytes.
fn mask(size: usize) -> u32 {
    u32::MAX >> (32 - 8 * size)
}

fn msr(write: u64, ghcb: &mut Ghcb, services: &mut dyn Services) -> Answer {
    let index = need(ghcb, Field::RCX)? as u32;
    match write {
        0 => {
            let value = services.read_msr(index).ok_or(Failure::GeneralProtection)?;
            ghcb.set(Field::RAX, value & u64::from(u32::MAX));
            ghcb.set(Field::RDX, value >> 32);
            Ok(0)
        }
        1 => {
            let low = need(ghcb, Field::RAX)? & u64::from(u32::MAX);
            let high = need(ghcb, Field::RDX)? << 32;
            services.write_msr(index, high | low).then_some(0).ok_or(Failure::GeneralProtection)
        }
        other => Err(Failure::input(format!("MSR access {other:#x} is neither 0 (read) nor 1 (write)"))),
    }
}

/// `gpa` carries no C-bit: devices are reached through the shared view.
fn mmio(event: Event, gpa: u64, len: u64, ghcb: &mut Ghcb, services: &mut dyn Services) -> Answer {
    if !(1..=8).contains(&len) || gpa.checked_add(len).is_none() {
        return Err(Failure::input(format!("device access of {len:#x} bytes at {gpa:#x}")));
    }
    let buffer = scratch(ghcb, len as usize)?;
    let is_device = if event == Event::MmioRead {
        services.mmio_read(gpa, &mut ghcb.bytes_mut()[buffer])
    } else {
        services.mmio_write(gpa, &ghcb.bytes()[buffer])
    };
    is_device.then_some(0).ok_or_else(|| Failure::input(format!("device access at {gpa:#x}, which is RAM")))
}
