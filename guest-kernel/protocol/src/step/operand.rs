// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The choices a step gives: each a byte on the wire.

use super::field::Field;
use crate::Error;
use crate::wire::{Reader, Sink};

/// An enum that travels as one byte.
macro_rules! byte_enum {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($(#[$inner])* $variant = $code,)* }

        impl $name {
            /// Every value there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }

        impl<'a> Field<'a> for $name {
            fn put(&self, sink: &mut impl Sink) {
                sink.byte(*self as u8);
            }
            fn get(reader: &mut Reader<'a>) -> Result<Self, Error> {
                match reader.byte()? {
                    $($code => Ok(Self::$variant),)*
                    _ => Err(Error::Value),
                }
            }
        }
    };
}

byte_enum! {
    /// Bytes of one access.
    Width {
        /// One byte.
        Byte = 1,
        /// Two bytes.
        Word = 2,
        /// Four bytes.
        Long = 4,
        /// Eight bytes.
        Quad = 8,
    }
}

byte_enum! {
    /// The user buffer that a read or write is given.
    Buffer {
        /// A good one.
        Good = 0,
        /// The null pointer.
        Null = 1,
        /// An address in the kernel's half.
        Kernel = 2,
        /// Mapped for half of the length (at most one page), then unmapped.
        Straddling = 3,
    }
}

byte_enum! {
    /// Whose address space an access through the kernel goes to.
    Via {
        /// The worker's own.
        Itself = 0,
        /// A stopped child forked for the step, with copies of the worker's mappings.
        Child = 1,
    }
}

byte_enum! {
    /// How the guest ends.
    Reset {
        /// Restart.
        Restart = 0,
        /// Power off.
        PowerOff = 1,
        /// Halt.
        Halt = 2,
    }
}
