// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::config::Config;
use crate::recipe::Recipe;
use crate::spec::{KernelSpec, Name};
use std::collections::BTreeSet;

#[test]
fn the_table_can_be_read() {
    let table: Table = toml::from_str(TABLE).unwrap();
    assert!(table.mutant.len() >= 100);
    let names: BTreeSet<&str> = names().collect();
    assert_eq!(names.len(), table.mutant.len() + POLICIES.len(), "a name twice");
    assert!(!names.contains(NONE));
    for mutant in &table.mutant {
        assert!(mutant.name.parse::<Name>().is_ok(), "{}", mutant.name);
        assert!(choice(&mutant.name).is_some(), "{} is of no policy of this kernel", mutant.name);
        // Either something notices it, or there is a reason why nothing can.
        assert_ne!(mutant.killer.is_some(), mutant.equivalent.is_some(), "{}", mutant.name);
    }
}

#[test]
fn source_and_table_name_the_same_mistakes() {
    let mut known: BTreeSet<String> = MUTANTS.iter().map(|mutant| constant(&mutant.name)).collect();
    let mut used = BTreeSet::new();
    for patch in patches().iter().skip(1) {
        for (_, rest) in
            patch.text.match_indices("copra_mutant(").map(|(at, mark)| patch.text.split_at(at + mark.len()))
        {
            let name = rest.split(')').next().unwrap();
            if name != "name" {
                used.insert(format!("COPRA_M_{name}"));
            }
        }
    }
    let forgotten: Vec<_> = used.difference(&known).collect();
    assert!(forgotten.is_empty(), "not in mutants.toml: {forgotten:?}");
    known.retain(|name| !used.contains(name));
    assert!(known.is_empty(), "in no patch: {known:?}");
}

#[test]
fn policies_are_those_that_kernels_are_built_for() {
    let (first, source) = (&patches()[1].text, &patches()[1].text);
    assert!(first.contains("copra_policy_param"));
    for (policy, word) in POLICIES {
        let known = crate::recipe::POLICIES.iter().any(|known| known.name == policy);
        assert!(known, "{policy} is no policy");
        if let Some(name) = word.strip_prefix("copra_policy=") {
            assert_eq!(name, policy);
            assert!(source.contains(&format!("\"{policy}\"")), "the kernel has no {policy}");
        }
    }
    // What is no code but a kernel option cannot be chosen while the kernel runs.
    let missing: Vec<_> = crate::recipe::POLICIES
        .iter()
        .map(|known| known.name)
        .filter(|name| choice(name).is_none())
        .collect();
    assert_eq!(missing, ["no-devmem"]);
}

#[test]
fn a_mistake_is_chosen_by_its_number() {
    assert_eq!(mutant_number(NONE), Some(0));
    assert_eq!(mutant_number("nope"), None);
    let last = MUTANTS.last().unwrap();
    let number = mutant_number(&last.name).unwrap();
    assert_eq!(usize::from(number), MUTANTS.len());
    let choice = choice(&last.name).unwrap();
    assert_eq!(choice.policy, last.policy);
    assert_eq!(choice.words[1], format!("copra_mutant={number}"));
    // As in the header: the constant comes after as many others.
    let before = header().lines().position(|line| line == format!("+\t{},", constant(&last.name))).unwrap();
    let none = header().lines().position(|line| line == "+\tCOPRA_M_NONE,").unwrap();
    assert_eq!(before - none, MUTANTS.len());
}

#[test]
fn the_kernel_is_a_recipe() {
    let recipe = Recipe::predefined(crate::spec::MUTANTS).unwrap();
    assert_eq!(recipe.spec().unwrap(), KernelSpec::Build(crate::spec::MUTANTS.parse().unwrap()));
    assert_eq!(recipe.policy(), None);
    let upstream = Recipe::predefined("upstream").unwrap().with_variants(["virtio"].into_iter()).unwrap();
    let mut config = upstream.config().unwrap();
    config.merge(&Config::parse(include_str!("../../config/copra-kunit.config")).unwrap());
    assert_eq!(recipe.config().unwrap(), config);
    assert_eq!(recipe.patches().unwrap(), patches());
}
