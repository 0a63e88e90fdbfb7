// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra gdb`: a guest under gdb.
//!
//! gdb is always on this machine, and the guest may be on the KVM host in QEMU. So the command has two halves that exchange
//! [`Frame`]s: the front has the connection with gdb, the back has the guest.

mod back;
mod front;
mod symbols;

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use engine::exec::{CommandEnd, Executed, StandardFiles};
use engine::guest::Target;
use engine::session::{DebugPoint, Debugger};

use self::back::Back;
use self::front::{Front, Transport};
use super::exec::{self, Frame, is_framed};
use super::host::{self, Place};
use super::output::Output;
use super::{Failed, guests, interrupt, kernels};
use crate::cli::{GdbArgs, StartPoint};
use crate::exit::Exit;

/// Boots a guest, and lets gdb debug it.
pub fn gdb(args: &GdbArgs, quiet: bool) -> Result<Exit, Failed> {
    engine::guest::check(args.options.guest.memory).map_err(Failed::new)?;
    for path in args.options.reports().into_iter().flatten() {
        Output::check(path)?;
    }
    let ready = guests::Ready::find(&args.options.guest, &[], quiet)?;
    let above = kernels::packages(&args.options.package, quiet)?;
    let place = host::choose_for(args.options.guest.platform);
    if is_framed() {
        let Place::Here(host) = place else { return Err(Failed::new("KVM does not work on the KVM host")) };
        let back = Back::of_standard_files();
        return debug(args, &exec::target(&args.options, ready, &host), above, back, quiet);
    }
    let front = Front {
        transport: if args.stdio { Transport::Stdio } else { Transport::listen(args.listen)? },
        symbols: symbols::find(args, ready.found())?,
        what: format!("{} as {} guest", args.options.guest.kernel, args.options.guest.platform),
    };
    match place {
        Place::Elsewhere(_) => front.run_elsewhere().map(Exit::Program),
        Place::Here(host) => {
            let target = exec::target(&args.options, ready, &host);
            let (ours, theirs) = UnixStream::pair().map_err(front::failed)?;
            let serving = front.serve(&ours)?;
            let exit = debug(args, &target, above, Back::of_stream(&theirs).map_err(front::failed)?, quiet);
            drop(theirs);
            let _ = ours.shutdown(std::net::Shutdown::Both);
            let _ = serving.join();
            exit
        }
    }
}

/// The guest's half.
fn debug(
    args: &GdbArgs,
    target: &Target,
    above: Vec<PathBuf>,
    back: Back,
    quiet: bool,
) -> Result<Exit, Failed> {
    let flag = interrupt::signals()?;
    let first = match args.at {
        Some(StartPoint::Entry) => DebugPoint::Entry,
        None if args.command.is_empty() => DebugPoint::Entry,
        Some(StartPoint::Command) | None => DebugPoint::Command,
    };
    let (server, peers) = back.start(first, &flag).map_err(front::failed)?;
    let (mut order, _copies) = exec::order(&args.options, &args.command, above, StandardFiles::Pipes(peers))?;
    order.debugger = Some(Arc::clone(&server) as Arc<dyn Debugger>);
    let executed = engine::exec::exec(target, &order, &flag);
    server.finish(executed.as_ref().ok().and_then(status));
    exec::finish(&args.options, &args.command, target, &executed.map_err(Failed::new)?, None, quiet)
}

/// What gdb shows as the exit status.
fn status(executed: &Executed) -> Option<u8> {
    match executed.end {
        CommandEnd::Exited(status) => Some(status),
        _ => None,
    }
}
