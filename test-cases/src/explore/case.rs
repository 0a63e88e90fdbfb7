//! A sequence as a case file, with what the model says as expectation.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use protocol::{Buffer, Via};

use super::guest::Guest;
use super::sequence::Difference;
use crate::capability;
use crate::case::OpenFlags;
use crate::class::hex;
use crate::engine::Target;
use crate::model::{self, Op, Outcome, Task, Through, World};

/// Writes it. Operations that case files have no words for stand there as comments.
pub fn write(guest: &Guest, ops: &[Op], difference: &Difference, target: &Target) -> String {
    let mut text = format!(
        "title = \"{} as {} guest disagrees with the model of /dev/mem\"\nwhy = '''\n{}\n'''\nplatforms = [\"{}\"]\n",
        target.kernel.spec,
        target.platform,
        difference.text.replace("'''", "\"\"\""),
        target.platform
    );
    let mut writer = Writer { names: BTreeMap::new(), made: 0 };
    let mut task = Task::default();
    for (index, op) in ops.iter().enumerate() {
        let prediction = model::step(&guest.world, &mut task, op);
        let _ = writeln!(text, "\n# {op}");
        let Some(step) = writer.step(op) else {
            text.push_str("# (case files have no words for this)\n");
            continue;
        };
        let _ = writeln!(text, "[[step]]\nid = \"step-{index}\"\n{step}");
        if let Some(expectation) = expectation(&guest.world, &prediction.outcome) {
            let _ = writeln!(text, "expect = \"{expectation}\"");
        }
    }
    text
}

struct Writer {
    names: BTreeMap<(char, u8), String>,
    made: usize,
}

impl Writer {
    /// A new name for what an operation puts into a slot.
    fn make(&mut self, kind: char, slot: u8) -> String {
        self.made += 1;
        let name = format!("{kind}{}", self.made);
        self.names.insert((kind, slot), name.clone());
        name
    }

    fn name(&self, kind: char, slot: u8) -> Option<&str> {
        self.names.get(&(kind, slot)).map(String::as_str)
    }

    fn step(&mut self, op: &Op) -> Option<String> {
        Some(match op {
            Op::Open { file, node, flags } => {
                let name = self.make('f', *file);
                format!(
                    "do = \"open\"\npath = \"{}\"\nflags = \"{}\"\nas = \"{name}\"",
                    node.path(),
                    OpenFlags(*flags)
                )
            }
            Op::Close { file } => format!("do = \"close\"\nfd = \"{}\"", self.name('f', *file)?),
            Op::Lseek { file, offset, whence } => {
                let whence = ["SEEK_SET", "SEEK_CUR", "SEEK_END"].get(usize::from(*whence))?;
                let fd = self.name('f', *file)?;
                format!("do = \"lseek\"\nfd = \"{fd}\"\nto = \"{offset:#x}\"\nwhence = \"{whence}\"")
            }
            Op::Read { file, at, len, buffer: Buffer::Good } => {
                let fd = self.name('f', *file)?;
                match at {
                    None => format!("do = \"read\"\nfd = \"{fd}\"\nlen = {len}"),
                    Some(at) => format!("do = \"pread\"\nfd = \"{fd}\"\nat = \"{at:#x}\"\nlen = {len}"),
                }
            }
            Op::Write { file, at, data, buffer: Buffer::Good } => {
                let (fd, data) = (self.name('f', *file)?, hex(data));
                match at {
                    None => format!("do = \"write\"\nfd = \"{fd}\"\nhex = \"{data}\""),
                    Some(at) => format!("do = \"pwrite\"\nfd = \"{fd}\"\nat = \"{at:#x}\"\nhex = \"{data}\""),
                }
            }
            Op::Mmap { map, file, offset, len, prot, flags } => {
                let fd = self.name('f', *file)?.to_owned();
                let prot = ["none", "r", "w", "rw"].get(*prot as usize)?;
                let share =
                    [None, Some("shared"), Some("private")].get(*flags as usize).copied().flatten()?;
                let name = self.make('m', *map);
                format!(
                    "do = \"mmap\"\nfd = \"{fd}\"\nat = \"{offset:#x}\"\nlen = {len}\nprot = \"{prot}\"\nshare = \"{share}\"\nas = \"{name}\""
                )
            }
            Op::Munmap { map } => format!("do = \"munmap\"\nmap = \"{}\"", self.name('m', *map)?),
            Op::Load { map, offset, len, .. } => {
                format!("do = \"peek\"\nmap = \"{}\"\noffset = {offset}\nlen = {len}", self.name('m', *map)?)
            }
            Op::Store { map, offset, data, .. } => {
                let (map, data) = (self.name('m', *map)?, hex(data));
                format!("do = \"poke\"\nmap = \"{map}\"\noffset = {offset}\nhex = \"{data}\"")
            }
            Op::Fetch { through, map, offset, len } => {
                let action = match through {
                    Through::ProcMem(Via::Itself) => "self-mem-read",
                    Through::ProcessVm(Via::Child) => "vm-readv",
                    Through::Ptrace => "ptrace-peek",
                    _ => return None,
                };
                let map = self.name('m', *map)?;
                format!("do = \"{action}\"\nmap = \"{map}\"\noffset = {offset}\nlen = {len}")
            }
            Op::Put { through: Through::ProcMem(Via::Itself), map, offset, data } => {
                let (map, data) = (self.name('m', *map)?, hex(data));
                format!("do = \"self-mem-write\"\nmap = \"{map}\"\noffset = {offset}\nhex = \"{data}\"")
            }
            Op::Ioperm { from, count, on } => {
                format!("do = \"ioperm\"\nport = {from}\ncount = {count}\non = {on}")
            }
            Op::Iopl { level } => format!("do = \"iopl\"\nlevel = {level}"),
            Op::PortIn { port, width } => {
                format!("do = \"port-in\"\nport = {port}\nwidth = {}", *width as u8)
            }
            Op::DropCaps { mask } => {
                let caps: Vec<String> = capability::names(*mask).map(|name| format!("\"{name}\"")).collect();
                format!("do = \"drop-caps\"\ncaps = [{}]", caps.join(", "))
            }
            Op::SetUser { uid, gid, keep } => {
                format!("do = \"setuid\"\nuid = {uid}\ngid = {gid}\nkeep = {keep}")
            }
            Op::UserNamespace => "do = \"user-namespace\"".to_owned(),
            Op::NoNewPrivs => "do = \"no-new-privs\"".to_owned(),
            _ => return None,
        })
    }
}

/// What the model says, as far as case files can say it.
fn expectation(world: &World, outcome: &Outcome) -> Option<String> {
    Some(match outcome {
        Outcome::Value(_) => "ok".to_owned(),
        Outcome::Bytes { value, pieces } => {
            let mut classes = pieces.iter().map(|piece| world.class_of(piece.source));
            match classes.next() {
                Some(Some(first)) if classes.all(|next| next == Some(first)) => first.to_string(),
                _ => format!("= {value}"),
            }
        }
        Outcome::Failed { errno, .. } => errno.to_string(),
        Outcome::Signal { signal, .. } | Outcome::Oops { signal } => signal.to_string(),
        Outcome::Refused(_) => return None,
    })
}
