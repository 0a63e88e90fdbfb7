// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files and folders by path: each step opens what it needs and closes it.

use protocol::{FileStatus, MAX_PATH, Refusal};

use super::path::{open, with_zero};
use super::{ENTRIES, Outcome, State, Success, data};
use crate::syscall;

impl State {
    pub(super) fn read_file(&mut self, path: &[u8], offset: u64, len: usize) -> Outcome {
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

    pub(super) fn list(&mut self, path: &[u8], skip: u32, room: usize) -> Outcome {
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
}

pub(super) fn write_file(path: &[u8], create: bool, bytes: &[u8]) -> Outcome {
    let flags = if create { syscall::O_CREAT | syscall::O_TRUNC } else { 0 };
    let file = open(path, syscall::O_WRONLY | flags, 0o644)?;
    let count = syscall::write(file, bytes);
    let _ = syscall::close(file);
    Ok((count? as u64).into())
}

pub(super) fn make_node(path: &[u8], major: u32, minor: u32) -> Outcome {
    let mut place = [0; MAX_PATH + 1];
    let path = with_zero(path, &mut place)?;
    let _ = syscall::unlink(path);
    Ok(syscall::mknod(path, major, minor)?.into())
}

pub(super) fn mount(source: &[u8], target: &[u8], kind: &[u8], flags: u32, options: &[u8]) -> Outcome {
    let mut places = [[0; MAX_PATH + 1]; 4];
    let [first, second, third, fourth] = &mut places;
    let target = with_zero(target, second)?;
    // One that is there already stays.
    let _ = syscall::mkdir(target);
    let (source, kind) = (with_zero(source, first)?, with_zero(kind, third)?);
    Ok(syscall::mount_with(source, target, kind, flags, with_zero(options, fourth)?)?.into())
}

pub(super) fn symlink(target: &[u8], path: &[u8]) -> Outcome {
    let mut places = [[0; MAX_PATH + 1]; 2];
    let [first, second] = &mut places;
    Ok(syscall::symlink(with_zero(target, first)?, with_zero(path, second)?)?.into())
}

pub(super) fn stat(path: &[u8]) -> Outcome {
    let mut bytes = [0; 144];
    syscall::stat(with_zero(path, &mut [0; MAX_PATH + 1])?, &mut bytes)?;
    Ok(Success::Status(file_status(&bytes)))
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
