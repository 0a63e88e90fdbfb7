//! What is fuzzed, once for libFuzzer and once for the plain smoke test.

mod kernel_image;

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

/// All targets.
pub const TARGETS: &[Target] = &[KERNEL_IMAGE];
