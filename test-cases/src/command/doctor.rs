// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra doctor`: whether this machine can run copra, and what to do if not.

use std::fs;
use std::path::Path;
use std::process::Command;

use types::Platform;

use crate::exit::Exit;

/// Memory that a guest and the QEMU around it need, in MiB.
const MEMORY_MIB: u64 = 3072;
/// Least free space for kernels, in MiB; building one takes about 3 GiB.
const DISK_MIB: u64 = 1024;

/// One check and its result.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    result: Result<String, Trouble>,
}

/// Why a check failed, and what to do.
#[derive(Debug)]
struct Trouble {
    why: String,
    remedy: String,
    /// No command works without it.
    fatal: bool,
}

impl Trouble {
    fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { why: why.into(), remedy: remedy.into(), fatal: false }
    }
}

/// Checks this machine and prints the results.
pub fn doctor() -> Exit {
    let kvm = kvm();
    let uffd = userfaultfd();
    let qemu = qemu();
    let direct = kvm.result.is_ok() && uffd.result.is_ok();
    let emulated = qemu.result.is_ok();
    let findings = [kvm, uffd, qemu, memory(), disk(), apt(), compiler(), confinement()];
    for finding in &findings {
        match &finding.result {
            Ok(what) => outln!("yes  {:<12} {what}", finding.what),
            Err(trouble) => {
                outln!("no   {:<12} {}", finding.what, trouble.why);
                outln!("     {:<12} → {}", "", trouble.remedy);
            }
        }
    }
    let fatal = findings.iter().any(|f| f.result.as_ref().is_err_and(|t| t.fatal));
    outln!();
    let verdict = match (direct, emulated) {
        _ if fatal => "This machine cannot run copra until the problems above are fixed.",
        (true, _) => "This machine can run copra directly on its KVM.",
        (false, true) => "This machine can run copra, inside QEMU (slower: the processor is emulated).",
        (false, false) => "This machine cannot run copra: it has neither a working KVM nor QEMU.",
    };
    outln!("{verdict}");
    if fatal || !(direct || emulated) { Exit::Finding } else { Exit::Success }
}

fn kvm() -> Finding {
    let result = vmm::probe::probe(Platform::Sev).map(|()| "a 64-bit guest ran on /dev/kvm".to_owned()).map_err(|error| {
        let remedy = if Path::new("/dev/kvm").exists() {
            "use a machine with VMX or SVM (nested virtualisation on, if it is virtual), or install QEMU as below"
        } else {
            "load kvm_intel or kvm_amd, or enable nested virtualisation, or install QEMU as below"
        };
        Trouble::new(error.to_string(), remedy)
    });
    Finding { what: "kvm", result }
}

fn userfaultfd() -> Finding {
    let result = vmm::memory::userfaultfd::Userfaultfd::open()
        .map(|_| "userfaultfd reports page accesses by view".to_owned())
        .map_err(|error| {
            Trouble::new(
                format!("userfaultfd does not open: {error}"),
                "run as root, or `sudo sysctl vm.unprivileged_userfaultfd=1`, or `sudo chmod 666 /dev/userfaultfd`; needed for every platform but none",
            )
        });
    Finding { what: "userfaultfd", result }
}

fn qemu() -> Finding {
    let fetched = || {
        which("apt-get")
            .map(|_| "not installed; where KVM does not work, apt fetches it into the cache".to_owned())
    };
    let result = version("qemu-system-x86_64", "--version").or_else(fetched).ok_or_else(|| {
        Trouble::new(
            "qemu-system-x86_64 is not installed, and there is no apt-get to fetch it with; it is only needed where KVM does not work",
            "install it: Debian's package is qemu-system-x86",
        )
    });
    Finding { what: "qemu", result }
}

fn memory() -> Finding {
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let result = match available.map(|kib| kib >> 10) {
        Some(mib) if mib >= MEMORY_MIB => Ok(format!("{mib} MiB available")),
        Some(mib) => Err(Trouble::new(
            format!("{mib} MiB available, a run takes up to {MEMORY_MIB}"),
            "end other programs, or give the guest less memory with --memory",
        )),
        None => Err(Trouble::new("/proc/meminfo cannot be read", "mount /proc")),
    };
    Finding { what: "memory", result }
}

fn disk() -> Finding {
    let folder = super::host::cache_folder();
    let result = match free_mib(&folder) {
        Some(mib) if mib >= DISK_MIB => Ok(format!("{mib} MiB free for {}", folder.display())),
        Some(mib) => Err(Trouble {
            fatal: mib < 200,
            ..Trouble::new(
                format!("{mib} MiB free for {}", folder.display()),
                "free some, or set XDG_CACHE_HOME to a folder on a larger file system (a kernel build takes about 3 GiB)",
            )
        }),
        None => Err(Trouble::new(
            format!("the free space of {} cannot be read", folder.display()),
            "set HOME or XDG_CACHE_HOME to a folder you can write",
        )),
    };
    Finding { what: "disk", result }
}

fn apt() -> Finding {
    let result = version("apt-get", "--version").ok_or_else(|| {
        Trouble::new("apt-get is not installed", "name kernels by `path:FILE`; debian: and build: need apt")
    });
    Finding { what: "apt", result }
}

fn compiler() -> Finding {
    let missing: Vec<&str> = ["gcc", "make", "flex", "bison", "bc", "xz"]
        .into_iter()
        .filter(|tool| which(tool).is_none())
        .collect();
    let header = Path::new("/usr/include/libelf.h").exists();
    let result = if missing.is_empty() && header {
        Ok("kernels can be built here".to_owned())
    } else {
        let mut names = missing.join(", ");
        if !header {
            names = if names.is_empty() { "libelf.h".into() } else { format!("{names}, libelf.h") };
        }
        Err(Trouble::new(
            format!("missing for building kernels: {names}"),
            "scripts/setup --kernels, or as root: apt-get install --no-remove --no-install-recommends gcc make flex bison bc libelf-dev xz-utils patch",
        ))
    };
    Finding { what: "compiler", result }
}

/// Of this machine's kernel; that of the KVM host in QEMU has Landlock.
fn confinement() -> Finding {
    let result = vmm::confinement::landlock_version()
        .map(|version| format!("Landlock {version} restricts the files of a VMM whose guest runs a command"))
        .ok_or_else(|| {
            Trouble::new(
                "this kernel has no Landlock: a VMM here could change any file of yours; its system calls are restricted all the same",
                "use a kernel of 5.13 or later with CONFIG_SECURITY_LANDLOCK and `landlock` in the list lsm= of its command line",
            )
        });
    Finding { what: "confinement", result }
}

fn free_mib(folder: &Path) -> Option<u64> {
    let existing = folder.ancestors().find(|ancestor| ancestor.exists())?;
    let out = Command::new("df").args(["--output=avail", "-k"]).arg(existing).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    text.lines().nth(1)?.trim().parse::<u64>().ok().map(|kib| kib >> 10)
}

fn which(tool: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|file| file.is_file())
}

fn version(tool: &str, flag: &str) -> Option<String> {
    let out = Command::new(which(tool)?).arg(flag).output().ok()?;
    String::from_utf8(out.stdout).ok()?.lines().next().map(str::to_owned)
}
