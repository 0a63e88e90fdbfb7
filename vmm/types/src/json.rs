// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Forms that values have in JSON reports.

use serde::Serializer;

/// An address as text: many readers of JSON have no 64-bit numbers.
pub fn address<S: Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{address:#x}"))
}
