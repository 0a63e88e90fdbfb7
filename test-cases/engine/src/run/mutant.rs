// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mistake that the kernel `build:mutants` makes during a case.

use std::time::Duration;

use guest_kernel::mutants::SWITCH;
use protocol::{Batch, Errno, Outcome, Step};

use crate::session::Session;
use crate::setup::Mutant;

/// Why the kernel does not make the mistake.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotChosen {
    /// The kernel has no mutants.
    Unknown(String),
    /// The write failed.
    Failed(String),
    /// The guest ended.
    Ended(String),
}

/// Has the kernel make this mistake from now on.
pub(super) fn choose(session: &mut Session, mutant: Mutant, limit: Duration) -> Result<(), NotChosen> {
    let number = mutant.0.to_string();
    // The worker of the case before may have given up what this takes.
    let mut batch = Batch::new().new_worker();
    batch.push(&Step::WriteFile { path: SWITCH.as_bytes(), create: false, data: number.as_bytes() });
    match session.execute(&batch, limit) {
        Ok(results) => taken(mutant, results.outcomes.into_iter().next().unwrap_or(Outcome::NotRun)),
        Err(ended) => {
            Err(NotChosen::Ended(format!("the guest ended while mutant {mutant} was chosen: {ended}")))
        }
    }
}

/// The result of the write: only a kernel without the file has no mutants.
fn taken(mutant: Mutant, outcome: Outcome) -> Result<(), NotChosen> {
    const NO_FILE: Errno = Errno(libc::ENOENT.cast_unsigned() as u16);
    let number = mutant.0.to_string();
    let wrote = format!("choosing mutant {mutant}: writing {number} to {SWITCH}");
    match outcome {
        Outcome::Value(count) if usize::try_from(count) == Ok(number.len()) => Ok(()),
        Outcome::Failed { errno: NO_FILE, .. } => Err(NotChosen::Unknown(format!(
            "{wrote} gave ENOENT: this kernel has no mutants; run it on build:mutants or mutant:POLICY"
        ))),
        other => Err(NotChosen::Failed(format!("{wrote} gave {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use protocol::Call;

    use super::*;

    #[test]
    fn only_a_kernel_without_the_file_has_no_mutants() {
        let mutant = Mutant(12);
        let failed =
            |errno: i32| Outcome::Failed { errno: Errno(u16::try_from(errno).unwrap()), call: Call::Open };
        assert_eq!(taken(mutant, Outcome::Value(2)), Ok(()));
        assert!(matches!(taken(mutant, failed(libc::ENOENT)), Err(NotChosen::Unknown(_))));
        let others = [
            failed(libc::EPERM),
            failed(libc::EINVAL),
            Outcome::NotRun,
            Outcome::Value(1),
            Outcome::Value(-1),
        ];
        for other in others {
            assert!(matches!(taken(mutant, other.clone()), Err(NotChosen::Failed(_))), "{other:?}");
        }
    }
}
