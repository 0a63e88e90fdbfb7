// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent, ready to be a guest's first program.

/// The agent: a static ELF executable for x86-64 Linux that needs nothing but a kernel.
pub const ELF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

#[cfg(test)]
mod tests {
    use super::ELF;

    #[test]
    fn it_is_a_small_static_executable() {
        let word = |at: usize| u16::from_le_bytes([ELF[at], ELF[at + 1]]);
        assert_eq!(ELF[..6], *b"\x7fELF\x02\x01");
        assert_eq!((word(16), word(18)), (2, 62), "ET_EXEC for x86-64");
        assert!(ELF.len() < 64 << 10, "{} bytes", ELF.len());
        let headers = usize::from(word(32));
        for index in 0..usize::from(word(56)) {
            let kind = word(headers + 56 * index);
            assert!(![2, 3].contains(&kind), "no PT_DYNAMIC, no PT_INTERP");
        }
    }
}
