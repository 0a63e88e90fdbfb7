// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Distinguishes instructions from bytes that only look like one.
//!
//! Where x86 instructions begin is a matter of where one starts to read. But reading resynchronises: two readings of
//! the same code that start at different bytes meet after a few instructions and agree from then on, because most
//! instructions are short and few lengths are possible. So every byte from [`NEAREST`] to [`FARTHEST`] bytes before a
//! candidate is tried as a start, right ones and wrong ones, and the candidate is an instruction if the great majority
//! of these readings have one begin exactly there. In a real operand nearly none has, as the majority reads
//! the instruction around it. This needs no symbols, which a bzImage has not, and survives data between functions; and
//! it decodes a few hundred bytes for each candidate instead of all 17 MB of a distribution's code.

use std::fmt;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction};

use super::Opcode;

/// How far before a candidate readings start at most; one that starts farther away would only have met the others.
const FARTHEST: usize = 256;
/// How far before a candidate readings start at least. Four of the longest instructions: nearer starts have not met.
const NEAREST: usize = 60;
/// The longest x86 instruction (Intel SDM volume 2 §2.3.11).
const LONGEST: usize = 15;
/// Percentage of readings that have to agree, either way.
const MAJORITY: usize = 75;

/// Why bytes that look like one of the four instructions are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// They are part of another instruction: of its immediate, displacement or opcode.
    Inside,
    /// They end the same instruction with more prefixes, which a rewrite of four bytes would not replace.
    Prefixed,
    /// Readings of the code before disagree: that many of a hundred have an instruction begin here.
    Ambiguous(usize),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inside => f.write_str("it is part of another instruction"),
            Self::Prefixed => f.write_str("the instruction has more prefixes"),
            Self::Ambiguous(percent) => {
                write!(
                    f,
                    "only {percent} % of the readings of the code before have an instruction begin here"
                )
            }
        }
    }
}

/// What a reading that comes to a byte does at the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Begins an instruction there.
    Begins,
    /// Is in the middle of another.
    Passes,
    /// Is in the middle of the same, after a prefix.
    PassesPrefix,
}

/// The second and third byte of all four instructions.
const COMMON: [u8; 2] = [0x0f, 0x01];

/// Every place with the bytes of one of the four instructions, instruction or not.
pub(super) fn candidates(bytes: &[u8]) -> impl Iterator<Item = (usize, Opcode)> {
    // A search for the common bytes first: it compares 16 or 32 places at once.
    memchr::memmem::find_iter(bytes, &COMMON).filter_map(|common| {
        let at = common.checked_sub(1)?;
        let window = bytes.get(at..at + Opcode::LEN)?;
        Opcode::ALL.into_iter().find(|opcode| window == opcode.bytes()).map(|opcode| (at, opcode))
    })
}

/// Decides whether the bytes of `opcode` at `at` are that instruction. `code` begins with an instruction.
pub(super) fn judge(code: &[u8], at: usize, opcode: Opcode) -> Result<(), Reason> {
    let first = at.saturating_sub(FARTHEST);
    // From the candidate backwards, so that each byte is decoded once: a reading goes on as that of the byte
    // where its instruction ends.
    let mut readings = vec![Reading::Begins; at - first];
    for start in (first..at).rev() {
        let (length, same) = decode(code, start, opcode);
        let reading = match start + length {
            next if next < at => readings[next - first],
            next if next == at => Reading::Begins,
            _ if same => Reading::PassesPrefix,
            _ => Reading::Passes,
        };
        readings[start - first] = reading;
    }
    // The start of the code is an instruction's for certain, which is worth more than any vote.
    let voters = match first {
        0 => &readings[..readings.len().min(1)],
        _ => &readings[..FARTHEST - NEAREST],
    };
    let percent = |reading| voters.iter().filter(|r| **r == reading).count() * 100 / voters.len().max(1);
    if voters.is_empty() || percent(Reading::Begins) >= MAJORITY {
        return if decode(code, at, opcode) == (Opcode::LEN, true) { Ok(()) } else { Err(Reason::Inside) };
    }
    Err(if percent(Reading::PassesPrefix) >= MAJORITY {
        Reason::Prefixed
    } else if percent(Reading::Passes) >= MAJORITY {
        Reason::Inside
    } else {
        Reason::Ambiguous(percent(Reading::Begins))
    })
}

/// Every one of the instructions in code that begins with an instruction and has nothing between two of them.
pub(super) fn sweep(code: &[u8]) -> impl Iterator<Item = (usize, Opcode)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < code.len() {
            let start = at;
            let opcode = Opcode::ALL.into_iter().find(|opcode| code[start..].starts_with(&opcode.bytes()));
            at += decode(code, start, opcode.unwrap_or(Opcode::Tdcall)).0;
            if let Some(opcode) = opcode {
                return Some((start, opcode));
            }
        }
        None
    })
}

/// Length of the instruction at `at`, and whether it is `opcode`. What is none is passed over byte by byte.
fn decode(code: &[u8], at: usize, opcode: Opcode) -> (usize, bool) {
    let bytes = &code[at..code.len().min(at + LONGEST)];
    let mut instruction = Instruction::default();
    Decoder::new(64, bytes, DecoderOptions::NONE).decode_out(&mut instruction);
    if instruction.code() == Code::INVALID {
        return (1, false);
    }
    let same = match opcode {
        Opcode::Tdcall => instruction.code() == Code::Tdcall,
        Opcode::Vmgexit => instruction.code() == Code::Vmgexit,
        Opcode::Pvalidate => instruction.code() == Code::Pvalidateq,
        Opcode::Rmpadjust => instruction.code() == Code::Rmpadjust,
    };
    (instruction.len(), same)
}
