// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a guest takes itself for what it is to be: without that its results would mean nothing.

use std::time::Duration;

use protocol::Outcome;
use types::{Errno, Platform};

use super::facts;
use crate::observation::Answer;
use crate::runner;
use crate::session::{Ended, Session, Worker};

/// How the line begins that names the features (`arch/x86/mm/mem_encrypt.c:print_mem_encrypt_feature_info`).
const FEATURES: &str = "Memory Encryption Features active:";
/// The beginning of the line that distinguishes SEV from vTOM (`arch/x86/coco/sev/core.c:sev_show_status`, since 6.6).
const STATUS: &str = "SEV: Status:";

/// A guest's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GuestLog {
    /// The lines of it that name the guest's type.
    Read(Vec<String>),
    /// The kernel has no printk, or it logged nothing.
    Empty,
    /// It could not be read: the outcome.
    Unread(String),
}

impl GuestLog {
    /// Reads it.
    pub(crate) fn read(session: &mut Session, limit: Duration) -> Result<Self, Ended> {
        Ok(Self::of(session.kernel_log(Worker::Same, limit)?))
    }

    /// Takes what the guest answered.
    pub(crate) fn of(log: Result<String, Outcome>) -> Self {
        // A kernel without printk has no syslog(2) either (`kernel/sys_ni.c`).
        const NO_SYSLOG: Errno = Errno(libc::ENOSYS.cast_unsigned() as u16);
        match log {
            Ok(log) if log.trim().is_empty() => Self::Empty,
            Ok(log) => {
                let lines = log.lines().filter(|line| facts::names_guest_type(line));
                Self::Read(lines.map(facts::without_level).collect())
            }
            Err(Outcome::Failed { errno: NO_SYSLOG, .. }) => Self::Empty,
            Err(other) => Self::Unread(match runner::answer(other).0 {
                Answer::Failed { errno } => errno.to_string(),
                Answer::NotRun { reason } => reason,
                answer => format!("{answer:?}"),
            }),
        }
    }

    /// The lines that name the guest's type.
    pub(crate) fn type_lines(&self) -> &[String] {
        match self {
            Self::Read(lines) => lines,
            Self::Empty | Self::Unread(_) => &[],
        }
    }

    /// Why it is unknown, if it is.
    pub(crate) fn unread(&self) -> Option<String> {
        match self {
            Self::Unread(why) => {
                Some(format!("reading the guest's log gave {why}: its type rests on what the VMM saw alone"))
            }
            Self::Read(_) | Self::Empty => None,
        }
    }
}

/// Whether a guest is what it was started as: the evidence for it, or why its results would mean nothing. It did not do
/// what a guest of its platform does, or its log names another guest type.
pub(crate) fn check(
    session: &Session,
    log: &GuestLog,
    platform: Platform,
    spec: &str,
    release: &str,
) -> Result<String, String> {
    let evidence = session.machine().guest_type_evidence().map_err(|why| why.to_string());
    let refused = |why: String| {
        format!(
            "{spec} ({release}) booted and does not take itself for a {platform} guest: {why}; choose another kernel or platform"
        )
    };
    evidence.and_then(|evidence| contradiction(platform, log).map_or(Ok(evidence), Err)).map_err(refused)
}

/// Why the guest's log contradicts its platform, if it does. Where there is no log, or it is unknown, the
/// signs that the VMM saw must do.
fn contradiction(platform: Platform, log: &GuestLog) -> Option<String> {
    let GuestLog::Read(lines) = log else { return None };
    if !platform.is_confidential() {
        return None;
    }
    let named = |start: &str| {
        lines.iter().find_map(|line| line.split_once(start)).map(|(_, rest)| rest.trim().to_owned())
    };
    let Some(features) = named(FEATURES) else {
        return Some(format!("its log has no \"{FEATURES}\""));
    };
    let words: Vec<&str> = features.split_whitespace().collect();
    let is = |expected: &[&str]| words == expected;
    let status = named(STATUS);
    let is_vtom = || status.as_deref().is_none_or(|status| status.eq_ignore_ascii_case("vtom"));
    let agrees = match platform {
        Platform::None => true,
        Platform::Sev => is(&["AMD", "SEV"]) && status.is_none_or(|status| status == "SEV"),
        Platform::Snp => is(&["AMD", "SEV", "SEV-ES", "SEV-SNP"]),
        Platform::Tdx => is(&["Intel", "TDX"]),
        Platform::Vbs => is(&["AMD", "SEV"]) && is_vtom(),
    };
    if agrees {
        return None;
    }
    let status = named(STATUS).map(|status| format!(", \"{STATUS} {status}\"")).unwrap_or_default();
    Some(format!("its log has \"{FEATURES} {features}\"{status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> GuestLog {
        let lines: Vec<String> = lines.iter().map(|line| format!("<6>[    0.743879] {line}\n")).collect();
        GuestLog::of(Ok(lines.concat()))
    }

    const SEV: &[&str] = &["Memory Encryption Features active: AMD SEV", "SEV: Status: SEV"];
    const SNP: &[&str] = &[
        "Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP",
        "SEV: Status: SEV SEV-ES SEV-SNP",
        "SEV: SNP running at VMPL0.",
    ];
    const TDX: &[&str] = &["tdx: Guest detected", "Memory Encryption Features active: Intel TDX"];
    const VBS: &[&str] = &["Memory Encryption Features active: AMD SEV", "SEV: Status: vTom"];

    #[test]
    fn each_platforms_lines_agree_with_it_alone() {
        let logs = [(Platform::Sev, SEV), (Platform::Snp, SNP), (Platform::Tdx, TDX), (Platform::Vbs, VBS)];
        for (platform, _) in logs {
            for (of, lines) in logs {
                let found = contradiction(platform, &log(lines));
                assert_eq!(found.is_none(), platform == of, "{of} on {platform}: {found:?}");
            }
        }
    }

    #[test]
    fn a_log_that_cannot_be_read_is_no_empty_log() {
        let failed = |errno: i32| Outcome::Failed {
            errno: Errno(u16::try_from(errno).unwrap()),
            call: protocol::Call::Own,
        };
        assert_eq!(GuestLog::of(Err(failed(libc::ENOSYS))), GuestLog::Empty);
        assert_eq!(GuestLog::of(Ok(String::new())).unread(), None);
        for (outcome, why) in [
            (failed(libc::EPERM), "EPERM"),
            (Outcome::NoRoom, "no room for its result"),
            (Outcome::NotRun, "the agent stopped before it"),
        ] {
            let log = GuestLog::of(Err(outcome));
            assert!(log.unread().is_some_and(|text| text.contains(why)), "{log:?}");
            assert!(log.type_lines().is_empty());
            // What is unknown contradicts nothing.
            assert_eq!(contradiction(Platform::Tdx, &log), None);
        }
    }

    #[test]
    fn a_log_without_the_line_contradicts_and_no_log_does_not() {
        for platform in [Platform::Sev, Platform::Snp, Platform::Tdx, Platform::Vbs] {
            assert!(contradiction(platform, &log(&["Hypervisor detected: KVM"])).is_some());
            // A log without a line about the guest type is not an unread log.
            assert!(contradiction(platform, &log(&["Linux version 6.12.1"])).is_some());
            assert!(contradiction(platform, &log(&[])).is_none());
        }
        assert!(contradiction(Platform::None, &log(&["Hypervisor detected: KVM"])).is_none());
        // Before 6.6 there is no status.
        assert!(contradiction(Platform::Vbs, &log(&VBS[..1])).is_none());
    }
}
