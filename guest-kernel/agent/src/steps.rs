//! Each step, executed.

use core::ffi::CStr;
use core::sync::atomic::Ordering::Relaxed;

use protocol::outcome::{self, RESERVE};
use protocol::window::{Directory, PAGE};
use protocol::wire::Slice;
use protocol::{
    Buffer, Call, Errno, FILE_SLOTS, FileStatus, MAP_SLOTS, MAX_DATA, MAX_PATH, Refusal, Step, Via, Width,
    blob, map_address,
};

use crate::child;
use crate::guard::{self, Fault};
use crate::program;
use crate::syscall::{self, File};

/// An address no user buffer can have.
const KERNEL_ADDRESS: u64 = 0xffff_8880_0000_0000;
/// The part of the scratch memory that a folder's raw entries use; their names use the rest.
const ENTRIES: usize = 32 << 10;
/// Room that any outcome without data fits in.
const SMALL: usize = 64;

/// `clone`, `fork`, `vfork`, `clone3`: a second worker would write over the first one's results.
const DUPLICATING: [u32; 4] = [56, 57, 58, 435];

/// A path with its terminating zero.
type Path = [u8; MAX_PATH + 1];

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
        Ok(match *step {
            Step::Open { file, path, flags, mode } => return self.open(file, path, flags, mode),
            Step::Close { file } => {
                let open = self.file(file)?;
                self.files[usize::from(file)] = None;
                syscall::close(open)?.into()
            }
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
            Step::Munmap { map } => self.unmap(map)?.into(),
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
            Step::Stat { path } => {
                let mut bytes = [0; 144];
                syscall::stat(with_zero(path, &mut [0; MAX_PATH + 1])?, &mut bytes)?;
                Success::Status(file_status(&bytes))
            }
            Step::ReadFile { path, offset, len } => return self.read_file(path, offset, len as usize),
            Step::WriteFile { path, create, data } => return write_file(path, create, data),
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
                // SAFETY: whoever writes the case answers for it; this process is there to be broken, and the supervisor
                // is another.
                unsafe { syscall::raw(u64::from(number), arguments) }?.into()
            }
            Step::DropCaps { mask } => return drop_capabilities(mask),
            Step::SetUser { uid, gid } => return set_user(uid, gid),
            Step::KernelLog { offset, len } => return self.kernel_log(offset as usize, len as usize),
            Step::Execute { path, arguments, len, limit_ms } => {
                return self.run(path, arguments, len as usize, limit_ms);
            }
            Step::Marker { value } => {
                self.directory.marker.store(value, Relaxed);
                0.into()
            }
            // The worker takes these apart itself.
            Step::ExitWorker | Step::Reset { .. } | Step::Repeat { .. } => {
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

    fn open(&mut self, slot: u8, path: &[u8], flags: u32, mode: u32) -> Outcome {
        if slot >= FILE_SLOTS {
            return Err(Refusal::File.into());
        }
        if let Some(file) = self.files[usize::from(slot)].take() {
            let _ = syscall::close(file);
        }
        let file = syscall::open(with_zero(path, &mut [0; MAX_PATH + 1])?, flags, mode)?;
        self.files[usize::from(slot)] = Some(file);
        Ok(Success::Value(0))
    }

    fn map(
        &mut self,
        map: u8,
        file: u8,
        offset: u64,
        len: u64,
        prot: u32,
        flags: u32,
    ) -> Result<u64, Failure> {
        let file = if file == u8::MAX { -1 } else { self.file(file)? };
        if map >= MAP_SLOTS {
            return Err(Refusal::Map.into());
        }
        if self.maps[usize::from(map)].is_some() {
            self.unmap(map)?;
        }
        let address = syscall::mmap(map_address(map), len, prot, flags, file, offset)?;
        self.maps[usize::from(map)] = Some((address, len));
        Ok(address)
    }

    fn unmap(&mut self, map: u8) -> Result<u64, Failure> {
        let place = self.maps.get_mut(usize::from(map)).ok_or(Refusal::Map)?;
        let (address, len) = place.take().ok_or(Refusal::Map)?;
        // SAFETY: the mapping was made for a step, and only steps look at it.
        Ok(unsafe { syscall::munmap(address, len) }?)
    }

    fn read(&mut self, slot: u8, offset: Option<u64>, len: u64, buffer: Buffer) -> Outcome {
        let file = self.file(slot)?;
        if buffer == Buffer::Good {
            let buffer = self.buffer(usize::try_from(len).map_err(|_| Refusal::Length)?, 1)?;
            let count = match offset {
                None => syscall::read(file, buffer),
                Some(offset) => syscall::pread(file, buffer, offset),
            }?;
            return Ok(data(count));
        }
        let address = self.bad_address(buffer, len)?;
        let count = syscall::read_at_address(file, offset, address, len)?;
        // As much as the kernel says it stored and we can see.
        let seen = if buffer == Buffer::Straddling { mapped_part(len).min(count) as usize } else { 0 };
        let (seen, _) = guard::load(address, self.buffer(seen, 1)?, Width::Byte);
        Ok(Success::Data(count.cast_signed(), seen))
    }

    fn write(&mut self, slot: u8, offset: Option<u64>, bytes: &[u8], buffer: Buffer) -> Outcome {
        let file = self.file(slot)?;
        if buffer == Buffer::Good {
            let count = match offset {
                None => syscall::write(file, bytes),
                Some(offset) => syscall::pwrite(file, bytes, offset),
            }?;
            return Ok((count as u64).into());
        }
        let len = bytes.len() as u64;
        let address = self.bad_address(buffer, len)?;
        if buffer == Buffer::Straddling {
            let part = bytes.get(..mapped_part(len) as usize).unwrap_or_default();
            guard::store(address, part, Width::Byte);
        }
        Ok(syscall::write_at_address(file, offset, address, len)?.into())
    }

    fn bad_address(&mut self, buffer: Buffer, len: u64) -> Result<u64, Failure> {
        Ok(match buffer {
            Buffer::Good | Buffer::Null => 0,
            Buffer::Kernel => KERNEL_ADDRESS,
            Buffer::Straddling => self.straddle()? + PAGE as u64 - mapped_part(len),
        })
    }

    fn straddle(&mut self) -> Result<u64, Failure> {
        if let Some(page) = self.straddle {
            return Ok(page);
        }
        let prot = syscall::PROT_READ | syscall::PROT_WRITE;
        let flags = syscall::MAP_PRIVATE | syscall::MAP_ANONYMOUS;
        let failed = |errno| Failure::Errno(Call::Memory, errno);
        let page = syscall::mmap(0, 2 * PAGE as u64, prot, flags, -1, 0).map_err(failed)?;
        // SAFETY: half of what was mapped just now, and nothing refers to it.
        unsafe { syscall::munmap(page + PAGE as u64, PAGE as u64) }.map_err(failed)?;
        self.straddle = Some(page);
        Ok(page)
    }

    fn peek(&mut self, map: u8, offset: u64, len: usize, width: Width) -> Outcome {
        let from = self.address(map, offset)?;
        match guard::load(from, self.buffer(len, width as usize)?, width) {
            (done, None) => Ok(data(done)),
            (done, Some(fault)) => Err(Failure::FaultAfter(fault, done)),
        }
    }

    fn poke(&mut self, map: u8, offset: u64, bytes: &[u8], width: Width) -> Outcome {
        let to = self.address(map, offset)?;
        if !bytes.len().is_multiple_of(width as usize) {
            return Err(Refusal::Length.into());
        }
        match guard::store(to, bytes, width) {
            (done, None) => Ok((done as u64).into()),
            (_, Some(fault)) => Err(Failure::Fault(fault)),
        }
    }

    /// Reads from a mapping in the memory of a process.
    fn fetch(
        &mut self,
        via: Via,
        map: u8,
        offset: u64,
        len: usize,
        read: impl FnOnce(i32, &mut [u8], u64) -> Result<usize, Failure>,
    ) -> Outcome {
        let address = self.address(map, offset)?;
        let control = self.control;
        let buffer = self.buffer(len, 1)?;
        through(control, via, |process| read(process, buffer, address)).map(data)
    }

    /// Writes to a mapping in the memory of a process.
    fn put(
        &mut self,
        via: Via,
        map: u8,
        offset: u64,
        bytes: &[u8],
        write: impl FnOnce(i32, &[u8], u64) -> Result<usize, Failure>,
    ) -> Outcome {
        let address = self.address(map, offset)?;
        let count = through(self.control, via, |process| write(process, bytes, address))?;
        Ok((count as u64).into())
    }

    fn read_file(&mut self, path: &[u8], offset: u64, len: usize) -> Outcome {
        let buffer = self.buffer(len, 1)?;
        let file = open(path, syscall::O_CLOEXEC, 0)?;
        let mut done = 0;
        let mut result = Ok(());
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match syscall::pread(file, rest, offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(errno) => {
                    result = Err(errno);
                    break;
                }
            }
        }
        let _ = syscall::close(file);
        if done == 0 {
            result?;
        }
        Ok(data(done))
    }

    fn run(&mut self, path: &[u8], arguments: &[u8], len: usize, limit_ms: u32) -> Outcome {
        let progress = &self.directory.progress;
        let output = self.scratch.get_mut(..len).ok_or(Refusal::Length)?;
        let mut place = [0; MAX_PATH + 1];
        let path = with_zero(path, &mut place)?;
        let tick = || progress.store(progress.load(Relaxed).wrapping_add(1), Relaxed);
        let (status, len) = program::run(path, arguments, output, limit_ms, tick)?;
        Ok(Success::Data(i64::from(status), len))
    }

    fn list(&mut self, path: &[u8], skip: u32, room: usize) -> Outcome {
        let file = open(path, syscall::O_DIRECTORY | syscall::O_CLOEXEC, 0)?;
        let Some((entries, names)) = self.scratch.split_at_mut_checked(ENTRIES) else {
            return Err(Refusal::Length.into());
        };
        let room = names.len().min(room);
        let (mut total, mut len, mut full) = (0u32, 0, false);
        let result = loop {
            let filled = match syscall::getdents(file, entries) {
                Ok(0) => break Ok(()),
                Ok(filled) => filled,
                Err(errno) => break Err(errno),
            };
            let mut rest = entries.get(..filled).unwrap_or_default();
            while let Some((name, after)) = directory_entry(rest) {
                rest = after;
                if name == b"." || name == b".." {
                    continue;
                }
                total += 1;
                full |= len + name.len() + 1 > room;
                if total > skip
                    && !full
                    && let Some(place) = names.get_mut(len..=len + name.len())
                {
                    place[..name.len()].copy_from_slice(name);
                    place[name.len()] = b'\n';
                    len += name.len() + 1;
                }
            }
        };
        let _ = syscall::close(file);
        result?;
        Ok(Success::Names(i64::from(total), len))
    }

    fn uname(&mut self) -> Outcome {
        let mut names = [0; 390];
        syscall::uname(&mut names)?;
        let mut len = 0;
        for name in names.chunks(65) {
            let text = name.iter().take_while(|&&byte| byte != 0).chain(b"\n");
            for (place, byte) in self.scratch.iter_mut().skip(len).zip(text) {
                *place = *byte;
                len += 1;
            }
        }
        Ok(data(len))
    }

    fn kernel_log(&mut self, offset: usize, len: usize) -> Outcome {
        const READ_ALL: u32 = 3;
        const SIZE: u32 = 10;
        if len > MAX_DATA {
            return Err(Refusal::Length.into());
        }
        let log = if let Some(log) = self.log.take() {
            log
        } else {
            let size = syscall::kernel_log(SIZE, &mut [])?;
            syscall::memory(size, syscall::MAP_PRIVATE)
                .map_err(|errno| Failure::Errno(Call::Memory, errno))?
        };
        let result = syscall::kernel_log(READ_ALL, log);
        self.log = Some(log);
        let total = result?;
        let from = offset.min(total);
        Ok(Success::Log(total.cast_signed() as i64, from, (from + len).min(total)))
    }
}

