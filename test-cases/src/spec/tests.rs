// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page in its forms, and docs/devmem.md.

use std::fs;

use engine::spec::{Kernel, stock};
use types::{Platform, Policy};

use super::table::WIDTH;
use super::text::Form;
use super::{Described, json, text};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/devmem.md");

fn described(release: &str, platforms: &[Platform], policies: &[Policy]) -> Described {
    let release = release.parse().unwrap();
    let options = stock::options(release).unwrap();
    let name = format!("Debian's {release} for clouds");
    let kernel = Kernel { name, release, options, command_line: Vec::new() };
    Described::of(kernel, platforms, policies, 512).unwrap()
}

/// docs/devmem.md is what `copra spec --markdown --also 6.1 --also 7.3` writes; `INSTA_UPDATE=always` writes it anew.
#[test]
fn the_page_in_the_documentation_is_what_the_command_writes() {
    let all = |release| described(release, Platform::ALL, Policy::ALL);
    let written = text::page(&all("6.12"), &[all("6.1"), all("7.3")], Form::Markdown);
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        fs::write(PAGE, &written).unwrap();
    }
    let known = fs::read_to_string(PAGE).unwrap_or_default();
    let line = known.lines().zip(written.lines()).position(|(known, written)| known != written);
    assert!(
        known == written,
        "docs/devmem.md differs from what `copra spec` writes, first in line {:?}; INSTA_UPDATE=always writes it anew",
        line.map(|line| line + 1)
    );
}

#[test]
fn every_line_fits_in_120_columns() {
    let all = |release| described(release, Platform::ALL, Policy::ALL);
    let pages = [all("6.1"), all("7.3")];
    let text = text::page(&all("6.12"), &pages, Form::Plain);
    let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > WIDTH).collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn one_policy_on_one_platform() {
    let described = described("6.12", &[Platform::Tdx], &[Policy::MmapZeros]);
    insta::assert_snapshot!(text::page(&described, &[], Form::Plain));
}

#[test]
fn json_has_every_answer_with_its_reasons() {
    let described = described("6.12", &[Platform::Tdx], &[Policy::Upstream, Policy::MmapZeros]);
    let value = json::value(&[described]);
    assert_eq!(value["schema"], json::SCHEMA);
    let policies = &value["kernels"][0]["platforms"][0]["policies"];
    let places = policies[1]["places"].as_array().unwrap();
    let of = |place: &&serde_json::Value| {
        place["regions"].as_array().unwrap().iter().any(|region| region == "low-ram")
    };
    let low = places.iter().find(of).unwrap();
    assert_eq!(low["answers"]["load"]["answer"], "zeros");
    let reason = low["answers"]["mmap"]["reasons"].as_array().unwrap().last().unwrap();
    let function = &value["reasons"][reason.as_str().unwrap()]["function"];
    assert_eq!(function, "drivers/char/mem.c:mmap_mem (patched)");
}
