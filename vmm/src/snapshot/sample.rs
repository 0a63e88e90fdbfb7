// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guests as they could have been saved, made without KVM: what reads saved guests is tested with them.

use types::{Mode, PageState, Platform, View};

use super::{Snapshot, State};
use crate::boot::linux::UnservedModule;
use crate::boot::opcode;
use crate::device::image::DevicesImage;
use crate::layout;
use crate::machine::vcpu::image::VcpuImage;
use crate::machine::vm_image::VmImage;
use crate::memory::MemoryError;
use crate::memory::cipher::PAGE;
use crate::memory::image::{MemoryImage, SavedStates};
use crate::memory::protected::table::PAGES_PER_CHUNK;
use crate::memory::state::AliasState;
use crate::platform::failure::Counted;
use crate::platform::guest_type::GuestActivity;
use crate::platform::{self, HostFacts, Options};
use crate::x86::cpuid::CpuidTable;
use crate::x86::opcode::Opcode;

/// Pages that are not zeros: neighbours, and others.
const FILLED: [usize; 4] = [0, 1, 700, 4000];
/// The first of 3 pages in another state than the rest.
const OTHER: usize = 1000;
/// TDCALL.
const CODE: [u8; 4] = [0x66, 0x0f, 0x01, 0xcc];

impl Snapshot {
    /// A guest of `platform` with one vCPU and the least memory, which has not run.
    pub fn sample(platform: Platform) -> Result<Self, MemoryError> {
        let mut memory = MemoryImage::new(states(platform), layout::MIN_RAM)?;
        for page in FILLED {
            memory.set_page(page, &[page as u8 | 1; PAGE]);
        }
        let options = Options { encryption_bit: None, seed: 0, mode: Mode::Record, sept_ve_disable: true };
        let mut cpuid = CpuidTable::default();
        cpuid.edit(1, |leaf| leaf.ecx = 1 << 31);
        let state = State {
            vcpus: vec![VcpuImage::default()],
            vm: VmImage::default(),
            devices: DevicesImage::fresh(),
            platform: platform::make(platform, &HostFacts { physical_bits: 46 }, &options).save(),
            refused: Counted::default(),
            refused_pages: Vec::new(),
            cpuid,
            sites: opcode::find_flat(&CODE, layout::FLAT_CODE),
            unserved_modules: vec![UnservedModule {
                path: "/lib/modules/m.ko".to_owned(),
                opcodes: vec![Opcode::Tdcall],
            }],
            activity: GuestActivity::default(),
        };
        Ok(Self { state, memory })
    }
}

/// Page states, of which a few are not those of the rest.
fn states(platform: Platform) -> SavedStates {
    let pages = (layout::MIN_RAM / layout::PAGE_SIZE) as usize;
    let is_other = |page: usize| (OTHER..OTHER + 3).contains(&page);
    match platform {
        Platform::None => SavedStates::OneView,
        Platform::Sev => {
            let shared = AliasState::new(View::Shared, View::Shared);
            let state = |page| if is_other(page) { shared } else { AliasState::INITIAL };
            SavedStates::Alias { states: (0..pages).map(state).collect(), map_gpa_range_enabled: true }
        }
        Platform::Snp | Platform::Tdx | Platform::Vbs => {
            let state = |page| if is_other(page) { PageState::Shared } else { PageState::Private };
            SavedStates::Separate {
                states: (0..pages).map(state).collect(),
                large: vec![false; pages / PAGES_PER_CHUNK],
            }
        }
    }
}
