// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Exits 0 if KVM on this machine runs a 64-bit paged guest; else 3, with the reason on standard error.

fn main() -> std::process::ExitCode {
    match vmm::probe::probe(types::Platform::Sev) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            std::process::ExitCode::from(3)
        }
    }
}
