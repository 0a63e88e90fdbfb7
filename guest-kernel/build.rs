// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the agent, a freestanding program with a profile of its own, so that the library can carry it.

use std::path::PathBuf;
use std::process::{Command, exit};
use std::{env, fs};

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    for input in [
        "build.rs",
        "agent/build.rs",
        "agent/Cargo.toml",
        "agent/Cargo.lock",
        "agent/src",
        "protocol/Cargo.toml",
        "protocol/src",
    ] {
        println!("cargo::rerun-if-changed={input}");
    }

    let agent_dir = manifest_dir.join("agent");
    let target_dir = out_dir.join("agent-target");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(&agent_dir)
        .args(["build", "--release", "--locked", "--offline", "--target", TARGET, "--target-dir"])
        .arg(&target_dir);
    // Settings of the outer cargo (flags, runner, target, wrappers such as clippy's) are not meant for the agent.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let keep = matches!(&*text, "CARGO_HOME" | "CARGO_MAKEFLAGS");
        let outer = ["CARGO_", "RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC_", "CLIPPY_", "DEP_"];
        if outer.iter().any(|prefix| text.starts_with(prefix)) && !keep {
            cargo.env_remove(&name);
        }
    }
    cargo.env_remove("TARGET").env("CARGO_ENCODED_RUSTFLAGS", "-Crelocation-model=static");

    match cargo.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            println!("cargo::error=the agent does not build ({})", output.status);
            for line in text.lines() {
                println!("cargo::error={line}");
            }
            exit(1)
        }
        Err(error) => {
            println!("cargo::error=cargo does not start for the agent: {error}");
            exit(1)
        }
    }
    let built = target_dir.join(TARGET).join("release/agent");
    if let Err(error) = fs::copy(&built, out_dir.join("agent")) {
        println!("cargo::error=no agent at {}: {error}", built.display());
        exit(1)
    }
}
