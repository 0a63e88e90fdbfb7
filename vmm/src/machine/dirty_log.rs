// SPDX-License-Identifier: Apache-2.0 OR MIT
//! KVM's record of the pages that vCPUs, and KVM on their behalf, wrote (Documentation/virt/kvm/api.rst §4.8, §4.117).

use std::sync::Arc;

use kvm_bindings::{
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, KVM_MEM_LOG_DIRTY_PAGES,
    kvm_clear_dirty_log, kvm_enable_cap, kvm_userspace_memory_region,
};
use kvm_ioctls::{Error, VmFd};
use vmm_sys_util::ioctl::ioctl_with_ref;

use crate::layout::PAGE_SIZE;
use crate::memory::page_set::PageSet;

mod request {
    use super::kvm_clear_dirty_log;
    vmm_sys_util::ioctl_iowr_nr!(KVM_CLEAR_DIRTY_LOG, kvm_bindings::KVMIO, 0xc0, kvm_clear_dirty_log);
}

/// How often a page must have been dirty and unchanged before its next write is to be noticed again. A write that KVM has
/// to notice costs a nested page fault, which is far more than comparing a page.
const QUIET_ROUNDS: u8 = 8;

/// One memory slot of a VM.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoggedSlot {
    /// What KVM was given.
    pub region: kvm_userspace_memory_region,
    /// First page, by number in the host mapping.
    pub first: usize,
}

impl LoggedSlot {
    fn pages(&self) -> usize {
        (self.region.memory_size / PAGE_SIZE) as usize
    }
}

/// The log of all slots of one VM. A page stays in it until it is taken out, so that frequently written pages cost no
/// fault.
#[derive(Debug)]
pub(crate) struct DirtyLog {
    vm: Arc<VmFd>,
    slots: Vec<LoggedSlot>,
    /// KVM keeps a page in its log until told otherwise; without that, reading the log takes every page out.
    manual: bool,
    /// By page: how often in a row it was found unchanged.
    quiet: Vec<u8>,
}

impl DirtyLog {
    /// Starts to log writes to these slots, which together have `pages` pages.
    pub(crate) fn start(vm: &Arc<VmFd>, slots: &[LoggedSlot], pages: usize) -> Result<Self, Error> {
        let mut manual = kvm_enable_cap { cap: KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, ..Default::default() };
        manual.args[0] = u64::from(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
        let manual = vm.enable_cap(&manual).is_ok();
        for slot in slots {
            let region = kvm_userspace_memory_region { flags: KVM_MEM_LOG_DIRTY_PAGES, ..slot.region };
            // SAFETY: the region is the one that the VM has already, with another flag.
            unsafe { vm.set_user_memory_region(region) }?;
        }
        Ok(Self { vm: Arc::clone(vm), slots: slots.to_vec(), manual, quiet: vec![0; pages] })
    }

    /// Adds every page that may have been written since the log was started, or since it was taken out of it.
    pub(crate) fn collect(&self, dirty: &mut PageSet) -> Result<(), Error> {
        for slot in &self.slots {
            let bitmap = self.vm.get_dirty_log(slot.region.slot, slot.region.memory_size as usize)?;
            dirty.insert_bitmap(slot.first, &bitmap);
        }
        Ok(())
    }

    /// Takes the pages of `dirty` out of the log that have been unchanged for some rounds. `changed`: those that were not.
    pub(crate) fn settle(&mut self, dirty: &PageSet, changed: &PageSet) -> Result<(), Error> {
        if !self.manual {
            // Reading the log has taken every page out of it.
            return Ok(());
        }
        let mut cleared = PageSet::new(self.quiet.len());
        for page in dirty.iter() {
            let Some(quiet) = self.quiet.get_mut(page) else { continue };
            *quiet = if changed.contains(page) { 0 } else { *quiet + 1 };
            if *quiet >= QUIET_ROUNDS {
                *quiet = 0;
                cleared.insert(page);
            }
        }
        if cleared.is_empty() { Ok(()) } else { self.clear(&cleared) }
    }

    fn clear(&self, pages: &PageSet) -> Result<(), Error> {
        for slot in &self.slots {
            let bitmap = pages.bitmap(slot.first, slot.pages());
            if bitmap.iter().all(|word| *word == 0) {
                continue;
            }
            let mut request = kvm_clear_dirty_log {
                slot: slot.region.slot,
                num_pages: u32::try_from(slot.pages()).map_err(|_| Error::new(libc::EINVAL))?,
                ..Default::default()
            };
            request.__bindgen_anon_1.dirty_bitmap = bitmap.as_ptr().cast_mut().cast();
            // SAFETY: the request and the bitmap, which has a bit for each page of the slot, live through the call.
            if unsafe { ioctl_with_ref(&*self.vm, request::KVM_CLEAR_DIRTY_LOG(), &request) } < 0 {
                return Err(Error::last());
            }
        }
        Ok(())
    }
}
