// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mutants: intentional mistakes that tests of /dev/mem must notice.
//!
//! One kernel, `build:mutants`, has the code of every policy that is a patch, and of every mistake. Its command line chooses
//! the policy (`copra_policy=NAME`), and that or `/sys/kernel/copra_mutant` one mistake by its number. `mutant:NAME` names
//! this kernel with the mistake NAME, under the policy it belongs to; `mutant:POLICY` the same without a mistake.

use crate::piece::{Piece, Texts, texts};
use serde::Deserialize;
use std::fmt::Write as _;
use std::sync::LazyLock;

/// A mistake.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// Its name.
    pub name: String,
    /// The policy that the kernel claims to follow.
    pub policy: String,
    /// The platform on which the mistake shows.
    #[serde(default = "sev")]
    pub platform: String,
    /// What is wrong, in one line.
    pub wrong: String,
    /// The commit of the fix that is taken back.
    pub commit: Option<String>,
    /// The layout in which the mistake shows, if not in the usual one; of killer `boot-audit`.
    pub layout: Option<String>,
    /// The conversions that must be refused for the mistake to show, as rules of `--fail`; of killer `suite`.
    #[serde(default)]
    pub fail: Vec<String>,
    /// The case and the step that must fail, `CASE#STEP`; or `boot`, `boot-audit`, `explore`, `audit`, `exec`, `suite`.
    pub killer: Option<String>,
    /// What that step sees, as a report says it; of `boot` a function or a manner of death, of `audit` a finding (`INVARIANT: NAME`),
    /// of `explore` a part of the disagreement, of `exec` the first access, of `suite` a test (`SUITE/TEST`).
    pub got: Option<String>,
    /// Why nothing can notice the mistake.
    pub equivalent: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    mutant: Vec<Mutant>,
}

fn sev() -> String {
    "sev".to_owned()
}

/// All of them; the first one has the number 1.
static MUTANTS: LazyLock<Vec<Mutant>> = LazyLock::new(|| {
    // A test reads it, so that it can be read.
    toml::from_str::<Table>(TABLE).map(|table| table.mutant).unwrap_or_default()
});

const TABLE: &str = include_str!("../mutants/mutants.toml");

/// Every mistake, in the order of their numbers.
pub fn mutants() -> &'static [Mutant] {
    &MUTANTS
}

/// The number of a mistake in the kernel; 0 is `none`.
pub fn mutant_number(name: &str) -> Option<u16> {
    if name == NONE {
        return Some(0);
    }
    let place = MUTANTS.iter().position(|mutant| mutant.name == name)?;
    u16::try_from(place + 1).ok()
}

/// The name for no mistake.
pub const NONE: &str = "none";

/// Where root in the guest writes the number.
pub const SWITCH: &str = "/sys/kernel/copra_mutant";

/// In one line.
pub(crate) const SUMMARY: &str =
    "the policies that are patches, to choose from, and mistakes of theirs; as mutant:NAME";

/// The policies that the kernel has, each with its command line.
const POLICIES: [(&str, &str); 7] = [
    ("upstream", "copra_policy=upstream"),
    ("open-eperm", "copra_policy=open-eperm"),
    ("range-deny", "copra_policy=range-deny"),
    ("lockdown-cc", "copra_policy=lockdown-cc"),
    ("lockdown-all", "lockdown=integrity"),
    ("no-low-1m", "copra_policy=no-low-1m"),
    ("mmap-zeros", "copra_policy=mmap-zeros"),
];

/// How `build:mutants` must be booted to be one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) policy: &'static str,
    pub(crate) words: Vec<String>,
    pub(crate) about: String,
}

/// The choice that `mutant:NAME` names.
pub(crate) fn choice(name: &str) -> Option<Choice> {
    let of = |wanted: &str| POLICIES.into_iter().find(|(policy, _)| *policy == wanted);
    if let Some((policy, word)) = of(name) {
        return Some(Choice { policy, words: vec![word.to_owned()], about: format!("{policy}, no mistake") });
    }
    let mutant = MUTANTS.iter().find(|mutant| mutant.name == name)?;
    let (policy, word) = of(&mutant.policy)?;
    let words = vec![word.to_owned(), format!("copra_mutant={}", mutant_number(name)?)];
    Some(Choice { policy, words, about: format!("{policy}: {}", mutant.wrong) })
}

/// Every name that [`choice`] takes.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    POLICIES.into_iter().map(|(policy, _)| policy).chain(MUTANTS.iter().map(|mutant| mutant.name.as_str()))
}

/// The configuration beyond the base.
pub(crate) const FRAGMENTS: Texts = texts!("config": "virtio.config", "copra-kunit.config");

/// The KUnit suites of the DMA API and of unaccepted memory.
const SUITES: Texts =
    texts!("kunit": "0002-dma-kunit-tests.patch", "0003-unaccepted-memory-kunit-tests.patch");

/// Names and texts of the patches.
macro_rules! patches {
    ($($path:literal),*) => { [$((concat!("mutants/", $path), include_str!(concat!("../mutants/", $path)))),*] };
}

/// The patches of the kernel.
pub(crate) fn patches() -> Vec<Piece> {
    let patches = patches!(
        "0001-choose-a-policy-and-a-mistake.patch",
        "0002-dev-mem.patch",
        "0003-lockdown.patch",
        "0004-encryption.patch",
        "0005-dma.patch",
        "0006-dma-api.patch",
        "0007-history.patch"
    );
    let written = patches.map(|(name, text)| Piece { name: name.to_owned(), text: text.to_owned() });
    let numbers = Piece { name: "mutants/copra_mutants.h.patch".to_owned(), text: header() };
    [numbers].into_iter().chain(written).chain(SUITES.iter().map(Piece::of)).collect()
}

/// `range-short` as the kernel's source has it.
fn constant(name: &str) -> String {
    format!("COPRA_M_{}", name.to_uppercase().replace('-', "_"))
}

/// The patch that adds the numbers of the mistakes.
fn header() -> String {
    let mut lines = vec![
        "/* SPDX-License-Identifier: GPL-2.0 */".to_owned(),
        "/* Written from mutants.toml. */".to_owned(),
        "enum copra_mutant {".to_owned(),
        "\tCOPRA_M_NONE,".to_owned(),
    ];
    lines.extend(MUTANTS.iter().map(|mutant| format!("\t{},", constant(&mutant.name))));
    lines.extend(["\tCOPRA_M_COUNT".to_owned(), "};".to_owned()]);
    let mut patch = format!(
        "Subject: [PATCH] copra: numbers of mistakes\n---\n--- /dev/null\n+++ b/include/linux/copra_mutants.h\n@@ -0,0 +1,{} @@\n",
        lines.len()
    );
    for line in lines {
        let _ = writeln!(patch, "+{line}");
    }
    patch
}

#[cfg(test)]
mod tests;
