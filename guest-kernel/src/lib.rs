// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels under test, and the agent that runs inside them.

pub mod agent;
pub mod initramfs;

mod apt;
pub mod bounded;
mod builder;
pub mod cache;
mod catalogue;
mod checkout;
mod command;
pub mod config;
mod config_variant;
mod debian;
mod image;
mod kernel;
mod make;
pub mod modules;
pub mod mutants;
pub mod packages;
mod piece;
pub mod programs;
mod progress;
mod recipe;
mod source;
pub mod spec;
mod store;
mod tools;
mod version;

pub use builder::remove_leftovers;
pub use cache::{Cache, Scratch};
pub use catalogue::{Catalogue, CatalogueEntry, Error};
pub use config::Config;
pub use config_variant::{CONFIG_VARIANTS, ConfigVariant};
pub use image::{Format, Image};
pub use kernel::{Applied, DebianPackage, Kernel};
pub use mutants::{Mutant, mutant_number, mutants};
pub use programs::Programs;
pub use progress::{Amount, Progress, Silent, Unit};
pub use recipe::{BASES, Base, POLICIES, PolicyRecipe, Recipe};
pub use spec::{Flavour, KernelSpec, Name, Series};
