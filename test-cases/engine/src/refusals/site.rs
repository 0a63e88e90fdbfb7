// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The code that requests conversions.

use types::View;
use vmm::platform::failure::ConversionCall;
use vmm::trace::conversion::RecordedConversion;
use vmm::trace::kernel::KernelNames;

/// Functions of a call site that distinguish it from others, from the call outwards.
const DEPTH: usize = 12;

/// Code that requests a conversion, with every time that it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The call.
    pub call: ConversionCall,
    /// What the memory was to become.
    pub to: View,
    /// The functions that had not returned, innermost first.
    pub frames: Vec<String>,
    /// Which calls of this kind these were, counted from 1.
    pub numbers: Vec<u64>,
    /// 4 KiB pages in all.
    pub pages: u64,
}

impl Site {
    /// The functions of the kernel's that say why: those that neither make the call nor are part of changing page tables.
    pub fn purpose(&self) -> String {
        Self::purpose_of(&self.frames)
    }

    /// The same of these functions, innermost first.
    pub fn purpose_of(frames: &[String]) -> String {
        const GENERAL: [&str; 18] = [
            "__tdcall",
            "tdcall",
            "__tdx_hypercall",
            "tdx_",
            "try_accept_one",
            "__set_memory_enc",
            "set_memory_",
            "snp_",
            "vmgexit",
            "__set_pages_state",
            "set_pages_state",
            "pvalidate",
            "early_set_pages_state",
            "amd_enc_",
            "enc_dec_hypercall",
            "kvm_sev_hc",
            "hv_",
            "sev_",
        ];
        let certain = frames.iter().map(|frame| frame.strip_prefix("? ").unwrap_or(frame));
        let known = certain.filter(|frame| !frame.starts_with("0x"));
        let names = known.map(|frame| frame.split_once("+0x").map_or(frame, |(name, _)| name));
        let names: Vec<&str> =
            names.filter(|name| !GENERAL.iter().any(|prefix| name.starts_with(prefix))).take(3).collect();
        if names.is_empty() { frames.first().cloned().unwrap_or_default() } else { names.join(" ← ") }
    }
}

/// The sites of these conversions, in the order in which each first appears. Offsets count, so that two calls of one function are two.
pub(super) fn fold(conversions: &[RecordedConversion], names: Option<&KernelNames>) -> Vec<Site> {
    let mut sites: Vec<Site> = Vec::new();
    for recorded in conversions {
        let trace = recorded.at.backtrace.as_ref().zip(names);
        let mut frames = trace.map(|(trace, names)| names.frames(trace)).unwrap_or_default();
        frames.truncate(DEPTH);
        if frames.is_empty() {
            frames.push(format!("{:#x}", recorded.at.rip));
        }
        let (call, to) = (recorded.conversion.call, recorded.conversion.to);
        let same = |site: &&mut Site| (site.call, site.to, &site.frames) == (call, to, &frames);
        match sites.iter_mut().find(same) {
            Some(site) => {
                site.numbers.push(recorded.number);
                site.pages += recorded.conversion.pages;
            }
            None => sites.push(Site {
                call,
                to,
                frames,
                numbers: vec![recorded.number],
                pages: recorded.conversion.pages,
            }),
        }
    }
    sites
}
