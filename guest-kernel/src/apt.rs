// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian packages without installing them: apt with a configuration and directories of its own, so that it needs no
//! rights, and neither uses nor changes the state of the system's apt. apt checks signatures and hashes as always.

use self::sources::Found;
use crate::cache::{self, Cache, Key, Lock, hash_file, remove};
use crate::command::{self, Tool, package_of};
use crate::progress::{Amount, Progress};
use crate::version::Version;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Which archives to look in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The Debian archives that the system's own sources name.
    System,
    /// Debian's stable, backports and unstable suites, for series the system's release does not have.
    Archive,
}

impl Reach {
    pub(crate) const ALL: [Self; 2] = [Self::System, Self::Archive];

    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Archive => "archive",
        }
    }

    fn owner(self) -> &'static str {
        match self {
            Self::System => "of the system's Debian archives",
            Self::Archive => "of Debian's other suites",
        }
    }
}

/// One version of one package, as apt's lists describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) size: u64,
    pub(crate) sha256: String,
    pub(crate) depends: String,
}

/// apt, reaching some archives.
pub(crate) struct Apt<'a> {
    cache: &'a Cache,
    progress: &'a dyn Progress,
    reach: Reach,
    dir: PathBuf,
    found: Found,
    _lock: Lock,
}

/// Lists older than this are fetched again before looking for something new.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

impl<'a> Apt<'a> {
    /// Sets apt up in the cache. `None` where there are no archives to reach.
    pub(crate) fn open(
        cache: &'a Cache,
        progress: &'a dyn Progress,
        reach: Reach,
    ) -> Result<Option<Self>, Error> {
        let keyrings = Path::new("/usr/share/keyrings");
        let found = match reach {
            Reach::System => sources::of_system(Path::new("/etc/apt"), keyrings),
            Reach::Archive => sources::archive(keyrings),
        };
        if found.sources.is_empty() {
            return Ok(None);
        }
        let wait = || progress.note("waiting for another copra that is using apt");
        let lock = cache.lock(&format!("apt-{}", reach.name()), wait)?;
        let dir = cache.dir("apt")?.join(reach.name());
        let apt = Self { cache, progress, reach, dir, found, _lock: lock };
        // The system may have fewer than last time.
        remove(&apt.dir.join("sources.list.d"));
        for dir in ["state/lists/partial", "cache/archives/partial", "sources.list.d"] {
            let dir = apt.dir.join(dir);
            fs::create_dir_all(&dir).map_err(|e| cache::Error::io("create", &dir, e))?;
        }
        let text = apt.found.text();
        cache.write(&apt.dir.join("sources.list.d/debian.sources"), text.as_bytes())?;
        cache.write(&apt.dir.join("state/status"), b"")?;
        cache.write(&apt.config(), configuration(&apt.dir).as_bytes())?;
        apt.store_sources(&text)?;
        Ok(Some(apt))
    }

    /// Fetches the package lists, if there are none or they are old. Why that failed is added to `reasons`: lists that are partly
    /// old are better than none, and what is wanted may be in an archive that did answer.
    ///
    /// # Errors
    /// Of the cache only.
    pub(crate) fn update(&self, reasons: &mut Vec<String>) -> Result<(), Error> {
        match self.fetch_lists() {
            Err(reason @ Error::Cache(_)) => return Err(reason),
            Err(reason) => reasons.push(reason.to_string()),
            Ok(()) => {}
        }
        Ok(())
    }

    fn fetch_lists(&self) -> Result<(), Error> {
        let age = Cache::read(&self.stamp())?.and_then(|(_, at)| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age < FRESH) {
            return Ok(());
        }
        let _ = fs::remove_file(self.stamp());
        // apt-get does not report that the disk is full; it waits for ever.
        self.cache.require_space(SPARE, "package lists")?;
        let lists = format!("package lists {}", self.reach.owner());
        let names: Vec<String> = self.found.sources.iter().map(ToString::to_string).collect();
        self.progress.step(&format!("Fetching {lists} ({})", names.join("; ")));
        for refused in &self.found.refused {
            self.progress.note(refused);
        }
        let purpose = format!("fetch {lists}");
        let tool = self.tool("apt-get", &purpose).args(["--error-on=any", "update"]);
        self.run(&purpose, tool, |percent| self.progress.advance(Amount::percent(percent)))?;
        Ok(self.cache.write(&self.stamp(), b"")?)
    }

    /// Every version of the packages whose names begin with `prefix` and that `wanted` accepts.
    pub(crate) fn packages(
        &self,
        prefix: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Package>, Error> {
        let names = self.tool("apt-cache", "list packages").args(["pkgnames", prefix]).output()?;
        let names: Vec<&str> = names.lines().filter(|name| wanted(name)).collect();
        if names.is_empty() {
            return Ok(vec![]);
        }
        let text = self.tool("apt-cache", "look up packages").arg("show").args(names).output()?;
        Ok(text.split("\n\n").filter_map(stanza).collect())
    }

    /// Every version of the packages of these names; those that are not known are left out.
    pub(crate) fn named(&self, names: &[String]) -> Result<Vec<Package>, Error> {
        let all = self.tool("apt-cache", "list packages").arg("pkgnames").output()?;
        let all: std::collections::BTreeSet<&str> = all.lines().collect();
        let known: Vec<&String> = names.iter().filter(|name| all.contains(name.as_str())).collect();
        if known.is_empty() {
            return Ok(vec![]);
        }
        let text = self.tool("apt-cache", "look up packages").arg("show").args(known).output()?;
        Ok(text.split("\n\n").filter_map(stanza).collect())
    }

    /// Downloads a package into `dir`.
    pub(crate) fn download(&self, package: &Package, dir: &Path) -> Result<PathBuf, Error> {
        let Package { name, version, size, .. } = package;
        self.progress.step(&format!("Downloading {name} {version}"));
        self.cache.require_space(size + SPARE, &format!("the package {name}"))?;
        let purpose = format!("download {name} {version}");
        let tool = self.tool("apt-get", &purpose).args(["download", &format!("{name}={version}")]).dir(dir);
        self.run(&purpose, tool, |percent| {
            self.progress.advance(Amount::bytes(size * percent / 100, *size));
        })?;
        let debs = fs::read_dir(dir).map_err(|e| cache::Error::io("list", dir, e))?.flatten();
        let deb = debs.map(|entry| entry.path()).find(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            file.starts_with(&format!("{name}_")) && path.extension().is_some_and(|e| e == "deb")
        });
        let deb = deb.ok_or_else(|| Error::NotThere { package: name.clone() })?;
        let sha256 = hash_file(&deb).map_err(|e| cache::Error::io("read", &deb, e))?;
        if sha256 == package.sha256 { Ok(deb) } else { Err(Error::Hash { package: name.clone(), sha256 }) }
    }

