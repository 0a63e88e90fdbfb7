// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a test did not pass: something is wrong, or it cannot be run on this machine.

use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Completion, Trial};

/// Why a test did not pass.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// The behaviour is wrong.
    Wrong(String),
    /// This machine lacks what the test needs.
    Skip(String),
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self::Wrong(text)
    }
}

impl From<&str> for Trouble {
    fn from(text: &str) -> Self {
        Self::Wrong(text.into())
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Wrong(error.to_string())
    }
}

/// The result of a test.
pub type Checked = Result<(), Trouble>;

/// Tests that could not be run, each with its reason.
static SKIPPED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// A test of that name; its skip is recorded.
pub fn trial(name: &str, check: impl FnOnce() -> Checked + Send + 'static) -> Trial {
    let named = name.to_owned();
    Trial::ignorable_test(name, move || match check() {
        Ok(()) => Ok(Completion::Completed),
        Err(Trouble::Wrong(why)) => Err(why.into()),
        Err(Trouble::Skip(reason)) => {
            SKIPPED.lock().unwrap_or_else(PoisonError::into_inner).push((named, reason.clone()));
            Ok(Completion::ignored_with(reason))
        }
    })
}

/// Prints the skipped tests, the reasons and their number.
pub fn print_skips() {
    let skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, reason) in skipped.iter() {
        println!("skipped: {name}: {reason}");
    }
    println!("skipped in all: {}", skipped.len());
}
