// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page-state machine of platforms with two separate contents: SEV-SNP, TDX and VBS.
//!
//! One table per architecture, one row per state and cause, each with its source. What is not in the table cannot
//! happen: [`transition`] gives `None`, and the caller refuses the request.

use types::{PageState, View};

/// The architecture that defines the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// AMD's reverse map table (RMP): assigned, validated.
    Snp,
    /// Intel's secure EPT (SEPT): pending, mapped; the shared EPT beside it.
    Tdx,
    /// Hyper-V's virtual top of memory: host visibility.
    Vbs,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 3] = [Self::Snp, Self::Tdx, Self::Vbs];
}

/// What makes a page change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// PVALIDATE with EDX = 1; TDG.MEM.PAGE.ACCEPT.
    Accept,
    /// PVALIDATE with EDX = 0.
    Rescind,
    /// The guest requests a shared page of the hypervisor: PSC, `MapGPA`, host visibility.
    MakeShared,
    /// The guest requests a private page of the hypervisor.
    MakePrivate,
    /// The guest accesses the page through its private view.
    AccessPrivate,
    /// The guest accesses the page through its shared view.
    AccessShared,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 6] = [
        Self::Accept,
        Self::Rescind,
        Self::MakeShared,
        Self::MakePrivate,
        Self::AccessPrivate,
        Self::AccessShared,
    ];

    /// The guest accessing a page through `view`.
    pub fn access(view: View) -> Self {
        match view {
            View::Private => Self::AccessPrivate,
            View::Shared => Self::AccessShared,
        }
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "accepted by the guest",
            Self::Rescind => "validation rescinded by the guest",
            Self::MakeShared => "made shared at the guest's request",
            Self::MakePrivate => "made private at the guest's request",
            Self::AccessPrivate => "accessed through the private view",
            Self::AccessShared => "accessed through the shared view",
        }
    }
}

/// What the guest gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It happened.
    Done,
    /// The page was so already: PVALIDATE's carry flag, `TDX_PAGE_ALREADY_ACCEPTED`, or a request with no effect.
    Unchanged,
    /// The access does not complete: #VC, #VE or the end of the TD.
    Denied,
    /// The access completes without a change of state, as the hypervisor's behaviour is not documented.
    Tolerated,
}

/// One row's right-hand side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// State afterwards.
    pub to: PageState,
    /// What the guest gets.
    pub answer: Answer,
    /// Implicit conversion by the hypervisor after `KVM_EXIT_MEMORY_FAULT`, because the guest accessed the page: a
    /// mismatch.
    pub implicit: bool,
    /// Where it is written.
    pub source: &'static str,
}

