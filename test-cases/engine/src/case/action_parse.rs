// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads what a step does.

use guest_kernel::programs;
use protocol::MAX_ARGUMENTS;

use super::error::ProblemKind;
use super::fields::Fields;
use super::flags::{Direction, OpenFlags, Protection, Share, UserBuffer, ViewChoice};
use super::step::{Action, Handle};
use model::capability;
use types::names::UnknownName;

/// The most bytes one step moves: what fits into one answer from the guest.
const MOST_BYTES: u64 = 60 << 10;
/// The most bytes of a program's arguments.
const MOST_ARGUMENT_BYTES: usize = 4 << 10;
/// The greatest user or group; the one above it means none.
const MOST_ID: u64 = u32::MAX as u64 - 1;
/// The most bytes one step maps.
const MOST_MAPPED: u64 = 1 << 32;

/// Every value of `do`.
pub(super) const NAMES: [&str; 41] = [
    "open",
    "close",
    "lseek",
    "read",
    "pread",
    "write",
    "pwrite",
    "buffer",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "peek",
    "poke",
    "self-mem-read",
    "self-mem-write",
    "vm-readv",
    "ptrace-peek",
    "stat",
    "read-file",
    "write-file",
    "run",
    "port-in",
    "port-out",
    "iopl",
    "ioperm",
    "setuid",
    "drop-caps",
    "keep-caps",
    "user-namespace",
    "no-new-privs",
    "mknod",
    "fork",
    "exec",
    "send-file",
    "receive-file",
    "exit",
    "kcore-read",
    "kernel-log",
    "reboot",
    "memory",
];

/// Reads `do` and the keys that go with it. Every key is read before the first missing one is reported, so that all
/// problems of a step are reported at once.
pub(super) fn action(f: &mut Fields<'_, '_, '_, '_>) -> Option<Action> {
    let (name, span) = f.text("do", "what the step does, as in \"pread\"")?;
    match name {
        "open" | "stat" | "read-file" | "write-file" | "mknod" => on_path(name, f),
        "close" | "lseek" | "read" | "pread" | "write" | "pwrite" | "mmap" | "send-file" => on_file(name, f),
        "munmap" | "mprotect" | "mremap" | "peek" | "poke" | "self-mem-read" | "self-mem-write"
        | "vm-readv" | "ptrace-peek" => on_map(name, f),
        "port-in" | "port-out" | "iopl" | "ioperm" => on_port(name, f),
        "setuid" => {
            let (uid, keep) = (f.number("uid", None, (0, MOST_ID)), f.flag("keep", false));
            let gid = f.number("gid", Some(uid.unwrap_or(0)), (0, MOST_ID));
            Some(Action::Setuid { uid: uid? as u32, gid: gid? as u32, keep: keep? })
        }
        "drop-caps" => capabilities(f).map(|caps| Action::DropCaps { caps }),
        "keep-caps" => capabilities(f).map(|caps| Action::KeepCaps { caps }),
        "user-namespace" => Some(Action::UserNamespace),
        "no-new-privs" => Some(Action::NoNewPrivs),
        "run" => run(f),
        "fork" => Some(Action::Fork),
        "exec" => Some(Action::Exec),
        "receive-file" => f.handle("as").map(|handle| Action::ReceiveFile { handle }),
        "buffer" => {
            let (fd, from) = (f.handle("fd"), f.number("from", Some(0), (0, MOST_BYTES)));
            let len = f.number("len", None, (1, MOST_BYTES));
            Some(Action::Buffer { fd: fd?, from: from?, len: len? })
        }
        "exit" => Some(Action::Exit),
        "kcore-read" => {
            let (at, len) = (f.at("at"), f.number("len", None, (1, MOST_BYTES)));
            Some(Action::KcoreRead { at: at?, len: len? })
        }
        "kernel-log" => Some(Action::KernelLog),
        "reboot" => Some(Action::Reboot),
        "memory" => {
            let (at, len) = (f.at("at"), f.number("len", None, (1, MOST_BYTES)));
            let wrote = f.optional_text("wrote").map(|(step, _)| step.to_owned());
            let view = match f.optional_text("view") {
                Some((view, span)) => f.sink().take(&span, view.parse()),
                None => Some(ViewChoice::Owner),
            };
            Some(Action::Memory { at: at?, len: len?, wrote, view: view? })
        }
        _ => {
            f.sink().add(&span, UnknownName::new("step", name, NAMES.into_iter()));
            None
        }
    }
}

/// A list of capabilities, which must be there, though it may be empty.
fn capabilities(f: &mut Fields<'_, '_, '_, '_>) -> Option<Vec<String>> {
    f.list("caps", "a list of capabilities, as in [\"CAP_SYS_RAWIO\"]")?;
    let caps = f.texts("caps");
    for (cap, span) in &caps {
        if capability::bit(cap).is_none() {
            f.sink().add(span, UnknownName::new("capability", cap, capability::NAMES.into_iter()));
        }
    }
    Some(caps.into_iter().map(|(cap, _)| cap.to_owned()).collect())
}

