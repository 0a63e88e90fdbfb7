// SPDX-License-Identifier: Apache-2.0 OR MIT
//! gdb's command `monitor`: what only copra knows.

use gdbstub::outputln;
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd};
use vmm::machine::Machine;

use super::{Gone, Guest};

const HELP: &str = "\
monitor page ADDRESS   where a virtual address (a number; none: RIP) leads, through which view, and the page's state
monitor system         control registers, the bases of FS and GS
monitor events         the forbidden accesses so far";

impl MonitorCmd for Guest {
    fn handle_monitor_cmd(&mut self, command: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), Gone> {
        let command = String::from_utf8_lossy(command).into_owned();
        let text = match command.split_whitespace().collect::<Vec<_>>()[..] {
            ["page"] => self.with(|machine| {
                machine.debug_registers().map_or_else(|e| e.to_string(), |r| page(machine, r.general.rip))
            })?,
            ["page", address] => match number(address) {
                Some(address) => self.with(move |machine| page(machine, address))?,
                None => format!("{address:?} is no address"),
            },
            ["system"] => self.with(system)?,
            ["events"] => self.with(events)?,
            _ => HELP.to_owned(),
        };
        for line in text.lines() {
            outputln!(out, "{line}");
        }
        Ok(())
    }
}

/// A number as people write addresses.
fn number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    digits.map_or_else(|| text.parse().ok(), |digits| u64::from_str_radix(digits, 16).ok())
}

fn page(machine: &mut Machine, address: u64) -> String {
    let Some(at) = machine.debug_address(address) else {
        return format!("{address:#x} is not mapped");
    };
    let state = match machine.memory().state(at.gpa) {
        Some(state) => format!("the page is {state}"),
        None => match machine.memory().declared(at.gpa) {
            Some(view) => format!("the guest has it {view}"),
            None => "no RAM".to_owned(),
        },
    };
    format!("{address:#x}: GPA {:#x} through the {} view, {state}", at.gpa, at.view)
}

fn system(machine: &mut Machine) -> String {
    match machine.debug_registers() {
        Ok(registers) => {
            let s = registers.system;
            format!(
                "cr0 {:#x}  cr2 {:#x}  cr3 {:#x}  cr4 {:#x}  efer {:#x}\nfs_base {:#x}  gs_base {:#x}  cpl {}",
                s.cr0, s.cr2, s.cr3, s.cr4, s.efer, s.fs.base, s.gs.base, s.ss.dpl
            )
        }
        Err(error) => error.to_string(),
    }
}

fn events(machine: &mut Machine) -> String {
    let events = machine.events().all();
    if events.is_empty() {
        return "no forbidden accesses so far".to_owned();
    }
    events.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hexadecimal_with_a_prefix() {
        assert_eq!(number("0xffffffff81000000"), Some(0xffff_ffff_8100_0000));
        assert_eq!((number("16"), number("x"), number("0x")), (Some(16), None, None));
    }
}
