// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The modules of each crate import only what lies below them; crates cannot import in circles anyway.

/// Source folder and modules, from the lowest to the highest.
const CRATES: &[(&str, &[&str])] = &[
    (
        "vmm/src",
        &[
            "layout",
            "marker",
            "confinement",
            "x86",
            "stored",
            "memory",
            "platform",
            "region",
            "boot",
            "trace",
            "device",
            "machine",
            "snapshot",
            "probe",
        ],
    ),
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
            "reason",
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
            "random",
            "layouts",
            "requirements",
            "setup",
            "timeline",
            "observation",
            "place",
            "case",
            "library",
            "ktap",
            "judge",
            "boot",
            "report",
            "diff",
            "merge",
            "calls",
            "session",
            "runner",
            "guest",
            "run",
            "exec",
            "suite",
            "gdb",
            "boot_audit",
            "explore",
            "refusals",
            "kexec",
            "audit",
            "identify",
            "matrix",
            "spec",
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
            "packages",
            "modules",
            "programs",
            "catalogue",
            "initramfs",
        ],
    ),
    ("test-cases/src", &["cli", "exit", "report", "matrix", "spec", "list", "command"]),
];

/// Source folders whose modules have an order.
pub(crate) fn sources() -> impl Iterator<Item = &'static str> {
    CRATES.iter().map(|(source, _)| *source)
}

/// The modules in a source folder, from the lowest to the highest, where a test checks their order.
pub(crate) fn order(source: &str) -> Option<&'static [&'static str]> {
    CRATES.iter().find(|(known, _)| *known == source).map(|(_, order)| *order)
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
