// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Closed lists of names (platforms, policies, regions, …) and the nearest known name to a mistyped one.

use std::fmt;

/// A name that is not on the list it should be on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownName {
    /// What kind of name was looked for, for example "platform".
    pub what: &'static str,
    /// The name as given.
    pub given: String,
    /// The known name that is nearest, if any is near enough.
    pub nearest: Option<String>,
    /// Every known name.
    pub known: Vec<String>,
}

impl std::error::Error for UnknownName {}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, given, nearest, known } = self;
        write!(f, "unknown {what} `{given}`{}; known: {}", suggestion(nearest.as_deref()), known.join(", "))
    }
}

impl UnknownName {
    /// Builds the error for `given`, which is none of `known`.
    pub fn new<'a>(what: &'static str, given: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<String> = known.map(str::to_owned).collect();
        let nearest = nearest(given, known.iter().map(String::as_str)).map(str::to_owned);
        Self { what, given: given.to_owned(), nearest, known }
    }
}

/// The words "did you mean …?" for an optional nearest name.
pub fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}

/// The name in `known` that is most like `given`, if it is like it at all.
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // One slip of the finger weighs much in a short name, so it counts as likeness by itself.
    let slip = |name: &str| if strsim::damerau_levenshtein(given, name) == 1 { 0.3 } else { 0.0 };
    known
        .map(|name| (strsim::jaro_winkler(given, name) + slip(name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Defines an enum whose variants have a fixed name and one line of explanation each.
#[macro_export]
macro_rules! named {
    (
        $(#[$meta:meta])*
        pub enum $type:ident ($what:literal) {
            $($variant:ident = $name:literal, $about:literal;)+
        }
    ) => {
        $(#[$meta])*
        #[allow(clippy::doc_markdown, reason = "the same lines are shown on the terminal")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $(#[doc = $about] $variant,)+
        }

        impl $crate::candidates::Listed for $type {
            const LIST: &'static [Self] = Self::ALL;

            fn place(self) -> u8 {
                self as u8
            }

            fn word(self) -> &'static str {
                self.name()
            }
        }

        impl $type {
            /// Every value, in the order it is documented.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name used in case files, on the command line and in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One line that explains it.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl $crate::serde::Serialize for $type {
            fn serialize<S: $crate::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> $crate::serde::Deserialize<'de> for $type {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::json::read_name(deserializer)
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::names::UnknownName;

            fn from_str(given: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.name() == given).ok_or_else(|| {
                    $crate::names::UnknownName::new($what, given, Self::ALL.iter().map(|value| value.name()))
                })
            }
        }
    };
}
pub use named;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let known = ["upstream", "open-eperm", "range-deny"];
        assert_eq!(nearest("open-perm", known.into_iter()), Some("open-eperm"));
        assert_eq!(nearest("sew", ["none", "sev", "snp"].into_iter()), Some("sev"));
        assert_eq!(nearest("xyzzy", known.into_iter()), None);
        assert_eq!(nearest("", known.into_iter()), None);
    }

    #[test]
    fn the_message_names_the_thing_the_remedy_and_the_choices() {
        let error = UnknownName::new("policy", "upsteam", ["upstream", "open-eperm"].into_iter());
        assert_eq!(
            error.to_string(),
            "unknown policy `upsteam` (did you mean `upstream`?); known: upstream, open-eperm"
        );
    }
}