    fn run(&self, purpose: &str, tool: Tool, mut percent: impl FnMut(u64)) -> Result<(), Error> {
        let mut bad_calls: Vec<String> = Vec::new();
        let done = tool.arg("-q").args(["-o", "APT::Status-Fd=1"]).lines(|line| {
            let mut fields = line.strip_prefix("dlstatus:").into_iter().flat_map(|rest| rest.split(':'));
            if let Some(Ok(done)) = fields.nth(1).map(str::parse::<f64>) {
                #[expect(clippy::cast_sign_loss, reason = "per cent are not negative")]
                percent(done.clamp(0.0, 100.0) as u64);
            } else if let Some(complaint) = line.strip_prefix("E: ") {
                bad_calls.push(format!("\n  {complaint}"));
            }
        });
        match done {
            Err(_) if self.cache.is_full() => Err(cache::Error::full("a download", &self.dir, None).into()),
            Err(command::Error::Failed { .. }) if !bad_calls.is_empty() => {
                // The first lines name the cause; the last is a summary.
                bad_calls.truncate(2);
                Err(Error::Apt { purpose: purpose.to_owned(), bad_calls: bad_calls.concat() })
            }
            done => Ok(done?),
        }
    }

    fn tool(&self, program: &str, purpose: &str) -> Tool {
        Tool::new(program, purpose).arg("-c").arg(self.config()).env("DEBIAN_FRONTEND", "noninteractive")
    }

    fn config(&self) -> PathBuf {
        self.dir.join("apt.conf")
    }

    /// Its time is that of the last complete update.
    fn stamp(&self) -> PathBuf {
        self.dir.join("updated")
    }

    /// New sources need new lists.
    fn store_sources(&self, text: &str) -> Result<(), Error> {
        let key = Key::of([text]);
        let known = self.dir.join("sources.key");
        if Cache::read(&known)?.is_none_or(|(old, _)| old != key.as_str().as_bytes()) {
            let _ = fs::remove_file(self.stamp());
            self.cache.write(&known, key.as_str().as_bytes())?;
        }
        Ok(())
    }
}

/// Room that must be left beyond a download.
const SPARE: u64 = 64 << 20;

fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    // The system's configuration is read first: proxies and keys are wanted, hooks and extra indexes are not.
    format!(
        r#"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg;
Dir::State "{dir}/state";
Dir::State::status "{dir}/state/status";
Dir::Cache "{dir}/cache";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{dir}/sources.list.d";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
"#
    )
}

fn stanza(text: &str) -> Option<Package> {
    let field = |name: &str| {
        let line =
            text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')));
        line.map(|line| line[name.len() + 1..].trim())
    };
    Some(Package {
        name: field("Package")?.to_owned(),
        version: Version::new(field("Version")?),
        size: field("Size")?.parse().ok()?,
        sha256: field("SHA256")?.to_owned(),
        depends: field("Depends").unwrap_or_default().to_owned(),
    })
}

/// Fails with one message if apt or dpkg are missing.
pub(crate) fn require_tools() -> Result<(), Error> {
    let missing: Vec<_> = ["apt-get", "apt-cache", "dpkg-deb", "tar"]
        .into_iter()
        .filter(|tool| !crate::tools::is_installed(tool))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|tool| package_of(tool)).collect();
    packages.dedup();
    Err(Error::NoApt { tools: missing.join(", "), packages: packages.join(" ") })
}

/// Why a package could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a Debian system, or a very bare one.
    #[error(
        "Debian packages are fetched with Debian's own tools, and {tools} is missing here; install {packages}, or fetch on a Debian machine and name the kernel as path:FILE"
    )]
    NoApt {
        /// The programs.
        tools: String,
        /// Their packages.
        packages: String,
    },
    /// apt succeeded without result.
    #[error("apt-get reported success, but did not leave the package {package}; try again")]
    NotThere {
        /// The package.
        package: String,
    },
    /// The download does not match apt's signed lists.
    #[error(
        "the downloaded package {package} has SHA-256 {sha256}, which is not the one in the signed list; try again"
    )]
    Hash {
        /// The package.
        package: String,
        /// What was computed.
        sha256: String,
    },
    /// apt failed.
    #[error("cannot {purpose}:{bad_calls}")]
    Apt {
        /// What it was to do.
        purpose: String,
        /// Its error messages.
        bad_calls: String,
    },
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] command::Error),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] cache::Error),
}

mod install;
mod sources;
