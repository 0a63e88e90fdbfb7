// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The modules of each crate import only what lies below them; crates cannot import in circles anyway.

/// Source folder and modules, from the lowest to the highest.
const CRATES: &[(&str, &[&str])] = &[
    (
        "test-cases/model/src",
        &[
            "page",
            "capability",
            "class",
            "release",
            "lockdown",
            "cache_mode",
            "iomem",
            "prediction",
            "world",
            "fixture",
            "allowed",
            "credentials",
            "io_permission",
            "mapping",
            "memtype",
            "op",
            "space",
            "task",
            "anonymous",
            "done",
            "events",
            "kcore",
            "msr",
            "pci",
            "port",
            "remap",
            "read",
            "write",
            "map",
            "open",
            "ports",
            "process",
            "remote",
            "seek",
            "set_credentials",
            "user_access",
            "transfer",
        ],
    ),
    (
        "test-cases/engine/src",
        &[
            "requirements",
            "setup",
            "observation",
            "place",
            "case",
            "library",
            "judge",
            "boot",
            "report",
            "calls",
            "session",
            "runner",
            "guest",
            "run",
            "explore",
            "audit",
            "identify",
            "matrix",
        ],
    ),
    (
        "guest-kernel/src",
        &[
            "agent",
            "cache",
            "command",
            "progress",
            "tools",
            "version",
            "apt",
            "bounded",
            "config",
            "image",
            "piece",
            "config_variant",
            "spec",
            "kernel",
            "make",
            "mutants",
            "recipe",
            "source",
            "store",
            "builder",
            "checkout",
            "debian",
            "programs",
            "catalogue",
            "initramfs",
        ],
    ),
    ("test-cases/src", &["cli", "exit", "report", "matrix", "list", "command"]),
];

/// The test that has the order of the VMM's modules.
const VMM_TEST: &str = "vmm/tests/layers.rs";

/// Source folders whose modules have an order.
pub(crate) fn sources() -> impl Iterator<Item = &'static str> {
    CRATES.iter().map(|(source, _)| *source).chain(["vmm/src"])
}

/// The modules in a source folder, from the lowest to the highest, where a test checks their order.
pub(crate) fn order(source: &str) -> Option<Vec<String>> {
    if source == "vmm/src" {
        let text = std::fs::read_to_string(crate::top().join(VMM_TEST)).unwrap();
        let (_, list) = text.split_once("const ORDER: &[&str] = &[").unwrap();
        let (list, _) = list.split_once(']').unwrap();
        return Some(list.split('"').skip(1).step_by(2).map(str::to_owned).collect());
    }
    let (_, order) = CRATES.iter().find(|(known, _)| *known == source)?;
    Some(order.iter().map(|module| (*module).to_owned()).collect())
}

#[test]
fn no_module_imports_one_above_it() {
    let mut lines = Vec::new();
    for (source, order) in CRATES {
        if let Err(violations) = layers::check(&crate::top().join(source), order) {
            lines.extend(violations.iter().map(|violation| format!("{source}/{violation}")));
        }
    }
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}
