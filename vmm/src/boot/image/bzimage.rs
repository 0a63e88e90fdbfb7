// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The x86 boot image: Documentation/arch/x86/boot.rst.

use std::mem::{offset_of, size_of};

use thiserror::Error;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the setup header begins, in the file and in `boot_params`.
pub const HEADER_OFFSET: usize = 0x1f1;
/// Where the setup header's room in `boot_params` ends
/// (arch/x86/include/uapi/asm/bootparam.h: `edd_mbr_sig_buffer`).
pub const HEADER_LIMIT: usize = 0x290;
/// boot.rst, `header`: the letters `HdrS`.
pub const HEADER_MAGIC: u32 = 0x5372_6448;
/// boot.rst, `boot_flag`.
pub const BOOT_FLAG: u16 = 0xaa55;
/// boot.rst, `loadflags` bit 0: the protected-mode code is loaded at 1 MiB; clear in a zImage.
pub const LOADED_HIGH: u8 = 1 << 0;
/// boot.rst, `xloadflags` bit 0: the kernel has the 64-bit entry point.
pub const XLF_KERNEL_64: u16 = 1 << 0;

/// Below this size no bzImage can be distinguished from other files.
pub(super) const MIN_SIZE: usize = HEADER_OFFSET + size_of::<SetupHeader>();

/// Offset that the byte at 0x201, the end of the jump instruction over the header, is relative to.
const JUMP_END: usize = 0x202;
/// boot.rst: the unit of `setup_sects`.
const SECTOR: usize = 512;
/// boot.rst, `setup_sects`: 0 means this.
const DEFAULT_SETUP_SECTS: usize = 4;
/// boot.rst, `kernel_version`: the pointer lacks this much.
const VERSION_BIAS: usize = 0x200;
/// boot.rst, `syssize`: its unit.
const PARAGRAPH: u64 = 16;
/// boot.rst: the first protocol with `payload_offset` and `payload_length` (kernel 2.6.26).
const PROTOCOL_PAYLOAD: u16 = 0x0208;
/// boot.rst: the first protocol with `xloadflags` (kernel 3.8).
const PROTOCOL_XLOADFLAGS: u16 = 0x020c;
/// the longest version text that is accepted.
const MAX_VERSION: usize = 512;

/// boot.rst, "The Real-Mode Kernel Header", up to protocol 2.15. Names are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SetupHeader {
    /// Size of the setup code in sectors, the first one not counted.
    pub setup_sects: u8,
    /// Whether the root is mounted read-only.
    pub root_flags: U16,
    /// Size of the protected-mode code in units of 16 bytes.
    pub syssize: U32,
    /// Obsolete.
    pub ram_size: U16,
    /// Video mode.
    pub vid_mode: U16,
    /// Default root device number.
    pub root_dev: U16,
    /// 0xAA55.
    pub boot_flag: U16,
    /// Jump over the header; its second byte gives the end of the header.
    pub jump: U16,
    /// [`HEADER_MAGIC`].
    pub header: U32,
    /// Boot protocol version.
    pub version: U16,
    /// Boot loader hook.
    pub realmode_swtch: U32,
    /// Obsolete load segment.
    pub start_sys_seg: U16,
    /// Where the version text is, less 0x200.
    pub kernel_version: U16,
    /// Boot loader identifier.
    pub type_of_loader: u8,
    /// Boot protocol option flags.
    pub loadflags: u8,
    /// Size of what the old setup code moves.
    pub setup_move_size: U16,
    /// Address of the 32-bit entry.
    pub code32_start: U32,
    /// Physical address of the initramfs, low half.
    pub ramdisk_image: U32,
    /// Size of the initramfs, low half.
    pub ramdisk_size: U32,
    /// Obsolete.
    pub bootsect_kludge: U32,
    /// End of the setup code's heap.
    pub heap_end_ptr: U16,
    /// Extended boot loader version.
    pub ext_loader_ver: u8,
    /// Extended boot loader type.
    pub ext_loader_type: u8,
    /// Physical address of the command line, low half.
    pub cmd_line_ptr: U32,
    /// Highest address the initramfs may reach.
    pub initrd_addr_max: U32,
    /// Alignment that the kernel needs.
    pub kernel_alignment: U32,
    /// Whether the kernel can be loaded elsewhere.
    pub relocatable_kernel: u8,
    /// Least alignment, as a power of two.
    pub min_alignment: u8,
    /// Further option flags.
    pub xloadflags: U16,
    /// Longest command line, without its NUL.
    pub cmdline_size: U32,
    /// Hardware subarchitecture.
    pub hardware_subarch: U32,
    /// Data for that.
    pub hardware_subarch_data: U64,
    /// Where the compressed kernel is in the protected-mode code.
    pub payload_offset: U32,
    /// Its size.
    pub payload_length: U32,
    /// Physical address of a list of `setup_data`.
    pub setup_data: U64,
    /// Preferred load address.
    pub pref_address: U64,
    /// Memory needed from the load address on until the kernel can look at its memory map.
    pub init_size: U32,
    /// EFI handover entry.
    pub handover_offset: U32,
    /// Where `kernel_info` is in the protected-mode code.
    pub kernel_info_offset: U32,
}

