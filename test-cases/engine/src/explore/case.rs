// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A sequence as a case file, with what the model says as expectation.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use protocol::{Buffer, Via};

use super::expectation::Predictor;
use super::guest::Guest;
use super::sequence::Difference;
use crate::case::{OpenFlags, Protection};
use crate::guest::Target;
use model::capability;
use model::class::hex;
use model::{Op, Through};

/// Writes it. Operations that case files have no words for stand there as comments.
pub fn write(guest: &Guest, ops: &[Op], difference: &Difference, target: &Target) -> String {
    let mut text = format!(
        "title = \"{} as {} guest disagrees with the model of /dev/mem\"\nwhy = '''\n{}\n'''\nplatforms = [\"{}\"]\n",
        target.kernel.spec,
        target.platform,
        difference.text.replace("'''", "\"\"\""),
        target.platform
    );
    let mut writer = Writer::default();
    let mut predictor = Predictor::default();
    for (index, op) in ops.iter().enumerate() {
        let expectation = predictor.expectation(guest, op, difference.in_events);
        let _ = writeln!(text, "\n# {op}");
        let Some(step) = writer.step(op) else {
            text.push_str("# (case files have no words for this)\n");
            continue;
        };
        let _ = writeln!(text, "[[step]]\nid = \"step-{index}\"\n{step}");
        if let Some(expectation) = expectation {
            let _ = writeln!(text, "expect = {expectation}");
            if expectation.contains("\"ok\"") {
                writer.give_up(op);
            }
        }
    }
    text
}

#[derive(Default)]
struct Writer {
    names: BTreeMap<(char, u8), String>,
    /// The names that processes have which wait for a forked one.
    parents: Vec<BTreeMap<(char, u8), String>>,
    /// The file slot of the last read.
    read: Option<u8>,
    made: usize,
}

/// The key for a buffer that is not a good one.
const fn buffer_key(buffer: Buffer) -> &'static str {
    match buffer {
        Buffer::Good => "",
        Buffer::Null => "\nbuffer = \"bad\"",
        Buffer::Kernel => "\nbuffer = \"kernel\"",
        Buffer::Straddling => "\nbuffer = \"partly-bad\"",
    }
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

    /// Forgets the name of what an operation gave up: a case cannot use it any more.
    fn give_up(&mut self, op: &Op) {
        let slot = match op {
            Op::Close { file } => ('f', *file),
            Op::Munmap { map } => ('m', *map),
            Op::Mremap { map, to, .. } if to != map => ('m', *map),
            _ => return,
        };
        self.names.remove(&slot);
    }

    fn mmap(
        &mut self,
        map: u8,
        file: u8,
        (offset, len): (u64, u64),
        (prot, flags): (u32, u32),
        over: Option<&str>,
    ) -> Option<String> {
        let fd = self.name('f', file)?.to_owned();
        let share = [None, Some("shared"), Some("private")].get(flags as usize).copied().flatten()?;
        let (prot, name) = (Protection(prot), self.make('m', map));
        let fixed = over.map_or_else(String::new, |over| format!("\nfixed = \"{over}\""));
        Some(format!(
            "do = \"mmap\"\nfd = \"{fd}\"\nat = \"{offset:#x}\"\nlen = {len}\nprot = \"{prot}\"\nshare = \"{share}\"{fixed}\nas = \"{name}\""
        ))
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each operation")]
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
            Op::Read { file, at, len, buffer } => {
                self.read = Some(*file);
                let (fd, buffer) = (self.name('f', *file)?, buffer_key(*buffer));
                match at {
                    None => format!("do = \"read\"\nfd = \"{fd}\"\nlen = {len}{buffer}"),
                    Some(at) => {
                        format!("do = \"pread\"\nfd = \"{fd}\"\nat = \"{at:#x}\"\nlen = {len}{buffer}")
                    }
                }
            }
            Op::Write { file, at, data, buffer } => {
                let (fd, data, buffer) = (self.name('f', *file)?, hex(data), buffer_key(*buffer));
                match at {
                    None => format!("do = \"write\"\nfd = \"{fd}\"\nhex = \"{data}\"{buffer}"),
                    Some(at) => {
                        format!("do = \"pwrite\"\nfd = \"{fd}\"\nat = \"{at:#x}\"\nhex = \"{data}\"{buffer}")
                    }
                }
            }
            Op::Mmap { map, file, offset, len, prot, flags } => {
                self.mmap(*map, *file, (*offset, *len), (*prot, *flags), None)?
            }
            Op::MmapOver { map, over, file, offset, len, prot, flags } => {
                let over = self.name('m', *over)?.to_owned();
                self.mmap(*map, *file, (*offset, *len), (*prot, *flags), Some(&over))?
            }
            Op::Mprotect { map, offset, len, prot } => {
                let (map, prot) = (self.name('m', *map)?, Protection(*prot));
                format!(
                    "do = \"mprotect\"\nmap = \"{map}\"\noffset = {offset}\nlen = {len}\nprot = \"{prot}\""
                )
            }
            Op::Mremap { map, to, len } => {
                let name = self.name('m', *map)?.to_owned();
                let moved =
                    if to == map { String::new() } else { format!("\nas = \"{}\"", self.make('m', *to)) };
                format!("do = \"mremap\"\nmap = \"{name}\"\nlen = {len}{moved}")
            }
            Op::Fork => {
                self.parents.push(self.names.clone());
                "do = \"fork\"".to_owned()
            }
            Op::Exit => {
                self.names = self.parents.pop()?;
                "do = \"exit\"".to_owned()
            }
            Op::Exec => "do = \"exec\"".to_owned(),
            Op::SendFile { file } => format!("do = \"send-file\"\nfd = \"{}\"", self.name('f', *file)?),
            Op::ReceiveFile { file } => format!("do = \"receive-file\"\nas = \"{}\"", self.make('f', *file)),
            Op::Left { from, len } if *len > 0 => {
                format!(
                    "do = \"buffer\"\nfd = \"{}\"\nfrom = {from}\nlen = {len}",
                    self.name('f', self.read?)?
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_has_no_name() {
        let mut writer = Writer::default();
        for (kind, slot) in [('f', 0), ('m', 0), ('m', 1)] {
            writer.make(kind, slot);
        }
        let read = Op::Lseek { file: 0, offset: 0, whence: 0 };
        let unmap = |map| Op::Munmap { map };
        assert!(writer.step(&read).is_some());
        writer.give_up(&read);
        assert!(writer.step(&read).is_some());
        writer.give_up(&Op::Close { file: 0 });
        assert!(writer.step(&read).is_none());
        writer.give_up(&unmap(0));
        assert!(writer.step(&unmap(0)).is_none() && writer.step(&unmap(1)).is_some());
        let remap = Op::Mremap { map: 1, to: 2, len: 4096 };
        assert!(writer.step(&remap).is_some());
        writer.give_up(&remap);
        assert!(writer.step(&unmap(1)).is_none() && writer.step(&unmap(2)).is_some());
        assert!(writer.step(&Op::Mremap { map: 2, to: 2, len: 4096 }).is_some());
        writer.give_up(&Op::Mremap { map: 2, to: 2, len: 4096 });
        assert!(writer.step(&unmap(2)).is_some());
    }
}
