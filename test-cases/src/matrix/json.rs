// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A matrix as JSON.

use engine::matrix::{Combination, Matrix, Sign, operations};
use serde_json::{Map, Value, json};

/// The form written here.
pub const SCHEMA: &str = "copra-matrix/1";

/// The matrix as a JSON value.
pub fn value(matrix: &Matrix) -> Value {
    let operations: Vec<Value> = operations::all()
        .iter()
        .map(|operation| {
            json!({
                "id": operation.id,
                "group": operation.group,
                "name": operation.name,
                "region": operation.region,
            })
        })
        .collect();
    let signs: Map<String, Value> =
        Sign::ALL.iter().map(|sign| (sign.name().to_owned(), sign.about().into())).collect();
    json!({
        "schema": SCHEMA,
        "copra": env!("CARGO_PKG_VERSION"),
        "signs": signs,
        "operations": operations,
        "kernels": matrix.kernels(),
        "combinations": matrix.combinations.iter().map(combination).collect::<Vec<_>>(),
    })
}

fn combination(combination: &Combination) -> Value {
    json!({
        "kernel": combination.kernel.spec,
        "platform": combination.platform,
        "failed": combination.failed,
        "deaths": combination.deaths,
        "cells": combination.cells,
        "facts": combination.facts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::matrix::fixture;

    #[test]
    fn every_cell_and_every_failure_is_in_it() {
        let matrix = fixture::matrix();
        let value = value(&matrix);
        let combinations = value["combinations"].as_array().unwrap();
        assert_eq!(combinations.len(), matrix.combinations.len());
        assert_eq!(combinations[0]["cells"]["low-ram/mmap"]["sign"], "plain");
        assert!(combinations.iter().any(|combination| combination["failed"].is_string()));
        assert_eq!(value["operations"].as_array().unwrap().len(), operations::all().len());
    }
}
