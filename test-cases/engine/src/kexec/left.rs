// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pages that the next kernel takes for private and that are not, as ranges with the code that left them so.

use types::{PageState, PlacedRegion, View};
use vmm::layout::PAGE_SIZE;
use vmm::trace::conversion::RecordedConversion;
use vmm::trace::kernel::KernelNames;

use crate::place::region_of;
use crate::refusals::Site;

/// Pages in a row, of one state, that the same code left so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The first page.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
    /// What they are.
    pub state: PageState,
    /// The region the first is in.
    pub region: Option<String>,
    /// The code that shared them, innermost function first; empty where it was not recorded.
    pub frames: Vec<String>,
}

impl Left {
    /// The functions that say why it is shared.
    pub fn purpose(&self) -> String {
        Site::purpose_of(&self.frames)
    }

    /// The code path as a sentence's end.
    pub fn by(&self) -> String {
        match self.purpose() {
            purpose if purpose.is_empty() => String::new(),
            purpose => format!(", by {purpose}"),
        }
    }
}

/// Puts pages together. `conversions`: all that the guest requested, in order.
pub(super) fn ranges(
    pages: &[(u64, PageState)],
    conversions: &[RecordedConversion],
    names: Option<&KernelNames>,
    regions: &[PlacedRegion],
) -> Vec<Left> {
    let mut left: Vec<Left> = Vec::new();
    let mut last_by = None;
    for (gpa, state) in pages.iter().copied() {
        let shares = |recorded: &&RecordedConversion| {
            recorded.conversion.to == View::Shared && recorded.conversion.range().contains(&gpa)
        };
        let by =
            (state == PageState::Shared).then(|| conversions.iter().rposition(|it| shares(&it))).flatten();
        if let Some(range) = left.last_mut()
            && (range.gpa + range.len, range.state, last_by) == (gpa, state, by)
        {
            range.len += PAGE_SIZE;
            continue;
        }
        last_by = by;
        let frames = by.and_then(|by| conversions.get(by)?.at.backtrace.as_ref().zip(names));
        let frames = frames.map(|(trace, names)| names.frames(trace)).unwrap_or_default();
        let region = region_of(gpa, regions).map(str::to_owned);
        // The same code often converts memory piece by piece.
        match left.last_mut() {
            Some(range)
                if (range.gpa + range.len, range.state, &range.frames) == (gpa, state, &frames)
                    && !frames.is_empty() =>
            {
                range.len += PAGE_SIZE;
            }
            _ => left.push(Left { gpa, len: PAGE_SIZE, state, region, frames }),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use types::VcpuId;
    use vmm::platform::failure::{Conversion, ConversionCall};
    use vmm::trace::Instruction;

    use super::*;

    fn conversion(gpa: u64, pages: u64, to: View) -> RecordedConversion {
        let at = Instruction {
            vcpu: VcpuId::BOOT,
            rip: 0xffff_ffff_8100_0000,
            cpl: 0,
            cr3: 0,
            rsp: 0,
            exact: true,
            task: None,
            backtrace: None,
            open_log_lines: None,
            user_code: None,
        };
        let conversion = Conversion { call: ConversionCall::MapGpa, to, gpa, pages };
        RecordedConversion { number: 1, conversion, refusal: None, at }
    }

    #[test]
    fn pages_in_a_row_are_one_range_as_far_as_one_call_shared_them() {
        let conversions = [
            conversion(0x10_0000, 3, View::Shared),
            conversion(0x10_2000, 1, View::Private),
            conversion(0x10_2000, 2, View::Shared),
        ];
        let shared = [0x10_0000, 0x10_1000, 0x10_2000, 0x10_3000].map(|gpa| (gpa, PageState::Shared));
        let unaccepted = [0x10_4000, 0x20_0000, 0x20_1000].map(|gpa| (gpa, PageState::Unaccepted));
        let left = ranges(&[&shared[..], &unaccepted].concat(), &conversions, None, &[]);
        let found: Vec<_> = left.iter().map(|left| (left.gpa, left.len, left.state)).collect();
        assert_eq!(
            found,
            [
                (0x10_0000, 0x2000, PageState::Shared),
                (0x10_2000, 0x2000, PageState::Shared),
                (0x10_4000, 0x1000, PageState::Unaccepted),
                (0x20_0000, 0x2000, PageState::Unaccepted),
            ]
        );
    }
}
