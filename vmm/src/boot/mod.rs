// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest finds in memory when it starts.

pub mod acpi;
pub mod efi;
pub mod firmware;
pub mod flat;
pub mod image;
pub mod launch;
pub mod linux;
mod mp_table;
pub mod next_kernel;
pub mod opcode;
pub mod page_tables;
pub mod prepared;
pub mod smbios;
pub mod snp_launch;
