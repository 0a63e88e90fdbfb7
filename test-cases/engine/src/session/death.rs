// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a guest ended, found from why its machine stopped and from its kernel's own variables. Its console output is
//! shown, and is not used to decide: a kernel can be made silent, and any program can write a line that looks like a panic.

use std::fmt;
use std::time::Duration;

use types::{UnwindMethod, VcpuId};
use vmm::machine::{Machine, Stop};
use vmm::trace::kernel::KernelNames;

use crate::observation::{Aborted, Death, DeathKind, Deaths, During};

/// Console lines kept as evidence.
const LAST_LINES: usize = 30;
/// Characters kept of each.
const LONGEST_LINE: usize = 500;
/// The line before those that are not the console's.
const FROM_LOG_BUFFER: &str = "(the console is empty; from the kernel's log buffer:)";
/// Functions named of a guest that does not answer.
const MOST_FRAMES: usize = 6;
/// `kernel/panic.c:PANIC_CPU_INVALID`, what `panic_cpu` holds until a processor panics.
const NO_CPU: i32 = -1;
/// No kernel has more processors (`arch/x86/Kconfig:NR_CPUS_RANGE_END`).
const MOST_CPUS: i32 = 8192;
/// The functions of `kernel/panic.c` that every panic calls.
const PANIC: [&str; 3] = ["panic", "vpanic", "nmi_panic"];
/// `include/linux/kernel.h:system_states` since 5.16: halted, switched off, and the last of them.
const SYSTEM_HALT: u32 = 4;
const SYSTEM_POWER_OFF: u32 = 5;
const SYSTEM_SUSPEND: u32 = 7;
/// With interrupts off for so long, a guest hangs: the kernel's own watchdog for that waits 10 s
/// (`kernel/watchdog.c:watchdog_thresh`), and what the kernel does with interrupts off takes milliseconds.
const HANG: Duration = Duration::from_secs(10);

/// How a guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It died; with several kinds only where copra cannot determine which.
    Died(Deaths),
    /// It was aborted for a reason that is no evidence about it.
    Aborted,
}

/// A guest that is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub end: End,
    /// What the VMM saw.
    pub text: String,
    /// Last lines of its console; where that is empty, of the kernel's log buffer, after a line that states this.
    pub console: Vec<String>,
}

/// What the kernel's memory and the vCPU show of a guest at its end; `None` where they show nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Facts {
    panicked: Option<bool>,
    shut_down: Option<bool>,
    interrupts_off: Duration,
}

impl Facts {
    fn of(machine: &Machine) -> Self {
        let cpu = machine.kernel_variable("panic_cpu").map(i32::from_le_bytes);
        Self {
            panicked: panicked(cpu).or_else(|| panics_on_stack(machine)),
            shut_down: shut_down(machine.kernel_variable("system_state").map(u32::from_le_bytes)),
            interrupts_off: machine.interrupts_off_for(),
        }
    }
}

/// Whether `panic_cpu` shows a panic, if its value is valid.
fn panicked(panic_cpu: Option<i32>) -> Option<bool> {
    match panic_cpu? {
        NO_CPU => Some(false),
        0..MOST_CPUS => Some(true),
        _ => None,
    }
}

/// What `system_state` shows for a halt with interrupts off (`kernel/reboot.c:kernel_shutdown_prepare`).
fn shut_down(system_state: Option<u32>) -> Option<bool> {
    match system_state? {
        SYSTEM_HALT | SYSTEM_POWER_OFF => Some(true),
        0..=SYSTEM_SUSPEND => Some(false),
        _ => None,
    }
}

/// Whether the vCPU is in a panic, by its stack: only where the kernel's own tables unwind it.
fn panics_on_stack(machine: &Machine) -> Option<bool> {
    let names = machine.kernel_names()?;
    names.symbols()?.address_of(PANIC[0])?;
    let trace = machine.current_instruction(VcpuId::BOOT)?.backtrace?;
    (trace.method == UnwindMethod::Orc).then(|| trace.addresses().any(|address| is_of_panic(names, address)))
}

fn is_of_panic(names: &KernelNames, address: u64) -> bool {
    let symbol = names.symbols().and_then(|symbols| symbols.resolve(address.wrapping_sub(1)));
    symbol.is_some_and(|symbol| PANIC.contains(&symbol.name))
}

