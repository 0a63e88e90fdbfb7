// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A change of a page, as reports have it.

use serde::{Deserialize, Serialize};

/// One change of the page that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageChange {
    /// What happened to it.
    pub what: String,
    /// The instruction that did it, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// The task's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The kernel functions that had not returned, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}
