// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A layout as facts, each a field that differs from the default: a failure is shrunk by dropping them.

use toml::{Table, Value};
use types::GuestLayout;

/// The layouts that have one fact less than this one, each with the fact it lacks; those that contradict themselves are still in.
pub fn simpler(layout: &GuestLayout) -> Vec<(String, GuestLayout)> {
    let now = table(layout);
    facts(&now, &table(&GuestLayout::default()))
        .into_iter()
        .filter_map(|path| {
            let mut changed = now.clone();
            let value = reset(&mut changed, &path)?;
            Some((format!("{} = {value}", path.join(".")), changed.try_into().ok()?))
        })
        .collect()
}

/// The layout has one fact at most.
pub fn single(layout: &GuestLayout) -> bool {
    simpler(layout).len() <= 1
}

fn table(layout: &GuestLayout) -> Table {
    Table::try_from(layout).unwrap_or_default()
}

/// The paths of the values that differ from the default or are not in it.
fn facts(now: &Table, usual: &Table) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (key, value) in now {
        match (value, usual.get(key)) {
            (Value::Table(now), Some(Value::Table(usual))) => {
                let inner = facts(now, usual).into_iter();
                paths.extend(inner.map(|path| [vec![key.clone()], path].concat()));
            }
            (value, then) if then != Some(value) => paths.push(vec![key.clone()]),
            _ => {}
        }
    }
    paths
}

/// Removes a value, so that it gets its default, and gives it.
fn reset(table: &mut Table, path: &[String]) -> Option<Value> {
    match path {
        [] => None,
        [key] => table.remove(key),
        [key, rest @ ..] => reset(table.get_mut(key)?.as_table_mut()?, rest),
    }
}