/// Offset that boot.rst gives for a field, as one in [`SetupHeader`].
const fn at(offset_in_file: usize) -> usize {
    offset_in_file - HEADER_OFFSET
}

const _: () = {
    assert!(offset_of!(SetupHeader, syssize) == at(0x1f4));
    assert!(offset_of!(SetupHeader, boot_flag) == at(0x1fe));
    assert!(offset_of!(SetupHeader, header) == at(0x202));
    assert!(offset_of!(SetupHeader, version) == at(0x206));
    assert!(offset_of!(SetupHeader, kernel_version) == at(0x20e));
    assert!(offset_of!(SetupHeader, type_of_loader) == at(0x210));
    assert!(offset_of!(SetupHeader, code32_start) == at(0x214));
    assert!(offset_of!(SetupHeader, ramdisk_image) == at(0x218));
    assert!(offset_of!(SetupHeader, heap_end_ptr) == at(0x224));
    assert!(offset_of!(SetupHeader, cmd_line_ptr) == at(0x228));
    assert!(offset_of!(SetupHeader, kernel_alignment) == at(0x230));
    assert!(offset_of!(SetupHeader, xloadflags) == at(0x236));
    assert!(offset_of!(SetupHeader, hardware_subarch_data) == at(0x240));
    assert!(offset_of!(SetupHeader, payload_offset) == at(0x248));
    assert!(offset_of!(SetupHeader, setup_data) == at(0x250));
    assert!(offset_of!(SetupHeader, pref_address) == at(0x258));
    assert!(offset_of!(SetupHeader, init_size) == at(0x260));
    assert!(offset_of!(SetupHeader, kernel_info_offset) == at(0x268));
    assert!(size_of::<SetupHeader>() == at(0x26c));
};

/// Why a bzImage is of no use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BzImageError {
    /// The file ends too early.
    #[error(
        "cannot use this bzImage: it ends at byte {len}, but {part} needs {needed}; fetch or build it again"
    )]
    Truncated {
        /// How long the file is.
        len: u64,
        /// What is cut off.
        part: &'static str,
        /// How long it would have to be.
        needed: u64,
    },
    /// There is no way to find the vmlinux in it.
    #[error("cannot use this bzImage: its boot protocol {}.{:02} has no payload fields (2.08 brought \
        them); give a kernel of 2.6.26 or newer, or its vmlinux", version >> 8, version & 0xff)]
    Protocol {
        /// The protocol version, as in the file.
        version: u16,
    },
    /// It is for real mode machines.
    #[error(
        "cannot use this kernel image: it is a zImage (loaded below 1 MiB); build a bzImage or give its \
         vmlinux"
    )]
    ZImage,
    /// It is a 32-bit kernel.
    #[error(
        "cannot use this bzImage: it is a 32-bit kernel (no 64-bit entry in xloadflags {xloadflags:#x}); \
         give one built for x86-64"
    )]
    Not64Bit {
        /// The flags, as in the file.
        xloadflags: u16,
    },
    /// The header claims an impossible length for itself.
    #[error(
        "cannot use this bzImage: its setup header claims to end at {end:#x}, outside \
         {needed:#x}..={HEADER_LIMIT:#x}; fetch or build it again"
    )]
    HeaderEnd {
        /// Where it would end.
        end: usize,
        /// Where it ends at least.
        needed: usize,
    },
    /// The payload's place is impossible.
    #[error(
        "cannot use this bzImage: its payload ({length} bytes at {offset:#x}) does not lie in its {code} \
         bytes of protected-mode code; fetch or build it again"
    )]
    Payload {
        /// Where the payload would begin.
        offset: u32,
        /// How long it would be.
        length: u32,
        /// How much protected-mode code there is.
        code: u64,
    },
}

