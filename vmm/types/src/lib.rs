// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The types that every crate of copra names: each exists here and nowhere else.
//!
//! Independent of KVM, kernels, policies and cases. With feature `std` off only [`errno`] remains, without a heap.

#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
#[doc(hidden)]
pub use serde;

#[cfg(feature = "std")]
mod access;
#[cfg(feature = "std")]
mod access_event;
#[cfg(feature = "std")]
mod bad_call;
#[cfg(feature = "std")]
pub mod candidates;
#[cfg(feature = "std")]
mod dma;
pub mod errno;
#[cfg(feature = "std")]
mod guest_layout;
#[cfg(feature = "std")]
pub mod json;
#[cfg(feature = "std")]
pub mod names;
#[cfg(feature = "std")]
mod page;
#[cfg(feature = "std")]
mod page_change;
#[cfg(feature = "std")]
mod platform;
#[cfg(feature = "std")]
mod policy;
#[cfg(feature = "std")]
mod refused_conversion;
#[cfg(feature = "std")]
mod region;
#[cfg(feature = "std")]
mod unwind_method;

#[cfg(feature = "std")]
pub use access::{AccessKind, AccessTarget, EventKind};
#[cfg(feature = "std")]
pub use access_event::{AccessEvent, SimilarAccesses};
#[cfg(feature = "std")]
pub use bad_call::BadCall;
#[cfg(feature = "std")]
pub use dma::{DeviceKind, DmaOrigin};
pub use errno::{Errno, Signal};
#[cfg(feature = "std")]
pub use guest_layout::{
    GuestLayout, LayoutError, MapForm, RomArea, SmbiosPlace, TablePlace, Tables, UnacceptedLayout,
    UnacceptedPattern,
};
#[cfg(feature = "std")]
pub use page::{PageState, View};
#[cfg(feature = "std")]
pub use page_change::PageChange;
#[cfg(feature = "std")]
pub use platform::{Mode, Platform};
#[cfg(feature = "std")]
pub use policy::Policy;
#[cfg(feature = "std")]
pub use refused_conversion::RefusedConversion;
#[cfg(feature = "std")]
pub use region::{PlacedRegion, Region};
#[cfg(feature = "std")]
pub use unwind_method::UnwindMethod;

/// A vCPU of a guest, counted from 0, the one that boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId(pub u32);

impl VcpuId {
    /// The vCPU that boots.
    pub const BOOT: Self = Self(0);

    /// Its place in a list of all.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
