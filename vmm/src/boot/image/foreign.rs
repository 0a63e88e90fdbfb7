// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names for files that are no x86-64 kernel, so that a refusal can name what was given instead.

/// The general advice.
const GIVE_A_KERNEL: &str = "give an x86-64 bzImage (as /boot/vmlinuz-*) or ELF vmlinux";

/// What to do about a compressed file.
const UNPACK: &str = "unpack it first; if it holds an x86-64 vmlinux or bzImage, give that";

/// What to do about an image for another processor.
const OTHER_ARCH: &str = "copra boots x86-64 kernels only: give one built for x86-64";

/// One kind of file, known by its magic number.
struct Signature {
    /// Where the magic number is.
    offset: usize,
    /// The magic number.
    magic: &'static [u8],
    /// What such a file is.
    what: &'static str,
    /// What to do about it.
    remedy: &'static str,
}

/// Shorthand for the table below.
const fn sig(offset: usize, magic: &'static [u8], what: &'static str, remedy: &'static str) -> Signature {
    Signature { offset, magic, what, remedy }
}

/// The kinds of file that one is likely to confuse with a kernel.
const SIGNATURES: &[Signature] = &[
    // Documentation/arch/arm64/booting.rst, "magic"
    sig(0x38, b"ARM\x64", "an arm64 Image", OTHER_ARCH),
    // Documentation/arch/riscv/boot-image-header.rst, "magic2"
    sig(0x38, b"RSC\x05", "a RISC-V Image", OTHER_ARCH),
    // arch/arm/boot/compressed/head.S, magic number 0x016f2818
    sig(0x24, &[0x18, 0x28, 0x6f, 0x01], "a 32-bit ARM zImage", OTHER_ARCH),
    // drivers/firmware/efi/libstub/zboot-header.S
    sig(4, b"zimg", "an EFI zboot image (arm64, RISC-V or LoongArch)", OTHER_ARCH),
    // include/image.h of U-Boot: IH_MAGIC
    sig(0, &[0x27, 0x05, 0x19, 0x56], "a U-Boot uImage", OTHER_ARCH),
    sig(0, &[0xd0, 0x0d, 0xfe, 0xed], "a device tree or U-Boot FIT image", OTHER_ARCH),
    sig(0, &[0x1f, 0x8b], "a gzip file", UNPACK),
    sig(0, &[0x28, 0xb5, 0x2f, 0xfd], "a zstd file", UNPACK),
    sig(0, b"\xfd7zXZ\0", "an xz file", UNPACK),
    sig(0, b"BZh", "a bzip2 file", UNPACK),
    sig(0, &[0x04, 0x22, 0x4d, 0x18], "an lz4 file", UNPACK),
    sig(0, &[0x02, 0x21, 0x4c, 0x18], "an lz4 file", UNPACK),
    sig(0, &[0x89, b'L', b'Z', b'O', 0], "an lzop file", UNPACK),
    sig(0, &[0x5d, 0, 0], "an lzma file", UNPACK),
    sig(0, b"PK\x03\x04", "a zip file", UNPACK),
    sig(
        0,
        b"!<arch>\ndebian-binary",
        "a Debian package",
        "unpack it (dpkg-deb -x) and give its boot/vmlinuz-*",
    ),
    sig(0, &[0xed, 0xab, 0xee, 0xdb], "an RPM package", "unpack it (rpm2cpio) and give its vmlinuz"),
    sig(0, b"!<arch>\n", "an archive of object files", "give the linked vmlinux"),
    sig(0, b"070701", "a cpio archive (an initramfs?)", GIVE_A_KERNEL),
    sig(0, b"070702", "a cpio archive (an initramfs?)", GIVE_A_KERNEL),
    sig(257, b"ustar", "a tar archive", UNPACK),
    sig(0, b"QFI\xfb", "a qcow2 disk image", GIVE_A_KERNEL),
];

