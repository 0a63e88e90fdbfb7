//! Mappings in slots, and accesses to them by the worker itself.

use protocol::{MAP_SLOTS, Refusal, Width, map_address};

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
