// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The layout of a map of guest physical memory: parts that are each to scale, with breaks between them.

use types::{PlacedRegion, Region};

use engine::matrix::operations;

/// A range of addresses with one result per operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Its region.
    pub region: Region,
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Its kind in this guest.
    pub kind: String,
}

/// A range that is drawn to one scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Its share of the row's width.
    pub share: u64,
    /// Its label.
    pub name: &'static str,
}

const PAGE: u64 = 0x1000;
const MIB: u64 = 1 << 20;
/// Width of a part around a device's memory.
const WINDOW: u64 = 128 << 10;

/// The memory that a matrix accesses in a guest with these regions. System RAM, which is accessed in one page, has the
/// extent of all memory of its class.
pub fn extents(regions: &[PlacedRegion]) -> Vec<Extent> {
    let start_of =
        |region: Region| regions.iter().find(|placed| placed.region == region).map(|placed| placed.gpa);
    let mut extents: Vec<Extent> = regions
        .iter()
        .filter(|placed| operations::regions().any(|region| region == placed.region))
        .map(|placed| {
            let own = (placed.gpa, placed.gpa.saturating_add(placed.len));
            let (start, end) = match placed.region {
                Region::LowRam => (PAGE, start_of(Region::Ebda).unwrap_or(own.1)),
                Region::Ram => (MIB, start_of(Region::Reserved).unwrap_or(own.1)),
                _ => own,
            };
            Extent { region: placed.region, start, end, kind: placed.kind.clone().into_owned() }
        })
        .collect();
    extents.sort_by_key(|extent| extent.start);
    extents
}

/// The rows of a map and the parts of each.
pub fn rows(extents: &[Extent]) -> Vec<Vec<Part>> {
    let of = |region: Region| extents.iter().find(|extent| extent.region == region);
    let mut rows = vec![vec![Part { start: 0, end: MIB, share: 1, name: "the first MiB" }]];
    if let Some(end) = of(Region::AcpiData).map(|extent| extent.end).filter(|end| *end > MIB + 2 * WINDOW) {
        rows.push(vec![
            Part { start: MIB, end, share: 3, name: "from 1 MiB to the end of low RAM" },
            Part { start: end - 2 * WINDOW, end, share: 2, name: "its last 256 KiB, enlarged" },
        ]);
    }
    let names = [
        (Region::Bar32, "32-bit BAR"),
        (Region::MmioClaimed, "claimed"),
        (Region::MmioUnclaimed, "hole"),
        (Region::HighRam, "high RAM"),
        (Region::Bar64, "64-bit BAR"),
    ];
    let part = |(region, name): (Region, &'static str)| {
        let extent = of(region)?;
        let end = extent.end.max(extent.start.saturating_add(WINDOW));
        Some(Part { start: extent.start, end, share: 1, name })
    };
    let beyond: Vec<Part> = names.into_iter().filter_map(part).collect();
    if !beyond.is_empty() {
        rows.push(beyond);
    }
    rows
}

/// Where an extent lies in a part: from and to, as shares of the part's width; `None` if it is elsewhere.
pub fn span(part: &Part, extent: &Extent) -> Option<(f64, f64)> {
    let (start, end) = (extent.start.max(part.start), extent.end.min(part.end));
    let whole = (part.end - part.start) as f64;
    (start < end).then(|| ((start - part.start) as f64 / whole, (end - part.start) as f64 / whole))
}

/// An amount of memory in the largest unit that divides it.
pub fn amount(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        bytes if bytes % (1 << 30) == 0 => format!("{} GiB", bytes >> 30),
        bytes if bytes % MIB == 0 => format!("{} MiB", bytes >> 20),
        bytes if bytes % 1024 == 0 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(region: Region, start: u64, end: u64) -> Extent {
        Extent { region, start, end, kind: String::new() }
    }

    #[test]
    fn parts_are_to_scale() {
        let part = Part { start: 0, end: MIB, share: 1, name: "" };
        assert_eq!(span(&part, &extent(Region::Vga, 0x8_0000, 0xc_0000)), Some((0.5, 0.75)));
        assert_eq!(span(&part, &extent(Region::Ram, MIB, 2 * MIB)), None);
        let (from, to) = span(&part, &extent(Region::Rom, 0xf_0000, 0x20_0000)).unwrap();
        assert!(from > 0.9 && (to - 1.0).abs() < 1e-9);
    }

    #[test]
    fn ram_has_the_extent_of_its_class() {
        let placed = |region, gpa, len| PlacedRegion { region, gpa, len, kind: "".into() };
        let regions = [
            placed(Region::LowRam, 0x2_0000, PAGE),
            placed(Region::Ebda, 0x9_fc00, 0x400),
            placed(Region::Ram, 0x100_0000, PAGE),
            placed(Region::Reserved, 0x1bfe_0000, 0x1_0000),
            placed(Region::AcpiData, 0x1bff_0000, 0x1_0000),
        ];
        let extents = extents(&regions);
        assert_eq!((extents[0].start, extents[0].end), (PAGE, 0x9_fc00));
        assert!(extents.windows(2).all(|pair| pair[0].end <= pair[1].start));
        let rows = rows(&extents);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1][0].end, 0x1c00_0000);
    }

    #[test]
    fn amounts_have_their_unit() {
        assert_eq!([amount(0x400), amount(64 << 20), amount(3 << 30)], ["1 KiB", "64 MiB", "3 GiB"]);
    }
}
