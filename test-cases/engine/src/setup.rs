// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What may be chosen about a guest beside its kernel and platform.

use std::fmt;
use std::str::FromStr;

use types::names::{UnknownName, named};
use types::{GuestLayout, Mode, RomArea};
use vmm::platform::failure::Failures;

named! {
    /// How far the kernel locks itself down (`lockdown=` on its command line).
    pub enum Lockdown ("lockdown level") {
        Integrity = "integrity", "nothing that changes the running kernel: no /dev/mem, no PCI BARs, no ports";
        Confidentiality = "confidentiality", "and nothing that shows its memory: no /proc/kcore";
    }
}

named! {
    /// Whether what a driver claimed is kept from /dev/mem (`iomem=` on the kernel's command line).
    pub enum Iomem ("iomem= word") {
        Strict = "strict", "even where STRICT_DEVMEM is off";
        Relaxed = "relaxed", "not even with IO_STRICT_DEVMEM";
    }
}

/// A mistake of the kernel `build:mutants`, by its number; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutant(pub u16);

impl FromStr for Mutant {
    type Err = UnknownName;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let names = || guest_kernel::mutants().iter().map(|mutant| mutant.name.as_str());
        guest_kernel::mutant_number(given).map(Self).ok_or_else(|| {
            let nearest = types::names::nearest(given, names()).map(str::to_owned);
            let known = vec!["`copra list --kernels --json` lists them as mutant:NAME".to_owned()];
            UnknownName { what: "mutant", given: given.to_owned(), nearest, known }
        })
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = usize::from(self.0).checked_sub(1).and_then(|place| guest_kernel::mutants().get(place));
        f.write_str(place.map_or(guest_kernel::mutants::NONE, |mutant| &mutant.name))
    }
}

/// The setup of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// What follows a forbidden access.
    pub mode: Mode,
    /// What firmware gives it.
    pub layout: GuestLayout,
    /// The TD gets #VE for private memory it has not accepted, instead of ending (TD attribute `SEPT_VE_DISABLE` clear).
    pub sept_ve: bool,
    /// `lockdown=`.
    pub lockdown: Option<Lockdown>,
    /// `iomem=`.
    pub iomem: Option<Iomem>,
    /// The mistake that the kernel makes from now on; `None` leaves it as it is.
    pub mutant: Option<Mutant>,
    /// Conversions of memory that fail.
    pub fail: Failures,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            mode: Mode::Record,
            layout: GuestLayout::default(),
            sept_ve: false,
            lockdown: None,
            iomem: None,
            mutant: None,
            fail: Failures::default(),
        }
    }
}

/// The settings that a case overrides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetupOverrides {
    /// What follows a forbidden access.
    pub mode: Option<Mode>,
    /// The ROM area.
    pub rom: Option<RomArea>,
    /// #VE instead of the TD's end.
    pub sept_ve: Option<bool>,
    /// `lockdown=`.
    pub lockdown: Option<Lockdown>,
    /// `iomem=`.
    pub iomem: Option<Iomem>,
    /// A mistake of `build:mutants`.
    pub mutant: Option<Mutant>,
    /// Conversions of memory that fail, in place of the run's.
    pub fail: Option<Failures>,
}

impl Setup {
    /// This setup as a case setup it.
    #[must_use]
    pub fn with(self, overrides: SetupOverrides) -> Self {
        Self {
            mode: overrides.mode.unwrap_or(self.mode),
            layout: GuestLayout { rom: overrides.rom.or(self.layout.rom), ..self.layout },
            sept_ve: overrides.sept_ve.unwrap_or(self.sept_ve),
            lockdown: overrides.lockdown.or(self.lockdown),
            iomem: overrides.iomem.or(self.iomem),
            mutant: overrides.mutant.or(self.mutant),
            fail: overrides.fail.unwrap_or(self.fail),
        }
    }

    /// Its parameters on the kernel command line.
    pub fn words(self) -> impl Iterator<Item = String> {
        let lockdown = self.lockdown.map(|level| format!("lockdown={level}"));
        lockdown.into_iter().chain(self.iomem.map(|word| format!("iomem={word}")))
    }

    /// A guest booted for `self` can be used for `other`: mode and mutant can change while it runs.
    pub fn boots_like(self, other: Self) -> bool {
        Self { mode: other.mode, mutant: other.mutant, ..self } == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_has_a_name_and_a_number() {
        for (name, number) in [("none", 0), ("range-short", 1)] {
            let mutant: Mutant = name.parse().unwrap();
            assert_eq!((mutant, mutant.to_string().as_str()), (Mutant(number), name));
        }
        let message = "range-shor".parse::<Mutant>().unwrap_err().to_string();
        assert!(
            message.starts_with("unknown mutant `range-shor` (did you mean `range-short`?)"),
            "{message}"
        );
    }

    #[test]
    fn a_case_overrides_what_it_sets_and_nothing_else() {
        let mut run = Setup::default();
        run.layout.unaccepted.percent = 50;
        let overrides = SetupOverrides { mode: Some(Mode::Faithful), ..SetupOverrides::default() };
        let case = run.with(overrides);
        let layout = case.layout;
        assert_eq!((case.mode, layout.unaccepted.percent, layout.rom), (Mode::Faithful, 50, None));
        assert!(case.boots_like(run));
        let other = run.with(SetupOverrides { rom: Some(RomArea::Shared), ..SetupOverrides::default() });
        assert!(!other.boots_like(run));
        let locked =
            run.with(SetupOverrides { lockdown: Some(Lockdown::Integrity), ..SetupOverrides::default() });
        assert!(!locked.boots_like(run));
        assert_eq!(locked.words().collect::<Vec<_>>(), ["lockdown=integrity"]);
        assert_eq!(run.words().count(), 0);
        let mutant =
            run.with(SetupOverrides { mutant: "range-short".parse().ok(), ..SetupOverrides::default() });
        assert_eq!(mutant.mutant, Some(Mutant(1)));
        assert!(mutant.boots_like(run));
    }
}
