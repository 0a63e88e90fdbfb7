// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The modules of this crate import only what lies below them.

use std::path::Path;

/// From the lowest to the highest.
const ORDER: &[&str] = &[
    "layout", "marker", "x86", "memory", "platform", "region", "boot", "trace", "device", "machine", "probe",
];

#[test]
fn no_module_imports_one_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    if let Err(violations) = layers::check(&src, ORDER) {
        let lines: Vec<String> = violations.iter().map(|violation| format!("src/{violation}")).collect();
        panic!("{}", lines.join("\n"));
    }
}