/// The manner of the end, by these facts and nothing else.
fn end(stop: &Stop, facts: &Facts) -> End {
    let own: &[DeathKind] = match stop {
        Stop::Terminated(_) => return End::Died(Deaths::of([DeathKind::Terminated])),
        Stop::Reset { .. } => &[DeathKind::Reset],
        Stop::TripleFault => &[DeathKind::TripleFault],
        Stop::PowerOff => &[DeathKind::PowerOff],
        Stop::Halted => match facts.shut_down {
            Some(true) => &[DeathKind::PowerOff],
            Some(false) => &[DeathKind::Hang],
            None => &[DeathKind::PowerOff, DeathKind::Hang],
        },
        Stop::Deadline if facts.panicked == Some(true) => &[],
        Stop::Deadline if facts.interrupts_off >= HANG => &[DeathKind::Hang],
        // Whatever the kernel did before, the host or the VMM ended this, or it was only slow.
        Stop::Deadline
        | Stop::Agent
        | Stop::DebugExit(_)
        | Stop::Debug(_)
        | Stop::Interrupted
        | Stop::Failed(_) => {
            return End::Aborted;
        }
    };
    let panic = [DeathKind::Panic];
    End::Died(match facts.panicked {
        Some(true) => Deaths::of(panic),
        Some(false) => Deaths::of(own.iter().copied()),
        None => Deaths::of(own.iter().chain(&panic).copied()),
    })
}

impl Ended {
    /// Reads the manner of the end off the machine.
    pub fn by(machine: &Machine, stop: &Stop) -> Self {
        let console = machine.console().text();
        let end = end(stop, &Facts::of(machine));
        let panic_line = console.lines().rev().find(|line| line.contains("Kernel panic - not syncing"));
        let mut text = stop.to_string();
        match end {
            End::Died(deaths) if deaths == Deaths::of([DeathKind::Panic]) => {
                text = panic_line.map_or_else(
                    || format!("the kernel panicked, without a line of it on the console ({stop})"),
                    |line| without_time(line).to_owned(),
                );
            }
            End::Died(deaths) => {
                if deaths.is_ambiguous() && deaths.contains(DeathKind::Panic) {
                    text += " (could not determine whether the kernel panicked: no symbol)";
                    if let Some(line) = panic_line {
                        text = format!("{text}; its console shows \"{}\"", without_time(line));
                    }
                } else if deaths.is_ambiguous() {
                    text += " (could not determine whether the kernel was shutting down: no symbol)";
                }
                if deaths.contains(DeathKind::Hang) {
                    text += &vcpu_position(machine);
                }
            }
            End::Aborted if *stop == Stop::Deadline => {
                text = format!("the agent did not answer in time: {text}{}", vcpu_position(machine));
            }
            End::Aborted => {}
        }
        Self { end, text, console: evidence(&console, || machine.log_buffer()) }
    }

    /// In what manner it died; nothing for a guest that was aborted.
    pub fn deaths(&self) -> Deaths {
        match self.end {
            End::Died(deaths) => deaths,
            End::Aborted => Deaths::default(),
        }
    }

    /// As reports hold it.
    pub fn into_report(self, during: Option<During>) -> Result<Death, Aborted> {
        let (text, console) = (self.text, self.console);
        match self.end {
            End::Died(kind) => Ok(Death { kind, text, during, console }),
            End::Aborted => Err(Aborted { reason: text, during, console }),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            End::Died(deaths) => write!(f, "{deaths}: {}", self.text)?,
            End::Aborted => f.write_str(&self.text)?,
        }
        match (self.end, self.console.iter().rev().find(|line| !line.trim().is_empty())) {
            (End::Aborted, Some(last)) => {
                let log = self.console.first().is_some_and(|first| first == FROM_LOG_BUFFER);
                let whose = if log { "kernel log's" } else { "console's" };
                write!(f, "; its {whose} last line is \"{}\"", last.trim())?;
            }
            (_, None) => {
                f.write_str("; its console is empty (--cmdline-append earlyprintk=serial shows more)")?;
            }
            _ => {}
        }
        if self.end == End::Aborted {
            f.write_str("; if it is only slow, give it longer (--timeout)")?;
        }
        Ok(())
    }
}

impl std::error::Error for Ended {}

/// The last lines of the console. A guest that ends before it has one may have written to its log.
fn evidence(console: &str, log_buffer: impl FnOnce() -> Option<Vec<String>>) -> Vec<String> {
    let last = |text: &str| {
        let lines: Vec<String> = text.lines().map(|line| line.chars().take(LONGEST_LINE).collect()).collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].to_vec()
    };
    if !console.trim().is_empty() {
        return last(console);
    }
    let Some(log) = log_buffer().filter(|log| !log.is_empty()) else { return Vec::new() };
    let mut lines = last(&log.join("\n"));
    lines.insert(0, FROM_LOG_BUFFER.to_owned());
    lines
}

