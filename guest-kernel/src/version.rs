// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian version numbers, ordered as dpkg orders them.

use std::cmp::Ordering;
use std::fmt;

/// A Debian version: `[epoch:]upstream[-revision]`.
///
/// Two versions that dpkg takes for the same (`1.0` and `1.00`) are equal here too.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
}

impl Version {
    /// Takes any text; one that is no version still has a well-defined place in the order.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// The version as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part between epoch and Debian revision: `6.12.117` of `6.12.117-1~deb12u1`.
    pub fn upstream(&self) -> &str {
        self.split().1
    }

    /// Whether this is a version of `series`: `6.12` is the series of `6.12`, `6.12.117` and `6.12~rc1`, not of `6.120.1`.
    pub fn is_of_series(&self, series: &str) -> bool {
        self.upstream()
            .strip_prefix(series)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '~', '+']))
    }

    fn split(&self) -> (&str, &str, &str) {
        let (epoch, rest) = self.text.split_once(':').unwrap_or(("", &self.text));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch, upstream, revision)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((e1, u1, r1), (e2, u2, r2)) = (self.split(), other.split());
        compare(e1, e2).then_with(|| compare(u1, u2)).then_with(|| compare(r1, r2))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

/// Alternately a run of other characters and a run of digits, as in Debian Policy 5.6.12.
fn compare(mut a: &str, mut b: &str) -> Ordering {
    loop {
        if a.is_empty() && b.is_empty() {
            return Ordering::Equal;
        }
        let (text_a, text_b) = (take(&mut a, |c| !c.is_ascii_digit()), take(&mut b, |c| !c.is_ascii_digit()));
        let order = compare_text(text_a, text_b);
        if order.is_ne() {
            return order;
        }
        let (digits_a, digits_b) =
            (take(&mut a, |c| c.is_ascii_digit()), take(&mut b, |c| c.is_ascii_digit()));
        let order = compare_digits(digits_a, digits_b);
        if order.is_ne() {
            return order;
        }
    }
}

fn take<'a>(text: &mut &'a str, belongs: impl Fn(char) -> bool) -> &'a str {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    let (head, tail) = text.split_at(end);
    *text = tail;
    head
}

fn compare_text(a: &str, b: &str) -> Ordering {
    // `~` sorts before the end, the end before letters, letters before everything else.
    let rank = |c: Option<char>| match c {
        Some('~') => (0, 0),
        None => (1, 0),
        Some(c) if c.is_ascii_alphabetic() => (2, c as u32),
        Some(c) => (3, c as u32),
    };
    let (mut a, mut b) = (a.chars(), b.chars());
    loop {
        let (x, y) = (a.next(), b.next());
        let order = rank(x).cmp(&rank(y));
        if order.is_ne() || x.is_none() {
            return order;
        }
    }
}

fn compare_digits(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn ordering(a: &str, b: &str) -> Ordering {
        Version::new(a).cmp(&Version::new(b))
    }

    #[test]
    fn orders_kernel_versions() {
        let ascending = [
            "6.1.176-1",
            "6.1.192-1",
            "6.1.192-2",
            "6.12~rc1-1",
            "6.12.9-1",
            "6.12.90-1~bpo12+1",
            "6.12.90-1",
            "6.12.90-2~bpo12+1",
            "6.12.90-2",
            "6.12.117-1~deb12u1",
            "6.12.117-1",
            "7.2.13-1",
            "1:1.0-1",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(ordering(a, b), i.cmp(&j), "{a} against {b}");
            }
        }
    }

    #[test]
    fn ignores_leading_zeros() {
        assert_eq!(ordering("1.00-1", "1.0-1"), Ordering::Equal);
        assert_eq!(ordering("1.001-1", "1.1-1"), Ordering::Equal);
    }

    #[test]
    fn reads_the_series() {
        let of = |v: &str, s: &str| Version::new(v).is_of_series(s);
        assert!(of("6.12.117-1~deb12u1", "6.12"));
        assert!(of("6.12.117-1~deb12u1", "6.12.117"));
        assert!(of("6.12-1", "6.12"));
        assert!(of("6.12~rc7-1~exp1", "6.12"));
        assert!(!of("6.12.117-1", "6.1"));
        assert!(!of("6.120.1-1", "6.12"));
        assert!(!of("6.1.192-1", "6.12"));
    }

    prop_compose! {
        fn version()(text in "[0-9]([0-9a-c.+~]{0,6})(-[0-9a-c.+~]{1,4})?") -> String { text }
    }

    proptest! {
        #[test]
        fn is_a_total_order(a in version(), b in version(), c in version()) {
            prop_assert_eq!(ordering(&a, &b), ordering(&b, &a).reverse());
            prop_assert_eq!(ordering(&a, &a), Ordering::Equal);
            if ordering(&a, &b).is_le() && ordering(&b, &c).is_le() {
                prop_assert!(ordering(&a, &c).is_le());
            }
        }

        #[test]
        fn takes_any_text(a in "\\PC*", b in "\\PC*") {
            let _ = ordering(&a, &b);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn agrees_with_dpkg(a in version(), b in version()) {
            let relation = match ordering(&a, &b) {
                Ordering::Less => "lt",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt",
            };
            match Command::new("dpkg").args(["--compare-versions", &a, relation, &b]).status() {
                Ok(status) => prop_assert!(status.success(), "{} {} {}", a, relation, b),
                Err(error) => println!("not compared with dpkg: {error}"),
            }
        }
    }
}
