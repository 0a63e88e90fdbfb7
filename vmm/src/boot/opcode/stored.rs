// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The sites of a kernel as they are kept in a file.

use super::{Reason, Rejected, Site, Sites};
use crate::stored::{Reader, StoredError, Writer};

/// How a [`Reason`] is written.
const INSIDE: u8 = 1;
const PREFIXED: u8 = 2;
const AMBIGUOUS: u8 = 3;

impl Sites {
    /// Appends them.
    pub(crate) fn encode(&self, to: &mut Writer) {
        to.u32(self.found.len() as u32);
        for site in &self.found {
            to.opcode(site.opcode);
            to.u64(site.address);
            to.u64(site.physical);
            to.u64(site.hash);
            to.bytes(site.section.as_bytes());
        }
        to.u32(self.rejected.len() as u32);
        for rejected in &self.rejected {
            to.opcode(rejected.opcode);
            to.u64(rejected.address);
            let (reason, percent) = match rejected.reason {
                Reason::Inside => (INSIDE, 0),
                Reason::Prefixed => (PREFIXED, 0),
                Reason::Ambiguous(percent) => (AMBIGUOUS, percent),
            };
            to.u8(reason);
            to.u8(percent as u8);
        }
    }

    /// Takes them back.
    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, StoredError> {
        let mut sites = Self::default();
        for _ in 0..from.u32("number of sites")? {
            let opcode = from.opcode()?;
            let (address, physical) = (from.u64("address")?, from.u64("address")?);
            let hash = from.u64("hash")?;
            let section = String::from_utf8_lossy(from.bytes("name of a section")?).into_owned();
            sites.push(Site { opcode, address, physical, hash, section });
        }
        for _ in 0..from.u32("number of rejected sites")? {
            let (opcode, address) = (from.opcode()?, from.u64("address")?);
            let reason = match (from.u8("reason")?, from.u8("reason")?) {
                (INSIDE, _) => Reason::Inside,
                (PREFIXED, _) => Reason::Prefixed,
                (AMBIGUOUS, percent) => Reason::Ambiguous(usize::from(percent)),
                _ => return Err(StoredError::Malformed("reason")),
            };
            sites.rejected.push(Rejected { opcode, address, reason });
        }
        Ok(sites)
    }
}
