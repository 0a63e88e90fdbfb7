// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What has to be installed to build a kernel.

use crate::command::{self, Tool, package_of};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const PROGRAMS: [&str; 10] = ["make", "gcc", "ld", "flex", "bison", "bc", "xz", "patch", "tar", "dpkg-deb"];

/// Headers that the kernel's own build tools include.
const HEADERS: [(&str, &str); 2] = [("stdio.h", "libc6-dev"), ("gelf.h", "libelf-dev")];

/// Fails with the complete list of what is missing.
pub(crate) fn require() -> Result<(), Error> {
    let mut packages: Vec<&str> =
        PROGRAMS.iter().filter(|name| !is_installed(name)).map(|name| package_of(name)).collect();
    if is_installed("gcc") {
        packages.extend(HEADERS.iter().filter(|(header, _)| !has_header(header)).map(|(_, package)| package));
    } else {
        packages.extend(HEADERS.iter().map(|(_, package)| package));
    }
    packages.dedup();
    if packages.is_empty() { Ok(()) } else { Err(Error { packages: packages.join(" ") }) }
}

/// Which compiler and linker will do the work; part of what a built kernel depends on.
pub(crate) fn toolchain() -> Result<String, command::Error> {
    let first = |program: &str| {
        let text = Tool::new(program, format!("read the version of {program}")).arg("--version").output()?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    };
    Ok(format!("{}, {}", first("gcc")?, first("ld")?))
}

/// Whether a program is in the search path.
pub(crate) fn is_installed(program: &str) -> bool {
    let executable = |file: PathBuf| {
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| executable(dir.join(program)))
}

fn has_header(header: &str) -> bool {
    let check = Tool::new("gcc", "look for headers").args([
        "-E",
        "-x",
        "c",
        "-include",
        header,
        "/dev/null",
        "-o",
        "/dev/null",
    ]);
    check.output().is_ok()
}

/// Something is missing.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot build a kernel: some tools are missing here; install them with: apt-get install --no-remove {packages} (scripts/setup --kernels does that)"
)]
pub struct Error {
    /// The Debian packages.
    pub packages: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program"));
        assert!(!is_installed("."));
    }

    /// What the message names is what `scripts/setup --kernels` installs.
    #[test]
    fn the_setup_script_installs_them() {
        let script =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/setup")).unwrap();
        for program in PROGRAMS {
            let pair = format!("\"{program} {}\"", package_of(program));
            assert!(script.contains(&pair), "scripts/setup has no {pair}");
        }
        for (_, package) in HEADERS {
            assert!(script.contains(package), "scripts/setup has no {package}");
        }
    }

    #[test]
    fn finds_headers() {
        if is_installed("gcc") {
            assert!(!has_header("no/such/header.h"));
        } else {
            println!("skipped: gcc is not installed");
        }
    }
}
