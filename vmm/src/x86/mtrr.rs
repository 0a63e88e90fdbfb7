// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory type range registers as firmware leaves them. Kernels before 6.3 use no PAT without them
//! (`arch/x86/mm/pat/memtype.c:pat_init`), and SEV's conversions in place need PAT's write-protect type.

use crate::layout;

/// `IA32_MTRR_DEF_TYPE` (Intel SDM volume 3 §12.11.2.1): MTRRs on, everything write-back that no range covers.
const DEF_TYPE: u32 = 0x2ff;
const ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;
/// The first variable range (§12.11.2.3).
const PHYS_BASE_0: u32 = 0x200;
const PHYS_MASK_0: u32 = 0x201;
const UNCACHED: u64 = 0;
const VALID: u64 = 1 << 11;

/// Registers and their values: the device hole below 4 GiB uncached, all else write-back.
pub fn values(physical_bits: u8) -> [(u32, u64); 3] {
    let hole = layout::HIGH_RAM - layout::DEVICE_HOLE;
    let mask = ((1 << physical_bits) - 1) & !(hole - 1);
    [
        (PHYS_BASE_0, layout::DEVICE_HOLE | UNCACHED),
        (PHYS_MASK_0, mask | VALID),
        (DEF_TYPE, ENABLED_WRITE_BACK),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_covers_the_hole_and_nothing_else() {
        let [(_, base), (_, mask), _] = values(40);
        let covered = |gpa: u64| gpa & mask & !0xfff == base & mask & !0xfff;
        assert!(covered(layout::DEVICE_HOLE) && covered(layout::LAPIC) && covered(layout::HIGH_RAM - 1));
        assert!(!covered(layout::DEVICE_HOLE - 1) && !covered(layout::HIGH_RAM) && !covered(layout::BAR64));
    }
}
