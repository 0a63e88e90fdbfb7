// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Each step, executed: what the steps share is here, what each does in the modules.

use core::sync::atomic::Ordering::Relaxed;

use protocol::outcome::{self, RESERVE};
use protocol::window::{Directory, PAGE};
use protocol::wire::Slice;
use protocol::{Call, Errno, FILE_SLOTS, FileStatus, MAP_SLOTS, MAX_DATA, Refusal, Step, Via, Width, blob};

use self::process_memory::{read_memory, trace_peek, trace_poke, write_memory};
use crate::command;
use crate::guard::{self, Fault};
use crate::syscall::{self, File};

mod carried;
mod files;
mod kernel;
mod mappings;
mod named_files;
mod path;
mod process;
mod process_memory;

/// The part of the scratch memory that a folder's raw entries use; their names use the rest.
const ENTRIES: usize = 32 << 10;
/// Room that any outcome without data fits in.
const SMALL: usize = 64;

/// `clone`, `fork`, `vfork`, `clone3`: a second worker would write over the first one's results.
const DUPLICATING: [u32; 4] = [56, 57, 58, 435];

/// What the worker keeps between steps.
pub struct State {
    control: [File; 2],
    directory: &'static Directory,
    files: [Option<File>; FILE_SLOTS as usize],
    maps: [Option<(u64, u64)>; MAP_SLOTS as usize],
    scratch: &'static mut [u8],
    /// A page followed by nothing.
    straddle: Option<u64>,
    /// Room for the kernel log.
    log: Option<&'static mut [u8]>,
    /// Bytes of the scratch memory that the read just before was given.
    left: Option<usize>,
    /// The sockets that files are passed through: to send, to receive.
    sockets: Option<[File; 2]>,
    /// How many forked parents wait for this process.
    pub depth: u32,
}

/// Why a step gives no value.
enum Failure {
    Errno(Call, Errno),
    Refused(Refusal),
    Fault(Fault),
    /// The same, after so many bytes of the scratch memory.
    FaultAfter(Fault, usize),
}

/// What a step gives.
enum Success {
    Value(i64),
    /// A value with the first bytes of the scratch memory.
    Data(i64, usize),
    /// A value with a part of the log.
    Log(i64, usize, usize),
    /// A value with a part of the scratch memory.
    Names(i64, usize),
    /// A part of the scratch memory.
    Left(usize, usize),
    Status(FileStatus),
}

type Outcome = Result<Success, Failure>;

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(Call::Own, errno)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<u64> for Success {
    fn from(value: u64) -> Self {
        Self::Value(value.cast_signed())
    }
}

fn data(len: usize) -> Success {
    Success::Data(len.cast_signed() as i64, len)
}

/// Most bytes the step's outcome can take.
pub fn worst_case(step: &Step<'_>, keep: Option<usize>) -> usize {
    let len = match *step {
        Step::Read { len, .. } | Step::Pread { len, .. } => usize::try_from(len).unwrap_or(MAX_DATA),
        Step::Peek { len, .. }
        | Step::ProcMemRead { len, .. }
        | Step::VmRead { len, .. }
        | Step::PtracePeek { len, .. }
        | Step::ReadFile { len, .. }
        | Step::Execute { len, .. }
        | Step::Left { len, .. }
        | Step::KernelLog { len, .. } => len as usize,
        // Takes what there is.
        Step::ListDir { .. } => PAGE,
        Step::Uname => 390,
        _ => 0,
    };
    SMALL + blob::worst_case(len.min(MAX_DATA).min(keep.unwrap_or(MAX_DATA)))
}

impl State {
    /// Nothing open, nothing mapped.
    pub fn new(control: [File; 2], directory: &'static Directory) -> syscall::Result<Self> {
        Ok(Self {
            control,
            directory,
            files: [None; FILE_SLOTS as usize],
            maps: [None; MAP_SLOTS as usize],
            scratch: syscall::memory(MAX_DATA, syscall::MAP_PRIVATE)?,
            straddle: None,
            log: None,
            left: None,
            sockets: None,
            depth: 0,
        })
    }

