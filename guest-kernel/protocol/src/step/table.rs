// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table of steps as an enum, with its wire form.

/// Makes [`super::Step`] of a table: code, name and fields of each step, in the order in which they are on the wire.
macro_rules! steps {
    ($($(#[$outer:meta])* $code:literal $name:ident $({ $($(#[$inner:meta])* $field:ident: $kind:ty,)* })?)*) => {
        /// One step of a batch.
        ///
        /// `file` is a slot below [`crate::FILE_SLOTS`], `map` one below [`crate::MAP_SLOTS`]; the host chooses them. Every
        /// step gives one [`Outcome`](crate::outcome), `Repeat` one for all it repeats.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step<'a> {
            $($(#[$outer])* $name $({ $($(#[$inner])* $field: $kind,)* })?,)*
        }

        impl<'a> Step<'a> {
            /// Appends the step's wire form.
            pub fn encode(&self, sink: &mut impl Sink) {
                match self {
                    $(Self::$name $({ $($field,)* })? => {
                        sink.byte($code);
                        $($(<$kind as Field<'_>>::put($field, sink);)*)?
                    })*
                }
            }

            /// Reads the next step.
            pub fn decode(reader: &mut Reader<'a>) -> Result<Self, Error> {
                match reader.byte()? {
                    $($code => Ok(Self::$name $({ $($field: <$kind as Field<'a>>::get(reader)?,)* })?),)*
                    _ => Err(Error::Step),
                }
            }

            /// The step's name in reports.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name $({ $($field: _,)* })? => stringify!($name),)*
                }
            }
        }
    };
}
