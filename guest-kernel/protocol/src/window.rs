// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bulk payloads by reference: pages of the agent that the host reads and writes in guest memory.
//!
//! The window is locked memory of the agent: one *directory* page, a *down* half (host to agent) and an *up* half (agent
//! to host). Only the directory's page frame number travels over the serial port, in the agent's hello, and again whenever the
//! page has moved; the page itself lists the others.
//!
//! Before each frame the agent looks all frame numbers up again, counts [`Directory::notifications`] up, and stamps every
//! page of the down half with [`stamp`]. The host trusts the directory only if magic and key are right and the counter's
//! low byte is the frame's sequence number; it writes to a down page only if its stamp is right; and it takes a payload
//! from the up half only if the digest is right. So a page that moved in between costs a retry and never another's memory.
//!
//! The host writes only between an agent's frame and the guest's next instruction.
//!
//! # The notification line
//!
//! A frame of four bytes costs a guest that drives a 16550A 18 exits with its answer. Where the agent can change a modem
//! control line of its port (OUT1, which nothing is connected to), there are none: the host increments [`Directory::order`]
//! instead of sending a frame, and the agent, when it has results, copies it to [`Directory::answered`] and changes the line,
//! which is one exit. As the host sends its next batch in the stop that this exit is, and the agent looks for an order
//! before it waits for its port again, no interrupt is needed either.
//!
//! A program in the guest can change the line too. Where it already is as the agent sets it, the driver writes nothing
//! (`drivers/tty/serial/serial_core.c:uart_update_mctrl`). So where no order follows a change, the agent changes the line once more.

use core::mem::offset_of;
use core::sync::atomic::AtomicU64;

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Pages of the down half.
pub const DOWN_PAGES: usize = crate::MAX_PAYLOAD / PAGE;
/// Pages of the up half.
pub const UP_PAGES: usize = crate::MAX_PAYLOAD / PAGE;
/// Most pages a directory can list.
pub const MAX_PAGES: usize = 384;
/// First word of the directory page.
pub const MAGIC: u64 = u64::from_le_bytes(*b"copra\0w1");

/// The directory page. All words are little-endian 64-bit.
#[derive(Debug)]
#[repr(C)]
pub struct Directory {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// Random, the same as long as the agent runs.
    pub key: AtomicU64,
    /// Frames the agent has sent.
    pub notifications: AtomicU64,
    /// Pages of the down half and, above bit 32, of the up half.
    pub pages: AtomicU64,
    /// Bytes of results in the up half. The worker counts it up as it goes.
    pub up_len: AtomicU64,
    /// Their [`crate::check::digest`].
    pub up_digest: AtomicU64,
    /// Written by the host: bytes in the down half.
    pub down_len: AtomicU64,
    /// Written by the host: their digest.
    pub down_digest: AtomicU64,
    /// The step being executed: its number in the batch and, above bit 32, the iteration of a `Repeat`.
    pub step: AtomicU64,
    /// Value of the last `Marker`.
    pub marker: AtomicU64,
    /// Counts every step and iteration; does not change while one hangs.
    pub progress: AtomicU64,
    /// The worker's word to its supervisor: how the guest is to end, plus one.
    pub reset: AtomicU64,
    /// What a worker that executes itself leaves for the program it becomes.
    pub carried: [AtomicU64; 114],
    /// Written by the host: counts batches that it has put into the down half without a frame.
    pub order: AtomicU64,
    /// The order whose results are in the up half.
    pub answered: AtomicU64,
    /// Page frame numbers of the down half, then of the up half.
    pub frame_numbers: [AtomicU64; MAX_PAGES],
}

const _: () = assert!(size_of::<Directory>() == PAGE && offset_of!(Directory, frame_numbers) == 1024);
const _: () = assert!(DOWN_PAGES + UP_PAGES <= MAX_PAGES);

/// What the first 16 bytes of a down page hold when the agent notifies.
pub fn stamp(key: u64, notifications: u64, page: usize) -> [u8; 16] {
    let mut stamp = [0; 16];
    let (first, second) = stamp.split_at_mut(8);
    first.copy_from_slice(&key.to_le_bytes());
    second.copy_from_slice(&(notifications << 16 | page as u64).to_le_bytes());
    stamp
}
