// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tables against what was measured, and against the cases.

mod cases;

use types::{Platform, Policy, Region};

use super::*;

const MEMORY: u64 = 512;

fn stock_kernel(release: &str) -> Kernel {
    let release = release.parse().unwrap();
    let options = stock::options(release).unwrap();
    Kernel { name: format!("stock {release}"), release, options, command_line: Vec::new() }
}

/// A stock kernel with other options.
fn kernel(release: &str, other: &[(&str, &str)], command_line: &str) -> Kernel {
    let mut kernel = stock_kernel(release);
    kernel.options.extend(other.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    kernel.command_line = vec![command_line.to_owned()];
    kernel
}

fn sheet(kernel: &Kernel, platform: Platform, policy: Policy) -> Sheet {
    Page::of(kernel, platform, &[policy], MEMORY).unwrap().sheets.remove(0)
}

fn cell<'a>(sheet: &'a Sheet, region: Region, column: &str) -> &'a Cell {
    let index = COLUMNS.iter().position(|known| known.id == column).unwrap();
    &sheet.row(region).unwrap().cells[index]
}

/// The one answer of a cell.
fn answer<'a>(sheet: &'a Sheet, region: Region, column: &str) -> &'a Answer {
    let cell = cell(sheet, region, column);
    assert_eq!(cell.len(), 1, "{region} {column}: {cell:?}");
    &cell[0].1
}

/// Read, write, mmap and a load of a region, in words.
fn four(sheet: &Sheet, region: Region) -> String {
    ["read", "write", "mmap", "load"].map(|column| answer(sheet, region, column).text()).join(" ")
}

#[test]
fn an_ordinary_guest_gives_what_was_measured() {
    let off: &[_] = &[("STRICT_DEVMEM", "n"), ("IO_STRICT_DEVMEM", "n")];
    let io_off: &[_] = &[("IO_STRICT_DEVMEM", "n")];
    let kernels = [
        kernel("6.12", off, ""),
        kernel("6.12", off, "nopat"),
        kernel("7.3", off, ""),
        kernel("6.12", io_off, ""),
        kernel("6.12", &[], ""),
        kernel("6.12", &[], "iomem=relaxed"),
    ];
    let sheets = kernels.map(|kernel| sheet(&kernel, Platform::None, Policy::Upstream));
    let (works, hole) = ("plain written ok plain", "zeros dropped ok plain");
    let (denied, far) = ("EPERM EPERM EPERM –", "EFAULT EFAULT ok device");
    let device = "device device ok device";
    let no_mmap = "plain written EINVAL –";
    for (region, expected) in [
        (Region::Page0, [works; 6]),
        (Region::LowRam, [works, works, works, hole, hole, hole]),
        // memremap() refuses a page that is RAM in part; where zeros are given, it is not called.
        (
            Region::Ebda,
            ["EFAULT EFAULT ok plain", "EFAULT EFAULT ok plain", "EFAULT EFAULT ok plain", hole, hole, hole],
        ),
        (Region::Vga, [device; 6]),
        (Region::Rom, [works; 6]),
        (Region::Ram, [no_mmap, works, works, denied, denied, denied]),
        (Region::HighRam, [no_mmap, works, works, denied, denied, denied]),
        (Region::Reserved, [works; 6]),
        (Region::AcpiData, [works, works, works, works, denied, works]),
        (Region::MmioClaimed, [device, device, device, device, denied, device]),
        (Region::MmioUnclaimed, [device; 6]),
        (Region::Lapic, [device; 6]),
        (Region::Bar32, [device; 6]),
        (Region::Bar64, [far; 6]),
        (Region::AboveRam, [far; 6]),
        (Region::BeyondMaxphyaddr, ["EFAULT EFAULT EINVAL –"; 6]),
    ] {
        let got: Vec<String> = sheets.iter().map(|sheet| four(sheet, region)).collect();
        assert_eq!(got, expected, "{region}");
    }
}

/// /proc/iomem of Debian's 6.12 in an ordinary guest of 512 MiB, as `copra exec -p none -- cat /proc/iomem` showed it, without
/// the virtio devices.
const IOMEM: &str = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-0009ffff : Reserved
000a0000-000bffff : PCI Bus 0000:00
000f0000-000fffff : Reserved
  000f0000-000fffff : System ROM
00100000-1bfdffff : System RAM
  01000000-01ffffff : Kernel code
  02000000-02aa7fff : Kernel rodata
  02c00000-02e72c7f : Kernel data
  036d6000-03bfffff : Kernel bss
1bfe0000-1bfeffff : Reserved
1bff0000-1bffffff : ACPI Tables
e0000000-e1ffffff : PCI Bus 0000:00
  e0000000-e000ffff : 0000:00:01.0
  e1000000-e100ffff : reserved
e8000000-e80fffff : PCI ECAM 0000 [bus 00-00]
  e8000000-e80fffff : Reserved
    e8000000-e80fffff : pnp 00:00
fec00000-fec003ff : IOAPIC 0
100000000-103ffffff : System RAM
2000000000-21ffffffff : PCI Bus 0000:00
  2000000000-200000ffff : 0000:00:02.0
";

