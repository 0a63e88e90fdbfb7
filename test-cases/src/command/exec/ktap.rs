// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `copra exec` found as KTAP: one test for the command's end, one for the forbidden accesses.

use engine::exec::{CommandEnd, Executed};
use engine::guest::Target;
use types::{AccessEvent, SimilarAccesses};

use crate::report::ktap::one_line;
use crate::report::plain::plain;

/// The text. Lines that explain a test come before its result.
pub fn text(target: &Target, executed: &Executed) -> String {
    let boot = executed.boot.unknown().collect::<Vec<_>>();
    let not_kept = executed.not_kept + executed.boot.observed.not_kept;
    let header = [
        format!("kernel {} {}", target.kernel.spec, executed.release),
        format!("platform {} mode {}", target.platform, target.setup.mode),
    ];
    let later = executed.events.iter().collect::<Vec<_>>();
    plain(&put_together(&header, &executed.end, [&boot, &later], not_kept)).into_owned()
}

/// `events`: those of the boot, and the later ones.
fn put_together(header: &[String], end: &CommandEnd, events: [&[&AccessEvent]; 2], not_kept: u64) -> String {
    let mut lines = vec!["KTAP version 1".to_owned()];
    let note = |lines: &mut Vec<String>, text: &str| lines.push(format!("# {}", one_line(text)));
    for text in header {
        note(&mut lines, text);
    }
    lines.push("1..2".to_owned());
    let (good, how) = of_end(end);
    if let CommandEnd::GuestEnded(ended) = end {
        for line in &ended.console {
            note(&mut lines, line);
        }
    }
    if !good {
        note(&mut lines, &how);
    }
    lines.push(format!("{} 1 command", if good { "ok" } else { "not ok" }));
    let mut found = not_kept > 0;
    for (when, events) in ["while booting: ", ""].into_iter().zip(events) {
        let events: Vec<AccessEvent> = events.iter().map(|event| (*event).clone()).collect();
        for similar in SimilarAccesses::fold(&events) {
            found = true;
            note(&mut lines, &format!("{when}{similar}"));
            for frame in &similar.first().backtrace {
                note(&mut lines, &format!("  {frame}"));
            }
        }
    }
    if not_kept > 0 {
        note(&mut lines, &format!("{not_kept} forbidden accesses were not kept"));
    }
    // Nothing is known of what did not run to its end.
    let ran = matches!(end, CommandEnd::Exited(_) | CommandEnd::Signal(_));
    lines.push(match (found, ran) {
        (true, _) => "not ok 2 no forbidden access".to_owned(),
        (false, true) => "ok 2 no forbidden access".to_owned(),
        (false, false) => format!("ok 2 no forbidden access # SKIP {}", one_line(&how)),
    });
    lines.join("\n") + "\n"
}

/// Whether the command did what it is for, and how it ended.
fn of_end(end: &CommandEnd) -> (bool, String) {
    match end {
        CommandEnd::Exited(status) => (*status == 0, format!("the command exited with {status}")),
        CommandEnd::Signal(signal) => (false, format!("signal {signal} ended the command")),
        CommandEnd::NotStarted(errno) => (false, format!("starting the command gave {errno}")),
        CommandEnd::NotRun(why) => (false, why.to_string()),
        CommandEnd::GuestEnded(ended) => {
            (false, format!("the guest ended before the command did: {}", ended.text))
        }
        CommandEnd::Interrupted => (false, "it was interrupted".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use engine::report::fixture;
    use types::Errno;

    use super::*;

    const HEADER: &str = "kernel build:kunit 6.12.117";

    fn of(end: &CommandEnd, boot: &[AccessEvent], later: &[AccessEvent], not_kept: u64) -> String {
        let [boot, later] = [boot, later].map(|events| events.iter().collect::<Vec<_>>());
        put_together(&[HEADER.to_owned()], end, [&boot, &later], not_kept)
    }

    #[test]
    fn a_command_without_findings_passes_both() {
        insta::assert_snapshot!(of(&CommandEnd::Exited(0), &[], &[], 0), @"
        KTAP version 1
        # kernel build:kunit 6.12.117
        1..2
        ok 1 command
        ok 2 no forbidden access
        ");
    }

    #[test]
    fn each_access_is_explained_before_the_result() {
        let events = [fixture::boot_event("ignored\nok 3 made_up # SKIP", 0xf_0000)];
        insta::assert_snapshot!(of(
            &CommandEnd::Exited(3),
            &events,
            &[fixture::boot_event("read_mem", 0xf_1000)],
            2
        ));
    }

    #[test]
    fn what_did_not_run_to_its_end_passes_nothing() {
        for end in [CommandEnd::NotStarted(Errno::ENOENT), CommandEnd::Interrupted, CommandEnd::Signal(9)] {
            let text = of(&end, &[], &[], 0);
            assert!(text.contains("\nnot ok 1 command\n"), "{text}");
            assert_eq!(
                text.contains("\nok 2 no forbidden access\n"),
                matches!(end, CommandEnd::Signal(_)),
                "{text}"
            );
        }
    }
}
