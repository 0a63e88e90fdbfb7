// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One kernel, ready to boot, and all that a report shows of it.

use crate::config::{self, Config};
use crate::spec::KernelSpec;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::PathBuf;

/// A kernel on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The name it was requested by.
    #[serde(serialize_with = "write_spec", deserialize_with = "read_spec")]
    pub spec: KernelSpec,
    /// A bzImage or a vmlinux.
    pub image: PathBuf,
    /// `uname -r`, or `unknown` if the file does not show it.
    pub release: String,
    /// The Debian package it comes from or whose source it was built from.
    pub package: Option<DebianPackage>,
    /// Of the image.
    pub image_sha256: String,
    /// Its configuration, as a file.
    pub config: Option<PathBuf>,
    /// Of the configuration.
    pub config_sha256: Option<String>,
    /// The policy for /dev/mem it was built for; Debian's own kernels have `upstream`. `None` if it is unknown.
    pub policy: Option<String>,
    /// What was applied to the source.
    pub patches: Vec<Applied>,
    /// The GNU build id. A bzImage does not show it before its vmlinux is extracted.
    pub build_id: Option<String>,
    /// Compiler and linker, if built here.
    pub toolchain: Option<String>,
    /// The words its command line needs for it to be the kernel that was requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command_line: Vec<String>,
}

/// A Debian package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebianPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A patch in a built kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Its file name.
    pub name: String,
    /// Of its text.
    pub sha256: String,
}

impl Kernel {
    /// Reads the configuration, if there is one.
    pub fn read_config(&self) -> Result<Option<Config>, config::Error> {
        self.config.as_deref().map(Config::read).transpose()
    }
}

fn write_spec<S: Serializer>(spec: &KernelSpec, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(spec)
}

fn read_spec<'de, D: Deserializer<'de>>(from: D) -> Result<KernelSpec, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}
