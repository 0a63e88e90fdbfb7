// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Standard output of `copra run` while cases run.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Failed, output};
use crate::report::ktap;
use crate::report::repeat::Repeat;
use crate::report::style::Style;
use crate::report::terminal::Terminal;
use engine::boot::BootResult;
use engine::report::document::RunDocument;
use engine::report::{CaseResult, Report};
use engine::run::{Activity, Watcher};

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Lines for people as cases end.
    ForPeople {
        /// With the evidence of every case.
        verbose: bool,
        /// Without progress.
        quiet: bool,
    },
    /// KTAP, at the end.
    Ktap,
    /// Nothing.
    Nothing,
}

/// Prints a run while it goes on.
pub struct Screen {
    /// The run so far, for the watchdog; none before a guest was started.
    pub so_far: Arc<Mutex<Option<Report>>>,
    terminal: Option<Terminal<io::Stdout>>,
    ktap: bool,
}

impl Screen {
    /// For a run of which this is shown.
    pub fn new(shown: Shown) -> Self {
        let style = Style::choose(
            io::stdout().is_terminal(),
            std::env::var_os("NO_COLOR").as_deref(),
            std::env::var_os("COPRA_TTY").as_deref(),
        );
        let terminal = match shown {
            Shown::ForPeople { verbose, quiet } => Some(Terminal::new(io::stdout(), style, verbose, quiet)),
            Shown::Ktap | Shown::Nothing => None,
        };
        Self { so_far: Arc::default(), terminal, ktap: shown == Shown::Ktap }
    }

    /// Ends with the command that repeats each failure.
    #[must_use]
    pub fn with_repeat(self, repeat: Repeat) -> Self {
        Self { terminal: self.terminal.map(|terminal| terminal.with_repeat(repeat)), ..self }
    }

    fn keep(&self, add: impl FnOnce(&mut Report)) {
        if let Some(report) = self.so_far.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            add(report);
        }
    }

    /// Shows the end of the run.
    pub fn end(&mut self, report: &Report) -> Result<(), Failed> {
        let done = match &mut self.terminal {
            Some(terminal) => terminal.foot(report),
            None if self.ktap => ktap::write(&RunDocument::of(report), io::stdout().lock()),
            None => Ok(()),
        };
        output::read_to_the_end(done)
            .map_err(|error| Failed::new(format!("writing to standard output: {error}")))
    }
}

impl Watcher for Screen {
    fn progress(&mut self, activity: &Activity<'_>) {
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.progress(&activity.to_string());
        }
    }

    fn up(&mut self, report: &Report) {
        *self.so_far.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.head(report);
        }
    }

    fn boot(&mut self, result: &BootResult) {
        self.keep(|report| report.boots.push(result.clone()));
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.boot(result);
        }
    }

    fn case(&mut self, result: &CaseResult) {
        self.keep(|report| report.cases.push(result.clone()));
        if let Some(terminal) = &mut self.terminal {
            let _ = terminal.case(result);
        }
    }
}
