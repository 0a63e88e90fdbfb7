// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names of the errno values and signals that a case can expect.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::names::UnknownName;

macro_rules! codes {
    ($(#[$meta:meta])* $type:ident, $what:literal, $($name:ident)+) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub i32);

        impl $type {
            /// Name and number of each value that can be written in a case.
            pub const NAMES: &'static [(&'static str, i32)] = &[$((stringify!($name), libc::$name),)+];
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(given: &str) -> Result<Self, Self::Err> {
                Self::NAMES
                    .iter()
                    .find(|(name, _)| *name == given)
                    .map(|(_, number)| Self(*number))
                    .ok_or_else(|| UnknownName::new($what, given, Self::NAMES.iter().map(|(name, _)| *name)))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match Self::NAMES.iter().find(|(_, number)| *number == self.0) {
                    Some((name, _)) => f.pad(name),
                    None => write!(f, "{} {}", $what, self.0),
                }
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

codes! {
    /// An error number, shown by its name.
    Errno, "errno",
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY
    EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EPIPE
    ERANGE ENAMETOOLONG ENOSYS ELOOP EOVERFLOW EOPNOTSUPP ETIMEDOUT EHWPOISON
}

codes! {
    /// A signal, shown by its name.
    Signal, "signal",
    SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM
    SIGTERM SIGSYS
}

impl Errno {
    /// Whether the error means "this is not for you", as opposed to "this makes no sense".
    pub const fn is_denial(self) -> bool {
        matches!(self.0, libc::EPERM | libc::EACCES | libc::ENXIO | libc::ENODEV | libc::ENOENT)
    }

    /// Whether the error means "not permitted": a denial of something that is there.
    pub const fn is_refusal(self) -> bool {
        matches!(self.0, libc::EPERM | libc::EACCES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_both_ways() {
        for (name, number) in Errno::NAMES {
            assert_eq!(name.parse(), Ok(Errno(*number)));
            assert_eq!(Errno(*number).to_string(), *name);
        }
        assert_eq!(Signal(7).to_string(), "SIGBUS");
        assert_eq!(Errno(4000).to_string(), "errno 4000");
        assert!("EPREM".parse::<Errno>().unwrap_err().to_string().contains("did you mean `EPERM`"));
    }
}
