//! What a person reads of a case that ends in a death or a signal: step by step, with every forbidden access and what
//! became of the guest.

use super::story::{head, mark};
use super::witness::Witness;
use crate::platform::Platform;
use crate::report::evidence::hexdump;

/// Rows of a dump shown of each step.
const ROWS: usize = 2;

/// Tells what the stock kernel does; whether all of it is as documented.
pub fn tell(stock: &Witness, platform: Platform) -> bool {
    head(stock, platform);
    println!();
    let all = steps(stock);
    deaths(stock);
    all
}

/// Tells what the patched kernel does; whether it denies.
pub fn contrast(patched: &[Witness]) -> bool {
    println!("\nThe same steps with the patch of the thread (policy open-eperm):\n");
    patched.iter().all(steps)
}

fn steps(witness: &Witness) -> bool {
    let mut all = true;
    for (id, call) in witness.calls() {
        let what = match witness.classes(&id).as_slice() {
            [] => witness.answer(&id),
            classes => format!("{}: {}", witness.answer(&id), classes.join(" and ")),
        };
        all &= mark(witness, &id, &call, &what);
        let bytes = witness.bytes(&id);
        let lines = if witness.is_of_memory(&id) {
            hexdump(witness.gpa(&id), &bytes)
        } else {
            String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
        };
        for line in lines.iter().take(ROWS) {
            println!("      {line}");
        }
        for line in witness.events(&id) {
            println!("      {line}");
        }
    }
    all
}

fn deaths(witness: &Witness) {
    for (text, console) in witness.deaths() {
        println!("\n{text}");
        for line in console {
            println!("    {line}");
        }
    }
}
