// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Golden files that several forms of a report share.

/// The tests of a format whose reports are texts: `$text` makes one of a report.
macro_rules! snapshots {
    ($text:ident) => {
        #[test]
        fn a_whole_run() {
            insta::assert_snapshot!($text(&fixture::whole()));
        }

        #[test]
        fn a_guest_that_died_in_boot() {
            insta::assert_snapshot!($text(&fixture::died_in_boot()));
        }

        #[test]
        fn events_in_boot() {
            insta::assert_snapshot!($text(&fixture::events_in_boot()));
        }

        #[test]
        fn no_control_character_of_a_guest_is_written() {
            let text = $text(&fixture::hostile());
            assert!(text.contains("FAIL"));
            assert!(!text.chars().any(|c| c != '\n' && c != '\t' && c.is_control()), "{text:?}");
        }
    };
}
pub(crate) use snapshots;
