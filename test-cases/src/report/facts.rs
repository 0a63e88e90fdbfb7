// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run speaks of and rests on: kernel, guest, host, what is simulated and what is not.

use std::time::{SystemTime, UNIX_EPOCH};

use engine::observation::KvmHost;
use engine::report::{Report, rewritten};
use types::Mode;

use super::count;

/// Refused conversions shown of each boot; the JSON report has all.
const SHOWN_REFUSED: usize = 3;

/// Name and text of each fact.
pub(super) fn all(report: &Report) -> Vec<(&'static str, String)> {
    let (kernel, platform) = (&report.kernel, &report.platform);
    let mut facts: Vec<(&'static str, String)> = vec![("image", format!("sha256 {}", kernel.sha256))];
    facts.extend(kernel.package.clone().map(|package| ("package", package)));
    facts.extend(kernel.build_id.clone().map(|id| ("build id", id)));
    facts.extend(kernel.config_sha256.clone().map(|hash| ("config", format!("sha256 {hash}"))));
    facts.extend(
        platform
            .guest_type
            .clone()
            .filter(|_| platform.platform.is_confidential())
            .map(|seen| ("guest type", seen)),
    );
    facts.extend(platform.booted_at.map(|at| {
        let when = ago(at, SystemTime::now());
        ("boot", format!("{when}, by an earlier run that kept the guest; it was restored (--boot boots it)"))
    }));
    facts.push(("rewritten", rewritten(platform)));
    facts.extend(platform.unserved_modules.iter().map(|module| ("not rewritten", module.clone())));
    facts.extend(platform.log_unread.clone().map(|why| ("guest log", why)));
    facts.extend(platform.names_lacking.clone().map(|why| ("names", why)));
    facts.extend(platform.unaccepted.map(|it| {
        let text = format!(
            "{} MiB unaccepted at the agent by the guest's count, {} MiB by the VMM's",
            it.guest_kib >> 10,
            it.vmm_kib >> 10
        );
        ("memory", text)
    }));
    if platform.platform.is_confidential() {
        let counters = &report.counters;
        let text = format!(
            "{}, {}, {}, {}, {} accepted, {} ({} while booting)",
            count::of(counters.exits, "exit"),
            count::of(counters.calls, "call"),
            count::of(counters.faults, "fault"),
            count::of(counters.conversions, "conversion"),
            count::of(counters.accepted, "page"),
            count::of(counters.mismatches, "forbidden access"),
            counters.boot_events
        );
        facts.push(("counted", text));
    }
    if report.counters.refused > 0 {
        facts.push(("refused", format!("{} by rules", count::of(report.counters.refused, "conversion"))));
    }
    for boot in &report.boots {
        let refused = boot.observed.refused.iter().take(SHOWN_REFUSED);
        facts.extend(refused.map(|refused| ("refused", format!("{}: {refused}", boot.observed.name()))));
    }
    if platform.platform.has_page_states() {
        for (mode, count) in modes(report) {
            facts.push(("mode", format!("{mode} ({count}): {}", mode.about())));
        }
    }
    facts.push((
        "KVM",
        match &platform.kvm {
            KvmHost::Direct => "on this machine".to_owned(),
            KvmHost::Emulated { by } => format!("in a virtual machine under {by}"),
        },
    ));
    facts.extend(platform.simulated.iter().map(|text| ("simulated", text.clone())));
    facts.extend(platform.not_simulated.iter().map(|text| ("not simulated", text.clone())));
    facts
}

/// How long ago `at`, in seconds since 1970, was.
fn ago(at: u64, now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()).saturating_sub(at);
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{} ago", count::of(count, unit))
}

/// The modes in which guests booted and cases ran, each with how many.
fn modes(report: &Report) -> Vec<(Mode, String)> {
    let mut modes = report.modes();
    modes.entry(report.platform.setup.mode).or_default();
    let boots = |mode| if mode == report.platform.setup.mode { "boot and " } else { "" };
    let text = |(mode, cases)| (mode, format!("{}{}", boots(mode), count::of(cases, "case")));
    modes.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_age_is_given_in_its_largest_unit() {
        let at = |seconds: u64| ago(1000, UNIX_EPOCH + Duration::from_secs(1000 + seconds));
        assert_eq!(
            [at(0), at(1), at(60), at(7300)],
            ["0 seconds ago", "1 second ago", "1 minute ago", "2 hours ago"]
        );
        assert_eq!(at(86_400 * 3), "3 days ago");
        assert_eq!(ago(2000, UNIX_EPOCH), "0 seconds ago");
    }
}
