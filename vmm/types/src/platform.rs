// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest runs on, as far as it can see.

use crate::PageState;
use crate::names::named;

named! {
    /// The simulated platform of a guest.
    pub enum Platform ("platform") {
        None = "none", "an ordinary virtual machine, nothing encrypted";
        Sev = "sev", "AMD SEV: one memory, read as ciphertext through the wrong view";
        Snp = "snp", "AMD SEV-SNP: private and shared pages with contents of their own, validated page by page";
        Tdx = "tdx", "Intel TDX: private and shared pages with contents of their own, accepted page by page";
        Vbs = "vbs", "Hyper-V VBS isolation (vTOM): private and shared pages, no hardware behind them";
    }
}

impl Platform {
    /// Whether a page has a state that admits one view and refuses the other.
    pub const fn has_page_states(self) -> bool {
        matches!(self, Self::Snp | Self::Tdx | Self::Vbs)
    }

    /// Whether RAM may be launched unaccepted, for the guest to accept.
    pub const fn accepts_memory(self) -> bool {
        matches!(self, Self::Snp | Self::Tdx)
    }

    /// Whether the guest's memory is hidden from the host.
    pub const fn is_confidential(self) -> bool {
        !matches!(self, Self::None)
    }

    /// State of the ROM area (0xC0000–0xFFFFF) at launch by default. SEV-SNP firmware leaves it unvalidated, which is why
    /// Linux scans no ROMs there (`arch/x86/mm/mem_encrypt_amd.c:sme_early_init`); a TD scans them through the private
    /// view (`arch/x86/kernel/probe_roms.c:probe_roms`), so its firmware has accepted them.
    pub const fn default_rom_state(self) -> Option<PageState> {
        match self {
            Self::None | Self::Sev => None,
            Self::Snp => Some(PageState::Unaccepted),
            Self::Tdx | Self::Vbs => Some(PageState::Private),
        }
    }
}

named! {
    /// What follows an access that a page's state forbids.
    pub enum Mode ("mode") {
        Record = "record", "it is recorded and goes through, and nothing changes: one run shows all of them";
        Faithful = "faithful", "what hardware and the usual hypervisor do: pages are converted, exceptions raised, guests end";
    }
}