/// Where the PE header's offset is (PE/COFF §2.1).
const PE_POINTER: usize = 0x3c;
/// PE/COFF §2.2: what begins the PE header.
const PE_SIGNATURE: &[u8] = b"PE\0\0";
/// PE/COFF §3.3: size of signature and COFF file header together.
const PE_FILE_HEADER: usize = 24;
/// PE/COFF §4: size of a section header.
const PE_SECTION_HEADER: usize = 40;
/// UAPI group specification 5, unified kernel images: the section with the kernel.
const UKI_LINUX: &[u8] = b".linux\0\0";
/// Where a PC boot sector has its signature.
const BOOT_SIGNATURE: usize = 0x1fe;
/// How much of a file is read to decide whether it is text.
const TEXT_SAMPLE: usize = 512;
/// How much of a text is shown.
const TEXT_SHOWN: usize = 40;

/// What the file is, as "an arm64 Image", and what to do about it.
pub(super) fn describe(bytes: &[u8]) -> (String, &'static str) {
    if bytes.is_empty() {
        return ("an empty file".to_owned(), "fetch or build it again");
    }
    if let Some(found) =
        SIGNATURES.iter().find(|s| bytes.get(s.offset..).is_some_and(|rest| rest.starts_with(s.magic)))
    {
        return (found.what.to_owned(), found.remedy);
    }
    if bytes.starts_with(b"MZ") {
        return describe_pe(bytes);
    }
    if bytes.iter().all(|&b| b == 0) {
        return (
            format!("{} zero bytes", bytes.len()),
            "the file was never written: fetch or build it again",
        );
    }
    if let Some(text) = as_text(bytes) {
        return (format!("a text file that begins {text:?}"), GIVE_A_KERNEL);
    }
    if bytes.get(BOOT_SIGNATURE..).is_some_and(|rest| rest.starts_with(&[0x55, 0xaa])) {
        let what = "a disk image or boot sector without a Linux setup header (no \"HdrS\" at 0x202)";
        return (what.to_owned(), GIVE_A_KERNEL);
    }
    (
        format!("{} bytes of an unknown kind, beginning {:02x?}", bytes.len(), &bytes[..bytes.len().min(8)]),
        GIVE_A_KERNEL,
    )
}

/// Names a PE file: a unified kernel image, a cut-off bzImage, or just a program.
fn describe_pe(bytes: &[u8]) -> (String, &'static str) {
    let u16_at =
        |at: usize| bytes.get(at..at.checked_add(2)?).map(|b| u16::from_le_bytes([b[0], b[1]]) as usize);
    if bytes.len() < super::bzimage::MIN_SIZE {
        let what = format!(
            "cut off: a PE file or bzImage of {} bytes, where a bzImage's headers alone need {}",
            bytes.len(),
            super::bzimage::MIN_SIZE
        );
        return (what, "fetch or build it again");
    }
    let sections = || {
        let pe = u16_at(PE_POINTER)?;
        let header = bytes.get(pe..)?;
        if !header.starts_with(PE_SIGNATURE) {
            return None;
        }
        // PE/COFF §3.3: NumberOfSections at 2, SizeOfOptionalHeader at 16 of the COFF file header.
        let (count, optional) = (u16_at(pe + 6)?, u16_at(pe + 20)?);
        Some(header.get(PE_FILE_HEADER + optional..)?.chunks_exact(PE_SECTION_HEADER).take(count))
    };
    match sections().map(|mut sections| sections.any(|section| section.starts_with(UKI_LINUX))) {
        Some(true) => (
            "a unified kernel image (PE/COFF with a .linux section)".to_owned(),
            "extract its kernel (objcopy -O binary --only-section=.linux UKI bzImage) and give that",
        ),
        Some(_) => {
            ("an EFI or Windows program (PE/COFF without a Linux setup header)".to_owned(), GIVE_A_KERNEL)
        }
        None => ("a DOS or damaged EFI program (MZ without a PE header)".to_owned(), GIVE_A_KERNEL),
    }
}

/// The beginning of the first line, if this looks like text.
fn as_text(bytes: &[u8]) -> Option<String> {
    let sample = &bytes[..bytes.len().min(TEXT_SAMPLE)];
    let text = match std::str::from_utf8(sample) {
        Ok(text) => text,
        // The sample's end may cut a character.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&sample[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\x0c' | '\x1b')) {
        return None;
    }
    Some(text.lines().next().unwrap_or_default().chars().take(TEXT_SHOWN).collect())
}
