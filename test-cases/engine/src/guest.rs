// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels that are ready to be booted, and the guests booted from them. Nothing else in copra boots a guest with an agent.

mod command_line;
mod error;
pub(crate) mod facts;
mod guest_type;
mod kernel;
mod stored;
mod target;

pub(crate) use self::command_line::command_line;
pub use self::error::{EngineError, check, check_file};
pub(crate) use self::facts::placed;
pub(crate) use self::guest_type::{GuestLog, check as check_guest_type};
pub use self::kernel::PreparedKernel;
pub use self::stored::KernelImage;
pub(crate) use self::stored::LazyImage;
pub use self::target::Target;
