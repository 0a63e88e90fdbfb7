// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The specification of /dev/mem as a page: text for a terminal, Markdown, JSON.

pub mod json;
mod marks;
mod table;
#[cfg(test)]
mod tests;
pub mod text;

use engine::spec::{Kernel, Page};
use types::{Platform, Policy};

/// A kernel on every platform it can run on.
#[derive(Debug)]
pub struct Described {
    /// The kernel.
    pub kernel: Kernel,
    /// One page for each platform.
    pub pages: Vec<Page>,
    /// The platforms it cannot run on, and why.
    pub missing: Vec<(Platform, String)>,
}

impl Described {
    /// The kernel's pages.
    ///
    /// # Errors
    /// If it can run on none of the platforms: the reason for the first.
    pub fn of(
        kernel: Kernel,
        platforms: &[Platform],
        policies: &[Policy],
        memory_mib: u64,
    ) -> Result<Self, engine::spec::SpecError> {
        let (mut pages, mut missing, mut first) = (Vec::new(), Vec::new(), None);
        for platform in platforms {
            match Page::of(&kernel, *platform, policies, memory_mib) {
                Ok(page) => pages.push(page),
                Err(error) => {
                    missing.push((*platform, error.to_string()));
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            Some(error) if pages.is_empty() => Err(error),
            _ => Ok(Self { kernel, pages, missing }),
        }
    }
}