struct Row(PageState, Cause, PageState, Answer, bool, &'static str);

const PVALIDATE: &str = "AMD APM volume 3, PVALIDATE";
const RMP_CHECK: &str = "AMD APM volume 2 §15.36.10, RMP and VMPL access checks";
const PSC: &str = "GHCB specification 2.03 §4.1.6, SNP page state change";
/// Implicit conversion: the nested fault leaves KVM as `KVM_EXIT_MEMORY_FAULT` and user space converts the page.
const MEMORY_FAULT: &str = "Documentation/virt/kvm/api.rst, KVM_EXIT_MEMORY_FAULT";
const ACCEPT: &str = "TDX Module ABI, TDG.MEM.PAGE.ACCEPT";
const MAP_GPA: &str = "TDX Guest-Host-Communication Interface §3.2, TDG.VP.VMCALL<MapGPA>";
const SEPT: &str = "TDX Module base specification, secure EPT entry states";
const VISIBILITY: &str = "Hyper-V TLFS, HvCallModifySparseGpaPageHostVisibility";
const UNDOCUMENTED: &str = "not documented for VBS: recorded, and the access completes";

use Answer::{Denied, Done, Tolerated, Unchanged};
use Cause::{Accept, AccessPrivate, AccessShared, MakePrivate, MakeShared, Rescind};
use PageState::{Private, Shared, Unaccepted};

#[rustfmt::skip]
const SNP: &[Row] = &[
    Row(Unaccepted, Accept,       Private,    Done,      false, PVALIDATE),
    Row(Private,    Accept,       Private,    Unchanged, false, PVALIDATE),
    Row(Shared,     Accept,       Private,    Done,      true,  MEMORY_FAULT),
    Row(Unaccepted, Rescind,      Unaccepted, Unchanged, false, PVALIDATE),
    Row(Private,    Rescind,      Unaccepted, Done,      false, PVALIDATE),
    Row(Shared,     Rescind,      Unaccepted, Unchanged, true,  MEMORY_FAULT),
    Row(Unaccepted, MakeShared,   Shared,     Done,      false, PSC),
    Row(Private,    MakeShared,   Shared,     Done,      false, PSC),
    Row(Shared,     MakeShared,   Shared,     Unchanged, false, PSC),
    Row(Unaccepted, MakePrivate,  Unaccepted, Unchanged, false, PSC),
    Row(Private,    MakePrivate,  Private,    Unchanged, false, PSC),
    Row(Shared,     MakePrivate,  Unaccepted, Done,      false, PSC),
    Row(Unaccepted, AccessPrivate, Unaccepted, Denied,    false, RMP_CHECK),
    Row(Private,    AccessPrivate, Private,    Done,      false, RMP_CHECK),
    Row(Shared,     AccessPrivate, Unaccepted, Denied,    true,  MEMORY_FAULT),
    Row(Unaccepted, AccessShared,  Shared,     Done,      true,  MEMORY_FAULT),
    Row(Private,    AccessShared,  Shared,     Done,      true,  MEMORY_FAULT),
    Row(Shared,     AccessShared,  Shared,     Done,      false, RMP_CHECK),
];

#[rustfmt::skip]
const TDX: &[Row] = &[
    Row(Unaccepted, Accept,       Private,    Done,      false, ACCEPT),
    Row(Private,    Accept,       Private,    Unchanged, false, ACCEPT),
    Row(Shared,     Accept,       Private,    Done,      true,  MEMORY_FAULT),
    Row(Unaccepted, MakeShared,   Shared,     Done,      false, MAP_GPA),
    Row(Private,    MakeShared,   Shared,     Done,      false, MAP_GPA),
    Row(Shared,     MakeShared,   Shared,     Unchanged, false, MAP_GPA),
    Row(Unaccepted, MakePrivate,  Unaccepted, Unchanged, false, MAP_GPA),
    Row(Private,    MakePrivate,  Private,    Unchanged, false, MAP_GPA),
    Row(Shared,     MakePrivate,  Unaccepted, Done,      false, MAP_GPA),
    Row(Unaccepted, AccessPrivate, Unaccepted, Denied,    false, SEPT),
    Row(Private,    AccessPrivate, Private,    Done,      false, SEPT),
    Row(Shared,     AccessPrivate, Unaccepted, Denied,    true,  MEMORY_FAULT),
    Row(Unaccepted, AccessShared,  Shared,     Done,      true,  MEMORY_FAULT),
    Row(Private,    AccessShared,  Shared,     Done,      true,  MEMORY_FAULT),
    Row(Shared,     AccessShared,  Shared,     Done,      false, SEPT),
];

#[rustfmt::skip]
const VBS: &[Row] = &[
    Row(Private,    MakeShared,   Shared,     Done,      false, VISIBILITY),
    Row(Shared,     MakeShared,   Shared,     Unchanged, false, VISIBILITY),
    Row(Private,    MakePrivate,  Private,    Unchanged, false, VISIBILITY),
    Row(Shared,     MakePrivate,  Private,    Done,      false, VISIBILITY),
    Row(Private,    AccessPrivate, Private,    Done,      false, VISIBILITY),
    Row(Shared,     AccessPrivate, Shared,     Tolerated, false, UNDOCUMENTED),
    Row(Private,    AccessShared,  Private,    Tolerated, false, UNDOCUMENTED),
    Row(Shared,     AccessShared,  Shared,     Done,      false, VISIBILITY),
];

/// What `cause` does to a page in state `from`; `None` if this architecture has no such call or state.
pub fn transition(architecture: Architecture, from: PageState, cause: Cause) -> Option<Transition> {
    let table = match architecture {
        Architecture::Snp => SNP,
        Architecture::Tdx => TDX,
        Architecture::Vbs => VBS,
    };
    table.iter().find(|row| (row.0, row.1) == (from, cause)).map(|row| Transition {
        to: row.2,
        answer: row.3,
        implicit: row.4,
        source: row.5,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every() -> impl Iterator<Item = (Architecture, PageState, Cause, Option<Transition>)> {
        Architecture::ALL.into_iter().flat_map(|a| {
            PageState::ALL
                .iter()
                .copied()
                .flat_map(move |s| Cause::ALL.into_iter().map(move |c| (a, s, c, transition(a, s, c))))
        })
    }

    #[test]
    fn every_state_that_can_be_reached_answers_every_call_the_architecture_has() {
        for architecture in Architecture::ALL {
            let mut reached = vec![Private];
            let mut next = 0;
            while let Some(&state) = reached.get(next) {
                for cause in Cause::ALL {
                    match transition(architecture, state, cause) {
                        Some(t) if !reached.contains(&t.to) => reached.push(t.to),
                        Some(_) => {}
                        None => assert!(
                            transition(architecture, Private, cause).is_none(),
                            "{architecture:?} {state:?} {cause:?}"
                        ),
                    }
                }
                next += 1;
            }
        }
    }

    #[test]
    fn no_row_is_there_twice() {
        for table in [SNP, TDX, VBS] {
            for (i, row) in table.iter().enumerate() {
                assert!(table[i + 1..].iter().all(|other| (other.0, other.1) != (row.0, row.1)));
            }
        }
    }

    #[test]
    fn accepted_means_private_and_a_denied_access_never_finds_a_page_its_view_may_access() {
        for (architecture, from, cause, found) in every() {
            let Some(t) = found else { continue };
            let at = format!("{architecture:?} {from:?} {cause:?}");
            match cause {
                Accept => assert_eq!(t.to, Private, "{at}"),
                Rescind => assert_eq!(t.to, Unaccepted, "{at}"),
                MakeShared => assert_eq!(t.to, Shared, "{at}"),
                MakePrivate => assert_ne!(t.to, Shared, "{at}"),
                AccessPrivate | AccessShared => {
                    let view = if cause == AccessPrivate { View::Private } else { View::Shared };
                    assert_eq!(t.answer == Done, t.to.admits(view), "{at}");
                    assert_eq!(from.admits(view), t.answer == Done && !t.implicit, "{at}");
                }
            }
            assert!(t.answer != Unchanged || t.implicit || t.to == from, "{at}");
        }
    }

    #[test]
    fn only_acceptance_makes_a_page_private_where_there_is_acceptance() {
        for (architecture, from, cause, found) in every() {
            if architecture != Architecture::Vbs && found.is_some_and(|t| t.to == Private) && from != Private
            {
                assert_eq!(cause, Accept, "{architecture:?} {from:?}");
            }
        }
    }
}
