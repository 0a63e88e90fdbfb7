// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Texts that a kernel is built from: patches and configuration fragments.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::bounded;

/// A patch or a configuration fragment: its name and its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The file name, for messages and reports.
    pub name: String,
    /// The contents.
    pub text: String,
}

impl Piece {
    pub(crate) fn read(path: &Path) -> std::io::Result<Self> {
        let text = bounded::read_text(path, bounded::PATCH)?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, text })
    }

    pub(crate) fn of((name, text): &(&str, &str)) -> Self {
        Self { name: (*name).to_owned(), text: (*text).to_owned() }
    }
}

/// Names and texts of files.
pub(crate) type Texts = &'static [(&'static str, &'static str)];

/// Names and texts of files in a directory of this crate.
macro_rules! texts {
    ($dir:literal: $($path:literal),*) => {
        &[$(($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $dir, "/", $path)))),*]
    };
}
pub(crate) use texts;
