// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which kernel as which guest: options that commands have in common.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use types::{Platform, RomArea};
use vmm::platform::failure::ConversionFailure;

/// A parser for an enum's names, with their descriptions in the help.
macro_rules! one_of {
    ($type:ty) => {
        PossibleValuesParser::new(
            <$type>::ALL.iter().map(|value| PossibleValue::new(value.name()).help(value.about())),
        )
        .try_map(|name| name.parse::<$type>())
    };
}

pub(super) use one_of;

/// The default kernel.
pub const DEFAULT_KERNEL: &str = "debian:6.12";
/// Default guest memory in MiB.
pub const DEFAULT_MEMORY: u64 = 512;
/// Default number of seconds after which a guest without output counts as hung.
pub const DEFAULT_TIMEOUT: u64 = 60;

/// Guest memory in MiB, up to 1 TiB.
pub(super) fn memory() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=1_048_576)
}

/// A guest.
#[derive(Debug, Clone, Args)]
pub struct CommonOptions {
    /// The kernel: `debian:SERIES`, `build:NAME`, `path:FILE` or `tree:DIR`
    #[arg(short, long, default_value = DEFAULT_KERNEL, value_name = "KERNEL")]
    pub kernel: String,

    /// The platform that is simulated for the guest
    #[arg(short, long, default_value = "sev", value_name = "PLATFORM", value_parser = one_of!(Platform))]
    pub platform: Platform,

    /// The kernel's .config, where it cannot be found next to the image
    #[arg(long, value_name = "FILE")]
    pub kernel_config: Option<PathBuf>,

    /// The ROM area at launch [default: unaccepted on snp, validated elsewhere]
    #[arg(long, value_name = "STATE", value_parser = one_of!(RomArea))]
    pub rom: Option<RomArea>,

    /// What firmware gives the guest: the name of a layout (`copra list --layouts`) or a file
    #[arg(long, value_name = "NAME|FILE")]
    pub layout: Option<String>,

    /// Guest memory in MiB
    #[arg(long, default_value_t = DEFAULT_MEMORY, value_name = "MIB", value_parser = memory())]
    pub memory: u64,

    /// Seconds after which a guest without output counts as hung
    #[arg(long, default_value_t = DEFAULT_TIMEOUT, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,

    /// A conversion of memory that fails, `CALL[:KEY=VALUE,...]`, as in map-gpa:nth=3,error=retry (docs/conversions.md); may be
    /// given several times
    #[arg(long, value_name = "RULE")]
    pub fail: Vec<ConversionFailure>,

    /// Add to the kernel's command line; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub cmdline_append: Vec<String>,
}

/// How many such guests, and where they come from; neither changes a result.
#[derive(Debug, Clone, Default, Args)]
pub struct ManyOptions {
    /// Guests that run cases at the same time [default: one per processor, as far as memory allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub guests: Option<u16>,

    /// Boot the guests, even if an earlier run has kept them as they were when they came up
    #[arg(long)]
    pub boot: bool,
}

impl CommonOptions {
    /// The options that make another guest of a kernel than the default one, with their values, for a command that repeats
    /// this one. The kernel is left to the caller: a command that is kept in a file has to name it in any case.
    pub fn changed(&self) -> Vec<(&'static str, String)> {
        // Every field is named, so that none is left out by a new option.
        let Self { kernel: _, platform, kernel_config, rom, layout, memory, timeout, fail, cmdline_append } =
            self;
        // Always named: a reader must see which guest it is.
        let mut changed = vec![("--platform", platform.to_string())];
        changed.extend(kernel_config.iter().map(|path| ("--kernel-config", path.display().to_string())));
        changed.extend(rom.iter().map(|state| ("--rom", state.to_string())));
        changed.extend(layout.iter().map(|layout| ("--layout", layout.clone())));
        if *memory != DEFAULT_MEMORY {
            changed.push(("--memory", memory.to_string()));
        }
        if *timeout != DEFAULT_TIMEOUT {
            changed.push(("--timeout", timeout.to_string()));
        }
        changed.extend(fail.iter().map(|rule| ("--fail", rule.to_string())));
        changed.extend(cmdline_append.iter().map(|text| ("--cmdline-append", text.clone())));
        changed
    }

    /// `copra run` of the same kernel as the same guest, as words.
    pub fn run_words(&self) -> impl Iterator<Item = String> {
        let changed = self.changed().into_iter().flat_map(|(option, value)| [option.to_owned(), value]);
        ["copra", "run", "--kernel", &self.kernel].map(str::to_owned).into_iter().chain(changed)
    }
}
