// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PID 1 of a guest under test: executes the steps the runner sends over the second serial port.
//!
//! [`supervisor`] talks to the host and watches a forked [`worker`], which executes the [`steps`]. Test runs give it a
//! connected socket instead of a serial port: `agent --fd N`.
#![no_std]
#![no_main]

mod boot;
mod carry;
mod child;
mod command;
mod entry;
mod guard;
mod program;
mod runtime;
mod serial;
mod steps;
mod supervisor;
mod syscall;
mod window;
mod worker;
