// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra suite`: test suites that are not copra's, with the forbidden accesses each test made.

use std::io::{self, Write};
use std::path::Path;

use engine::guest::Target;
use engine::report::document::RunDocument;
use engine::setup::Setup;
use engine::suite;

use super::host::{self, Place};
use super::output::Output;
use super::screen::{Screen, Shown};
use super::start_over::{self, Reader};
use super::{Failed, exec, guests, interrupt, kernels};
use crate::cli::SuiteArgs;
use crate::exit::Exit;
use crate::report::{json, junit};

/// Runs a suite and reports.
pub fn suite(args: &SuiteArgs, quiet: bool) -> Result<Exit, Failed> {
    let filter = args.kunit.as_ref().and_then(Option::as_deref);
    if let Some(filter) = filter.filter(|filter| !is_filter(filter)) {
        return Err(Failed::new(format!(
            "--kunit {filter}: a filter is the name of a suite, or SUITE.TEST, of letters, digits, `_`, `-`, `*` and `?`; \
             a command comes after --"
        )));
    }
    let open = |path: &Option<_>| path.as_deref().map(Output::open).transpose();
    let outputs = [open(&args.json)?, open(&args.junit)?];
    let ready = guests::Ready::find(&args.guest, &[], quiet)?;
    let above = kernels::packages(&args.package, quiet)?;
    let host = match host::choose_for(args.guest.platform) {
        Place::Here(host) => host,
        Place::Elsewhere(_) => {
            // The command that runs there opens them again.
            drop(outputs);
            start_over::end_with(start_over::code(Reader::NotNeeded)?)
        }
    };
    let defaults = ready.target(&args.guest, &args.many, &host);
    let setup = Setup { mode: args.mode, ..defaults.setup };
    let target = Target { setup, console: args.console, ..defaults };
    let mut screen = screen(args, quiet);
    let report = if args.kunit.is_some() {
        suite::kunit(&target, filter, &mut screen, &interrupt::signals()?)
    } else {
        let order = exec::order_without_input(&args.command, &args.writable, above)?;
        exec::confine::confine(&[args.json.as_deref(), args.junit.as_deref()], &order, quiet)?;
        // A thread started before would keep its rights to files.
        let interrupt = interrupt::signals()?;
        suite::program(&target, &order, &mut screen, &interrupt)
    };
    let report = report.map_err(Failed::new)?;
    let shown = screen.end(&report);
    let document = RunDocument::of(&report);
    let [as_json, as_junit] = outputs;
    let as_json = as_json.map_or(Ok(()), |output| output.write(|out| json::write(&document, out)));
    let write_junit = |out: &mut dyn Write| junit::write(&document, out).map_err(io::Error::other);
    let as_junit = as_junit.map_or(Ok(()), |output| output.write(write_junit));
    as_json.and(as_junit).and(shown)?;
    Ok(Exit::of_report(&report))
}

/// What can be in a filter: it is one word of the kernel's command line.
fn is_filter(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.*?".contains(c);
    !text.is_empty() && text.chars().all(is_part)
}

/// The screen output: none where a report is written to standard output.
fn screen(args: &SuiteArgs, quiet: bool) -> Screen {
    let to_stdout = |path: &Option<_>| path.as_deref() == Some(Path::new("-"));
    Screen::new(match args {
        _ if args.ktap => Shown::Ktap,
        _ if to_stdout(&args.json) || to_stdout(&args.junit) => Shown::Nothing,
        _ => Shown::ForPeople { verbose: args.verbose, quiet },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_one_word_of_a_command_line() {
        assert!(["devmem", "list*.*del_test", "a-b.c?"].into_iter().all(is_filter));
        assert!(["", "a b", "./test", "a\"", "a=b", "ä"].into_iter().all(|text| !is_filter(text)));
    }
}
