// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra gdb`, by a client of the protocol and by gdb itself.

#![allow(dead_code, reason = "every test binary uses a part of what they share")]

#[path = "../common/mod.rs"]
mod common;

mod client;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

use self::client::{Client, Server, quadword};
use common::trouble::{Checked, Trouble, print_skips, trial};

/// A read of 64 bytes at 0xf0000, which a confidential guest must not make through the shared view.
const READ: [&str; 6] = ["dd", "if=/dev/mem", "bs=64", "skip=15360", "count=1", "status=none"];
const READ_AT: u64 = 0xf0000;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each has a guest.
    arguments.test_threads = Some(1);
    let trials: Vec<Trial> = vec![
        trial("a_breakpoint_in_read_mem_shows_its_arguments", a_breakpoint_in_read_mem_shows_its_arguments),
        trial("gdb_itself_breaks_in_read_mem_by_name", gdb_itself_breaks_in_read_mem_by_name),
        trial("a_guest_is_interrupted_left_and_found_again", a_guest_is_interrupted_left_and_found_again),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        print_skips();
    }
    conclusion.exit_code()
}

/// The command's end, its output and the one forbidden access are as without gdb.
fn check_end(server: Server, report: &std::path::Path) -> Checked {
    let (output, errors) = server.end()?;
    let report: Value =
        serde_json::from_slice(&std::fs::read(report)?).map_err(|error| format!("{error}: {errors}"))?;
    let events = report["events"].as_array().ok_or("no events")?;
    let found = (output.status.code(), output.stdout.len(), events.len(), events[0]["gpa"].as_str());
    if found != (Some(0), 64, 1, Some("0xf0000")) {
        return Err(format!("{found:?}: {errors}").into());
    }
    if errors.contains("shared-read of 0xf0000") { Ok(()) } else { Err(errors.into()) }
}

fn a_breakpoint_in_read_mem_shows_its_arguments() -> Checked {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let report = folder.path().join("report.json");
    let json = report.to_string_lossy();
    let server = Server::start("snp", &["--json", &json], &READ)?;
    let read_mem = server.address_of("read_mem")?;
    let mut gdb = Client::connect(&server)?;
    gdb.stop("?", "05")?;
    let original = gdb.memory(read_mem, 16)?;
    gdb.expect(&format!("Z0,{read_mem:x},1"), "OK")?;
    if gdb.memory(read_mem, 16)? != original {
        return Err("the breakpoint is in what gdb reads".into());
    }
    let stop = gdb.stop("c", "05")?;
    if !stop.contains("swbreak") {
        return Err(stop.into());
    }
    // read_mem(struct file *file, char __user *buf, size_t count, loff_t *ppos), drivers/char/mem.c.
    let registers = gdb.registers()?;
    let [_, _, position, count, buffer, file, _, stack, ..] = registers[..] else {
        return Err("registers".into());
    };
    if (count, registers[16]) != (64, read_mem) || buffer >> 47 != 0 || file >> 47 == 0 {
        return Err(format!("{registers:x?}").into());
    }
    if quadword(&gdb.memory(position, 8)?) != READ_AT {
        return Err("*ppos is not where the command reads".into());
    }
    gdb.memory(stack, 64)?;
    gdb.expect(&format!("z0,{read_mem:x},1"), "OK")?;
    for _ in 0..3 {
        gdb.stop("s", "05")?;
    }
    if !(read_mem + 4..read_mem + 32).contains(&gdb.registers()?[16]) {
        return Err("three steps lead elsewhere".into());
    }
    gdb.stop("c", "0a")?;
    if !gdb.console.contains("forbidden access: GPA 0xf0000: read through the shared view") {
        return Err(gdb.console.into());
    }
    gdb.expect("c", "W00")?;
    check_end(server, &report)
}

fn gdb_itself_breaks_in_read_mem_by_name() -> Checked {
    if Command::new("gdb").arg("--version").output().is_err() {
        return Err(Trouble::Skip("gdb is not installed".to_owned()));
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let report = folder.path().join("report.json");
    let json = report.to_string_lossy();
    let server = Server::start("tdx", &["--json", &json], &READ)?;
    let remote = format!("target remote {}", server.address);
    let commands = [
        &*remote,
        "handle SIGBUS nostop print",
        "break read_mem",
        "continue",
        "printf \"count %d at %#lx\\n\", $rdx, *(long *)$rcx",
        "stepi",
        "printf \"then %#lx\\n\", $rip - (long)&read_mem",
        "backtrace 2",
        "monitor page",
        "delete",
        "continue",
    ];
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off"]).arg(&server.symbols);
    let output = gdb.args(commands.iter().flat_map(|command| ["-ex", command])).output()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    for wanted in [
        "in read_mem ()",
        "count 64 at 0xf0000",
        "then 0x4",
        "through the private view, the page is private",
        "forbidden access: GPA 0xf0000",
        "Program received signal SIGBUS",
        "exited normally",
    ] {
        if !text.contains(wanted) {
            return Err(format!("gdb did not print {wanted:?}:\n{text}").into());
        }
    }
    check_end(server, &report)
}

fn a_guest_is_interrupted_left_and_found_again() -> Checked {
    let script = "echo started; while :; do :; done";
    let server = Server::start("none", &[], &["sh", "-c", script])?;
    let mut gdb = Client::connect(&server)?;
    gdb.stop("?", "05")?;
    gdb.send("c")?;
    gdb.raw(&[3])?;
    let stop = gdb.answer()?;
    if stop.get(1..3) != Some("02") {
        return Err(format!("Ctrl-C: {stop}").into());
    }
    let read_mem = server.address_of("read_mem")?;
    gdb.expect(&format!("Z0,{read_mem:x},1"), "OK")?;
    gdb.expect("D", "OK")?;
    drop(gdb);
    let mut again = Client::connect(&server)?;
    again.stop("?", "05")?;
    // On this host there may be no debug registers; a watchpoint is set or refused, and gdb lives on.
    let watch = again.ask("Z2,ffffffff82000000,8")?;
    if watch != "OK" && !watch.starts_with('E') {
        return Err(format!("a watchpoint: {watch}").into());
    }
    again.send("k")?;
    let (output, errors) = server.end()?;
    match output.status.code() {
        Some(130) => Ok(()),
        other => Err(format!("{other:?}: {errors}").into()),
    }
}
