// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of layout files, their facts, and random layouts.

use proptest::prelude::*;

use super::*;
use crate::random::Random;

#[test]
fn every_layout_that_comes_with_copra_can_be_had_where_it_says() {
    for layout in all().unwrap() {
        for platform in Platform::ALL.iter().filter(|platform| layout.is_for(**platform)) {
            layout.check(*platform, 512).unwrap_or_else(|error| panic!("{error}"));
        }
        assert!(layout.name == "usual" || !layout.why.is_empty(), "{}: nothing is cited", layout.name);
    }
}

#[test]
fn errors_name_the_file_the_line_and_the_choices() {
    let error = |text: &str| parse("mine.toml", text).unwrap_err().to_string();
    let mistyped = error("title = \"x\"\n[layout]\nrom = \"absnt\"\n");
    assert!(
        mistyped.starts_with("mine.toml: line 3: ") && mistyped.contains("did you mean `absent`?"),
        "{mistyped}"
    );
    let unknown = error("title = \"x\"\n[layout]\nspeed = 3\n");
    assert!(unknown.contains("line 3") && unknown.contains("high-mib"), "{unknown}");
    let missing = find("usul").unwrap_err().to_string();
    assert!(missing.contains("unknown layout `usul` (did you mean `usual`?)"), "{missing}");
    assert!(
        find("./nowhere.toml").unwrap_err().to_string().contains("cannot read ./nowhere.toml as a layout")
    );
    let vbs = parse("x", "title = \"x\"\nplatforms = [\"snp\"]\n").unwrap().check(Platform::Vbs, 512);
    assert_eq!(
        vbs.unwrap_err().to_string(),
        "layout x is for snp, not for vbs: choose another platform or layout"
    );
    let small = parse("x", "title = \"x\"\nmemory-mib = 40\n").unwrap().check(Platform::Sev, 512);
    assert!(
        small.unwrap_err().to_string().contains("40 MiB of guest RAM is too small: give at least 96 MiB")
    );
}

#[test]
fn the_usual_layout_has_no_fact_and_each_change_is_one() {
    assert!(simpler(&GuestLayout::default()).is_empty());
    let layout = parse(
        "x",
        "title = \"x\"\n[layout]\nrom = \"absent\"\nhigh-mib = 2\n[layout.unaccepted]\npercent = 3\n",
    );
    let layout = layout.unwrap().layout;
    let facts: Vec<String> = simpler(&layout).into_iter().map(|(fact, _)| fact).collect();
    assert_eq!(facts, ["high-mib = 2", "rom = \"absent\"", "unaccepted.percent = 3"]);
}

proptest! {
    #[test]
    fn a_random_layout_is_valid_and_its_file_gives_it_again(seed: u64, platform in prop::sample::select(Platform::ALL)) {
        let drawn = draw(&mut Random::new(seed), platform);
        drawn.check(platform, 0).unwrap();
        let read = parse(&drawn.name, &drawn.to_string()).unwrap();
        prop_assert_eq!(read, drawn);
    }

    #[test]
    fn facts_dropped_one_after_the_other_end_at_the_usual_layout(seed: u64) {
        let mut layout = draw(&mut Random::new(seed), Platform::Tdx).layout;
        let facts = simpler(&layout).len();
        for dropped in 0..facts {
            prop_assert_eq!(simpler(&layout).len(), facts - dropped);
            layout = simpler(&layout)[0].1;
        }
        prop_assert_eq!(layout, GuestLayout::default());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text: String) {
        let _ = parse("x", &text);
    }
}
