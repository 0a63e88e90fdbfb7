// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The class of bytes, determined by comparison with the contents of memory that the VMM reads.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use types::candidates::Candidates;
use types::names::named;

named! {
    /// What the bytes a step returned turned out to be.
    pub enum Class ("byte class") {
        Plain = "plain", "the bytes as read through the view of the page's state";
        Ciphertext = "ciphertext", "the bytes as read through the other view where memory is encrypted";
        Shared = "shared", "the separate content of the shared view of a private page";
        Device = "device", "the data that the device at the address returned";
        Zeros = "zeros", "all zeros";
        Other = "other", "none of these";
    }
}

named! {
    /// The change of memory since the case began, read by the VMM.
    pub enum MemoryState ("memory state") {
        Unchanged = "unchanged", "the bytes from before the case";
        Written = "written", "the bytes that a step wrote";
        Zeroed = "zeroed", "all zeros";
        Corrupted = "corrupted", "neither the old bytes nor the written ones";
    }
}

/// The contents of the accessed memory in every view, read by the VMM at the time of the access.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Truth {
    /// The bytes as read through the view of the page's state.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "hex_option",
        deserialize_with = "read_hex_option"
    )]
    pub plain: Option<Vec<u8>>,
    /// The same bytes through the view that decrypts what is not encrypted, or the reverse.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "hex_option",
        deserialize_with = "read_hex_option"
    )]
    pub ciphertext: Option<Vec<u8>>,
    /// The separate content of the shared view.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "hex_option",
        deserialize_with = "read_hex_option"
    )]
    pub shared: Option<Vec<u8>>,
    /// What the emulated device returned.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "hex_option",
        deserialize_with = "read_hex_option"
    )]
    pub device: Option<Vec<u8>>,
}

impl Truth {
    /// Whether the VMM could read any content.
    pub const fn is_known(&self) -> bool {
        self.plain.is_some() || self.ciphertext.is_some() || self.shared.is_some() || self.device.is_some()
    }

    /// The truth about these bytes and those that follow them: only what is known of both is known of the whole.
    #[must_use]
    pub fn followed_by(self, next: Self) -> Self {
        let joined = |first: Option<Vec<u8>>, next: Option<Vec<u8>>| Some([first?, next?].concat());
        Self {
            plain: joined(self.plain, next.plain),
            ciphertext: joined(self.ciphertext, next.ciphertext),
            shared: joined(self.shared, next.shared),
            device: joined(self.device, next.device),
        }
    }

    /// The truth about the first `len` of these bytes.
    #[must_use]
    pub fn first(mut self, len: usize) -> Self {
        let kept = [&mut self.plain, &mut self.ciphertext, &mut self.shared, &mut self.device];
        for bytes in kept.into_iter().flatten() {
            bytes.truncate(len);
        }
        self
    }
}

/// Every class that fits some bytes: more than one when, for example, the memory itself holds zeros.
pub type Classes = Candidates<Class>;

/// Every state that fits what memory holds: more than one when, for example, what a step wrote was there before.
pub type States = Candidates<MemoryState>;

/// Compares bytes with the truth; an empty slice has no class.
pub fn classify(bytes: &[u8], truth: &Truth) -> Classes {
    if bytes.is_empty() {
        return Classes::default();
    }
    let is = |known: &Option<Vec<u8>>| known.as_deref() == Some(bytes);
    let fits = [
        (Class::Plain, is(&truth.plain)),
        (Class::Ciphertext, is(&truth.ciphertext)),
        (Class::Shared, is(&truth.shared)),
        (Class::Device, is(&truth.device)),
        (Class::Zeros, bytes.iter().all(|byte| *byte == 0)),
    ];
    let classes = Classes::of(fits.into_iter().filter(|(_, fits)| *fits).map(|(class, _)| class));
    if classes.is_empty() { Classes::of([Class::Other]) } else { classes }
}

/// Compares memory now with memory before the case, and with its expected content after the write. Memory that held
/// zeros before and after may have been zeroed.
pub fn memory_state(before: &[u8], now: &[u8], written: Option<&[u8]>) -> States {
    let fits = [
        (MemoryState::Unchanged, now == before),
        (MemoryState::Written, Some(now) == written),
        (MemoryState::Zeroed, now.iter().all(|byte| *byte == 0)),
    ];
    let states = States::of(fits.into_iter().filter(|(_, fits)| *fits).map(|(state, _)| state));
    if states.is_empty() { States::of([MemoryState::Corrupted]) } else { states }
}

