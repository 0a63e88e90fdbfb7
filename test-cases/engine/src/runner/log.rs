// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel logged during a case: the log from before the case is kept to find the lines that follow it.

use crate::observation::{Answer, NotRun, StepObservation};

/// The kernel log before the case.
#[derive(Debug)]
pub struct Mark(String);

impl Mark {
    /// The log as it was read before the case, or why the case cannot be run.
    pub fn of(log: Result<String, Answer>) -> Result<Self, NotRun> {
        log.map(Self).map_err(|answer| {
            let answer = match answer {
                Answer::Failed { errno } => errno.to_string(),
                Answer::NotRun { reason } => reason,
                other => format!("{other:?}"),
            };
            NotRun::Failed(format!(
                "reading the kernel log before the case gave {answer}, so that what the case adds to it is unknown"
            ))
        })
    }

    /// What a `kernel-log` step gives that read this log, or failed to.
    pub fn step(&self, id: &str, log: Result<String, Answer>) -> StepObservation {
        let log = match log {
            Ok(log) => log,
            Err(answer) => return StepObservation::new(id, answer),
        };
        let Some(new) = log.strip_prefix(&self.0) else {
            let reason = "the kernel log does not begin with what it held before the case (its buffer is full, or it was \
                          cleared), so that what is new in it is unknown";
            return StepObservation::new(id, Answer::NotRun { reason: reason.to_owned() });
        };
        let bytes = new.lines().map(bare).collect::<Vec<_>>().join("\n").into_bytes();
        let mut observed = StepObservation::new(id, Answer::Returned { value: bytes.len() as u64 });
        observed.bytes = bytes;
        observed
    }
}

/// A line of the kernel log without level and time, `<3>[    1.234567] `.
fn bare(line: &str) -> &str {
    let without_level =
        line.strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or(line, |(_, text)| text);
    without_level
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .map_or(without_level, |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Errno;

    fn mark(log: &str) -> Mark {
        Mark::of(Ok(log.to_owned())).unwrap()
    }

    #[test]
    fn a_log_line_is_its_text() {
        assert_eq!(bare("<4>[    1.234567] tdx: Unexpected #VE: 48"), "tdx: Unexpected #VE: 48");
        assert_eq!(bare("<6>[   12.000001] [drm] ready"), "[drm] ready");
        assert_eq!(bare("no prefix"), "no prefix");
    }

    #[test]
    fn only_what_was_logged_since_the_mark_is_given() {
        let step = mark("<6>[    0.1] a\n").step("log", Ok("<6>[    0.1] a\n<3>[    0.2] b\n".to_owned()));
        assert_eq!((step.answer, step.bytes.as_slice()), (Answer::Returned { value: 1 }, b"b".as_slice()));
        let step = mark("a\n").step("log", Ok("a\n".to_owned()));
        assert_eq!((step.answer, step.bytes.len()), (Answer::Returned { value: 0 }, 0));
    }

    #[test]
    fn a_log_that_cannot_be_read_is_no_empty_log() {
        let refused = Answer::Failed { errno: Errno::EPERM };
        let step = mark("a\n").step("log", Err(refused.clone()));
        assert_eq!((step.answer, step.bytes.len()), (refused.clone(), 0));
        let NotRun::Failed(reason) = Mark::of(Err(refused)).unwrap_err() else { panic!("no skip") };
        assert!(reason.contains("EPERM"), "{reason}");
    }

    #[test]
    fn a_log_without_its_old_beginning_shows_nothing() {
        for log in ["", "a", "b\nc\nd\n"] {
            let step = mark("a\nb\n").step("log", Ok(log.to_owned()));
            assert!(matches!(step.answer, Answer::NotRun { .. }), "{log:?}: {:?}", step.answer);
        }
    }
}
