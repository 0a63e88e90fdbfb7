// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Small 64-bit guests without an operating system: code written in assembly, run at [`layout::FLAT_CODE`].
//!
//! They enter with the first GiB mapped twice, at 0 and at [`HIGH_HALF`], with the aliases requested from
//! [`SECOND_GIB`](super::page_tables::SECOND_GIB) on, and with interrupts off and no IDT.

use crate::layout;

/// Where the first GiB of memory is mapped a second time, as Linux maps its text
/// (`arch/x86/include/asm/page_64_types.h:__START_KERNEL_map`).
pub const HIGH_HALF: u64 = 0xffff_ffff_8000_0000;
/// The code's address in the high half.
pub const HIGH_CODE: u64 = HIGH_HALF + layout::FLAT_CODE;

/// Defines a function that gives the machine code of assembly lines (Intel syntax), for `Machine::boot_flat`.
///
/// ```
/// vmm::guest_code!(say_seven, "mov al, 7", "mov dx, 0x501", "out dx, al", "hlt");
///
/// fn main() {
///     assert_eq!(say_seven(), [0xb0, 7, 0x66, 0xba, 0x01, 0x05, 0xee, 0xf4]);
/// }
/// ```
#[macro_export]
macro_rules! guest_code {
    ($(#[$meta:meta])* $name:ident, $($line:literal),+ $(,)?) => {
        ::std::arch::global_asm!(
            ".pushsection .rodata.guest_code, \"a\"",
            concat!("copra_guest_", stringify!($name), "_start:"),
            $($line,)+
            concat!("copra_guest_", stringify!($name), "_end:"),
            ".popsection",
        );
        $(#[$meta])*
        fn $name() -> &'static [u8] {
            unsafe extern "C" {
                #[link_name = concat!("copra_guest_", stringify!($name), "_start")]
                static START: u8;
                #[link_name = concat!("copra_guest_", stringify!($name), "_end")]
                static END: u8;
            }
            let (start, end) = (&raw const START, &raw const END);
            // SAFETY: both labels are in one read-only section, the end after the start.
            unsafe { ::std::slice::from_raw_parts(start, end as usize - start as usize) }
        }
    };
}
