// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the keys of one TOML table, notes what is wrong with them, and rejects keys that no reader requested.

use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{ProblemKind, Sink};
use super::step::Handle;
use crate::place::{Base, Place};
use types::names::nearest;

/// A value with its place in the file.
pub(super) type Value<'t, 'i> = &'t Spanned<DeValue<'i>>;

/// Lists in which nothing is something: every capability dropped, no forbidden access, a program without arguments.
const MAY_BE_EMPTY: [&str; 3] = ["caps", "events", "args"];

/// A table being read.
pub(super) struct Fields<'t, 'i, 'k, 's> {
    table: &'t DeTable<'i>,
    span: Range<usize>,
    /// What the table is, for messages: "step `read`".
    place: String,
    read_keys: Vec<&'static str>,
    sink: &'k mut Sink<'s>,
}

impl<'t, 'i, 'k, 's> Fields<'t, 'i, 'k, 's> {
    pub(super) fn new(
        table: &'t DeTable<'i>,
        span: Range<usize>,
        place: impl Into<String>,
        sink: &'k mut Sink<'s>,
    ) -> Self {
        Self { table, span, place: place.into(), read_keys: Vec::new(), sink }
    }

    pub(super) const fn sink(&mut self) -> &mut Sink<'s> {
        self.sink
    }

    pub(super) const fn span(&self) -> &Range<usize> {
        &self.span
    }

    pub(super) fn rename(&mut self, place: String) {
        self.place = place;
    }

    /// The value of a key that may be missing.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<Value<'t, 'i>> {
        if !self.read_keys.contains(&key) {
            self.read_keys.push(key);
        }
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// The value of a key that must be there.
    fn required(&mut self, key: &'static str, form: &str) -> Option<Value<'t, 'i>> {
        let value = self.optional(key);
        if value.is_none() {
            let (key, place, form) = (key.to_owned(), self.place.clone(), form.to_owned());
            self.sink.add(&self.span, ProblemKind::Missing { key, place, form });
        }
        value
    }

    /// Notes that a value has the wrong type.
    pub(super) fn wrong(&mut self, key: &str, form: &str, value: Value<'_, '_>) {
        wrong_type(self.sink, key, form, value);
    }

    pub(super) fn optional_text(&mut self, key: &'static str) -> Option<(&'t str, Range<usize>)> {
        let value = self.optional(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong(key, "a text in quotes", value);
        }
        text.map(|text| (text, value.span()))
    }

    /// An optional text that is parsed into a value.
    pub(super) fn optional_parsed<T: FromStr>(&mut self, key: &'static str) -> Option<T>
    where
        T::Err: Into<ProblemKind>,
    {
        let (text, span) = self.optional_text(key)?;
        self.sink.take(&span, text.parse())
    }

    pub(super) fn text(&mut self, key: &'static str, form: &str) -> Option<(&'t str, Range<usize>)> {
        let value = self.required(key, form)?;
        match value.get_ref().as_str() {
            Some(text) if text.trim().is_empty() => {
                let (key, form, found) = (key.to_owned(), form.to_owned(), "empty".to_owned());
                self.sink.add(&value.span(), ProblemKind::Type { key, form, found });
                None
            }
            Some(text) => Some((text, value.span())),
            None => {
                self.wrong(key, form, value);
                None
            }
        }
    }

    /// A text that is parsed into a value.
    pub(super) fn parsed<T: FromStr>(&mut self, key: &'static str, form: &str) -> Option<T>
    where
        T::Err: Into<ProblemKind>,
    {
        let (text, span) = self.text(key, form)?;
        self.sink.take(&span, text.parse())
    }

    /// A number within bounds, or the default.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: Option<u64>,
        bounds: (u64, u64),
    ) -> Option<u64> {
        let (least, most) = bounds;
        let form = format!("a number between {least} and {most}");
        let value = match default {
            Some(default) => match self.optional(key) {
                Some(value) => value,
                None => return Some(default),
            },
            None => self.required(key, &form)?,
        };
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong(key, &form, value);
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let (key, value_text) = (key.to_owned(), integer.to_string());
            self.sink.add(&value.span(), ProblemKind::Range { key, value: value_text, least, most });
        }
        number
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> Option<bool> {
        let Some(value) = self.optional(key) else { return Some(default) };
        if value.get_ref().as_bool().is_none() {
            self.wrong(key, "true or false", value);
        }
        value.get_ref().as_bool()
    }

    /// A list of texts; an absent key is an empty list.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<(&'t str, Range<usize>)> {
        let Some(value) = self.optional(key) else { return Vec::new() };
        let form = "a list of texts, as in [\"one\", \"two\"]";
        let Some(list) = value.get_ref().as_array() else {
            self.wrong(key, form, value);
            return Vec::new();
        };
        if list.is_empty() && !MAY_BE_EMPTY.contains(&key) {
            let (key, form) = (key.to_owned(), format!("{form}; leave the key out if there is none"));
            self.sink.add(&value.span(), ProblemKind::Type { key, form, found: "an empty list".to_owned() });
        }
        let mut texts = Vec::new();
        for item in list {
            match item.get_ref().as_str() {
                Some(text) => texts.push((text, item.span())),
                None => self.wrong(key, form, item),
            }
        }
        texts
    }

    /// A list of texts that are parsed into values.
    pub(super) fn parsed_list<T: FromStr>(&mut self, key: &'static str) -> Vec<T>
    where
        T::Err: Into<ProblemKind>,
    {
        let texts = self.texts(key);
        texts.into_iter().filter_map(|(text, span)| self.sink.take(&span, text.parse())).collect()
    }

    pub(super) fn list(&mut self, key: &'static str, form: &str) -> Option<&'t DeArray<'i>> {
        let value = self.required(key, form)?;
        if value.get_ref().as_array().is_none() {
            self.wrong(key, form, value);
        }
        value.get_ref().as_array()
    }

    /// The name of an open file or a mapping.
    pub(super) fn handle(&mut self, key: &'static str) -> Option<Handle> {
        let (name, span) = self.text(key, "a short name in quotes, as in \"mem\"")?;
        if is_name(name) {
            return Some(name.to_owned());
        }
        let why = format!("`{name}` is no name: use letters, digits and `-`, at most 40");
        self.sink.add(&span, ProblemKind::Nonsense(why));
        None
    }

    /// The same, which may be missing; nothing at all if it is there and no name.
    #[expect(clippy::option_option, reason = "missing is not the same as wrong")]
    pub(super) fn optional_handle(&mut self, key: &'static str) -> Option<Option<Handle>> {
        if self.optional(key).is_some() { self.handle(key).map(Some) } else { Some(None) }
    }

    /// A physical place: a region's name with an offset, or an address.
    pub(super) fn at(&mut self, key: &'static str) -> Option<Place> {
        let form = "a region or an address, as in \"rom + 0x20\" or 0x20000";
        let value = self.required(key, form)?;
        match value.get_ref() {
            DeValue::Integer(integer) => {
                let address = u64::from_str_radix(integer.as_str(), integer.radix());
                if let Ok(address) = address {
                    return Some(Place { base: Base::Address(address), offset: 0 });
                }
                let (key, value_text) = (key.to_owned(), integer.to_string());
                let problem = ProblemKind::Range { key, value: value_text, least: 0, most: u64::MAX };
                self.sink.add(&value.span(), problem);
                None
            }
            DeValue::String(text) => self.sink.take(&value.span(), Place::parse(text)),
            _ => {
                self.wrong(key, form, value);
                None
            }
        }
    }

    /// Rejects every key that was not read.
    pub(super) fn finish(self) {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if self.read_keys.contains(&name) {
                continue;
            }
            let nearest = nearest(name, self.read_keys.iter().copied()).map(str::to_owned);
            let allowed = self.read_keys.iter().map(|key| (*key).to_owned()).collect();
            let (key_text, place) = (name.to_owned(), self.place.clone());
            let problem = ProblemKind::UnknownKey { key: key_text, place, nearest, allowed };
            self.sink.add(&key.span(), problem);
        }
    }
}

/// Notes that a value has the wrong type.
pub(super) fn wrong_type(sink: &mut Sink<'_>, key: &str, form: &str, value: Value<'_, '_>) {
    let found = match value.get_ref().type_str() {
        kind if kind.starts_with(['a', 'i']) => format!("an {kind}"),
        kind => format!("a {kind}"),
    };
    sink.add(&value.span(), ProblemKind::Type { key: key.to_owned(), form: form.to_owned(), found });
}

/// Whether a text can name a step, a file or a mapping.
pub(super) fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=40).contains(&text.len()) && text.chars().all(legal)
}
