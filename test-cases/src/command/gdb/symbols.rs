// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The file from which gdb has the kernel's symbols.

use std::fs;
use std::path::{Path, PathBuf};

use guest_kernel::KernelSpec;

use crate::cli::GdbArgs;
use crate::command::kernels::Found;
use crate::command::{Failed, host};

/// A file for gdb.
#[derive(Debug)]
pub struct SymbolFile(Option<PathBuf>);

impl SymbolFile {
    /// What gdb is started with.
    pub fn arguments(&self) -> String {
        let Some(path) = &self.0 else { return "-ex 'set architecture i386:x86-64'".to_owned() };
        let path = path.display().to_string();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,".contains(c);
        if path.chars().all(is_plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
    }
}

/// Finds or writes it. A source tree has its vmlinux, with types and lines; it runs at the addresses it was linked for.
pub fn find(args: &GdbArgs, found: &Found) -> Result<SymbolFile, Failed> {
    if args.symbols.is_none()
        && let Ok(KernelSpec::Tree(folder)) = args.options.guest.kernel.parse()
    {
        let vmlinux = Path::new(&folder).join("vmlinux");
        if vmlinux.is_file() {
            return Ok(SymbolFile(Some(vmlinux)));
        }
    }
    let path = match &args.symbols {
        Some(path) => path.clone(),
        None => host::cache_folder().join("gdb").join(format!("{}.elf", found.image.sha256)),
    };
    let names = found.image.names();
    let Some(symbols) = names.symbols().filter(|symbols| !symbols.is_empty()) else {
        eprintln!(
            "copra: {} has no symbols that copra can read (CONFIG_KALLSYMS)",
            args.options.guest.kernel
        );
        return Ok(SymbolFile(None));
    };
    let bytes = engine::gdb::symbols::write(symbols).map_err(Failed::new)?;
    let failed = |error| Failed::new(format!("writing symbols for gdb to {}: {error}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let staged = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    fs::write(staged.path(), bytes).map_err(failed)?;
    staged.persist(&path).map_err(|error| failed(error.error))?;
    Ok(SymbolFile(Some(path)))
}
