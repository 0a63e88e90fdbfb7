// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Error numbers and signals of Linux on x86-64, by number and by name (`include/uapi/asm-generic/errno.h`,
//! `arch/x86/include/uapi/asm/signal.h`).

use core::fmt;

macro_rules! codes {
    ($(#[$meta:meta])* $type:ident($number:ty), $what:literal, $($value:literal $name:ident)*) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub $number);

        impl $type {
            /// Number and name of each.
            pub const NAMES: &'static [(Self, &'static str)] = &[$((Self($value), stringify!($name)),)*];

            $(#[doc = stringify!($name)] pub const $name: Self = Self($value);)*

            /// Its name, if Linux has one for the number.
            pub fn name(self) -> Option<&'static str> {
                Self::NAMES.iter().find(|(code, _)| *code == self).map(|(_, name)| *name)
            }

            /// The one of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::NAMES.iter().find(|(_, other)| *other == name).map(|(code, _)| *code)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => write!(f, "{} {}", $what, self.0),
                }
            }
        }

        #[cfg(feature = "std")]
        impl core::str::FromStr for $type {
            type Err = crate::names::UnknownName;

            fn from_str(given: &str) -> Result<Self, Self::Err> {
                Self::from_name(given).ok_or_else(|| crate::names::UnknownName {
                    what: $what,
                    given: given.to_owned(),
                    nearest: crate::names::nearest(given, Self::NAMES.iter().map(|(_, name)| *name)).map(str::to_owned),
                    known: vec![concat!("the names of ", $what, " in the Linux manual pages").to_owned()],
                })
            }
        }

        #[cfg(feature = "std")]
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        #[cfg(feature = "std")]
        impl<'de> serde::Deserialize<'de> for $type {
            /// Also reads what `Display` writes of a number without a name.
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                let number = text.strip_prefix(concat!($what, " ")).and_then(|number| number.parse().ok());
                number.map_or_else(|| text.parse().map_err(serde::de::Error::custom), |number| Ok(Self(number)))
            }
        }
    };
}

codes! {
    /// An error number.
    Errno(u16), "errno",
    1 EPERM 2 ENOENT 3 ESRCH 4 EINTR 5 EIO 6 ENXIO 7 E2BIG 8 ENOEXEC 9 EBADF 10 ECHILD 11 EAGAIN 12 ENOMEM
    13 EACCES 14 EFAULT 15 ENOTBLK 16 EBUSY 17 EEXIST 18 EXDEV 19 ENODEV 20 ENOTDIR 21 EISDIR 22 EINVAL 23 ENFILE
    24 EMFILE 25 ENOTTY 26 ETXTBSY 27 EFBIG 28 ENOSPC 29 ESPIPE 30 EROFS 31 EMLINK 32 EPIPE 33 EDOM 34 ERANGE
    35 EDEADLK 36 ENAMETOOLONG 37 ENOLCK 38 ENOSYS 39 ENOTEMPTY 40 ELOOP 42 ENOMSG 43 EIDRM 44 ECHRNG 45 EL2NSYNC
    46 EL3HLT 47 EL3RST 48 ELNRNG 49 EUNATCH 50 ENOCSI 51 EL2HLT 52 EBADE 53 EBADR 54 EXFULL 55 ENOANO 56 EBADRQC
    57 EBADSLT 59 EBFONT 60 ENOSTR 61 ENODATA 62 ETIME 63 ENOSR 64 ENONET 65 ENOPKG 66 EREMOTE 67 ENOLINK 68 EADV
    69 ESRMNT 70 ECOMM 71 EPROTO 72 EMULTIHOP 73 EDOTDOT 74 EBADMSG 75 EOVERFLOW 76 ENOTUNIQ 77 EBADFD 78 EREMCHG
    79 ELIBACC 80 ELIBBAD 81 ELIBSCN 82 ELIBMAX 83 ELIBEXEC 84 EILSEQ 85 ERESTART 86 ESTRPIPE 87 EUSERS 88 ENOTSOCK
    89 EDESTADDRREQ 90 EMSGSIZE 91 EPROTOTYPE 92 ENOPROTOOPT 93 EPROTONOSUPPORT 94 ESOCKTNOSUPPORT 95 EOPNOTSUPP
    96 EPFNOSUPPORT 97 EAFNOSUPPORT 98 EADDRINUSE 99 EADDRNOTAVAIL 100 ENETDOWN 101 ENETUNREACH 102 ENETRESET
    103 ECONNABORTED 104 ECONNRESET 105 ENOBUFS 106 EISCONN 107 ENOTCONN 108 ESHUTDOWN 109 ETOOMANYREFS
    110 ETIMEDOUT 111 ECONNREFUSED 112 EHOSTDOWN 113 EHOSTUNREACH 114 EALREADY 115 EINPROGRESS 116 ESTALE 117 EUCLEAN
    118 ENOTNAM 119 ENAVAIL 120 EISNAM 121 EREMOTEIO 122 EDQUOT 123 ENOMEDIUM 124 EMEDIUMTYPE 125 ECANCELED
    126 ENOKEY 127 EKEYEXPIRED 128 EKEYREVOKED 129 EKEYREJECTED 130 EOWNERDEAD 131 ENOTRECOVERABLE 132 ERFKILL
    133 EHWPOISON
}

codes! {
    /// A signal.
    Signal(u8), "signal",
    1 SIGHUP 2 SIGINT 3 SIGQUIT 4 SIGILL 5 SIGTRAP 6 SIGABRT 7 SIGBUS 8 SIGFPE 9 SIGKILL 10 SIGUSR1 11 SIGSEGV
    12 SIGUSR2 13 SIGPIPE 14 SIGALRM 15 SIGTERM 16 SIGSTKFLT 17 SIGCHLD 18 SIGCONT 19 SIGSTOP 20 SIGTSTP 21 SIGTTIN
    22 SIGTTOU 23 SIGURG 24 SIGXCPU 25 SIGXFSZ 26 SIGVTALRM 27 SIGPROF 28 SIGWINCH 29 SIGIO 30 SIGPWR 31 SIGSYS
}

impl Errno {
    /// Whether the error means that access is refused or that there is nothing to access, as opposed to a malformed request.
    pub const fn is_denial(self) -> bool {
        matches!(self, Self::EPERM | Self::EACCES | Self::ENXIO | Self::ENODEV | Self::ENOENT)
    }

    /// Whether the error means "not permitted": a denial of something that exists.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::EPERM | Self::EACCES)
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_both_ways() {
        for (errno, name) in Errno::NAMES {
            assert_eq!(Errno::from_name(name), Some(*errno));
            assert_eq!(errno.to_string(), *name);
        }
        for (signal, name) in Signal::NAMES {
            assert_eq!(name.parse(), Ok(*signal));
            assert_eq!(signal.name(), Some(*name));
        }
        assert_eq!((Errno(1), Errno(75)), (Errno::EPERM, Errno::EOVERFLOW));
        assert_eq!(Signal(7).to_string(), "SIGBUS");
        assert_eq!(Errno(41).to_string(), "errno 41");
        assert!("EPREM".parse::<Errno>().unwrap_err().to_string().contains("did you mean `EPERM`"));
    }
}