/// Does something to the worker itself or to a stopped child.
fn through<T>(
    control: [File; 2],
    via: Via,
    act: impl FnOnce(i32) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match via {
        Via::Itself => act(syscall::getpid()),
        Via::Child => {
            child::with_stopped(control, act).map_err(|errno| Failure::Errno(Call::Child, errno))?
        }
    }
}

fn read_memory(process: i32, buffer: &mut [u8], address: u64) -> Result<usize, Failure> {
    let memory = open_memory(process, 0)?;
    let count = syscall::pread(memory, buffer, address);
    let _ = syscall::close(memory);
    Ok(count?)
}

fn write_memory(process: i32, bytes: &[u8], address: u64) -> Result<usize, Failure> {
    let memory = open_memory(process, syscall::O_RDWR)?;
    let count = syscall::pwrite(memory, bytes, address);
    let _ = syscall::close(memory);
    Ok(count?)
}

fn trace_peek(process: i32, buffer: &mut [u8], address: u64) -> Result<usize, Failure> {
    let len = buffer.len();
    let (words, rest) = buffer.as_chunks_mut::<8>();
    if !rest.is_empty() {
        return Err(Refusal::Length.into());
    }
    for (word, address) in words.iter_mut().zip((address..).step_by(8)) {
        *word = syscall::trace_peek(process, address)?.to_le_bytes();
    }
    Ok(len)
}

