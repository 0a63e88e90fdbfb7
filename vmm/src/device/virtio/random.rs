// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An entropy source (Virtio 1.2 §5.4). Its bytes follow from the machine's seed, so that a run can be repeated.

use fastrand::Rng;
use types::DeviceKind;

use super::{Backend, Malformed, Request};
use crate::memory::dma::DmaMemory;

/// Bytes given to one request at most.
const MOST: u64 = 4096;

/// The source.
#[derive(Debug)]
pub struct Random(Rng);

impl Random {
    /// A source with this seed.
    pub fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }
}

impl Backend for Random {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Random
    }

    fn queues(&self) -> Vec<u16> {
        vec![16]
    }

    fn carry_out(&mut self, _: u16, request: &Request, memory: &DmaMemory<'_>) -> Result<u32, Malformed> {
        let mut bytes = vec![0; request.writable_len().min(MOST) as usize];
        self.0.fill(&mut bytes);
        request.write(memory, 0, &bytes)?;
        Ok(bytes.len() as u32)
    }
}
