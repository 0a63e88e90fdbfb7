// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Embeds the scripts that start a KVM host, so that an installed `copra` has them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../scripts");
    let mut list = String::from("&[\n");
    println!("cargo::rerun-if-changed={}", root.join("kvm-host").display());
    println!("cargo::rerun-if-changed={}", root.join("kvm-host.d").display());
    let mut files = vec![root.join("kvm-host")];
    for entry in fs::read_dir(root.join("kvm-host.d"))? {
        files.push(entry?.path());
    }
    files.sort();
    for file in files.iter().filter(|file| file.is_file()) {
        let name = file.strip_prefix(&root).unwrap_or(file).display().to_string();
        let file = file.display().to_string();
        let _ = writeln!(list, "    ({name:?}, include_bytes!({file:?}) as &[u8]),");
    }
    list.push_str("]\n");
    fs::write(out.join("scripts.rs"), list)
}