/// A program, and its arguments as far as the agent takes them.
fn run(f: &mut Fields<'_, '_, '_, '_>) -> Option<Action> {
    let program = f.text("program", "a path in quotes, as in \"/usr/sbin/dmidecode\"");
    let args = f.texts("args");
    if let Some((program, span)) = &program
        && !programs::known().any(|known| known == *program)
    {
        f.sink().add(span, UnknownName::new("program", program, programs::known()));
        return None;
    }
    let wrong = |why: &str| ProblemKind::Data { key: "args".to_owned(), why: why.to_owned() };
    let bytes: usize = args.iter().map(|(arg, _)| arg.len() + 1).sum();
    if let Some((_, span)) = args.iter().find(|(arg, _)| arg.contains('\0')) {
        f.sink().add(span, wrong("an argument has a NUL in it, which no program can be given"));
        return None;
    }
    if let Some((_, span)) = args.first()
        && (args.len() > MAX_ARGUMENTS || bytes > MOST_ARGUMENT_BYTES)
    {
        let most =
            format!("there are more than {MAX_ARGUMENTS} arguments, or {MOST_ARGUMENT_BYTES} bytes of them");
        f.sink().add(span, wrong(&most));
        return None;
    }
    let args = args.into_iter().map(|(arg, _)| arg.to_owned()).collect();
    program.map(|(program, _)| Action::Run { program: program.to_owned(), args })
}

fn on_path(name: &str, f: &mut Fields<'_, '_, '_, '_>) -> Option<Action> {
    let path = f.text("path", "a path in quotes, as in \"/dev/mem\"").map(|(path, _)| path.to_owned());
    match name {
        "open" => {
            let flags = f.text("flags", "flags of open(2), as in \"O_RDWR|O_SYNC\"");
            let flags = flags.and_then(|(text, span)| f.sink().take(&span, OpenFlags::parse(text)));
            let handle = f.handle("as");
            Some(Action::Open { path: path?, flags: flags?, handle: handle? })
        }
        "stat" => Some(Action::Stat { path: path? }),
        "mknod" => {
            let (major, minor) =
                (f.number("major", None, (0, 0xfff)), f.number("minor", None, (0, 0xf_ffff)));
            Some(Action::Mknod { path: path?, major: major? as u32, minor: minor? as u32 })
        }
        "read-file" => {
            let len = f.number("len", Some(32_768), (1, MOST_BYTES));
            Some(Action::ReadFile { path: path?, len: len? })
        }
        _ => {
            let data = data(f);
            Some(Action::WriteFile { path: path?, data: data? })
        }
    }
}

fn on_file(name: &str, f: &mut Fields<'_, '_, '_, '_>) -> Option<Action> {
    let fd = f.handle("fd");
    match name {
        "close" => Some(Action::Close { fd: fd? }),
        "lseek" => {
            let to = f.at("to");
            let whence = match f.optional_text("whence") {
                Some((whence, span)) => f.sink().take(&span, whence.parse()),
                None => Some(Direction::Set),
            };
            Some(Action::Lseek { fd: fd?, to: to?, whence: whence? })
        }
        "send-file" => Some(Action::SendFile { fd: fd? }),
        "mmap" => mmap(f, fd),
        _ => {
            let at = name.starts_with('p').then(|| f.at("at"));
            let len = name.ends_with("read").then(|| f.number("len", None, (0, MOST_BYTES)));
            let data = name.ends_with("write").then(|| data(f));
            let buffer = match f.optional_text("buffer") {
                Some((buffer, span)) => f.sink().take(&span, buffer.parse()),
                None => Some(UserBuffer::Good),
            };
            let (fd, buffer) = (fd?, buffer?);
            Some(match (at, len, data) {
                (None, Some(len), _) => Action::Read { fd, len: len?, buffer },
                (Some(at), Some(len), _) => Action::Pread { fd, at: at?, len: len?, buffer },
                (None, None, data) => Action::Write { fd, data: data??, buffer },
                (Some(at), None, data) => Action::Pwrite { fd, at: at?, data: data??, buffer },
            })
        }
    }
}

fn mmap(f: &mut Fields<'_, '_, '_, '_>, fd: Option<Handle>) -> Option<Action> {
    let (at, len) = (f.at("at"), f.number("len", Some(4096), (0, MOST_MAPPED)));
    let prot = protection(f);
    let share: Option<Share> = f.parsed("share", "\"shared\" or \"private\"");
    let over = f.optional_handle("fixed")?;
    let handle = f.handle("as");
    Some(Action::Mmap { fd: fd?, at: at?, len: len?, prot: prot?, share: share?, over, handle: handle? })
}

