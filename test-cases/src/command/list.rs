// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra list`.

use std::io;

use super::{Failed, kernels};
use crate::cli::ListArgs;
use crate::exit::Exit;
use crate::list;
use engine::{layouts, library};

/// Prints the lists that the options name.
pub fn list(args: &ListArgs) -> Result<Exit, Failed> {
    let cases = library::all().map_err(Failed::new)?;
    let layouts = layouts::all().map_err(Failed::new)?;
    list::write(args, &cases, &layouts, io::stdout().lock())
        .map_err(|error| Failed::new(format!("writing to standard output: {error}")))?;
    if args.kernels {
        kernels::list(args.json)?;
    }
    Ok(Exit::Success)
}
