// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tells the linker that the agent brings everything itself and is loaded where it was linked.

fn main() {
    for argument in
        ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,norelro"]
    {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
