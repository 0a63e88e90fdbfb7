// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a command's guests run: on this machine, or on a KVM host that is started for it inside QEMU.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use types::Platform;
use vmm::probe::ProbeError;

use engine::observation::KvmHost;

/// Set inside a KVM host that `scripts/kvm-host` made.
const INSIDE: &str = "COPRA_IN_KVM_HOST";
/// `here`, `qemu` or `auto`.
const CHOICE: &str = "COPRA_KVM_HOST";

/// The scripts that make a KVM host, so that the command works without its repository.
static SCRIPTS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/scripts.rs"));

/// Where KVM works.
#[derive(Debug)]
pub enum Place {
    /// Guests run in this process.
    Here(KvmHost),
    /// Start over inside QEMU, for this reason.
    Elsewhere(String),
}

/// Why the KVM host in QEMU could not be started.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The scripts could not be written or executed.
    #[error("starting a KVM host: {what}: {source}")]
    Start {
        /// What was attempted.
        what: String,
        /// The answer.
        source: std::io::Error,
    },
}

/// Whether this process runs on a KVM host made for it.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Decides where guests of all platforms run; runs a small guest to probe KVM.
pub fn choose() -> Place {
    choose_by(|| vmm::probe::probe(Platform::Sev))
}

/// Decides where guests of one platform run: an ordinary guest needs no address bit for encryption.
pub fn choose_for(platform: Platform) -> Place {
    choose_by(|| vmm::probe::probe(platform))
}

fn choose_by(probe: impl FnOnce() -> Result<(), ProbeError>) -> Place {
    if is_inside() {
        return Place::Here(KvmHost::Emulated { by: super::host_name::host_name() });
    }
    match env::var(CHOICE).as_deref() {
        Ok("here") => Place::Here(KvmHost::Direct),
        Ok("qemu") => Place::Elsewhere(format!("{CHOICE}=qemu")),
        _ => match probe() {
            Ok(()) => Place::Here(KvmHost::Direct),
            Err(why) => Place::Elsewhere(briefly(&why)),
        },
    }
}

/// Why this machine's KVM is not used. How a guest of the probe ended is for `copra doctor`.
fn briefly(why: &ProbeError) -> String {
    match why {
        ProbeError::Guest(_) => "a small 64-bit guest fails on /dev/kvm here, see `copra doctor`".to_owned(),
        other => other.to_string(),
    }
}

/// A command that runs this very program with `arguments` inside QEMU.
pub fn elsewhere(arguments: &[OsString]) -> Result<Command, HostError> {
    let script = script()?;
    let program = env::current_exe()
        .map_err(|source| HostError::Start { what: "finding this program's file".into(), source })?;
    let mut command = Command::new(script);
    command.arg("--qemu").arg("--").arg(program).args(arguments);
    Ok(command)
}

/// The exit code a shell would give a status.
pub fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(2)
}

/// The script's file: in the repository this was built from if that is there, else a copy in the cache.
fn script() -> Result<PathBuf, HostError> {
    let built_from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/kvm-host");
    if built_from.is_file() {
        return Ok(built_from);
    }
    let mut digest = String::new();
    for (_, content) in SCRIPTS {
        use sha2::Digest;
        digest = model::class::hex(&sha2::Sha256::digest([digest.as_bytes(), content].concat()));
    }
    let folder = cache_folder().join("kvm-host-scripts").join(&digest[..16.min(digest.len())]);
    let failed = |what: String| move |source| HostError::Start { what, source };
    for (name, content) in SCRIPTS {
        use std::os::unix::fs::PermissionsExt;
        let file = folder.join(name);
        let parent = file.parent().unwrap_or(&folder);
        std::fs::create_dir_all(parent).map_err(failed(format!("making the folder {}", parent.display())))?;
        let staged = file.with_extension(format!("{}", std::process::id()));
        std::fs::write(&staged, content)
            .and_then(|()| std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(0o755)))
            .and_then(|()| std::fs::rename(&staged, &file))
            .map_err(failed(format!("writing {}", file.display())))?;
    }
    Ok(folder.join("kvm-host"))
}

/// The cache of fetched and built files.
pub fn cache_folder() -> PathBuf {
    guest_kernel::Cache::open()
        .map_or_else(|_| env::temp_dir().join("copra"), |cache| cache.root().to_owned())
}
