// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's resource tree: what /proc/iomem shows, and the questions `kernel/resource.c` answers from it.

use super::page::PAGE;

/// The descriptor of a resource (`IORES_DESC_*`), as far as /dev/mem checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Description {
    /// `IORES_DESC_NONE` or `IORES_DESC_RESERVED`, which are treated alike.
    Plain,
    /// `IORES_DESC_ACPI_TABLES`, `IORES_DESC_ACPI_NV_STORAGE` and the like: mapped encrypted.
    Special,
}

/// One node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// First address.
    pub start: u64,
    /// Last address.
    pub end: u64,
    /// Depth in the tree, 0 at the top.
    pub depth: usize,
    /// Name.
    pub name: String,
    /// `IORESOURCE_SYSTEM_RAM`.
    pub ram: bool,
    /// `IORESOURCE_BUSY`.
    pub busy: bool,
    /// `IORESOURCE_EXCLUSIVE`.
    pub exclusive: bool,
    /// `desc`.
    pub description: Description,
}

impl Resource {
    fn overlaps(&self, start: u64, last: u64) -> bool {
        self.start <= last && start <= self.end
    }
}

/// Whether a range intersects resources of one type (`kernel/resource.c:region_intersects()`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intersection {
    /// `REGION_DISJOINT`: none of them.
    Disjoint,
    /// `REGION_INTERSECTS`: them, and no other resource; holes do not count.
    Intersects,
    /// `REGION_MIXED`: them and others.
    Mixed,
}

/// A line of /proc/iomem that is no resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "reading the guest's /proc/iomem: `{0}` is no line of the form `START-END : NAME`, so a range of memory would be missing"
)]
pub struct BadIomem(String);

/// The whole tree, in the order of /proc/iomem: parents before children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Iomem {
    resources: Vec<Resource>,
}

impl Iomem {
    /// Reads /proc/iomem as root reads it. It does not show flags, so they are derived from name and place.
    ///
    /// # Errors
    /// For a line that is no resource: without it the tree would lack one.
    pub fn parse(text: &str) -> Result<Self, BadIomem> {
        let resources = text.lines().map(|line| resource(line).ok_or_else(|| BadIomem(line.to_owned())));
        Ok(Self { resources: resources.collect::<Result<_, _>>()? })
    }

    /// Every resource.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// `kernel/resource.c:region_intersects()` for System RAM and the page at `gpa`.
    pub fn intersects_ram(&self, gpa: u64) -> Intersection {
        let (start, last) = (gpa & !(PAGE - 1), gpa | (PAGE - 1));
        let (mut ram, mut other) = (false, false);
        let mut index = 0;
        while let Some(top) = self.resources.get(index) {
            let children = self.below(index);
            if top.overlaps(start, last) {
                if top.ram {
                    ram = true;
                } else {
                    // Children of the type count as if they covered their part of the parent.
                    let mut from = start.max(top.start);
                    let mut covered = false;
                    for child in &self.resources[index + 1..children] {
                        if child.ram && child.overlaps(start, last) {
                            ram = true;
                            if child.start > from {
                                break;
                            }
                            if child.end >= last.min(top.end) {
                                covered = true;
                                break;
                            }
                            from = child.end + 1;
                        }
                    }
                    other |= !covered;
                }
            }
            index = children;
        }
        match (ram, other) {
            (false, _) => Intersection::Disjoint,
            (true, false) => Intersection::Intersects,
            (true, true) => Intersection::Mixed,
        }
    }

    /// `kernel/resource.c:resource_is_exclusive()` for the page at `gpa`. `strict`: the `strict_iomem_checks` variable,
    /// on where `STRICT_DEVMEM` is and `iomem=relaxed` is not given. `io_strict`: `CONFIG_IO_STRICT_DEVMEM`.
    pub fn is_exclusive(&self, gpa: u64, strict: bool, io_strict: bool) -> bool {
        let (start, last) = (gpa & !(PAGE - 1), gpa | (PAGE - 1));
        self.resources
            .iter()
            .filter(|r| r.overlaps(start, last))
            .any(|r| r.ram && r.exclusive || strict && r.busy && (io_strict || r.exclusive))
    }

    /// The busy memory resources a range overlaps, as `kernel/resource.c:walk_mem_res()` finds them.
    pub fn busy(&self, start: u64, last: u64) -> impl Iterator<Item = &Resource> {
        self.resources.iter().filter(move |r| r.busy && r.overlaps(start, last))
    }

    /// The range overlaps System RAM from `floor` on (`kernel/resource.c:walk_system_ram_range()`); whole pages only.
    pub fn ram_pages(&self, start: u64, last: u64, floor: u64) -> (bool, bool) {
        let (mut ram, mut other) = (false, false);
        let mut page = start & !(PAGE - 1);
        while page <= last {
            let is_ram = page >= floor
                && self
                    .resources
                    .iter()
                    .any(|r| r.ram && r.depth == 0 && r.start <= page && page + PAGE - 1 <= r.end);
            ram |= is_ram;
            other |= !is_ram;
            page += PAGE;
        }
        (ram, other)
    }

    fn below(&self, index: usize) -> usize {
        let depth = self.resources[index].depth;
        let rest = self.resources[index + 1..].iter();
        index + 1 + rest.take_while(|r| r.depth > depth).count()
    }
}

/// One line: two blanks for each level, `start-end : name`.
fn resource(line: &str) -> Option<Resource> {
    let depth = line.bytes().take_while(|&byte| byte == b' ').count() / 2;
    let (range, name) = line.trim().split_once(" : ")?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let ram = name == "System RAM" || name.starts_with("Kernel ");
    let description = match name {
        "ACPI Tables" | "ACPI Non-volatile Storage" => Description::Special,
        _ => Description::Plain,
    };
    // e820 ranges are busy below 1 MiB and where they are RAM or ACPI's (`arch/x86/kernel/e820.c:do_mark_busy`);
    // `reserve=` makes busy ones (`kernel/resource.c:reserve_setup`); windows of bridges and BARs without a
    // driver are not.
    let busy = start < 1 << 20 && !name.starts_with("PCI ")
        || ram
        || description == Description::Special
        || matches!(name, "reserved" | "Local APIC" | "HPET" | "RAM buffer")
        || name.starts_with("IOAPIC");
    Some(Resource { start, end, depth, name: name.to_owned(), ram, busy, exclusive: false, description })
}
