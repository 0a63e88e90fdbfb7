// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The processor: registers, CPUID, page walks, exceptions, memory types, instructions. Nothing here talks to KVM; its
//! register structures are used as plain data.

pub mod cpuid;
pub mod exception;
pub mod long_mode;
pub mod mtrr;
pub mod opcode;
pub mod walk;
