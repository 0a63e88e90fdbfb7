// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The result of one operation, in a word.

use serde::Serialize;
use types::Errno;

use crate::case::Step;
use crate::judge::describe;
use crate::observation::{Answer, StepObservation};
use crate::report::{CaseResult, evidence};
use model::class::{Class, hex};
use types::names::named;

use super::operations::Operation;

named! {
    /// What a word in a cell means.
    pub enum Sign ("sign") {
        Denied = "denied", "refused with this errno";
        Zeros = "zeros", "zeros instead of the bytes in memory";
        Plain = "plain", "the bytes in memory as their owner sees them: nothing hid them";
        OtherView = "mismatch", "reached in a view or state that is forbidden to it: ciphertext, another content, or (on hardware) a fault";
        Device = "device", "what the device answered";
        Works = "works", "succeeded; of a program: its output is that in an ordinary guest of an unpatched kernel";
        Silent = "silent", "of a program: it ends without an error, with fewer or other lines than there";
        Broken = "broken", "of a program: it fails";
        Other = "other", "bytes that are neither memory's nor a device's";
        Failed = "failed", "this errno or signal, which is no refusal";
        Absent = "absent", "not there in this kernel (ENOENT, ENXIO, ENODEV)";
        Closed = "closed", "not to be had: what it needs was refused or is not there";
        Skipped = "skipped", "not run, or what the program looks for is not in the guest, for the reason given: neither passed nor failed";
        Unknown = "unknown", "not tried, or nothing to compare it with";
    }
}

impl Sign {
    /// Its text if there is no errno or signal.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Closed => "–",
            Self::Unknown => "?",
            other => other.name(),
        }
    }
}

/// Most forbidden accesses that are listed one by one.
const LISTED: usize = 8;
/// Bytes of an answer that are kept.
const KEPT: usize = 16;

/// The result of one operation on one kernel and platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// What it means.
    pub sign: Sign,
    /// The word a table shows: the sign's own, or an errno or signal.
    pub word: String,
    /// The answer in the words of `copra run`.
    pub detail: String,
    /// The address tried.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "address")]
    pub gpa: Option<u64>,
    /// The first returned bytes, in hexadecimal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bytes: String,
    /// The output of a program, without the lines that legitimately differ between guests.
    #[serde(rename = "told", skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The forbidden accesses it made, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accesses: Vec<String>,
}

impl Cell {
    /// A cell with a sign and a detail only.
    pub fn bare(sign: Sign, detail: impl Into<String>) -> Self {
        let (word, detail) = (sign.word().to_owned(), detail.into());
        Self { sign, word, detail, gpa: None, bytes: String::new(), output: None, accesses: Vec::new() }
    }

    /// Reads it off what the operation's case gave.
    pub fn of(operation: &Operation, results: &[CaseResult]) -> Self {
        let Some(result) = results.iter().find(|result| result.case.name == operation.case) else {
            return Self::bare(Sign::Unknown, "the run ended before it");
        };
        if let Some(why) = &result.observed.not_run {
            let (crate::observation::NotRun::Skipped(why) | crate::observation::NotRun::Failed(why)) = why;
            return Self::bare(Sign::Closed, why);
        }
        let mut cell = Self::bare(Sign::Unknown, "the run ended before it");
        let mut last = None;
        for id in &operation.steps {
            let (Some(step), Some(observed)) = (result.case.step(id), result.observed.step(id)) else {
                break;
            };
            cell = Self::of_step(step, observed);
            last = Some(observed);
            if !matches!(observed.answer, Answer::Returned { .. }) {
                break;
            }
        }
        cell.output = last.and_then(|observed| super::programs::judge::reported(operation.judged, observed));
        cell
    }

    fn of_step(step: &Step, observed: &StepObservation) -> Self {
        let (sign, word) = sign(observed);
        Self {
            sign,
            word: word.unwrap_or_else(|| sign.word().to_owned()),
            detail: describe(step, observed),
            gpa: observed.gpa.map(|range| range.start),
            bytes: hex(&observed.bytes[..observed.bytes.len().min(KEPT)]),
            output: None,
            accesses: accesses(observed),
        }
    }
}

/// One line per forbidden access; of many, the first and how many more.
fn accesses(observed: &StepObservation) -> Vec<String> {
    let lines = observed.events.iter().filter_map(|event| evidence::of_event(event).into_iter().next());
    let mut lines: Vec<String> = lines.take(LISTED).collect();
    if observed.events.len() > LISTED {
        lines.push(format!("and {} more", observed.events.len() - LISTED));
    }
    lines
}

fn sign(observed: &StepObservation) -> (Sign, Option<String>) {
    match &observed.answer {
        Answer::Failed { errno } => {
            let sign = match *errno {
                Errno::EPERM | Errno::EACCES => Sign::Denied,
                Errno::ENOENT | Errno::ENXIO | Errno::ENODEV => Sign::Absent,
                _ => Sign::Failed,
            };
            (sign, Some(errno.to_string()))
        }
        Answer::Signalled { signal } => (Sign::Failed, Some(signal.to_string())),
        Answer::GuestDied => (Sign::Failed, Some(observed.end.to_string())),
        Answer::NotReached { .. } => (Sign::Closed, None),
        Answer::NotRun { .. } | Answer::TimedOut => (Sign::Unknown, None),
        Answer::Returned { .. } => (of_bytes(observed), None),
    }
}

/// A forbidden access outweighs the bytes it returned; zeros that memory itself holds prove no leak.
fn of_bytes(observed: &StepObservation) -> Sign {
    let is = |class| observed.class.contains(class);
    if !observed.events.is_empty() || is(Class::Ciphertext) || (is(Class::Shared) && !is(Class::Plain)) {
        Sign::OtherView
    } else if observed.class.is_empty() {
        Sign::Works
    } else if is(Class::Zeros) {
        Sign::Zeros
    } else if is(Class::Plain) {
        Sign::Plain
    } else if is(Class::Device) {
        Sign::Device
    } else {
        Sign::Other
    }
}

#[expect(clippy::ref_option, reason = "serde's serialize_with hands over a reference to the field")]
fn address<S: serde::Serializer>(gpa: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match gpa {
        Some(gpa) => crate::observation::address(gpa, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::class::Classes;

    fn sign_of(answer: Answer, classes: &[Class]) -> (Sign, Option<String>) {
        let mut observed = StepObservation::new("step", answer);
        observed.class = Classes::of(classes.iter().copied());
        sign(&observed)
    }

    #[test]
    fn answers_become_words() {
        let failed = |errno| Answer::Failed { errno };
        let denied = sign_of(failed(Errno::EPERM), &[]);
        assert_eq!((denied.0, denied.1.as_deref()), (Sign::Denied, Some("EPERM")));
        assert_eq!(sign_of(failed(Errno::ENOENT), &[]).0, Sign::Absent);
        assert_eq!(sign_of(failed(Errno::EFAULT), &[]).0, Sign::Failed);
        let closed = sign_of(Answer::NotReached { needs: "mem".into() }, &[]);
        assert_eq!(closed, (Sign::Closed, None));
        let bytes = || Answer::Returned { value: 64 };
        assert_eq!(sign_of(bytes(), &[]).0, Sign::Works);
        assert_eq!(sign_of(bytes(), &[Class::Plain]).0, Sign::Plain);
        assert_eq!(sign_of(bytes(), &[Class::Plain, Class::Zeros]).0, Sign::Zeros);
        assert_eq!(sign_of(bytes(), &[Class::Ciphertext]).0, Sign::OtherView);
        assert_eq!(sign_of(bytes(), &[Class::Device]).0, Sign::Device);
    }
}
