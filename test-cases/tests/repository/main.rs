// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the repository promises in its own files: modules form layers, SPECIFICATION.md names tests that exist,
//! docs/architecture.md files and functions that exist, and dependencies have licences and sources that deny.toml allows.

#![allow(clippy::unwrap_used)]

mod architecture;
mod bench;
mod ci_files;
mod layers;
mod licences;
mod schema;
mod specification;

use std::path::{Path, PathBuf};

/// The top directory of the repository.
fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().find(|dir| dir.join("SPECIFICATION.md").is_file()).unwrap().to_owned()
}
