// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mappings in slots, and accesses to them by the worker itself.

use protocol::{MAP_SLOTS, MAP_STRIDE, Refusal, Width, map_address};

use super::{Failure, Outcome, State, data};
use crate::guard;
use crate::syscall;

impl State {
    pub(super) fn map(
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

    #[expect(clippy::too_many_arguments, reason = "the parameters of the system call, and two slots")]
    pub(super) fn map_over(
        &mut self,
        map: u8,
        over: u8,
        file: u8,
        offset: u64,
        len: u64,
        prot: u32,
        flags: u32,
    ) -> Result<u64, Failure> {
        let file = self.file(file)?;
        let address = self.address(over, 0)?;
        self.vacate(map, over, len)?;
        let address = syscall::mmap(address, len, prot, flags | syscall::MAP_FIXED, file, offset)?;
        self.maps[usize::from(map)] = Some((address, len));
        Ok(address)
    }

    pub(super) fn protect(&mut self, map: u8, offset: u64, len: u64, prot: u32) -> Result<u64, Failure> {
        let address = self.address(map, offset)?;
        if offset > MAP_STRIDE || len > MAP_STRIDE {
            return Err(Refusal::Length.into());
        }
        // SAFETY: addresses of map slots, which only steps look at.
        Ok(unsafe { syscall::mprotect(address, len, prot) }?)
    }

    pub(super) fn remap(&mut self, map: u8, to: u8, len: u64) -> Result<u64, Failure> {
        const MAY_MOVE_FIXED: u32 = 3;
        let (address, old) = self.maps.get(usize::from(map)).copied().flatten().ok_or(Refusal::Map)?;
        self.vacate(to, map, len)?;
        let (flags, target) = if to == map { (0, 0) } else { (MAY_MOVE_FIXED, map_address(to)) };
        // SAFETY: addresses of map slots, which only steps look at.
        let address = unsafe { syscall::mremap(address, old, len, flags, target) }?;
        self.maps[usize::from(map)] = None;
        self.maps[usize::from(to)] = Some((address, len));
        Ok(address)
    }

    /// Unmaps what is in the slot `map`, which is to take `len` bytes that come from the slot `from`.
    fn vacate(&mut self, map: u8, from: u8, len: u64) -> Result<(), Failure> {
        if map >= MAP_SLOTS {
            return Err(Refusal::Map.into());
        }
        if len > MAP_STRIDE {
            return Err(Refusal::Length.into());
        }
        if map != from && self.maps[usize::from(map)].is_some() {
            self.unmap(map)?;
        }
        Ok(())
    }

    pub(super) fn unmap(&mut self, map: u8) -> Result<u64, Failure> {
        let place = self.maps.get_mut(usize::from(map)).ok_or(Refusal::Map)?;
        let (address, len) = place.take().ok_or(Refusal::Map)?;
        // SAFETY: the mapping was made for a step, and only steps look at it.
        Ok(unsafe { syscall::munmap(address, len) }?)
    }

    pub(super) fn peek(&mut self, map: u8, offset: u64, len: usize, width: Width) -> Outcome {
        let from = self.address(map, offset)?;
        match guard::load(from, self.buffer(len, width as usize)?, width) {
            (done, None) => Ok(data(done)),
            (done, Some(fault)) => Err(Failure::FaultAfter(fault, done)),
        }
    }

    pub(super) fn poke(&mut self, map: u8, offset: u64, bytes: &[u8], width: Width) -> Outcome {
        let to = self.address(map, offset)?;
        if !bytes.len().is_multiple_of(width as usize) {
            return Err(Refusal::Length.into());
        }
        match guard::store(to, bytes, width) {
            (done, None) => Ok((done as u64).into()),
            (_, Some(fault)) => Err(Failure::Fault(fault)),
        }
    }
}