fn trace_poke(process: i32, bytes: &[u8], address: u64) -> Result<usize, Failure> {
    let (words, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(Refusal::Length.into());
    }
    for (word, address) in words.iter().zip((address..).step_by(8)) {
        syscall::trace_poke(process, address, u64::from_le_bytes(*word))?;
    }
    Ok(words.len())
}

fn write_file(path: &[u8], create: bool, bytes: &[u8]) -> Outcome {
    let flags = if create { syscall::O_CREAT | syscall::O_TRUNC } else { 0 };
    let file = open(path, syscall::O_WRONLY | flags, 0o644)?;
    let count = syscall::write(file, bytes);
    let _ = syscall::close(file);
    Ok((count? as u64).into())
}

fn drop_capabilities(mask: u64) -> Outcome {
    let mut sets = syscall::capabilities()?;
    for (index, set) in sets.iter_mut().enumerate() {
        *set &= !((mask >> (index / 3 * 32)) as u32);
    }
    Ok(syscall::set_capabilities(sets)?.into())
}

fn set_user(uid: u32, gid: u32) -> Outcome {
    syscall::set_groups_none()?;
    syscall::set_gid(gid)?;
    Ok(syscall::set_uid(uid)?.into())
}

/// Bytes of a straddling buffer that are mapped.
fn mapped_part(len: u64) -> u64 {
    (len / 2).min(PAGE as u64)
}

