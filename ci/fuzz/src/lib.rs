// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is fuzzed, once for libFuzzer and once for the plain smoke test.

mod agent_frame;
mod bench;
mod case_file;
mod dma_probe;
mod kernel_image;
mod page_states;
mod program_output;
mod saved_guest;
mod stored_kernel;
mod suite_output;
mod tdcall;
mod vbs_hypercall;
mod virtio;
mod vmgexit;

/// One parser of untrusted bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, that of its libFuzzer binary and of its corpus folder too.
    pub name: &'static str,
    /// Feeds it. Panics if anything is wrong.
    pub run: fn(&[u8]),
    /// Good inputs to start from, each with a name.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
}

/// Kernel files.
pub const KERNEL_IMAGE: Target =
    Target { name: "kernel_image", run: kernel_image::run, seeds: kernel_image::seeds };

/// Case files.
pub const CASE_FILE: Target = Target { name: "case_file", run: case_file::run, seeds: case_file::seeds };

/// What a guest writes to its agent's port.
pub const AGENT_FRAME: Target =
    Target { name: "agent_frame", run: agent_frame::run, seeds: agent_frame::seeds };

/// What is kept in the cache about a kernel.
pub const STORED_KERNEL: Target =
    Target { name: "stored_kernel", run: stored_kernel::run, seeds: stored_kernel::seeds };

/// A guest that was saved.
pub const SAVED_GUEST: Target =
    Target { name: "saved_guest", run: saved_guest::run, seeds: saved_guest::seeds };

/// Calls of a TD to the TDX module and the hypervisor behind it.
pub const TDCALL: Target = Target { name: "tdcall", run: tdcall::run, seeds: tdcall::seeds };

/// Hypercalls of a VBS guest to Hyper-V.
pub const VBS_HYPERCALL: Target =
    Target { name: "vbs_hypercall", run: vbs_hypercall::run, seeds: vbs_hypercall::seeds };

/// What may happen to the pages of a guest with two contents.
pub const PAGE_STATES: Target =
    Target { name: "page_states", run: page_states::run, seeds: page_states::seeds };

/// Requests of an SNP guest to its firmware and the hypervisor.
pub const VMGEXIT: Target = Target { name: "vmgexit", run: vmgexit::run, seeds: vmgexit::seeds };

/// Output of programs in a guest.
pub const PROGRAM_OUTPUT: Target =
    Target { name: "program_output", run: program_output::run, seeds: program_output::seeds };

/// Output of test suites.
pub const SUITE_OUTPUT: Target =
    Target { name: "suite_output", run: suite_output::run, seeds: suite_output::seeds };

/// Registers, rings and requests of virtio devices.
pub const VIRTIO: Target = Target { name: "virtio", run: virtio::run, seeds: virtio::seeds };

/// Registers of the device that tests a kernel's DMA API.
pub const DMA_PROBE: Target = Target { name: "dma_probe", run: dma_probe::run, seeds: dma_probe::seeds };

/// All targets.
pub const TARGETS: &[Target] = &[
    KERNEL_IMAGE,
    STORED_KERNEL,
    SAVED_GUEST,
    CASE_FILE,
    AGENT_FRAME,
    TDCALL,
    VBS_HYPERCALL,
    VMGEXIT,
    PAGE_STATES,
    PROGRAM_OUTPUT,
    SUITE_OUTPUT,
    VIRTIO,
    DMA_PROBE,
];
