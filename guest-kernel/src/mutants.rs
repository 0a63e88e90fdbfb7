//! Kernels that are wrong on purpose, one mistake each: what tests of /dev/mem must tell from the real thing.
//!
//! `mutant:NAME` is the kernel of a policy with `mutants/NAME.patch` on top. Its policy is the one it claims to follow, so
//! that a run of the cases on it must end with a finding.

/// A kernel with a mistake.
#[derive(Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// The policy it is made from, and claims to follow.
    pub policy: &'static str,
    /// What is broken, in one line.
    pub broken: &'static str,
    pub(crate) patch: (&'static str, &'static str),
}

/// The table, and with it the texts of the patches.
macro_rules! mutants {
    ($($name:literal of $policy:literal: $broken:literal;)*) => {
        /// All of them.
        pub static MUTANTS: &[Mutant] = &[$(Mutant {
            name: $name,
            policy: $policy,
            broken: $broken,
            patch: (
                concat!("mutants/", $name, ".patch"),
                include_str!(concat!("../mutants/", $name, ".patch")),
            ),
        }),*];
    };
}

mutants! {
    "range-short" of "upstream": "mmap(2) does not check the last page of a range";
    "range-first-only" of "upstream": "mmap(2) checks the first page of a range only";
    "range-shifted" of "upstream": "mmap(2) checks the page after the one it is about";
    "mmap-unchecked" of "upstream": "mmap(2) checks no page at all, only read(2) and write(2) do";
    "mmap-zero-offset" of "upstream": "mmap(2) at offset 0 is allowed whatever its length";
    "mmap-einval" of "upstream": "mmap(2) of a denied page fails with EINVAL";
    "mmap-restricted-denied" of "upstream": "mmap(2) denies restricted pages instead of mapping them";
    "read-eacces" of "upstream": "read(2) of a denied page fails with EACCES";
    "read-partial" of "upstream": "read(2) that ends in a denied page returns what came before it";
    "read-skips-denied" of "upstream": "read(2) of a denied page gives zeros, as if it were restricted";
    "read-restricted-shown" of "upstream": "read(2) of low System RAM shows its bytes";
    "write-unchecked" of "upstream": "write(2) drops what is meant for denied pages instead of failing";
    "write-restricted-taken" of "upstream": "write(2) to low System RAM takes effect";
    "write-restricted-short" of "upstream": "write(2) does not count the bytes it drops";
    "rawio-forgotten" of "upstream": "opening needs no CAP_SYS_RAWIO";
    "lockdown-forgotten" of "upstream": "opening does not ask lockdown";
    "seek-anywhere" of "upstream": "lseek(2) accepts offsets that look like errors";
    "top-of-ram-short" of "upstream": "the last byte of RAM counts as outside";
    "allowed-inverted" of "upstream": "devmem_is_allowed() takes System RAM for the rest and the rest for System RAM";
    "partly-ram" of "upstream": "a page that is System RAM in part only counts as none";
    "low-limit-short" of "upstream": "the exception for restricted pages ends at 64 KiB";
    "low-limit-long" of "upstream": "the first page above 1 MiB counts as below";
    "busy-ignored" of "upstream": "ranges that a driver has claimed are allowed in spite of IO_STRICT_DEVMEM";
    "mapping-shared" of "upstream": "mmap(2) loses the encryption bit";
    "tables-shared" of "upstream": "ioremap() and memremap() lose the encryption bit for ACPI tables";
    "all-private" of "upstream": "ioremap() and memremap() set the encryption bit for device memory";
    "eperm-mem-only" of "open-eperm": "/dev/port is forgotten";
    "eperm-port-only" of "open-eperm": "/dev/mem is forgotten";
    "eperm-readers-only" of "open-eperm": "only descriptors for reading are refused";
    "eperm-writers-only" of "open-eperm": "only descriptors for writing are refused";
    "eperm-eacces" of "open-eperm": "the open fails with EACCES";
    "eperm-einval" of "open-eperm": "the open fails with EINVAL, as the first version did";
    "eperm-inverted" of "open-eperm": "everyone but encrypted guests is refused";
    "eperm-host-attribute" of "open-eperm": "the check asks for a host's memory encryption";
    "eperm-state-attribute" of "open-eperm": "the check asks for encrypted registers, which SEV and TDX guests do not report";
    "eperm-tdx-only" of "open-eperm": "the check covers TDX guests only, as the first version did";
    "eperm-option-misspelt" of "open-eperm": "the option's name lacks CONFIG_, so that the check is never made";
    "eperm-in-seek" of "open-eperm": "the check is in lseek(2) instead of open(2)";
    "deny-restricts" of "range-deny": "denied pages are called restricted, so that reading gives zeros";
    "deny-after-ram" of "range-deny": "the check comes after that for System RAM";
    "deny-low-only" of "range-deny": "only the first MiB is denied";
    "deny-not-page0" of "range-deny": "page 0 is forgotten";
    "deny-inverted" of "range-deny": "everything is denied to everyone but encrypted guests";
    "bits-no-devmem" of "lockdown-cc": "the bit for /dev/mem is not set";
    "bits-no-pci" of "lockdown-cc": "the bit for PCI access is not set";
    "bits-off-by-one" of "lockdown-cc": "setting one bit sets the one after it";
    "bits-everywhere" of "lockdown-cc": "ordinary guests get the bits as well";
    "bits-block-levels" of "lockdown-cc": "once a bit is set no level can be set any more";
    "level-without-devmem" of "lockdown-cc": "a level leaves out /dev/mem";
    "low-ram-kept" of "no-low-1m": "low System RAM is still called restricted";
    "low-busy-kept" of "no-low-1m": "busy ranges below 1 MiB are still allowed";
    "zeros-shared-only" of "mmap-zeros": "private mappings still map the page itself";
    "zeros-private-only" of "mmap-zeros": "shared mappings still map the page itself";
    "zeros-last-page" of "mmap-zeros": "the last page alone decides whether the range is restricted";
    "zeros-by-number" of "mmap-zeros": "the kernel's zero page is mapped by its number";
    "zeros-wrong-offset" of "mmap-zeros": "a shared mapping begins in its file where the page is in memory";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{POLICIES, Recipe};
    use crate::source::touched_by;
    use crate::spec::{KernelSpec, Name};
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn the_table_and_the_files_agree() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants");
        let files: BTreeSet<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| Some(name.strip_suffix(".patch")?.to_owned()))
            .collect();
        let table: BTreeSet<String> = MUTANTS.iter().map(|mutant| mutant.name.to_owned()).collect();
        assert_eq!(files, table);
        assert_eq!(table.len(), MUTANTS.len());
        for mutant in MUTANTS {
            let subject = format!("Subject: [MUTANT of {}] {}\n", mutant.policy, mutant.broken);
            assert!(mutant.patch.1.starts_with(&subject), "{}", mutant.name);
        }
    }

    #[test]
    fn every_mutant_is_its_policys_kernel_with_one_more_patch() {
        for mutant in MUTANTS {
            let policy = Recipe::predefined(mutant.policy).unwrap();
            let recipe = Recipe::mutant(mutant.name).unwrap();
            assert_eq!(recipe.policy(), Some(mutant.policy));
            assert_eq!(recipe.config().unwrap(), policy.config().unwrap());
            let (patches, before) = (recipe.patches().unwrap(), policy.patches().unwrap());
            assert_eq!(patches[..before.len()], before[..]);
            assert_eq!(patches.len(), before.len() + 1);
            assert_eq!(touched_by(patches.last().unwrap()).unwrap().len(), 1, "{}", mutant.name);
            assert!(recipe.name().parse::<Name>().is_ok(), "{}", mutant.name);
            assert_eq!(recipe.spec().unwrap(), KernelSpec::Mutant(mutant.name.parse().unwrap()));
        }
    }

    #[test]
    fn most_policies_have_mutants() {
        // The others have no code of their own that could be wrong.
        for policy in POLICIES.iter().filter(|policy| !["lockdown-all", "no-devmem"].contains(&policy.name)) {
            assert!(
                MUTANTS.iter().filter(|mutant| mutant.policy == policy.name).count() >= 2,
                "{}",
                policy.name
            );
        }
    }
}
