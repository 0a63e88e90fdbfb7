// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The forms in which a matrix is reported.

pub mod html;
pub mod json;
pub mod table;
pub mod text;

#[cfg(test)]
mod tests {
    use engine::matrix::{fixture, programs};
    use guest_kernel::programs::Programs;

    use super::{html, table};

    #[test]
    fn every_form_shows_why_rows_were_skipped() {
        let mut matrix = fixture::matrix();
        programs::skip(&mut matrix, &Programs::without("there is no network"));
        programs::judge::judge(&mut matrix);
        for text in [table::text(&matrix), table::markdown(&matrix), html::page(&matrix)] {
            assert!(text.contains("skipped") && text.contains("there is no network"), "{text}");
        }
    }
}
