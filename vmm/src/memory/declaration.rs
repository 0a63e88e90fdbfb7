// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the guest declares about its pages (`KVM_HC_MAP_GPA_RANGE`).

use types::{PageState, View};

use super::history::StateChange;
use super::{GuestMemory, Scheme};
use crate::layout::PAGE_SIZE;

impl GuestMemory {
    /// The guest enabled `KVM_HC_MAP_GPA_RANGE`: from now on it reports its conversions.
    pub fn map_gpa_range_enabled(&self) {
        if let Some(encryption) = self.encryption() {
            encryption.lock().map_gpa_range_enabled = true;
        }
    }

    /// Another kernel starts, which has not enabled it yet.
    pub fn map_gpa_range_disabled(&self) {
        if let Some(encryption) = self.encryption() {
            encryption.lock().map_gpa_range_enabled = false;
        }
    }

    /// The guest declares `[gpa, gpa + pages × 4 KiB)`; pages that are not RAM are passed over.
    pub fn declare(&self, gpa: u64, page_count: u64, view: View) {
        let Some(encryption) = self.encryption() else { return };
        let mut pages = encryption.lock();
        pages.map_gpa_range_enabled = true;
        let end = gpa.saturating_add(page_count.saturating_mul(PAGE_SIZE)).min(self.ram.end());
        let mut at = gpa & !(PAGE_SIZE - 1);
        while at < end {
            if let Some(offset) = self.ram.offset(at) {
                let state = &mut pages.states[(offset / PAGE_SIZE) as usize];
                state.declare(view);
                let in_view = state.content() == view;
                pages.watch.record(offset, StateChange::Declared(view));
                pages.counters.declared_pages += 1;
                // `arch/x86/mm/mem_encrypt_amd.c:__sme_early_enc_dec` rewrites a page through the other view and
                // declares it afterwards.
                if !pages.provisional.is_empty() && pages.provisional.remove(&at) && in_view {
                    pages.confirmed.push(at);
                    pages.counters.mismatches -= 1;
                    pages.counters.implicit_moves += 1;
                }
            } else if at < crate::layout::HIGH_RAM && at >= self.ram.low_end() {
                at = crate::layout::HIGH_RAM;
                continue;
            }
            at += PAGE_SIZE;
        }
    }

    /// Pages whose mismatch turned out to be the first half of a conversion: written through the other view, then
    /// declared for it.
    pub fn take_confirmed_conversions(&self) -> Vec<u64> {
        self.encryption().map(|e| std::mem::take(&mut e.lock().confirmed)).unwrap_or_default()
    }

    /// Every page of RAM that the guest shares, ascending: by its state, or on SEV by what the guest declared.
    pub fn shared_pages(&self) -> Vec<u64> {
        let pages: Vec<usize> = match &self.scheme {
            Scheme::OneView => Vec::new(),
            Scheme::EncryptedAlias(e) => {
                let pages = e.lock();
                let shared =
                    pages.states.iter().enumerate().filter(|(_, state)| state.declared() == View::Shared);
                shared.map(|(page, _)| page).collect()
            }
            Scheme::SeparateBacking(p) => {
                let state = p.lock();
                let states = state.table.states(0..state.table.pages()).iter().enumerate();
                states.filter(|(_, state)| **state == PageState::Shared).map(|(page, _)| page).collect()
            }
        };
        pages.into_iter().map(|page| self.ram.gpa(page as u64 * PAGE_SIZE)).collect()
    }

    /// The view the guest declared for the page at `gpa`; private for a page it has not accepted.
    pub fn declared(&self, gpa: u64) -> Option<View> {
        let offset = self.ram.offset(gpa)?;
        Some(match &self.scheme {
            Scheme::OneView => View::Private,
            Scheme::EncryptedAlias(e) => e.lock().states[(offset / PAGE_SIZE) as usize].declared(),
            Scheme::SeparateBacking(p) => match p.lock().state(offset) {
                Some(PageState::Shared) => View::Shared,
                _ => View::Private,
            },
        })
    }
}
