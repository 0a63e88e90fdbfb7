// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes the seed corpus of every target to `corpus/TARGET/` next to this package's manifest.

use std::path::Path;

fn main() -> std::io::Result<()> {
    for target in copra_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in (target.seeds)() {
            std::fs::write(folder.join(name), bytes)?;
        }
        println!("{}", folder.display());
    }
    Ok(())
}
