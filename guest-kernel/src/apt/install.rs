// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which packages must be added to this machine's for others to work, as apt itself finds out, and their files.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Apt, Error, SPARE};
use crate::cache;
use crate::command::Tool;
use crate::progress::Amount;

/// The packages that this machine has; not there where it is no Debian.
const INSTALLED: &str = "/var/lib/dpkg/status";

/// Packages to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Names of their files, with hashes.
    pub(crate) files: Vec<String>,
    /// Bytes.
    pub(crate) size: u64,
}

impl Apt<'_> {
    /// What `apt-get install` would fetch for these packages: names, or paths of files.
    pub(crate) fn plan(&self, wanted: &[String]) -> Result<Plan, Error> {
        let purpose = format!("find {} and what it depends on", wanted.join(", "));
        let text = self.install(&purpose, wanted).args(["-qq", "--print-uris"]).output()?;
        Ok(plan(&text))
    }

    /// Fetches it into `dir`; gives the files.
    pub(crate) fn fetch(&self, wanted: &[String], plan: &Plan, dir: &Path) -> Result<Vec<PathBuf>, Error> {
        let partial = dir.join("partial");
        fs::create_dir_all(&partial).map_err(|e| cache::Error::io("create", &partial, e))?;
        self.progress.step(&format!("Downloading {} with {} packages", wanted.join(", "), plan.files.len()));
        self.cache.require_space(2 * plan.size + SPARE, "the packages")?;
        let purpose = format!("download {}", wanted.join(", "));
        let archives = format!("Dir::Cache::archives={}", dir.display());
        let tool = self.install(&purpose, wanted).args(["--download-only", "-o", &archives]);
        self.run(&purpose, tool, |percent| {
            self.progress.advance(Amount::bytes(plan.size * percent / 100, plan.size));
        })?;
        let files = fs::read_dir(dir).map_err(|e| cache::Error::io("list", dir, e))?.flatten();
        let mut files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
        files.sort();
        Ok(files)
    }

    fn install(&self, purpose: &str, wanted: &[String]) -> Tool {
        let tool = self.tool("apt-get", purpose).args(["-y", "--no-install-recommends"]);
        let tool = if Path::new(INSTALLED).is_file() {
            tool.args(["-o", &format!("Dir::State::status={INSTALLED}")])
        } else {
            tool
        };
        // Nothing is installed, so that no lock of the system's is needed.
        tool.args(["-o", "Debug::NoLocking=true"]).arg("install").args(wanted)
    }
}

/// Lines `'URI' FILE SIZE HASH`.
fn plan(text: &str) -> Plan {
    let mut plan = Plan::default();
    for line in text.lines().filter(|line| line.starts_with('\'')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [_, file, size, hash] = fields.as_slice() {
            plan.files.push(format!("{file} {hash}"));
            plan.size += size.parse::<u64>().unwrap_or_default();
        }
    }
    plan.files.sort();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_what_is_to_be_fetched() {
        let text = "'http://deb.debian.org/debian/pool/main/k/kmod/kmod_30%2b20221128-1_amd64.deb' kmod_30+20221128-1_amd64.deb 95180 MD5Sum:5cd0\n\
                    'http://deb.debian.org/debian/pool/main/a/a_1_all.deb' a_1_all.deb 20 SHA256:77\nsomething else\n";
        let files = ["a_1_all.deb SHA256:77", "kmod_30+20221128-1_amd64.deb MD5Sum:5cd0"];
        assert_eq!(plan(text), Plan { files: files.map(str::to_owned).to_vec(), size: 95_200 });
        assert_eq!(plan(""), Plan::default());
    }
}
