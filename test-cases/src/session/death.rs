//! How a guest ended, told from why its machine stopped and from what its console said last.

use std::fmt;

use vmm::machine::{Machine, Stop};

use crate::observation::{Death, DeathKind};

/// Console lines kept as evidence.
const LAST_LINES: usize = 30;
/// Characters kept of each.
const LONGEST_LINE: usize = 500;

/// A guest that is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// In what manner.
    pub kind: DeathKind,
    /// The line that says why.
    pub text: String,
    /// Last lines of its console.
    pub console: Vec<String>,
}

impl Ended {
    /// Reads the manner of the end off the machine.
    pub fn by(machine: &Machine, stop: &Stop) -> Self {
        let console = machine.console().text();
        let panic = console.lines().rev().find(|line| line.contains("Kernel panic - not syncing"));
        let kind = match (panic, stop) {
            (_, Stop::Terminated(_)) => DeathKind::Terminated,
            (Some(_), _) => DeathKind::Panic,
            (None, Stop::Deadline) => DeathKind::Hang,
            (None, Stop::TripleFault) => DeathKind::TripleFault,
            (None, Stop::Reset { .. } | Stop::Halted) => DeathKind::Reset,
            (None, Stop::Agent | Stop::DebugExit(_) | Stop::Interrupted | Stop::Failed(_)) => {
                DeathKind::Internal
            }
        };
        let stands = if kind == DeathKind::Hang { stands(machine) } else { None };
        let panic = panic.filter(|_| kind == DeathKind::Panic);
        let text = panic.map_or_else(|| stop.to_string(), |line| without_time(line).to_owned());
        let text = stands.map_or(text.clone(), |place| format!("{text}; it stands {place}"));
        let lines: Vec<String> =
            console.lines().map(|line| line.chars().take(LONGEST_LINE).collect()).collect();
        Self { kind, text, console: lines[lines.len().saturating_sub(LAST_LINES)..].to_vec() }
    }

    /// As reports hold it.
    pub fn into_death(self, during: Option<String>) -> Death {
        Death { kind: self.kind, text: self.text, during, console: self.console }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            DeathKind::Panic => "the guest panicked: ",
            DeathKind::Hang => "the guest's agent did not answer in time: ",
            _ => "the guest ended: ",
        })?;
        f.write_str(&self.text)?;
        match (self.kind, self.console.iter().rev().find(|line| !line.trim().is_empty())) {
            (DeathKind::Hang, Some(last)) => {
                write!(f, "; its console's last line is \"{}\"", last.trim())?;
            }
            (_, None) => {
                f.write_str("; its console is empty (--cmdline-append earlyprintk=serial shows more)")?;
            }
            _ => {}
        }
        if self.kind == DeathKind::Hang {
            f.write_str("; if it is only slow, give it longer (--timeout)")?;
        }
        Ok(())
    }
}

impl std::error::Error for Ended {}

/// Where a guest that does not answer stands, innermost function first.
fn stands(machine: &Machine) -> Option<String> {
    let (at, names) = (machine.standing()?, machine.kernel_names()?);
    let frames = names.frames(at.backtrace.as_ref()?);
    let task = at.task.map(|task| format!(" in task {task}")).unwrap_or_default();
    Some(format!("at {}{task}", frames[..frames.len().min(MOST_FRAMES)].join(" < ")))
}

/// Functions named of a guest that hangs.
const MOST_FRAMES: usize = 6;

/// A console line without the time stamp.
fn without_time(line: &str) -> &str {
    line.split_once("] ").map_or(line, |(_, text)| text)
}
