// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The wire forms of what a step is made of.

use crate::Error;
use crate::wire::{Reader, Sink};

/// A value that can be a field of a step.
pub(super) trait Field<'a>: Sized {
    fn put(&self, sink: &mut impl Sink);
    fn get(reader: &mut Reader<'a>) -> Result<Self, Error>;
}

impl<'a> Field<'a> for u8 {
    fn put(&self, sink: &mut impl Sink) {
        sink.byte(*self);
    }
    fn get(reader: &mut Reader<'a>) -> Result<Self, Error> {
        reader.byte()
    }
}

impl<'a> Field<'a> for bool {
    fn put(&self, sink: &mut impl Sink) {
        sink.byte(u8::from(*self));
    }
    fn get(reader: &mut Reader<'a>) -> Result<Self, Error> {
        match reader.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::Value),
        }
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl<'a> Field<'a> for $number {
            fn put(&self, sink: &mut impl Sink) {
                sink.number(u64::from(*self));
            }
            fn get(reader: &mut Reader<'a>) -> Result<Self, Error> {
                reader.narrow()
            }
        }
    )*};
}
numbers!(u16 u32 u64);

impl<'a> Field<'a> for i64 {
    fn put(&self, sink: &mut impl Sink) {
        sink.signed(*self);
    }
    fn get(reader: &mut Reader<'a>) -> Result<Self, Error> {
        reader.signed()
    }
}

impl<'a> Field<'a> for &'a [u8] {
    fn put(&self, sink: &mut impl Sink) {
        sink.string(self);
    }
    fn get(reader: &mut Reader<'a>) -> Result<Self, Error> {
        reader.string()
    }
}

impl<'a> Field<'a> for [u64; 6] {
    fn put(&self, sink: &mut impl Sink) {
        for &number in self {
            sink.number(number);
        }
    }
    fn get(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let mut numbers = [0; 6];
        for number in &mut numbers {
            *number = reader.number()?;
        }
        Ok(numbers)
    }
}
