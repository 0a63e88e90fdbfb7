// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `copra run` costs by the number of cases.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::Outcome;
use crate::figures::print_ratio;

/// Cases of a run.
const CASES: [u32; 3] = [10, 100, 1000];

/// Runs so many small cases, with `command`, which takes a folder of them. `boot`: seconds that a boot of the platform takes.
pub fn cases(folder: &Path, platform: &str, boot: f64, command: impl Fn() -> Command) -> Outcome<()> {
    let mut times = Vec::new();
    for count in CASES {
        let cases = folder.join(format!("{count}-cases"));
        write(&cases, count)?;
        let started = Instant::now();
        let output = command().arg(&cases).output()?;
        let seconds = started.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(
                format!("{:?} on {count} cases: {}: {text}\n{errors}", command(), output.status).into()
            );
        }
        println!(
            "copra run -p {platform} of {count} cases, no boot: {seconds:.3} s from start to end, {:.2} ms a case",
            seconds * 1e3 / f64::from(count)
        );
        times.push(seconds);
    }
    let [ten, hundred, thousand] = times.as_slice() else { return Err("three runs are measured".into()) };
    // Both without what a run costs whatever the number of its cases.
    let (early, late) = ((hundred - ten) / 90.0, (thousand - hundred) / 900.0);
    println!("one more case: {:.3} ms from 10 to 100, {:.3} ms from 100 to 1000", early * 1e3, late * 1e3);
    print_ratio(&format!("one-more-case/{platform}"), late / boot);
    Ok(())
}

/// Writes so many small cases, all alike.
fn write(folder: &Path, count: u32) -> Outcome<()> {
    const CASE: &str = r#"# SPDX-License-Identifier: Apache-2.0 OR MIT
title = "read(2) of System RAM below 1 MiB"
why = "A small case."

[[step]]
id = "open"
do = "open"
path = "/dev/mem"
flags = "O_RDONLY"
as = "mem"
expect = "ok"

[[step]]
id = "read"
do = "pread"
fd = "mem"
at = "low-ram"
len = 64
expect = { is = "zeros", events = [] }
"#;
    fs::create_dir_all(folder)?;
    for number in 0..count {
        fs::write(folder.join(format!("case-{number:05}.toml")), CASE)?;
    }
    Ok(())
}
