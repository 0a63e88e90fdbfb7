// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the cases that start from one saved guest, spread over several guests; results come in the cases' order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};

use super::worker::{Ran, Shared, Worker};
use super::{Activity, Engine, Watcher};
use crate::case::Case;
use crate::observation::{Counters, During};
use crate::report::RunEnd;
use crate::session::{SavedGuest, Session};
use crate::setup::Setup;

/// One case of the group.
struct Job<'c> {
    case: &'c Case,
    setup: Setup,
    /// Why it is not run.
    skip: Option<String>,
}

/// What a guest's thread reports.
enum Message {
    /// It begins with this job.
    Begins(usize),
    /// It is done with it.
    Done(usize, Ran),
    /// It takes no other.
    Ends(Counters),
}

impl Engine<'_> {
    /// Runs the cases of a group. `session` is the guest that was saved, and has run since, if there is one.
    pub(super) fn run_group(
        &mut self,
        session: Option<Session>,
        saved: &SavedGuest,
        cases: &[&Case],
        watcher: &mut dyn Watcher,
    ) -> Result<(), RunEnd> {
        let regions = self.report.platform.regions.clone();
        let shared = Shared { saved, regions: &regions, limit: self.target.limit, interrupt: self.interrupt };
        let job = |case: &&'_ Case| (self.requested_setup(case), self.skip_reason(case));
        let jobs: Vec<Job<'_>> = cases
            .iter()
            .map(|case| {
                let (setup, skip) = job(case);
                Job { case, setup, skip }
            })
            .collect();
        let next = AtomicUsize::new(0);
        let guests = self.target.guests.clamp(1, jobs.len().max(1));
        std::thread::scope(|scope| {
            let (sender, messages) = mpsc::channel();
            let mut session = session;
            for _ in 0..guests {
                let (jobs, next, sender, session) = (&jobs, &next, sender.clone(), session.take());
                scope.spawn(move || work(Worker::new(shared, session), jobs, next, &sender));
            }
            drop(sender);
            let mut done = BTreeMap::new();
            let mut expected = 0;
            let mut interrupted = false;
            for message in messages {
                match message {
                    Message::Begins(index) => watcher.progress(&Activity::Case(&jobs[index].case.name)),
                    Message::Ends(counters) => self.add_counters(&counters),
                    Message::Done(index, ran) => _ = done.insert(index, ran),
                }
                while let Some(ran) = done.remove(&expected).filter(|_| !interrupted) {
                    interrupted = self.deliver(jobs[expected].case, ran, watcher);
                    expected += 1;
                }
            }
            if interrupted || self.interrupt.load(Ordering::Relaxed) && expected < jobs.len() {
                return Err(RunEnd::Interrupted);
            }
            Ok(())
        })
    }

    /// Judges a case that ran. Returns whether the run was interrupted instead.
    fn deliver(&mut self, case: &Case, ran: Ran, watcher: &mut dyn Watcher) -> bool {
        let Ran::Observed { observation, ended } = ran else { return true };
        self.judge(case, *observation, watcher);
        if let Some((end, step)) = ended {
            match end.into_report(Some(During { case: case.name.clone(), step })) {
                Ok(death) => self.report.deaths.push(death),
                Err(aborted) => self.report.aborted.push(aborted),
            }
        }
        false
    }
}

/// Takes one job after the other until there is none, or the run is to end.
fn work(mut worker: Worker<'_>, jobs: &[Job<'_>], next: &AtomicUsize, sender: &Sender<Message>) {
    // The receiver is there until every sender is gone.
    let send = |message| _ = sender.send(message);
    while let Some((index, job)) = {
        let index = next.fetch_add(1, Ordering::Relaxed);
        jobs.get(index).map(|job| (index, job))
    } {
        if worker.is_interrupted() {
            send(Message::Done(index, Ran::Interrupted));
            break;
        }
        if let Some(reason) = &job.skip {
            send(Message::Done(index, Ran::skipped(reason.clone())));
            continue;
        }
        send(Message::Begins(index));
        send(Message::Done(index, worker.run(job.case, job.setup)));
    }
    send(Message::Ends(worker.finish()));
}
