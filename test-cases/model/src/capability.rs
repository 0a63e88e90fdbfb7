// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Linux capabilities by name (`include/uapi/linux/capability.h`).

/// Every capability there is, at the index that is its number; the newest is from 5.9.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// `CAP_DAC_OVERRIDE`.
pub const DAC_OVERRIDE: u8 = 1;
/// `CAP_DAC_READ_SEARCH`.
pub const DAC_READ_SEARCH: u8 = 2;
/// `CAP_SETGID`.
pub const SETGID: u8 = 6;
/// `CAP_SETUID`.
pub const SETUID: u8 = 7;
/// `CAP_SYS_RAWIO`.
pub const SYS_RAWIO: u8 = 17;
/// `CAP_SYS_ADMIN`.
pub const SYS_ADMIN: u8 = 21;
/// `CAP_MKNOD`.
pub const MKNOD: u8 = 27;

/// The mask of all of them.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// A capability's bit in a mask, by its name.
pub fn bit(name: &str) -> Option<u64> {
    NAMES.iter().position(|known| *known == name).map(|number| 1 << number)
}

/// The names of the bits of a mask, in the order of their numbers.
pub fn names(mask: u64) -> impl Iterator<Item = &'static str> {
    NAMES.iter().enumerate().filter(move |(number, _)| mask >> number & 1 != 0).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (name, number) in [
            ("CAP_DAC_OVERRIDE", DAC_OVERRIDE),
            ("CAP_DAC_READ_SEARCH", DAC_READ_SEARCH),
            ("CAP_SETGID", SETGID),
            ("CAP_SETUID", SETUID),
            ("CAP_SYS_RAWIO", SYS_RAWIO),
            ("CAP_SYS_ADMIN", SYS_ADMIN),
            ("CAP_MKNOD", MKNOD),
            ("CAP_SYSLOG", 34),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(bit(name), Some(1 << number), "{name}");
            assert_eq!(names(1 << number).collect::<Vec<_>>(), [name]);
        }
        assert_eq!(bit("CAP_SYS_RAW"), None);
    }
}
