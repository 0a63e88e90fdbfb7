// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A matrix with fixed content, for the golden tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "fixed content for tests"
)]

use super::programs::ROWS;
use super::{Combination, Matrix, operations};
use crate::observation::{Answer, CaseObservation, GpaRange, KernelFacts, StepObservation};
use crate::report::{CaseResult, Report, fixture};
use model::class::{Class, Classes};
use types::{AccessEvent, AccessTarget, Errno, EventKind, PageState, PlacedRegion, Platform, Policy, Region};

const PLACES: [(Region, u64, u64); 14] = [
    (Region::Page0, 0, 0x1000),
    (Region::LowRam, 0x2_0000, 0x1000),
    (Region::Ebda, 0x9_fc00, 0x400),
    (Region::Vga, 0xa_0000, 0x2_0000),
    (Region::OptionRom, 0xc_8000, 0x8000),
    (Region::Rom, 0xf_0000, 0x1_0000),
    (Region::Ram, 0x100_0000, 0x1000),
    (Region::Reserved, 0x1bfe_0000, 0x1_0000),
    (Region::AcpiData, 0x1bff_0000, 0x1_0000),
    (Region::Bar32, 0xe000_0000, 0x1000),
    (Region::MmioClaimed, 0xe100_0000, 0x1_0000),
    (Region::MmioUnclaimed, 0xe200_0000, 0x1_0000),
    (Region::HighRam, 0x1_0000_0000, 64 << 20),
    (Region::Bar64, 0x20_0000_0000, 0x1000),
];

/// Two kernels on three platforms, one of them failing.
pub fn matrix() -> Matrix {
    let debian = fixture::whole().kernel;
    let patched = KernelFacts {
        spec: "build:open-eperm".to_owned(),
        release: "6.12.117-copra-open-eperm".to_owned(),
        package: None,
        policy: Some(Policy::OpenEperm),
        ..debian.clone()
    };
    let mut combinations = Vec::new();
    for platform in [Platform::None, Platform::Sev] {
        for kernel in [&debian, &patched] {
            combinations.push(Combination::of(&report(kernel, platform)));
        }
    }
    combinations.push(Combination::of(&report(&debian, Platform::Tdx)));
    let why = "build:open-eperm cannot run as tdx guest: it was built without INTEL_TDX_GUEST";
    combinations.push(Combination::failed(&patched, Platform::Tdx, why));
    let mut matrix = Matrix { combinations };
    super::programs::judge::judge(&mut matrix);
    matrix
}

fn report(kernel: &KernelFacts, platform: Platform) -> Report {
    let mut report = fixture::whole();
    report.kernel = kernel.clone();
    report.platform.platform = platform;
    report.platform.regions = PLACES
        .iter()
        .map(|(region, gpa, len)| PlacedRegion {
            region: *region,
            gpa: *gpa,
            len: *len,
            kind: region.about().into(),
        })
        .collect();
    let shut = platform.is_confidential() && kernel.policy == Some(Policy::OpenEperm);
    let verdict = report.cases[0].verdict.clone();
    report.cases = operations::cases()
        .into_iter()
        .map(|case| {
            let steps =
                case.steps.iter().map(|step| observed(&case.name, &step.id, platform, shut)).collect();
            let observed = CaseObservation { steps, ..CaseObservation::default() };
            CaseResult { case, observed, verdict: verdict.clone() }
        })
        .collect();
    report
}

fn observed(case: &str, step: &str, platform: Platform, shut: bool) -> StepObservation {
    let failed = |errno| Answer::Failed { errno };
    let closed = |needs: &str| Answer::NotReached { needs: needs.to_owned() };
    let region = operations::regions().find(|region| case == format!("matrix/{region}"));
    let Some(region) = region else {
        if case == "matrix/scan" && step == "scan" {
            return program(step, platform, shut);
        }
        if let Some(row) = ROWS.iter().find(|row| row.case() == case) {
            let observed = program(row.id, platform, shut);
            return StepObservation { step: step.to_owned(), ..observed };
        }
        let answer = match step {
            "open-mem" | "open-port" | "open" if shut => failed(Errno::EPERM),
            "open-port" | "open-msr" => failed(Errno::ENOENT),
            _ => Answer::Returned { value: 3 },
        };
        return StepObservation::new(step, answer);
    };
    let beyond = [Region::Ram, Region::HighRam, Region::AcpiData].contains(&region);
    let answer = match step {
        "open" if shut => failed(Errno::EPERM),
        "open" => Answer::Returned { value: 3 },
        _ if shut => closed("mem"),
        "pread" | "map-shared" if beyond => failed(Errno::EPERM),
        "load-shared" | "self-mem" if beyond => closed("shared"),
        _ => Answer::Returned { value: 64 },
    };
    let mut observed = StepObservation::new(step, answer);
    if !matches!(observed.answer, Answer::Returned { .. })
        || !["pread", "load-shared", "self-mem"].contains(&step)
    {
        return observed;
    }
    let start = PLACES.iter().find(|place| place.0 == region).map_or(0, |place| place.1);
    observed.gpa = Some(GpaRange { start, len: 64 });
    let device = [Region::Vga, Region::Bar32, Region::Bar64, Region::MmioClaimed].contains(&region);
    let low = [Region::LowRam, Region::Ebda].contains(&region);
    let shared = platform.is_confidential() && step != "load-shared" && !device && !(low && step == "pread");
    let class = if device {
        Class::Device
    } else if region == Region::MmioUnclaimed {
        Class::Other
    } else if low && step == "pread" {
        Class::Zeros
    } else if shared {
        Class::Ciphertext
    } else {
        Class::Plain
    };
    observed.class = Classes::of([class]);
    observed.bytes = if class == Class::Zeros { vec![0; 64] } else { b"<prv 00000f0100>".repeat(4) };
    if shared {
        observed.events.push(event(region, start));
    }
    observed
}

/// Of a row, or of the scan.
fn program(step: &str, platform: Platform, shut: bool) -> StepObservation {
    let sorry = "/dev/mem: Operation not permitted\nFailed to read table, sorry.\n";
    let (value, text) = match step {
        "scan" if shut => return StepObservation::new(step, Answer::NotReached { needs: "rom".to_owned() }),
        "scan" => (32, "_SM3_...........0123456789abcdef"),
        "hwinfo/bios" if shut => (0, "BIOS\n  Num Lock: off\n  Vendor: \"copra\"\n"),
        "hwinfo/bios" => (0, "BIOS\n  Num Lock: on\n  Serial Port 0: 0x3f8\n  Vendor: \"copra\"\n"),
        "lspci" | "setpci" => (0, "00081b36\n"),
        _ if shut && step != "dmidecode/sysfs" => (1, "/dev/mem: Operation not permitted\n"),
        "dmidecode/mem" if platform.is_confidential() => (0, sorry),
        _ => (0, "BIOS Information\n"),
    };
    let mut observed = StepObservation::new(step, Answer::Returned { value });
    observed.bytes = text.as_bytes().to_vec();
    observed
}

fn event(region: Region, gpa: u64) -> AccessEvent {
    AccessEvent {
        kind: EventKind::SharedRead,
        gpa,
        len: Some(8),
        region: Some(region),
        state: AccessTarget::Page(PageState::Private),
        rip: 0xffff_ffff_8133_3b56,
        symbol: Some("copy_from_kernel_nofault+0xbb".to_owned()),
        cpl: 0,
        task: Some("init".to_owned()),
        backtrace: Vec::new(),
        device: None,
        unwound_by: None,
    }
}