/// A bzImage taken apart.
#[derive(Debug, Clone)]
pub struct BzImage<'a> {
    /// The setup header; fields that the image's protocol lacks are zero.
    pub header: SetupHeader,
    /// The setup header as it is in the file.
    pub header_bytes: &'a [u8],
    /// Release, builder, build number and date.
    pub version: Option<String>,
    /// The compressed kernel.
    pub payload: &'a [u8],
}

/// Whether this is a Linux x86 boot image of any age.
pub fn is_bzimage(bytes: &[u8]) -> bool {
    let has = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    has(0x1fe, &BOOT_FLAG.to_le_bytes()) && has(0x202, &HEADER_MAGIC.to_le_bytes())
}

/// Takes a bzImage apart. What [`is_bzimage`] refuses must not be given.
pub fn parse(bytes: &[u8]) -> Result<BzImage<'_>, BzImageError> {
    let len = bytes.len() as u64;
    let truncated = |part, needed| BzImageError::Truncated { len, part, needed };

    // Protocol and length come before the rest of the header, which an old image does not have.
    let mut header_buffer = [0; size_of::<SetupHeader>()];
    let present = bytes.get(HEADER_OFFSET..).unwrap_or_default();
    let count = present.len().min(header_buffer.len());
    header_buffer[..count].copy_from_slice(&present[..count]);
    let mut header: SetupHeader = zerocopy::transmute!(header_buffer);
    if bytes.len() < HEADER_OFFSET + offset_of!(SetupHeader, realmode_swtch) {
        return Err(truncated("its setup header", MIN_SIZE as u64));
    }
    let version = header.version.get();
    if version < PROTOCOL_PAYLOAD {
        return Err(BzImageError::Protocol { version });
    }
    let end = JUMP_END + usize::from(header.jump.get() >> 8);
    let needed = HEADER_OFFSET + offset_of!(SetupHeader, setup_data);
    if !(needed..=HEADER_LIMIT).contains(&end) {
        return Err(BzImageError::HeaderEnd { end, needed });
    }
    let header_bytes =
        bytes.get(HEADER_OFFSET..end).ok_or_else(|| truncated("its setup header", end as u64))?;
    if let Some(beyond) = header_buffer.get_mut(header_bytes.len()..) {
        beyond.fill(0);
        header = zerocopy::transmute!(header_buffer);
    }
    if header.loadflags & LOADED_HIGH == 0 {
        return Err(BzImageError::ZImage);
    }
    let xloadflags = header.xloadflags.get();
    if version >= PROTOCOL_XLOADFLAGS && xloadflags & XLF_KERNEL_64 == 0 {
        return Err(BzImageError::Not64Bit { xloadflags });
    }

    let setup_sects = match usize::from(header.setup_sects) {
        0 => DEFAULT_SETUP_SECTS,
        n => n,
    };
    let setup_size = (setup_sects + 1) * SECTOR;
    let setup = bytes.get(..setup_size).ok_or_else(|| truncated("its setup code", setup_size as u64))?;
    let code_size = u64::from(header.syssize.get()) * PARAGRAPH;
    let file_size = setup_size as u64 + code_size;
    if len < file_size {
        return Err(truncated("its protected-mode code", file_size));
    }
    let code = &bytes[setup_size..file_size as usize];
    let (offset, length) = (header.payload_offset.get(), header.payload_length.get());
    let payload = code
        .get(offset as usize..)
        .and_then(|rest| rest.get(..length as usize))
        .ok_or(BzImageError::Payload { offset, length, code: code_size })?;
    Ok(BzImage { header, header_bytes, version: version_text(&header, setup), payload })
}

/// The version text, if the header points to one.
fn version_text(header: &SetupHeader, setup: &[u8]) -> Option<String> {
    match header.kernel_version.get() {
        0 => None,
        pointer => printable(setup.get(usize::from(pointer) + VERSION_BIAS..)?, MAX_VERSION),
    }
}

/// The text up to the first NUL or line end, with everything strange in it replaced.
pub(super) fn printable(bytes: &[u8], limit: usize) -> Option<String> {
    let bytes = &bytes[..bytes.len().min(limit)];
    let end = bytes.iter().position(|&b| b == 0 || b == b'\n').unwrap_or(bytes.len());
    let clean = |&b: &u8| if b.is_ascii_graphic() || b == b' ' { b as char } else { '?' };
    (end > 0).then(|| bytes[..end].iter().map(clean).collect())
}
