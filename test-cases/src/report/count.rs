// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers of things, in English.

use std::fmt::Display;

/// `1 case`, `2 cases`: `thing` in the singular, to which an `s` or, after a sibilant, `es` is appended.
pub fn of(count: impl Display, thing: &str) -> String {
    let count = count.to_string();
    let plural = match thing {
        _ if count == "1" => "",
        _ if thing.ends_with('s') => "es",
        _ => "s",
    };
    format!("{count} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!(of(0, "case"), "0 cases");
        assert_eq!(of(1_u64, "forbidden access"), "1 forbidden access");
        assert_eq!(of(11, "forbidden access"), "11 forbidden accesses");
    }
}
