//! The mistake that the kernel `build:mutants` makes during a case.

use std::time::Duration;

use guest_kernel::mutants::SWITCH;
use protocol::{Batch, Outcome, Step};

use crate::session::Session;
use crate::setup::Mutant;

/// Why the kernel does not make the mistake.
pub(super) enum NotChosen {
    /// It knows none.
    Unknown(String),
    /// The guest ended.
    Ended(String),
}

/// Has the kernel make this mistake from now on.
pub(super) fn choose(session: &mut Session, mutant: Mutant, limit: Duration) -> Result<(), NotChosen> {
    let number = mutant.0.to_string();
    // The worker of the case before may have given up what this takes.
    let mut batch = Batch::new().new_worker();
    batch.push(&Step::WriteFile { path: SWITCH.as_bytes(), create: false, data: number.as_bytes() });
    match session.execute(&batch, limit).map(|results| results.outcomes.into_iter().next()) {
        Ok(Some(Outcome::Value(_))) => Ok(()),
        Ok(other) => Err(NotChosen::Unknown(format!(
            "choosing mutant {mutant}: writing {number} to {SWITCH} gave {other:?}; run it on build:mutants or mutant:POLICY"
        ))),
        Err(ended) => {
            Err(NotChosen::Ended(format!("the guest ended while mutant {mutant} was chosen: {ended}")))
        }
    }
}