#[test]
fn the_resource_tree_made_here_gives_what_that_of_a_booted_guest_gives() {
    for platform in Platform::ALL {
        // A SEV-SNP guest has no System ROM, and is as it is else.
        let booted = IOMEM.lines().filter(|line| *platform != Platform::Snp || !line.ends_with("System ROM"));
        let booted = booted.collect::<Vec<_>>().join("\n");
        let guest = Guest::of(&stock_kernel("6.12"), *platform, Policy::Upstream, MEMORY).unwrap();
        let regions = placed(&guest);
        let made = Sheet::of(&guest.world, &regions);
        let world = World { iomem: model::iomem::Iomem::parse(&booted).unwrap(), ..guest.world };
        assert_eq!(Sheet::of(&world, &regions), made, "{platform}");
    }
}

#[test]
fn what_is_known_of_confidential_guests_is_in_the_tables() {
    let tdx = sheet(&stock_kernel("6.12"), Platform::Tdx, Policy::Upstream);
    // The first report of the thread: read(2) of page 0 maps it shared, and mmap(2) private.
    assert_eq!(answer(&tdx, Region::Bda, "read").text(), "shared!");
    assert_eq!(answer(&tdx, Region::Bda, "read").reasons.last(), Some(&Reason::IoremapShared));
    assert_eq!(answer(&tdx, Region::Bda, "load").text(), "plain");
    let later = sheet(&stock_kernel("7.3"), Platform::Tdx, Policy::Upstream);
    assert_eq!(answer(&later, Region::Bda, "read").text(), "plain");
    assert_eq!(answer(&later, Region::Bda, "read").reasons.last(), Some(&Reason::MemremapEncrypted));
    // The ROM of a SEV-SNP guest is not validated: a private access is #VC 0x404, to a process SIGBUS.
    let snp = Page::of(&stock_kernel("6.12"), Platform::Snp, &[Policy::Upstream], MEMORY).unwrap();
    let load = answer(&snp.sheets[0], Region::Rom, "load");
    assert_eq!(load.text(), "zeros!");
    let after = consequence(Platform::Snp, load.forbidden[0]).what;
    assert!(after.contains("#VC 0x404") && after.contains("SIGBUS"), "{after}");
    // What a read through the shared view costs a TD.
    let after = consequence(Platform::Tdx, answer(&tdx, Region::Bda, "read").forbidden[0]).what;
    assert!(after.contains("lost"), "{after}");
}

#[test]
fn each_policy_closes_what_its_patch_closes_and_for_its_reason() {
    let kernel = stock_kernel("6.12");
    let open = |platform, policy| sheet(&kernel, platform, policy).doors[0].clone();
    for (policy, ordinary, confidential, reason) in [
        (Policy::OpenEperm, "ok", "EPERM", Reason::OpenEperm),
        (Policy::LockdownCc, "ok", "EPERM", Reason::LockedDown),
        (Policy::LockdownAll, "EPERM", "EPERM", Reason::LockedDown),
        (Policy::NoDevmem, "ENOENT", "ENOENT", Reason::NoDevice),
    ] {
        assert_eq!(open(Platform::None, policy).text(), ordinary, "{policy}");
        let closed = open(Platform::Tdx, policy);
        assert_eq!(
            (closed.text().as_str(), closed.reasons.last()),
            (confidential, Some(&reason)),
            "{policy}"
        );
    }
    for (policy, column, word, reason) in [
        (Policy::MmapZeros, "load", "zeros", Reason::MmapZeros),
        (Policy::MmapZeros, "mmap", "ok", Reason::MmapZeros),
        (Policy::RangeDeny, "mmap", "EPERM", Reason::RangeDeny),
        (Policy::NoLow1m, "mmap", "EPERM", Reason::RamNoLow1m),
        (Policy::Upstream, "load", "plain", Reason::MappedPrivate),
    ] {
        let sheet = sheet(&kernel, Platform::Tdx, policy);
        let answer = answer(&sheet, Region::LowRam, column);
        assert_eq!(
            (answer.text().as_str(), answer.reasons.last()),
            (word, Some(&reason)),
            "{policy} {column}"
        );
    }
}

#[test]
fn every_answer_has_a_reason_unless_it_is_not_reached() {
    for release in stock::releases() {
        let kernel = stock_kernel(release);
        for platform in Platform::ALL {
            let Ok(page) = Page::of(&kernel, *platform, Policy::ALL, MEMORY) else { continue };
            for sheet in &page.sheets {
                for answer in sheet.answers() {
                    assert_eq!(answer.reasons.is_empty(), answer.word == Word::NotReached, "{answer:?}");
                }
            }
        }
    }
}

#[test]
fn a_kernel_that_is_no_guest_of_the_platform_is_refused_by_the_options_name() {
    let error = Page::of(&stock_kernel("6.1"), Platform::Tdx, &[Policy::Upstream], MEMORY).unwrap_err();
    assert!(error.to_string().contains("without INTEL_TDX_GUEST"), "{error}");
}

#[test]
fn two_tables_differ_where_their_answers_do() {
    let kernel = stock_kernel("6.12");
    let [upstream, zeros] = [Policy::Upstream, Policy::MmapZeros].map(|it| sheet(&kernel, Platform::Tdx, it));
    assert!(difference(&upstream, &upstream).is_empty());
    let changes = difference(&upstream, &zeros);
    assert!(changes.doors.is_empty());
    let regions: Vec<Region> = changes.rows.iter().flat_map(|row| row.regions.clone()).collect();
    assert_eq!(regions, [Region::LowRam, Region::Ebda]);
}
