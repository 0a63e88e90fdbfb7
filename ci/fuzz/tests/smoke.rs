// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs every target over mutated seeds, for a bounded time, the same way each time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use copra_fuzz::{TARGETS, Target};

/// How many inputs a target gets at most.
const INPUTS: u64 = 200_000;
/// How long a target runs at most.
const DEADLINE: Duration = Duration::from_secs(10);
/// No input grows beyond this.
const MAX_INPUT: usize = 1 << 16;

/// Marsaglia's xorshift64: the inputs need to be various and repeatable, nothing more.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Changes an input in one of the ways that parsers mistake.
fn mutate(input: &mut Vec<u8>, random: &mut Random) {
    const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 63, u64::MAX];
    if input.is_empty() {
        input.push(random.next() as u8);
        return;
    }
    // Half of all changes hit the headers.
    let reach = if random.below(2) == 0 { input.len().min(0x300) } else { input.len() };
    let at = random.below(reach);
    match random.below(7) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.next() as u8,
        2 | 3 => {
            let value = if random.below(2) == 0 {
                EDGES[random.below(EDGES.len())]
            } else {
                random.next() >> random.below(64)
            };
            let width = [1, 2, 4, 8][random.below(4)].min(input.len() - at);
            input[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        4 => input.truncate(at),
        5 => {
            let end = at + random.below(input.len() - at).min(512);
            let piece = input[at..end].to_vec();
            let to = random.below(input.len());
            input.splice(to..to, piece);
        }
        _ => {
            let end = at + random.below(input.len() - at).min(64);
            input.drain(at..end);
        }
    }
    input.truncate(MAX_INPUT);
}

fn smoke(target: &Target) {
    let seeds = (target.seeds)();
    for (name, seed) in &seeds {
        assert!(
            catch_unwind(|| (target.run)(seed)).is_ok(),
            "target {} panics on its seed {name}",
            target.name
        );
    }
    let start = Instant::now();
    let mut random = Random(0x636f_7072_615f_3131);
    let mut done = 0;
    while done < INPUTS && start.elapsed() < DEADLINE {
        let mut input = seeds[random.below(seeds.len())].1.clone();
        for _ in 0..=random.below(6) {
            mutate(&mut input, &mut random);
        }
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            let saved = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{done}", target.name));
            std::fs::write(&saved, input).expect("the input that fails can be kept");
            panic!("target {} panics on input {done}, which is kept in {}", target.name, saved.display());
        }
        done += 1;
    }
    println!("{}: {done} inputs in {:.1} s", target.name, start.elapsed().as_secs_f64());
}

#[test]
fn mutated_seeds_do_no_harm() {
    TARGETS.iter().for_each(smoke);
}
