// SPDX-License-Identifier: Apache-2.0 OR MIT
//! docs/report.schema.json describes the reports that copra writes, and no other text.

use engine::observation::DeathKind;
use engine::report::document::{RunDocument, SCHEMA};
use engine::report::fixture;
use jsonschema::Validator;
use model::class::{Class, MemoryState};
use serde_json::{Value, json};
use types::RomArea;
use types::{EventKind, Mode, Platform, Policy, Region, UnwindMethod};

fn schema() -> Value {
    let text = std::fs::read_to_string(crate::top().join("docs/report.schema.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn validator(schema: &Value) -> Validator {
    jsonschema::draft202012::new(schema).unwrap()
}

fn reports() -> Vec<Value> {
    fixture::every().iter().map(|report| json!(RunDocument::of(report))).collect()
}

/// The published schema allows more fields; this one allows only those it lists.
fn closed(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.contains_key("properties") {
                object.insert("additionalProperties".to_owned(), json!(false));
            }
            object.values_mut().for_each(closed);
        }
        Value::Array(items) => items.iter_mut().for_each(closed),
        _ => {}
    }
}

fn complaints(validator: &Validator, report: &Value) -> Vec<String> {
    validator.iter_errors(report).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn every_report_follows_the_schema_and_every_field_is_in_it() {
    let mut schema = schema();
    assert!(jsonschema::meta::is_valid(&schema));
    let open = validator(&schema);
    closed(&mut schema);
    let closed = validator(&schema);
    for report in reports() {
        assert_eq!(complaints(&open, &report), Vec::<String>::new());
        assert_eq!(complaints(&closed, &report), Vec::<String>::new());
    }
}

#[test]
fn the_schema_has_the_version_that_is_written() {
    assert_eq!(schema()["properties"]["schema"]["const"], SCHEMA);
    assert_eq!(schema()["$id"], format!("urn:copra:report:{SCHEMA}"));
}

#[test]
fn fields_of_later_versions_follow_the_schema() {
    let validator = validator(&schema());
    let mut report = reports().remove(0);
    report["new"] = json!(1);
    report["cases"][0]["steps"][0]["new"] = json!({});
    assert!(validator.is_valid(&report));
}

#[test]
fn a_report_without_one_of_its_fields_is_refused() {
    let validator = validator(&schema());
    let report = reports().remove(0);
    let Value::Object(fields) = &report else { panic!("a report is an object") };
    for field in fields.keys() {
        let mut without = report.clone();
        without.as_object_mut().unwrap().remove(field);
        assert!(!validator.is_valid(&without), "{field}");
        assert!(RunDocument::read(&without.to_string()).is_err(), "{field}");
    }
}

#[test]
fn wrong_values_are_refused_by_the_schema_as_by_copra() {
    let validator = validator(&schema());
    for (path, wrong) in [
        ("/schema", json!("copra-run/1")),
        ("/platform/platform", json!("sgx")),
        ("/platform/regions/0/gpa", json!(0x20000)),
        ("/cases/0/judged/verdict", json!("fine")),
        ("/cases/1/judged/expected", json!(null)),
        ("/cases/2/steps/4/observed/events/0/gpa", json!("20010")),
        ("/cases/2/steps/4/observed/events/0/kind", json!("read")),
        ("/cases/2/steps/4/observed/bytes", json!("abc")),
        ("/cases/2/steps/4/observed/answer/how", json!("perhaps")),
        ("/summary/planned", json!("5")),
        ("/ended", json!({ "how": "failed" })),
        ("/modes", json!({ "strict": 3 })),
        ("/shard", json!({ "index": 1 })),
    ] {
        let mut report = reports().remove(0);
        match report.pointer_mut(path) {
            Some(place) => *place = wrong,
            None => report[&path[1..]] = wrong,
        }
        assert!(!validator.is_valid(&report), "{path}");
        assert!(RunDocument::read(&report.to_string()).is_err(), "{path}");
    }
}

#[test]
fn the_schema_lists_the_names_that_copra_has() {
    macro_rules! names {
        ($type:ty) => {
            <$type>::ALL.iter().map(|value| value.name()).collect::<Vec<_>>()
        };
    }
    let schema = schema();
    for (list, known) in [
        ("policy", names!(Policy)),
        ("platform", names!(Platform)),
        ("mode", names!(Mode)),
        ("region", names!(Region)),
        ("event_kind", names!(EventKind)),
        ("rom", names!(RomArea)),
        ("smbios_place", names!(types::SmbiosPlace)),
        ("map_form", names!(types::MapForm)),
        ("machine_tables", names!(types::Tables)),
        ("unaccepted_pattern", names!(types::UnacceptedPattern)),
        ("table_place", names!(types::TablePlace)),
        ("death_kind", names!(DeathKind)),
        ("class", names!(Class)),
        ("memory_state", names!(MemoryState)),
        ("unwinder", names!(UnwindMethod)),
        ("page_state", [names!(types::PageState), vec!["shared-refused", "device"]].concat()),
    ] {
        assert_eq!(schema["$defs"][list]["enum"], json!(known), "{list}");
    }
}
