// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The small closed choices a step can make: open flags, mapping protection, sharing, direction.

use std::fmt;

use types::names::{UnknownName, named};

/// Flags of open(2), in Linux's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFlags(pub i32);

impl OpenFlags {
    const NAMES: [(&'static str, i32); 8] = [
        ("O_RDONLY", libc::O_RDONLY),
        ("O_WRONLY", libc::O_WRONLY),
        ("O_RDWR", libc::O_RDWR),
        ("O_SYNC", libc::O_SYNC),
        ("O_DSYNC", libc::O_DSYNC),
        ("O_NONBLOCK", libc::O_NONBLOCK),
        ("O_DIRECT", libc::O_DIRECT),
        ("O_CLOEXEC", libc::O_CLOEXEC),
    ];

    /// Reads `O_RDWR|O_SYNC`.
    pub fn parse(text: &str) -> Result<Self, UnknownName> {
        text.split('|').map(str::trim).try_fold(Self(0), |flags, given| {
            let known = Self::NAMES.iter().find(|(name, _)| *name == given);
            known.map(|(_, bits)| Self(flags.0 | bits)).ok_or_else(|| {
                UnknownName::new("open flag", given, Self::NAMES.iter().map(|(name, _)| *name))
            })
        })
    }
}

impl fmt::Display for OpenFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 & libc::O_ACCMODE {
            libc::O_WRONLY => "O_WRONLY",
            libc::O_RDWR => "O_RDWR",
            _ => "O_RDONLY",
        })?;
        let extra = [
            ("O_SYNC", libc::O_SYNC),
            ("O_NONBLOCK", libc::O_NONBLOCK),
            ("O_DIRECT", libc::O_DIRECT),
            ("O_CLOEXEC", libc::O_CLOEXEC),
        ];
        for (name, bits) in extra {
            if self.0 & bits == bits {
                write!(f, "|{name}")?;
            }
        }
        if self.0 & libc::O_SYNC == libc::O_DSYNC {
            f.write_str("|O_DSYNC")?;
        }
        Ok(())
    }
}

/// `PROT_*` of mmap(2) and mprotect(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection(pub u32);

impl Protection {
    const LETTERS: [(char, i32); 3] =
        [('r', libc::PROT_READ), ('w', libc::PROT_WRITE), ('x', libc::PROT_EXEC)];

    /// Reads `rw`, `rx`, `x`: each letter once, in this order; or `none`.
    pub fn parse(text: &str) -> Option<Self> {
        let bits = (1..8).find(|bits| Self(*bits).to_string() == text);
        bits.or((text == "none").then_some(0)).map(Self)
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        let given = Self::LETTERS.iter().filter(|(_, bit)| self.0 & bit.cast_unsigned() != 0);
        given.into_iter().try_for_each(|(letter, _)| write!(f, "{letter}"))
    }
}

named! {
    /// The buffer that a read or write is given.
    pub enum UserBuffer ("buffer") {
        Good = "good", "memory for all of it";
        Bad = "bad", "the null pointer, where nothing is mapped";
        Kernel = "kernel", "an address in the kernel's half";
        PartlyBad = "partly-bad", "memory for the first half (at most a page), and nothing mapped behind it";
    }
}

impl UserBuffer {
    /// The same in the agent's words.
    pub const fn of_agent(self) -> protocol::Buffer {
        match self {
            Self::Good => protocol::Buffer::Good,
            Self::Bad => protocol::Buffer::Null,
            Self::Kernel => protocol::Buffer::Kernel,
            Self::PartlyBad => protocol::Buffer::Straddling,
        }
    }
}

named! {
    /// Whether a mapping is shared with the file or a private copy.
    pub enum Share ("kind of mapping") {
        Shared = "shared", "MAP_SHARED";
        Private = "private", "MAP_PRIVATE";
    }
}

named! {
    /// Where lseek(2) counts from.
    pub enum Direction ("whence") {
        Set = "SEEK_SET", "the start of the file";
        Current = "SEEK_CUR", "the current position";
        End = "SEEK_END", "the end of the file";
    }
}

named! {
    /// The view through which the VMM reads memory.
    pub enum ViewChoice ("view") {
        Owner = "owner", "the view of whoever owns the page at that moment";
        Private = "private", "the private view";
        Shared = "shared", "the shared view";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protections_read_and_print() {
        for (text, bits) in
            [("none", 0), ("r", 1), ("w", 2), ("rw", 3), ("x", 4), ("rx", 5), ("wx", 6), ("rwx", 7)]
        {
            assert_eq!(Protection::parse(text), Some(Protection(bits)));
            assert_eq!(Protection(bits).to_string(), text);
        }
        for wrong in ["", "wr", "rr", "rwz", "none,x"] {
            assert_eq!(Protection::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn open_flags_read_and_print() {
        for text in ["O_RDONLY", "O_WRONLY", "O_RDWR|O_SYNC", "O_RDONLY|O_DSYNC"] {
            assert_eq!(OpenFlags::parse(text).unwrap().to_string(), text);
        }
        assert!(OpenFlags::parse("O_RDRW").unwrap_err().to_string().contains("did you mean `O_RDWR`"));
    }
}