/// Where a guest that does not answer is, innermost function first.
fn vcpu_position(machine: &Machine) -> String {
    let place = || {
        let (at, names) = (machine.current_instruction(VcpuId::BOOT)?, machine.kernel_names()?);
        let frames = names.frames(at.backtrace.as_ref()?);
        let task = at.task.map(|task| format!(" in task {task}")).unwrap_or_default();
        Some(format!("; RIP is at {}{task}", frames[..frames.len().min(MOST_FRAMES)].join(" < ")))
    };
    place().unwrap_or_default()
}

/// A console line without the time stamp.
fn without_time(line: &str) -> &str {
    line.split_once("] ").map_or(line, |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn died(kinds: &[DeathKind]) -> End {
        End::Died(Deaths::of(kinds.iter().copied()))
    }

    fn facts(panicked: Option<bool>) -> Facts {
        Facts { panicked, shut_down: Some(true), interrupts_off: Duration::ZERO }
    }

    #[test]
    fn the_log_buffer_is_shown_only_where_the_console_is_empty() {
        let log = || Some(vec!["[    0.000000] one".to_owned(), "[    0.000000] two\nthree".to_owned()]);
        assert_eq!(evidence("a\nb\n", log), ["a", "b"]);
        let shown = [FROM_LOG_BUFFER, "[    0.000000] one", "[    0.000000] two", "three"];
        assert_eq!(evidence("\r\n", log), shown);
        assert_eq!(evidence("", || None), [""; 0]);
        let many = evidence("", || Some(vec!["line".to_owned(); 64]));
        assert_eq!((many.len(), many[0].as_str()), (LAST_LINES + 1, FROM_LOG_BUFFER));
    }

    #[test]
    fn panic_cpu_names_a_processor_or_none() {
        assert_eq!(panicked(Some(-1)), Some(false));
        assert_eq!(panicked(Some(0)), Some(true));
        assert_eq!(panicked(Some(8191)), Some(true));
        // The page was overwritten, or the symbol is not known.
        assert_eq!(panicked(Some(0x5a5a_5a5a)), None);
        assert_eq!(panicked(Some(-2)), None);
        assert_eq!(panicked(None), None);
    }

    #[test]
    fn a_reset_is_a_panic_where_the_kernel_says_so_and_both_where_it_cannot() {
        let reset = Stop::Reset { port: 0x64 };
        assert_eq!(end(&reset, &facts(Some(false))), died(&[DeathKind::Reset]));
        assert_eq!(end(&reset, &facts(Some(true))), died(&[DeathKind::Panic]));
        assert_eq!(end(&reset, &facts(None)), died(&[DeathKind::Reset, DeathKind::Panic]));
        assert_eq!(end(&Stop::TripleFault, &facts(Some(false))), died(&[DeathKind::TripleFault]));
    }

    #[test]
    fn a_halt_is_a_power_off_only_of_a_kernel_that_shuts_down() {
        assert_eq!(end(&Stop::PowerOff, &facts(Some(false))), died(&[DeathKind::PowerOff]));
        assert_eq!(end(&Stop::PowerOff, &facts(Some(true))), died(&[DeathKind::Panic]));
        let halted = |state| end(&Stop::Halted, &Facts { shut_down: shut_down(state), ..facts(Some(false)) });
        assert_eq!(halted(Some(SYSTEM_POWER_OFF)), died(&[DeathKind::PowerOff]));
        assert_eq!(halted(Some(SYSTEM_HALT)), died(&[DeathKind::PowerOff]));
        assert_eq!(halted(Some(3)), died(&[DeathKind::Hang]));
        for unknown in [None, Some(8), Some(u32::MAX)] {
            assert_eq!(halted(unknown), died(&[DeathKind::PowerOff, DeathKind::Hang]));
        }
    }

    #[test]
    fn a_deadline_is_a_hang_only_with_interrupts_off_and_a_panic_only_with_panic_cpu() {
        let at =
            |panicked, interrupts_off| end(&Stop::Deadline, &Facts { interrupts_off, ..facts(panicked) });
        assert_eq!(at(Some(false), Duration::ZERO), End::Aborted);
        assert_eq!(at(None, HANG / 2), End::Aborted);
        assert_eq!(at(Some(false), HANG), died(&[DeathKind::Hang]));
        assert_eq!(at(Some(true), Duration::ZERO), died(&[DeathKind::Panic]));
    }

    proptest! {
        /// Whatever the kernel's memory shows, a failure of the host or the VMM is no death.
        #[test]
        fn a_host_failure_is_never_a_death(panicked: Option<bool>, shut_down: Option<bool>, off in 0u64..1000) {
            let facts = Facts { panicked, shut_down, interrupts_off: Duration::from_secs(off) };
            let stops = [
                Stop::Agent, Stop::DebugExit(7), Stop::Interrupted, Stop::Failed("KVM exit reason 99".into()),
            ];
            for stop in stops {
                prop_assert_eq!(end(&stop, &facts), End::Aborted);
            }
        }
    }
}
