// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `copra kernel`: fetch, build, list, and copy source.

use guest_kernel::{Kernel, KernelSpec, Name, Recipe, Series};

use super::{Failed, kernels};
use crate::cli::{KernelArgs, KernelBuildArgs, KernelCommand};
use crate::exit::Exit;

/// Carries out a `copra kernel` command.
pub fn kernel(args: &KernelArgs, quiet: bool) -> Result<Exit, Failed> {
    match &args.command {
        KernelCommand::List => kernels::list(false)?,
        KernelCommand::Fetch(args) => {
            for spec in &args.kernels {
                let spec: KernelSpec = spec.parse().map_err(Failed::new)?;
                show(&kernels::catalogue(quiet)?.refresh(&spec).map_err(Failed::new)?);
            }
        }
        KernelCommand::Build(args) => build(args, quiet)?,
        KernelCommand::Source(args) => {
            let base: Series = args.base.parse().map_err(Failed::new)?;
            kernels::catalogue(quiet)?.source(&base, &args.dir).map_err(Failed::new)?;
        }
    }
    Ok(Exit::Success)
}

fn build(args: &KernelBuildArgs, quiet: bool) -> Result<(), Failed> {
    let catalogue = kernels::catalogue(quiet)?;
    let name: Name = args.name.parse().map_err(Failed::new)?;
    let base: Series = args.base.parse().map_err(Failed::new)?;
    let policy = args.policy.map(types::Policy::name);
    let is_predefined = Recipe::predefined(name.recipe()).is_some()
        && policy.is_none_or(|policy| policy == name.recipe())
        && args.patches.is_empty()
        && args.fragments.is_empty();
    if !is_predefined {
        let recipe =
            Recipe::new(&name, &base, policy, &args.patches, &args.fragments).map_err(Failed::new)?;
        catalogue.define(&recipe).map_err(Failed::new)?;
    }
    show(&catalogue.resolve(&KernelSpec::Build(name)).map_err(Failed::new)?);
    Ok(())
}

fn show(kernel: &Kernel) {
    outln!("{}: {}", kernel.spec, kernel.release);
    outln!("  image   {}", kernel.image.display());
    outln!("  sha256  {}", kernel.image_sha256);
    if let Some(package) = &kernel.package {
        outln!("  from    {} {}", package.name, package.version);
    }
    for patch in &kernel.patches {
        outln!("  patch   {} (sha256 {})", patch.name, patch.sha256.get(..16).unwrap_or(&patch.sha256));
    }
}
