// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accesses to guest memory by devices.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::named;

named! {
    /// A device that accesses guest memory.
    pub enum DeviceKind ("device") {
        Console = "virtio-console", "a console with ports";
        Random = "virtio-rng", "an entropy source";
        Block = "virtio-blk", "a disk";
        Files = "virtio-fs", "a shared file system";
        Probe = "dma-probe", "a device for tests of the DMA API, without queues";
    }
}

/// The request of a device for which it accessed guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DmaOrigin {
    /// The device.
    pub kind: DeviceKind,
    /// Its queue; `None` where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u16>,
    /// Index of the first descriptor of the chain that has the address; `None` where the device accessed the descriptor table
    /// or a ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<u16>,
}

impl fmt::Display for DmaOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(queue) = self.queue else { return self.kind.fmt(f) };
        write!(f, "{} (queue {queue}", self.kind)?;
        match self.chain {
            Some(index) => write!(f, ", descriptor chain {index})"),
            None => write!(f, ", rings)"),
        }
    }
}