    /// Executes a step and appends its outcome, for which there is room.
    pub fn execute(&mut self, step: &Step<'_>, keep: Option<usize>, out: &mut Slice<'_>) {
        let room = out.room().saturating_sub(RESERVE + SMALL);
        match self.outcome(step, room) {
            Ok(Success::Value(value)) => outcome::value(out, value),
            Ok(Success::Data(value, len)) => {
                outcome::data(out, value, self.scratch.get(..len).unwrap_or_default(), keep);
            }
            Ok(Success::Names(value, len)) => {
                let names = self.scratch.get(ENTRIES..ENTRIES + len).unwrap_or_default();
                outcome::data(out, value, names, keep);
            }
            Ok(Success::Left(from, to)) => {
                let left = self.scratch.get(from..to).unwrap_or_default();
                outcome::data(out, left.len() as i64, left, keep);
            }
            Ok(Success::Log(value, from, to)) => {
                let log = self.log.as_deref().and_then(|log| log.get(from..to)).unwrap_or_default();
                outcome::data(out, value, log, keep);
            }
            Ok(Success::Status(status)) => outcome::file_status(out, &status),
            Err(Failure::Errno(call, errno)) => outcome::errno(out, call, errno),
            Err(Failure::Refused(refusal)) => outcome::refused(out, refusal),
            Err(Failure::Fault(fault)) => {
                outcome::signal(out, fault.signal, fault.code, fault.address, &[], keep);
            }
            Err(Failure::FaultAfter(fault, len)) => {
                let data = self.scratch.get(..len).unwrap_or_default();
                outcome::signal(out, fault.signal, fault.code, fault.address, data, keep);
            }
        }
    }

