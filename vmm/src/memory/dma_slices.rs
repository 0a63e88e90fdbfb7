// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes of guest memory that a device accesses, for the host's kernel to move between them and a file without a copy in between.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;

/// `UIO_MAXIOV` (`include/uapi/linux/uio.h`): slices of one system call.
const MOST_SLICES: usize = 1024;

/// Slices, in their order; those that follow each other in this process are one.
#[derive(Debug, Default)]
pub struct DmaSlices<'m> {
    slices: Vec<libc::iovec>,
    memory: PhantomData<VolatileSlice<'m>>,
}

impl<'m> DmaSlices<'m> {
    /// Adds one, which was checked as every access is.
    pub fn push(&mut self, slice: &VolatileSlice<'m>) {
        let (base, len) = (slice.ptr_guard_mut().as_ptr(), slice.len());
        match self.slices.last_mut() {
            Some(last) if last.iov_base.wrapping_byte_add(last.iov_len) == base.cast() => last.iov_len += len,
            _ => self.slices.push(libc::iovec { iov_base: base.cast(), iov_len: len }),
        }
    }

    /// Fills the slices from offset `at` of a file; fewer bytes if it ends before.
    pub fn read_from(&self, file: &File, at: u64) -> io::Result<usize> {
        self.each(at, |slices, at| {
            // SAFETY: the slices are valid for writes as long as `memory` is borrowed, and the guest does not run meanwhile.
            let moved =
                unsafe { libc::preadv(file.as_raw_fd(), slices.as_ptr(), count(slices), at.cast_signed()) };
            usize::try_from(moved).map_err(|_| io::Error::last_os_error())
        })
    }

    /// Writes the slices to offset `at` of a file; fewer bytes if the file takes no more.
    pub fn write_to(&self, file: &File, at: u64) -> io::Result<usize> {
        self.each(at, |slices, at| {
            // SAFETY: the slices are valid for reads as long as `memory` is borrowed, and the guest does not run meanwhile.
            let moved =
                unsafe { libc::pwritev(file.as_raw_fd(), slices.as_ptr(), count(slices), at.cast_signed()) };
            usize::try_from(moved).map_err(|_| io::Error::last_os_error())
        })
    }

    /// Calls `f`, which moves bytes between slices and an offset in a file, until all are moved or it moves none. An error after
    /// the first byte is left for the next request to find.
    pub fn each(
        &self,
        at: u64,
        mut f: impl FnMut(&[libc::iovec], u64) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let total: usize = self.slices.iter().map(|slice| slice.iov_len).sum();
        let mut rest = self.slices.clone();
        let mut done = 0;
        while done < total {
            match f(&rest[..rest.len().min(MOST_SLICES)], at.wrapping_add(done as u64)) {
                Ok(0) => break,
                Ok(moved) => {
                    done += moved;
                    skip(&mut rest, moved);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

fn count(slices: &[libc::iovec]) -> libc::c_int {
    slices.len().try_into().unwrap_or(libc::c_int::MAX)
}

/// Leaves out the first `count` bytes.
fn skip(slices: &mut Vec<libc::iovec>, mut count: usize) {
    let whole = slices.iter().take_while(|slice| {
        let is_whole = slice.iov_len <= count;
        if is_whole {
            count -= slice.iov_len;
        }
        is_whole
    });
    let whole = whole.count();
    slices.drain(..whole);
    if let Some(first) = slices.first_mut() {
        first.iov_base = first.iov_base.wrapping_byte_add(count);
        first.iov_len -= count;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slices_are_filled_and_written_in_order(
            lens in prop::collection::vec(0usize..5, 0..2500),
            start in 0u64..50,
            size in 0usize..4000,
        ) {
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&content).unwrap();
            let mut buffers: Vec<Vec<u8>> = lens.iter().map(|len| vec![0xee; *len]).collect();
            let mut slices = DmaSlices::default();
            for buffer in &mut buffers {
                slices.push(&VolatileSlice::from(buffer.as_mut_slice()));
            }
            let total: usize = lens.iter().sum();
            let expected = content.get(start as usize..).unwrap_or_default();
            let expected = &expected[..expected.len().min(total)];
            prop_assert_eq!(slices.read_from(&file, start).unwrap(), expected.len());
            let other = tempfile::tempfile().unwrap();
            prop_assert_eq!(slices.write_to(&other, 7).unwrap(), total);
            let mut written = vec![0; total];
            std::os::unix::fs::FileExt::read_exact_at(&other, &mut written, 7).unwrap();
            prop_assert_eq!(&written[..expected.len()], expected);
            prop_assert!(written[expected.len()..].iter().all(|byte| *byte == 0xee));
            prop_assert_eq!(buffers.concat(), written);
        }
    }

    #[test]
    fn what_the_host_refuses_is_an_error() {
        let file = File::open("/").unwrap();
        let mut buffer = [0; 8];
        let mut slices = DmaSlices::default();
        slices.push(&VolatileSlice::from(&mut buffer[..]));
        assert_eq!(slices.read_from(&file, 0).unwrap_err().raw_os_error(), Some(libc::EISDIR));
        assert_eq!(slices.write_to(&file, 0).unwrap_err().raw_os_error(), Some(libc::EBADF));
        let file = tempfile::tempfile().unwrap();
        assert_eq!(slices.read_from(&file, u64::MAX).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
