// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a report contains of a guest before any case: the guest type it logged, rewritten instructions, memory accepted.

use serde_json::Value;

/// Lines a guest's kernel log has, by platform.
const LOG: [(&str, &[&str]); 5] = [
    ("none", &["Hypervisor detected: KVM"]),
    ("sev", &["Memory Encryption Features active: AMD SEV", "SEV: Status: SEV"]),
    (
        "snp",
        &[
            "Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP",
            "SEV: Status: SEV SEV-ES SEV-SNP",
            "SEV: SNP running at VMPL0.",
        ],
    ),
    ("tdx", &["tdx: Guest detected", "Memory Encryption Features active: Intel TDX"]),
    (
        "vbs",
        &[
            "Hypervisor detected: Microsoft Hyper-V",
            "Memory Encryption Features active: AMD SEV",
            "SEV: Status: vTom",
        ],
    ),
];

/// Instructions of Debian's 6.12 kernel that are rewritten, by platform: all there are of each.
const REWRITTEN: [(&str, &[(&str, usize)]); 5] = [
    ("none", &[]),
    ("sev", &[]),
    ("snp", &[("PVALIDATE", 3), ("RMPADJUST", 6), ("VMGEXIT", 18)]),
    ("tdx", &[("TDCALL", 3)]),
    ("vbs", &[]),
];

/// KiB the kernel accepts at a time (`unit_size` of the table the loader leaves).
const UNIT_KIB: i64 = 2048;
/// KiB of the ROM area, which is no RAM to the kernel and, on SEV-SNP, not validated.
const ROM_KIB: i64 = 256;

/// What is wrong with the guest, if anything.
pub fn complaint(report: &Value, platform: &str, is_debian: bool) -> Option<String> {
    log(report, platform)
        .or_else(|| if is_debian { rewritten(report, platform) } else { None })
        .or_else(|| {
            let events = &report["platform"]["boot_events"];
            (*events != Value::Array(Vec::new()))
                .then(|| format!("forbidden accesses during boot: {events:#}"))
        })
        .or_else(|| {
            let calls = &report["platform"]["bad_calls"];
            (!calls.is_null()).then(|| format!("malformed calls during boot: {calls:#}"))
        })
        .or_else(|| unaccepted(report, platform))
        .or_else(|| {
            let lost = report["deaths"].as_array()?.iter().find(|death| death["during"].is_null())?;
            Some(format!("a guest did not come up: {lost:#}"))
        })
}

fn of<T: Copy + Default>(table: &[(&str, T)], platform: &str) -> T {
    table.iter().find(|(name, _)| *name == platform).map(|(_, value)| *value).unwrap_or_default()
}

fn log(report: &Value, platform: &str) -> Option<String> {
    let log = &report["kernel"]["log"];
    let lines: Vec<&str> = log.as_array()?.iter().filter_map(Value::as_str).collect();
    // The end of the line is compared too: the log line of a SEV guest is a prefix of that of a SEV-SNP guest.
    let missing = of(&LOG, platform).iter().find(|text| !lines.iter().any(|line| line.ends_with(**text)));
    if let Some(missing) = missing {
        return Some(format!("the kernel's log has no \"{missing}\": {log:#}"));
    }
    let encrypted = lines.iter().any(|line| line.contains("Memory Encryption Features"));
    (encrypted && platform == "none")
        .then(|| format!("an ordinary guest takes itself for an encrypted one: {log:#}"))
}

fn rewritten(report: &Value, platform: &str) -> Option<String> {
    let sites = report["platform"]["rewritten"].as_array()?;
    let expected = of(&REWRITTEN, platform);
    let count = |name: &str| sites.iter().filter(|site| site["was"] == name).count();
    let all: usize = expected.iter().map(|(_, count)| count).sum();
    let right = sites.len() == all && expected.iter().all(|(name, expected)| count(name) == *expected);
    (!right).then(|| format!("rewritten instructions: expected {expected:?}, got {sites:#?}"))
}

/// Guest and VMM count the same memory, but for what the guest accepts beyond a request: with every block that it
/// takes from the page allocator's reserve the unit behind it (`drivers/firmware/efi/unaccepted_memory.c:accept_memory`
/// explains this guard), which `Unaccepted` of /proc/meminfo still counts.
fn unaccepted(report: &Value, platform: &str) -> Option<String> {
    let figures = &report["platform"]["unaccepted"];
    let (Some(guest), Some(vmm)) = (figures["guest_kib"].as_i64(), figures["vmm_kib"].as_i64()) else {
        let accepts = matches!(platform, "snp" | "tdx");
        return accepts.then(|| "the report has no count of memory that is not accepted".to_owned());
    };
    let rom = if platform == "snp" { ROM_KIB } else { 0 };
    let guards = guest - (vmm - rom);
    let explained = guards % UNIT_KIB == 0 && (0..=8 * UNIT_KIB).contains(&guards);
    (!explained || guest < 64 << 10).then(|| {
        format!("the guest counts {guest} KiB as not accepted, the VMM {vmm} KiB, of which {rom} KiB are ROM")
    })
}
