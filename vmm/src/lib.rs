// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Boots one Linux guest on plain KVM as a simulated confidential guest.
//!
//! A [`machine::Machine`] is one guest with one vCPU, driven from one thread. It is independent of
//! /dev/mem and of policies: it runs a kernel, carries bytes to and from an agent inside, reads each memory view,
//! and records every access that reached a page through a view the page's state forbids.

pub mod boot;
pub mod confinement;
pub mod device;
pub mod layout;
pub mod machine;
pub mod marker;
pub mod memory;
pub mod platform;
pub mod probe;
pub mod region;
pub mod snapshot;
pub mod stored;
pub mod trace;
pub mod x86;

/// Names the code of this crate and of all it uses: a part of the key of everything that it derives and that is kept in files.
pub const BUILD: &str = env!("COPRA_VMM_BUILD");
