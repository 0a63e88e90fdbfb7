// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A malformed call, as reports have it.

use serde::{Deserialize, Serialize};

/// A call to the platform's module, firmware or hypervisor that was malformed or came from where it must not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadCall {
    /// The call.
    pub call: String,
    /// What was wrong, and what the guest got.
    pub why: String,
    /// The instruction.
    #[serde(serialize_with = "crate::json::address", deserialize_with = "crate::json::read_address")]
    pub rip: u64,
    /// The function it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
}