fn with_zero<'a>(path: &[u8], place: &'a mut Path) -> Result<&'a CStr, Refusal> {
    let text = place.get_mut(..=path.len()).ok_or(Refusal::Path)?;
    text[..path.len()].copy_from_slice(path);
    CStr::from_bytes_with_nul(text).map_err(|_| Refusal::Path)
}

/// Opens a file for a step that is about something else.
fn open(path: &[u8], flags: u32, mode: u32) -> Result<File, Failure> {
    let mut place = [0; MAX_PATH + 1];
    syscall::open(with_zero(path, &mut place)?, flags, mode)
        .map_err(|errno| Failure::Errno(Call::Open, errno))
}

fn open_memory(process: i32, flags: u32) -> Result<File, Failure> {
    let mut path = *b"/proc/0000000000/mem";
    let mut rest = process.unsigned_abs();
    for digit in path[6..16].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // Without the leading zeros, which the kernel does not take.
    let zeros = path[6..16].iter().take_while(|&&digit| digit == b'0').count();
    path.copy_within(6 + zeros.., 6);
    open(&path[..path.len() - zeros], flags | syscall::O_CLOEXEC, 0)
}

/// The first name among a folder's raw entries, and what comes after it.
fn directory_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u16::from_le_bytes(*bytes.get(16..)?.first_chunk()?);
    let (entry, rest) = bytes.split_at_checked(usize::from(len))?;
    let name = entry.get(19..)?;
    let end = name.iter().position(|&byte| byte == 0)?;
    Some((name.get(..end)?, rest))
}

/// The fields of the kernel's `struct stat`.
fn file_status(bytes: &[u8; 144]) -> FileStatus {
    let long =
        |at: usize| bytes[at..].first_chunk().map(|word| u32::from_le_bytes(*word)).unwrap_or_default();
    let quad =
        |at: usize| bytes[at..].first_chunk().map(|word| u64::from_le_bytes(*word)).unwrap_or_default();
    FileStatus { mode: long(24), rdev: quad(40), size: quad(48), uid: long(28), gid: long(32) }
}
