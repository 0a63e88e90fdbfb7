//! What may be chosen about a guest beside its kernel and platform.

use crate::names::named;

named! {
    /// What follows an access that a page's state forbids.
    pub enum Mode ("mode") {
        Record = "record", "it is recorded and goes through, and nothing changes: one run shows all of them";
        Faithful = "faithful", "what hardware and the usual hypervisor do: pages are converted, exceptions raised, guests end";
    }
}

named! {
    /// What the option ROM and system ROM area (0xC0000-0xFFFFF) is when the guest starts.
    pub enum RomArea ("state of the ROM area") {
        Validated = "validated", "private and accepted, with the firmware's bytes";
        Unaccepted = "unaccepted", "assigned to the guest and never accepted: a private touch is a violation";
        Shared = "shared", "the hypervisor's: a private touch is a violation, a shared one is not";
    }
}

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// What follows a forbidden access.
    pub mode: Mode,
    /// The ROM area; `None` takes the platform's usual.
    pub rom: Option<RomArea>,
    /// The TD gets #VE for private memory it has not accepted, instead of ending (TD attribute `SEPT_VE_DISABLE` clear).
    pub sept_ve: bool,
    /// Percent of the RAM nobody uses at launch that is unaccepted, where the platform has such a thing.
    pub unaccepted: u8,
}

impl Default for Setup {
    fn default() -> Self {
        Self { mode: Mode::Record, rom: None, sept_ve: false, unaccepted: 100 }
    }
}

/// What a case wants otherwise than the run has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// What follows a forbidden access.
    pub mode: Option<Mode>,
    /// The ROM area.
    pub rom: Option<RomArea>,
    /// #VE instead of the TD's end.
    pub sept_ve: Option<bool>,
}

impl Setup {
    /// This setup as a case wants it.
    #[must_use]
    pub fn with(self, wishes: Wishes) -> Self {
        Self {
            mode: wishes.mode.unwrap_or(self.mode),
            rom: wishes.rom.or(self.rom),
            sept_ve: wishes.sept_ve.unwrap_or(self.sept_ve),
            unaccepted: self.unaccepted,
        }
    }

    /// A guest booted for `self` serves `other` as well: the mode can change while it runs.
    pub fn boots_like(self, other: Self) -> bool {
        Self { mode: other.mode, ..self } == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_gets_what_it_wishes_and_the_rest_stays() {
        let run = Setup { unaccepted: 50, ..Setup::default() };
        let wishes = Wishes { mode: Some(Mode::Faithful), ..Wishes::default() };
        let case = run.with(wishes);
        assert_eq!((case.mode, case.unaccepted, case.rom), (Mode::Faithful, 50, None));
        assert!(case.boots_like(run));
        let other = run.with(Wishes { rom: Some(RomArea::Shared), ..Wishes::default() });
        assert!(!other.boots_like(run));
    }
}
