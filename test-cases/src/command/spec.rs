// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra spec`: the specification of /dev/mem, from the model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use engine::spec::{Kernel, stock};
use model::release::Release;
use types::{Platform, Policy};

use super::{Failed, kernels};
use crate::cli::{DEFAULT_MEMORY, SpecArgs};
use crate::exit::Exit;
use crate::spec::text::Form;
use crate::spec::{Described, json, text};

/// Prints the specification.
pub fn spec(args: &SpecArgs, quiet: bool) -> Result<Exit, Failed> {
    let (kernel, policy) = kernel(args, quiet)?;
    let platforms = if args.platforms.is_empty() { Platform::ALL.to_vec() } else { args.platforms.clone() };
    let policies = match (args.policies.as_slice(), policy) {
        ([], Some(policy)) => vec![policy],
        ([], None) => Policy::ALL.to_vec(),
        (named, _) => named.to_vec(),
    };
    let also = args.also.iter().map(|release| {
        let command_line = args.cmdline_append.clone();
        stock(release, command_line)
    });
    let mut described = Vec::new();
    for kernel in std::iter::once(Ok(kernel)).chain(also) {
        described.push(Described::of(kernel?, &platforms, &policies, DEFAULT_MEMORY).map_err(Failed::new)?);
    }
    if args.json {
        outln!("{:#}", json::value(&described));
        return Ok(Exit::Success);
    }
    let form = if args.markdown { Form::Markdown } else { Form::Plain };
    if let Some((first, others)) = described.split_first() {
        out!("{}", text::page(first, others, form));
    }
    Ok(Exit::Success)
}

/// The kernel that is described, and its policy if it has one of its own.
fn kernel(args: &SpecArgs, quiet: bool) -> Result<(Kernel, Option<Policy>), Failed> {
    let command_line = args.cmdline_append.clone();
    let release = args.release.as_deref().map(str::parse::<Release>).transpose().map_err(Failed::new)?;
    let Some(spec) = &args.kernel else {
        let Some(path) = &args.config else {
            let release = args.release.as_deref().unwrap_or(stock::DEFAULT_RELEASE);
            return Ok((stock(release, command_line)?, None));
        };
        let read = read(path)?;
        let release = release.or(read.release).ok_or_else(|| {
            Failed::new(format!(
                "{} does not name its kernel's release in its first lines; give it with --release",
                path.display()
            ))
        })?;
        let name = format!("a kernel with the configuration {}", path.display());
        return Ok((Kernel { name, release, options: read.options, command_line }, None));
    };
    let known = kernels::known(spec, quiet)?;
    let options = match (&args.config, known.config) {
        (Some(path), _) => read(path)?.options,
        (None, Some(options)) => options,
        (None, None) => {
            return Err(Failed::new(format!(
                "{spec} has no known configuration; give it with --config FILE"
            )));
        }
    };
    let release = match release {
        Some(release) => release,
        None => Release::of_version(&known.release).map_err(|_| {
            Failed::new(format!(
                "{spec} does not show its release (`{}`); give it with --release",
                known.release
            ))
        })?,
    };
    let command_line = known.command_line.into_iter().chain(command_line).collect();
    // A kernel as released is one to which every policy can be compared.
    let policy = known.policy.filter(|policy| *policy != Policy::Upstream);
    Ok((Kernel { name: format!("{spec} ({})", known.release), release, options, command_line }, policy))
}

/// Debian's kernel of a release.
fn stock(release: &str, command_line: Vec<String>) -> Result<Kernel, Failed> {
    let unknown = || {
        let known: Vec<&str> = stock::releases().collect();
        Failed::new(format!(
            "copra has no stock configuration of release `{release}`, only of {}; give one with --config FILE",
            known.join(", ")
        ))
    };
    let parsed: Release = release.parse().map_err(|_| unknown())?;
    let options = stock::options(parsed).ok_or_else(unknown)?;
    Ok(Kernel { name: format!("Debian's {release} for clouds"), release: parsed, options, command_line })
}

/// What a configuration file holds.
struct Read {
    release: Option<Release>,
    options: BTreeMap<String, String>,
}

fn read(path: &Path) -> Result<Read, Failed> {
    let config = guest_kernel::Config::read(path).map_err(|error| {
        let (path, error) = (path.display().to_string(), error.to_string());
        Failed::new(if error.contains(&path) { error } else { format!("{path}: {error}") })
    })?;
    let options = kernels::options(&config);
    if options.get("X86_64").is_none_or(|value| value != "y") {
        return Err(Failed::new(format!(
            "{} has not CONFIG_X86_64=y: it is no whole .config of an x86-64 kernel, of which the model is; give one",
            path.display()
        )));
    }
    if !options.contains_key("DEVMEM") {
        return Err(Failed::new(format!(
            "{} does not mention CONFIG_DEVMEM, which every .config of a kernel with drivers/char does; give a whole one",
            path.display()
        )));
    }
    // `# Linux/x86 6.12.117 Kernel Configuration`, by `scripts/kconfig/confdata.c`.
    let text = fs::read_to_string(path).unwrap_or_default();
    let release = text.lines().take(8).find_map(|line| line.strip_prefix("# Linux/x86 "));
    let release = release.and_then(|version| Release::of_version(version).ok());
    Ok(Read { release, options })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn failure(options: &[&str]) -> String {
        let Command::Spec(args) = Cli::parse_from([&["copra", "spec"], options].concat()).command else {
            panic!()
        };
        spec(&args, true).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_described_gives_one_message_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let fragment = file("fragment", "CONFIG_STRICT_DEVMEM=y\n");
        let no_devmem = file("no-devmem", "CONFIG_X86_64=y\n");
        let no_release = file("no-release", "CONFIG_X86_64=y\nCONFIG_DEVMEM=y\n");
        let broken = file("broken", "CONFIG_X86_64\n");
        let missing = folder.path().join("missing").display().to_string();
        for (options, parts) in [
            (&["--release", "6.13"][..], &["`6.13`", "6.1, 6.12, 7.3", "--config"][..]),
            (&["--release", "six"], &["`six`", "two numbers"]),
            (&["--also", "5.10"], &["`5.10`"]),
            (&["--config", &fragment], &["CONFIG_X86_64=y", "whole .config"]),
            (&["--config", &no_devmem], &["CONFIG_DEVMEM", "whole"]),
            (&["--config", &no_release], &["release", "--release"]),
            (&["--config", &broken], &["line 1", "CONFIG_X86_64"]),
            (&["--config", &missing], &["missing"]),
            (&["-k", "debain:6.12"], &["debain"]),
            (&["--release", "6.1", "-p", "tdx"], &["INTEL_TDX_GUEST"]),
        ] {
            let message = failure(options);
            assert!(parts.iter().all(|part| message.contains(part)), "{options:?}: {message}");
            assert_eq!(message.lines().count(), 1, "{options:?}: {message}");
        }
    }

    #[test]
    fn a_configuration_names_its_release() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        fs::write(
            &path,
            "#\n# Linux/x86 6.9.3 Kernel Configuration\n#\nCONFIG_X86_64=y\n# CONFIG_DEVMEM is not set\n",
        )
        .unwrap();
        let read = read(&path).unwrap();
        assert_eq!(read.release.unwrap().to_string(), "6.9");
    }
}