/// Reads `prot`.
fn protection(f: &mut Fields<'_, '_, '_, '_>) -> Option<Protection> {
    let (text, span) = f.text("prot", "letters of \"rwx\", or \"none\"")?;
    let known = ["none", "r", "w", "x", "rw", "rx", "wx", "rwx"].into_iter();
    f.sink().take(&span, Protection::parse(text).ok_or_else(|| UnknownName::new("protection", text, known)))
}

fn on_map(name: &str, f: &mut Fields<'_, '_, '_, '_>) -> Option<Action> {
    let map = f.handle("map");
    if name == "munmap" {
        return Some(Action::Munmap { map: map? });
    }
    if name == "mremap" {
        let (len, handle) = (f.number("len", None, (0, MOST_MAPPED)), f.optional_handle("as")?);
        return Some(Action::Mremap { map: map?, len: len?, handle });
    }
    let offset = f.number("offset", Some(0), (0, MOST_MAPPED));
    if name == "mprotect" {
        let (len, prot) = (f.number("len", Some(4096), (0, MOST_MAPPED)), protection(f));
        return Some(Action::Mprotect { map: map?, offset: offset?, len: len?, prot: prot? });
    }
    if matches!(name, "poke" | "self-mem-write") {
        let data = data(f);
        let (map, offset, data) = (map?, offset?, data?);
        return Some(match name {
            "poke" => Action::Poke { map, offset, data },
            _ => Action::SelfMemWrite { map, offset, data },
        });
    }
    let len = f.number("len", None, (1, MOST_BYTES));
    let (map, offset, len) = (map?, offset?, len?);
    Some(match name {
        "peek" => Action::Peek { map, offset, len },
        "self-mem-read" => Action::SelfMemRead { map, offset, len },
        "vm-readv" => Action::VmReadv { map, offset, len },
        _ => Action::PtracePeek { map, offset, len },
    })
}

fn on_port(name: &str, f: &mut Fields<'_, '_, '_, '_>) -> Option<Action> {
    if name == "iopl" {
        return f.number("level", None, (0, 3)).map(|level| Action::Iopl { level: level as u8 });
    }
    let port = f.number("port", None, (0, 0xffff)).map(|port| port as u16);
    if name == "ioperm" {
        let (count, on) = (f.number("count", Some(1), (1, 0xffff)), f.flag("on", true));
        return Some(Action::Ioperm { port: port?, count: count? as u16, on: on? });
    }
    let width = width(f);
    if name == "port-in" {
        return Some(Action::PortIn { port: port?, width: width? });
    }
    let value = f.number("value", None, (0, u64::from(u32::MAX)));
    Some(Action::PortOut { port: port?, width: width?, value: value? as u32 })
}

/// Reads how many bytes a port access has.
fn width(f: &mut Fields<'_, '_, '_, '_>) -> Option<u8> {
    let width = f.number("width", Some(1), (0, u64::MAX))?;
    if matches!(width, 1 | 2 | 4) {
        return Some(width as u8);
    }
    let span = f.span().clone();
    f.sink().add(&span, ProblemKind::Nonsense(format!("`width` is {width}, it must be 1, 2 or 4")));
    None
}

/// Reads the bytes to write: `hex` or `text`, with `repeat` if they are repeated.
fn data(f: &mut Fields<'_, '_, '_, '_>) -> Option<Vec<u8>> {
    let (hex, text) = (f.optional_text("hex"), f.optional_text("text"));
    let repeat = f.number("repeat", Some(1), (1, MOST_BYTES))?;
    let problem = |why: &str| ProblemKind::Data { key: "hex".to_owned(), why: why.to_owned() };
    let once = match (hex, text) {
        (Some((digits, span)), None) => {
            let bytes =
                from_hex(digits).ok_or_else(|| problem("write pairs of hexadecimal digits: \"5a a5\""));
            f.sink().take(&span, bytes)?
        }
        (None, Some((text, _))) => text.as_bytes().to_vec(),
        _ => {
            let span = f.span().clone();
            f.sink().add(&span, problem("give either `hex` or `text`"));
            return None;
        }
    };
    if once.len() as u64 * repeat > MOST_BYTES {
        let span = f.span().clone();
        f.sink().add(&span, problem("one step writes at most 60 KiB"));
        return None;
    }
    Some(once.repeat(repeat as usize))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_digits_come_in_pairs() {
        assert_eq!(from_hex("5a A5 00"), Some(vec![0x5a, 0xa5, 0]));
        assert_eq!(from_hex(""), Some(vec![]));
        assert_eq!(from_hex("5"), None);
        assert_eq!(from_hex("5g"), None);
    }
}
