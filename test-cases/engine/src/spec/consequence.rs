// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What follows a forbidden access where it has consequences: by the VMM's own page-state machine and platforms.

use types::{AccessKind, AccessTarget, PageState, Platform};
use vmm::memory::Mismatch;
use vmm::memory::protected::state::{Answer, Architecture, Cause, transition};
use vmm::platform::services::Consequence as Denial;

use super::answer::Forbidden;
use super::guest::platform_model;

/// What follows, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consequence {
    /// What happens.
    pub what: String,
    /// Where that is defined, if the simulation has it from a specification.
    pub source: Option<&'static str>,
}

/// What follows in mode `faithful`.
pub fn consequence(platform: Platform, access: Forbidden) -> Consequence {
    let mut model = platform_model(platform);
    let state = match access.state {
        AccessTarget::Device => {
            return Consequence { what: denial(&model.private_device(0)), source: None };
        }
        // The page's state admits it.
        AccessTarget::Refused => {
            return Consequence { what: "the access completes".to_owned(), source: None };
        }
        AccessTarget::Page(state) => state,
    };
    let architecture = match platform {
        Platform::Snp => Architecture::Snp,
        Platform::Tdx => Architecture::Tdx,
        Platform::Vbs => Architecture::Vbs,
        Platform::None | Platform::Sev => {
            return Consequence { what: "the access completes".to_owned(), source: None };
        }
    };
    let Some(step) = transition(architecture, state, Cause::access(access.kind.view())) else {
        return Consequence { what: "cannot happen".to_owned(), source: None };
    };
    let what = match step.answer {
        Answer::Denied => {
            let (view, kind) = (access.kind.view(), access.kind.access());
            let mismatch = Mismatch { gpa: 0, view, state, kind, refused: false };
            denial(&model.denied(&mismatch, 0, true))
        }
        _ if step.to != state && step.to == PageState::Shared => {
            "the hypervisor makes the page shared, and what the guest had there is lost".to_owned()
        }
        Answer::Done | Answer::Unchanged | Answer::Tolerated => "the access completes".to_owned(),
    };
    Consequence { what, source: Some(step.source) }
}

fn denial(denial: &Denial) -> String {
    match denial {
        Denial::Resume => "the access completes".to_owned(),
        Denial::Exception(exception) => {
            let code = exception.error_code.map(|code| format!(" {code:#x}")).unwrap_or_default();
            let name = if exception.vector == 29 { "#VC" } else { "#VE" };
            format!("{name}{code}: SIGBUS to the process, or the guest's end if the kernel accesses")
        }
        Denial::End(_) => "the guest is ended".to_owned(),
    }
}

/// A forbidden access in words: `a read through the shared view of a private page`.
impl std::fmt::Display for Forbidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let access = match self.kind.access() {
            AccessKind::Read => "read",
            AccessKind::Write => "write",
            AccessKind::Fetch => "fetch",
        };
        let view = self.kind.view();
        match self.state {
            AccessTarget::Device => write!(f, "{access} of a device through the {view} view"),
            AccessTarget::Page(PageState::Unaccepted) => {
                write!(f, "{access} of memory never accepted, through the {view} view")
            }
            AccessTarget::Refused => {
                write!(f, "{access} of a shared page whose conversion failed, through the {view} view")
            }
            AccessTarget::Page(state) => write!(f, "{access} of a {state} page through the {view} view"),
        }
    }
}
