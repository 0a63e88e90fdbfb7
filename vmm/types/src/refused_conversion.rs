// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A conversion of memory that was refused because a rule says so, as reports have it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::View;

/// A conversion that the simulated module, firmware or hypervisor refused: a simulated fault, not the guest's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedConversion {
    /// The call, by its name in the ABI.
    pub call: String,
    /// Which call of this kind it was, from 1.
    pub number: u64,
    /// What the memory was to become.
    pub to: View,
    /// First page.
    #[serde(serialize_with = "crate::json::address", deserialize_with = "crate::json::read_address")]
    pub gpa: u64,
    /// 4 KiB pages requested.
    pub pages: u64,
    /// Of them, pages converted before it was refused.
    pub done: u64,
    /// The error the guest got, by its name in the ABI.
    pub error: String,
    /// The instruction that made the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// The kernel functions that had not returned, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}

impl fmt::Display for RefusedConversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, number, to, gpa, pages, done, error, .. } = self;
        write!(f, "{call} no. {number}, {pages} × 4 KiB from {gpa:#x} to {to}: {error}")?;
        if *done > 0 { write!(f, " after {done}") } else { Ok(()) }
    }
}