    fn outcome(&mut self, step: &Step<'_>, room: usize) -> Outcome {
        let left = self.left.take();
        Ok(match *step {
            Step::Open { file, path, flags, mode } => return self.open(file, path, flags, mode),
            Step::Close { file } => self.close(file)?.into(),
            Step::Lseek { file, offset, whence } => syscall::lseek(self.file(file)?, offset, whence)?.into(),
            Step::Read { file, len, buffer } => return self.read(file, None, len, buffer),
            Step::Pread { file, offset, len, buffer } => return self.read(file, Some(offset), len, buffer),
            Step::Write { file, data, buffer } => return self.write(file, None, data, buffer),
            Step::Pwrite { file, offset, data, buffer } => {
                return self.write(file, Some(offset), data, buffer);
            }
            Step::Mmap { map, file, offset, len, prot, flags } => {
                self.map(map, file, offset, len, prot, flags)?.into()
            }
            Step::MmapOver { map, over, file, offset, len, prot, flags } => {
                self.map_over(map, over, file, offset, len, prot, flags)?.into()
            }
            Step::Mprotect { map, offset, len, prot } => self.protect(map, offset, len, prot)?.into(),
            Step::Mremap { map, to, len } => self.remap(map, to, len)?.into(),
            Step::Munmap { map } => self.unmap(map)?.into(),
            Step::SendFile { file } => self.send_file(file)?.into(),
            Step::ReceiveFile { file } => self.receive_file(file)?.into(),
            Step::Left { from, len } => {
                let (from, to) = (from as usize, from as usize + len as usize);
                left.filter(|&left| to <= left).ok_or(Refusal::Length)?;
                return Ok(Success::Left(from, to));
            }
            Step::MakeNode { path, major, minor } => return named_files::make_node(path, major, minor),
            Step::Peek { map, offset, len, width } => return self.peek(map, offset, len as usize, width),
            Step::Poke { map, offset, data, width } => return self.poke(map, offset, data, width),
            Step::ProcMemRead { via, map, offset, len } => {
                self.fetch(via, map, offset, len as usize, read_memory)?
            }
            Step::ProcMemWrite { via, map, offset, data } => {
                self.put(via, map, offset, data, write_memory)?
            }
            Step::VmRead { via, map, offset, len } => {
                self.fetch(via, map, offset, len as usize, |process, buffer, address| {
                    Ok(syscall::vm_read(process, buffer, address)?)
                })?
            }
            Step::VmWrite { via, map, offset, data } => {
                self.put(via, map, offset, data, |process, data, address| {
                    Ok(syscall::vm_write(process, data, address)?)
                })?
            }
            Step::PtracePeek { map, offset, len } => {
                self.fetch(Via::Child, map, offset, len as usize, trace_peek)?
            }
            Step::PtracePoke { map, offset, data } => self.put(Via::Child, map, offset, data, trace_poke)?,
            Step::Stat { path } => return named_files::stat(path),
            Step::ReadFile { path, offset, len } => return self.read_file(path, offset, len as usize),
            Step::WriteFile { path, create, data } => return named_files::write_file(path, create, data),
            Step::ListDir { path, skip } => return self.list(path, skip, room),
            Step::Uname => return self.uname(),
            Step::Iopl { level } => syscall::iopl(level)?.into(),
            Step::Ioperm { from, count, on } => syscall::ioperm(from, count, on)?.into(),
            Step::PortIn { port, width } if width != Width::Quad => {
                u64::from(guard::port_in(port, width).map_err(Failure::Fault)?).into()
            }
            Step::PortOut { port, width, value } if width != Width::Quad => {
                guard::port_out(port, width, value).map_err(Failure::Fault)?;
                0.into()
            }
            Step::PortIn { .. } | Step::PortOut { .. } => return Err(Refusal::Width.into()),
            Step::Syscall { number, .. } if DUPLICATING.contains(&number) => {
                return Err(Refusal::Syscall.into());
            }
            Step::Syscall { number, arguments } => {
                // SAFETY: the author of the case is responsible for it; this process is there to be broken, and the supervisor
                // is another.
                unsafe { syscall::raw(u64::from(number), arguments) }?.into()
            }
            Step::DropCaps { mask } => return process::drop_capabilities(mask),
            Step::SetUser { uid, gid, keep } => return process::set_user(uid, gid, keep),
            Step::KernelLog { offset, len } => return self.kernel_log(offset as usize, len as usize),
            Step::Execute { path, arguments, len, limit_ms } => {
                return self.run(path, arguments, len as usize, limit_ms);
            }
            Step::Mount { source, target, kind, flags, options } => {
                return named_files::mount(source, target, kind, flags, options);
            }
            Step::Symlink { target, path } => return named_files::symlink(target, path),
            Step::Command { root, folder, files, terminal, arguments, environment } => {
                let command = command::Command { root, folder, files, terminal, arguments, environment };
                let progress = &self.directory.progress;
                let tick = || progress.store(progress.load(Relaxed).wrapping_add(1), Relaxed);
                return Ok(Success::Value(i64::from(command.run(tick)?)));
            }
            Step::Marker { value } => {
                self.directory.marker.store(value, Relaxed);
                0.into()
            }
            // The worker takes these apart itself.
            Step::ExitWorker | Step::Reset { .. } | Step::Repeat { .. } | Step::Fork | Step::Exec => {
                return Err(Refusal::Malformed.into());
            }
        })
    }

    fn file(&self, slot: u8) -> Result<File, Refusal> {
        self.files.get(usize::from(slot)).copied().flatten().ok_or(Refusal::File)
    }

    fn address(&self, map: u8, offset: u64) -> Result<u64, Refusal> {
        let (start, _) = self.maps.get(usize::from(map)).copied().flatten().ok_or(Refusal::Map)?;
        Ok(start.wrapping_add(offset))
    }

    fn buffer(&mut self, len: usize, multiple: usize) -> Result<&mut [u8], Refusal> {
        if !len.is_multiple_of(multiple) {
            return Err(Refusal::Length);
        }
        self.scratch.get_mut(..len).ok_or(Refusal::Length)
    }
}