/// Writes bytes as pairs of hexadecimal digits without spaces.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes written as pairs of hexadecimal digits.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let pairs = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(pairs.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// Reads bytes that are written as hexadecimal digits.
pub fn read_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    from_hex(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not pairs of hexadecimal digits")))
}

fn read_hex_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    read_hex(deserializer).map(Some)
}

#[expect(clippy::ref_option, reason = "serde's serialize_with passes a reference to the field")]
fn hex_option<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => serializer.serialize_str(&hex(&bytes[..bytes.len().min(64)])),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_what_they_equal() {
        let truth = Truth { plain: Some(vec![1, 2]), ciphertext: Some(vec![9, 9]), ..Truth::default() };
        assert_eq!(classify(&[1, 2], &truth), Classes::of([Class::Plain]));
        assert_eq!(classify(&[9, 9], &truth), Classes::of([Class::Ciphertext]));
        assert_eq!(classify(&[0, 0], &truth), Classes::of([Class::Zeros]));
        assert_eq!(classify(&[1], &truth), Classes::of([Class::Other]));
        assert!(classify(&[], &truth).is_empty());
    }

    #[test]
    fn of_two_pages_only_what_is_known_of_both_is_known() {
        let private = || Truth { plain: Some(vec![1]), shared: Some(vec![0]), ..Truth::default() };
        let shared = || Truth { plain: Some(vec![2]), ..Truth::default() };
        let unaccepted = || Truth { shared: Some(vec![3]), ..Truth::default() };
        let device = || Truth { device: Some(vec![4]), ..Truth::default() };
        let plain = |bytes: &[u8]| Truth { plain: Some(bytes.to_vec()), ..Truth::default() };
        assert_eq!(private().followed_by(shared()), plain(&[1, 2]));
        assert_eq!(shared().followed_by(private()), plain(&[2, 1]));
        let both = private().followed_by(unaccepted());
        assert_eq!(both, Truth { shared: Some(vec![0, 3]), ..Truth::default() });
        assert!(!shared().followed_by(unaccepted()).is_known());
        assert!(!device().followed_by(private()).is_known());
        // The second page's own bytes are compared, not what another view has in its place.
        assert_eq!(classify(&[1, 2], &private().followed_by(shared())), Classes::of([Class::Plain]));
        assert_eq!(classify(&[1, 0], &private().followed_by(shared())), Classes::of([Class::Other]));
    }

    #[test]
    fn zeros_in_memory_are_ambiguous() {
        let truth = Truth { plain: Some(vec![0; 4]), ..Truth::default() };
        let classes = classify(&[0; 4], &truth);
        assert!(classes.is_ambiguous());
        assert_eq!(classes.to_string(), "plain or zeros");
    }

    #[test]
    fn memory_that_held_what_was_written_is_ambiguous() {
        let state = |before: &[u8], now: &[u8], written| memory_state(before, now, written).to_string();
        assert_eq!(state(&[7, 7], &[7, 7], Some(&[1, 2])), "unchanged");
        assert_eq!(state(&[7, 7], &[1, 2], Some(&[1, 2])), "written");
        assert_eq!(state(&[7, 7], &[7, 7], Some(&[7, 7])), "unchanged or written");
        assert_eq!(state(&[7, 7], &[0, 0], Some(&[0, 0])), "written or zeroed");
        assert_eq!(state(&[0, 0], &[0, 0], None), "unchanged or zeroed");
        assert_eq!(state(&[7, 7], &[9, 7], Some(&[1, 2])), "corrupted");
    }

    proptest! {
        #[test]
        fn hexadecimal_digits_are_read_as_they_were_written(bytes: Vec<u8>) {
            prop_assert_eq!(from_hex(&hex(&bytes)), Some(bytes));
        }

        #[test]
        fn some_class_always_fits(bytes in prop::collection::vec(any::<u8>(), 1..80), plain: Option<Vec<u8>>) {
            let truth = Truth { plain, ..Truth::default() };
            prop_assert!(!classify(&bytes, &truth).is_empty());
        }

        #[test]
        fn untouched_memory_is_unchanged_whatever_was_meant(bytes: Vec<u8>, meant: Option<Vec<u8>>) {
            prop_assert!(memory_state(&bytes, &bytes, meant.as_deref()).contains(MemoryState::Unchanged));
        }
    }
}
