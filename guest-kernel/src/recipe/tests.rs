// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use std::fs;

fn own(policy: Option<&str>, fragment: &str) -> Result<Recipe, Error> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my.config");
    fs::write(&file, fragment).unwrap();
    Recipe::new(&"mine".parse().unwrap(), &"6.12".parse().unwrap(), policy, &[], &[file])
}

fn with_variants(name: &str) -> Result<Recipe, Error> {
    let name: Name = name.parse().unwrap();
    Recipe::predefined(name.recipe()).unwrap().with_variants(name.variants())
}

#[test]
fn every_policy_is_a_kernel() {
    for policy in &POLICIES {
        let recipe = Recipe::predefined(policy.name).unwrap();
        assert_eq!(recipe.policy(), Some(policy.name));
        assert_eq!(recipe.config().unwrap().is_yes("DEVMEM"), policy.name != "no-devmem");
        assert!(recipe.patches().unwrap().iter().all(|patch| !patch.text.is_empty()));
    }
}

#[test]
fn variants_change_their_options_only() {
    let config = |name: &str| with_variants(name).unwrap().config().unwrap();
    let differs = |name: &str| {
        let (plain, configured) = (config("range-deny"), config(name));
        plain.dropped_from(&configured).into_iter().map(|option| option.name).collect::<Vec<_>>()
    };
    assert_eq!(differs("range-deny+strict-off"), ["IO_STRICT_DEVMEM", "STRICT_DEVMEM"]);
    assert_eq!(differs("range-deny+io-strict-off"), ["IO_STRICT_DEVMEM"]);
    assert_eq!(differs("range-deny+port-off"), ["DEVPORT"]);
    let both = with_variants("range-deny+port-off+strict-off").unwrap();
    assert_eq!(both.name(), "range-deny+strict-off+port-off");
    assert_eq!(both.policy(), Some("range-deny"));
    let message = |name| with_variants(name).unwrap_err().to_string();
    assert!(message("upstream+strict-off+io-strict-off").contains("`io-strict-off` changes no option"));
    assert!(message("no-devmem+strict-off").contains("leave it out"));
}

#[test]
fn no_two_recipes_are_the_same_kernel() {
    let mut keys = std::collections::BTreeMap::new();
    let variants =
        ["", "+strict-off", "+io-strict-off", "+port-off", "+strict-off+port-off", "+io-strict-off+port-off"];
    let names =
        POLICIES.iter().flat_map(|policy| variants.map(|variant| format!("{}{variant}", policy.name)));
    let recipes = names.filter_map(|name| with_variants(&name).ok());
    let mutants = [spec::MUTANTS, spec::KUNIT].into_iter().filter_map(Recipe::predefined);
    let mut count = 0;
    for recipe in recipes.chain(mutants) {
        // But for the name, which is part of a kernel's release.
        let texts = [
            recipe.patches().unwrap(),
            vec![Piece { name: String::new(), text: recipe.config().unwrap().to_string() }],
        ];
        let texts: Vec<String> = texts.concat().into_iter().map(|piece| piece.text).collect();
        count += 1;
        if let Some(other) = keys.insert(texts, recipe.name().to_owned()) {
            panic!("{} and {other} are the same", recipe.name());
        }
        assert!(recipe.name().len() <= Name::MAX, "{}", recipe.name());
    }
    assert_eq!(count, 7 * 6 + 2 + 2);
}

#[test]
fn the_users_fragment_has_the_last_word() {
    let recipe = own(Some("open-eperm"), "# CONFIG_DEVPORT is not set\n").unwrap();
    assert!(!recipe.config().unwrap().is_yes("DEVPORT"));
    assert_eq!(recipe.patches().unwrap().len(), 1);
}

#[test]
fn the_key_covers_texts_and_name() {
    let key = |recipe: &Recipe| recipe.key().unwrap().as_str().to_owned();
    let one = own(None, "CONFIG_A=y").unwrap();
    assert_eq!(key(&one), key(&own(None, "CONFIG_A=y").unwrap()));
    assert_ne!(key(&one), key(&own(None, "CONFIG_B=y").unwrap()));
    assert_ne!(key(&one), key(&own(Some("open-eperm"), "CONFIG_A=y").unwrap()));
    let licensed = own(None, "# SPDX-License-Identifier: Apache-2.0 OR MIT\nCONFIG_A=y").unwrap();
    assert_eq!(key(&one), key(&licensed), "a licence line builds no new kernel");
}

#[test]
fn mistakes_are_named() {
    let message = |result: Result<Recipe, Error>| result.unwrap_err().to_string();
    assert!(message(own(Some("nope"), "")).contains("known policies: upstream, open-eperm"));
    assert!(message(own(None, "CONFIG_X")).contains("my.config is wrong: line 1"));
    let (name, base) = ("mine".parse().unwrap(), "5.4".parse().unwrap());
    assert!(message(Recipe::new(&name, &base, None, &[], &[])).contains("known bases: 6.12"));
    let name = "open-eperm".parse().unwrap();
    let base = "6.12".parse().unwrap();
    assert!(message(Recipe::new(&name, &base, None, &[], &[])).contains("another name"));
    let name = "mine+port-off".parse().unwrap();
    assert!(message(Recipe::new(&name, &base, None, &[], &[])).contains("name yours without the `+`"));
    let missing = [PathBuf::from("/no/such.patch")];
    let name = "mine".parse().unwrap();
    assert!(message(Recipe::new(&name, &base, None, &missing, &[])).contains("/no/such.patch"));
}
