// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cases, the guests they run in, and their results.
//!
//! Data flows one way: a case (`case`, `library`) is run in a guest (`run`, `session`, `runner`), which gives observations
//! (`observation`); these are compared with what the case states (`judge`) and become a report (`report`). `audit`,
//! `explore`, `identify` and `matrix` make cases of their own, and so does `suite` of the output (`ktap`) of other test suites.
//! `spec` needs no guest: it is the model's answers as tables.

pub mod audit;
pub mod boot;
pub mod boot_audit;
pub mod calls;
pub mod case;
pub mod diff;
pub mod exec;
pub mod explore;
pub mod gdb;
pub mod guest;
pub mod identify;
pub mod judge;
pub mod kexec;
pub mod ktap;
pub mod layouts;
pub mod library;
pub mod matrix;
pub mod merge;
pub mod observation;
pub mod place;
pub mod random;
pub mod refusals;
pub mod report;
pub mod requirements;
pub mod run;
pub mod runner;
pub mod session;
pub mod setup;
pub mod spec;
pub mod suite;
pub mod timeline;
