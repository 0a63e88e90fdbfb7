// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The programs of Debian's packages that a matrix runs: those whose access to memory, ports or MSRs was argued about.

/// One program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Stable, for reports.
    pub id: &'static str,
    /// For people; at most 17 characters.
    pub name: &'static str,
    /// What is started, with which arguments.
    pub program: &'static str,
    /// Its arguments.
    pub args: &'static [&'static str],
    /// Beginnings of lines of its output that differ from kernel to kernel, or platform to platform, for good reasons.
    pub idle: &'static [&'static str],
    /// What it looks for and does not find in any of these guests: if its output is the usual one, nothing was tried, and it is
    /// skipped.
    pub missing: Option<&'static str>,
    /// Its error where the kernel does not have what it uses, and what that is: nothing was tried either.
    pub lacking: Option<(&'static str, &'static str)>,
}

/// Its `devmem`, and its `timeout` around what would never end.
const BUSYBOX: &str = "/bin/busybox";
const NO_VIDEO_BIOS: &str =
    "there is no video BIOS in the guest, and the interrupt vectors that it would have set are zero";

const NO_FILE: &str = "No such file or directory";
const NO_MSR_DRIVER: &str = "the kernel has no MSR driver built in (CONFIG_X86_MSR)";

const fn row(
    id: &'static str,
    name: &'static str,
    program: &'static str,
    args: &'static [&'static str],
) -> Row {
    Row { id, name, program, args, idle: &[], missing: None, lacking: None }
}

impl Row {
    const fn idle(self, idle: &'static [&'static str]) -> Self {
        Self { idle, ..self }
    }

    const fn missing(self, missing: &'static str) -> Self {
        Self { missing: Some(missing), ..self }
    }

    const fn lacking(self, error: &'static str, what: &'static str) -> Self {
        Self { lacking: Some((error, what)), ..self }
    }

    /// The name of its case.
    pub fn case(&self) -> String {
        format!("matrix/run-{}", self.id.replace('/', "-"))
    }
}

/// dmidecode with the option not to use sysfs.
pub(in crate::matrix) const DMIDECODE_VIA_MEM: &str = "dmidecode/mem";

/// In the order of the tables: SMBIOS and BIOS data, memory, ports and MSRs, cards, kernels.
pub const ROWS: [Row; 26] = [
    row("dmidecode/sysfs", "dmidecode", "/usr/sbin/dmidecode", &["-q"]),
    row(DMIDECODE_VIA_MEM, "dmidecode via mem", "/usr/sbin/dmidecode", &["-q", "--no-sysfs"]),
    row("biosdecode", "biosdecode", "/usr/sbin/biosdecode", &[]),
    row("ownership", "ownership", "/usr/sbin/ownership", &[])
        .missing("there is no ownership tag of Compaq's in the ROM"),
    row("vpddecode", "vpddecode", "/usr/sbin/vpddecode", &[])
        .missing("there is no vital product data of IBM's in the ROM"),
    row("smbios-sys-info", "smbios-sys-info", "/usr/sbin/smbios-sys-info-lite", &[]),
    row("lshw", "lshw", "/usr/bin/lshw", &["-quiet", "-C", "system"]).idle(&["product:", "capabilities:"]),
    row("hwinfo/bios", "hwinfo --bios", "/usr/sbin/hwinfo", &["--bios"]),
    row("x86info", "x86info -mp", "/usr/bin/x86info", &["-mp"]).idle(&X86INFO),
    row("acpidump", "acpidump", "/usr/bin/acpidump", &["-s"])
        .lacking("Could not get ACPI tables", "the kernel was built without CONFIG_ACPI"),
    row("nvramtool", "nvramtool", "/usr/sbin/nvramtool", &["-a"])
        .missing("there is no coreboot table in the guest"),
    row("busybox/devmem", "busybox devmem", BUSYBOX, &["devmem", "0xf0000", "32"]),
    row("memtester", "memtester -p RAM", "/usr/sbin/memtester", &["-p", "0x1000000", "1M", "1"])
        .missing("STRICT_DEVMEM refuses RAM in every guest"),
    row("setpci", "setpci by ports", "/usr/bin/setpci", &["-A", "intel-conf1", "-s", "00:00.0", "0.l"]),
    row("lspci", "lspci", "/usr/bin/lspci", &["-n", "-x"]),
    row("rdmsr", "rdmsr", "/usr/sbin/rdmsr", &["0x277"]).lacking(NO_FILE, NO_MSR_DRIVER),
    row("wrmsr", "wrmsr", "/usr/sbin/wrmsr", &["0x174", "0"]).lacking(NO_FILE, NO_MSR_DRIVER),
    row("vbetool", "vbetool", BUSYBOX, &["timeout", "1", "/usr/sbin/vbetool", "vbestate", "save"])
        .missing(NO_VIDEO_BIOS),
    row("get-edid", "get-edid", BUSYBOX, &["timeout", "1", "/usr/bin/get-edid", "-c"]).missing(NO_VIDEO_BIOS),
    row("flashrom", "flashrom", "/usr/sbin/flashrom", &["-p", "internal:laptop=this_is_not_a_laptop"])
        .idle(&["flashrom unknown on"])
        .missing("there is no chipset with flash memory in the guest"),
    row("inteltool", "inteltool", "/usr/sbin/inteltool", &["-m"])
        .missing("there is no southbridge of Intel's in the guest"),
    row("radeontool", "radeontool", "/usr/sbin/radeontool", &["regs"])
        .missing("there is no Radeon in the guest"),
    row("radeontop", "radeontop", "/usr/bin/radeontop", &["-d", "-", "-l", "1"])
        .missing("there is no Radeon in the guest"),
    row("i810switch", "i810switch", "/usr/bin/i810switch", &[])
        .missing("there is no graphics chip of Intel's 8xx series in the guest"),
    row("makedumpfile", "makedumpfile", "/usr/bin/makedumpfile", &["--mem-usage", "/proc/kcore"])
        .missing("no memory is reserved for a crash kernel in the guest"),
    row("kexec", "kexec -c -u", "/sbin/kexec", &["-c", "-u"])
        .lacking("Function not implemented", "the kernel was built without CONFIG_KEXEC"),
];

/// Lines about the processor, which is another on each platform.
const X86INFO: [&str; 9] = [
    "Unknown CPU",
    "Extended Family",
    "CPU Model",
    "Monitor/Mwait",
    "SVM",
    "SEV",
    "Address Size",
    "Address sizes",
    "running at",
];
