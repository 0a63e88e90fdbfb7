// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The names users give kernels.

mod name;

pub use self::name::Name;
pub(crate) use self::name::{KUNIT, MUTANTS};
use crate::config_variant::CONFIG_VARIANTS;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Which kernel: a packaged one, one built here, a file, or a source tree.
///
/// ```
/// # use guest_kernel::KernelSpec;
/// let spec: KernelSpec = "debian:6.12".parse()?;
/// assert_eq!(spec.to_string(), "debian:6.12");
/// # Ok::<(), guest_kernel::spec::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KernelSpec {
    /// `debian:6.12`, `debian:6.12/generic`: the newest image of the series that Debian's archive has.
    Debian {
        /// The series, or an exact upstream version.
        series: Series,
        /// The package flavour.
        flavour: Flavour,
    },
    /// `path:FILE`: a bzImage or a vmlinux.
    Path(PathBuf),
    /// `build:NAME`: built here from Debian's `linux-source` and a named recipe; `build:NAME+VARIANT` with other options.
    Build(Name),
    /// `mutant:NAME`: `build:mutants` with one of its mistakes, or as one of its policies without.
    Mutant(Name),
    /// `tree:DIR`: built from a kernel source tree of the user's, as it is now.
    Tree(PathBuf),
}

impl FromStr for KernelSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::Unknown { text: text.to_owned(), hint: hint(text) };
        let (kind, rest) = text.split_once(':').ok_or_else(unknown)?;
        match kind {
            "debian" => {
                let (series, flavour) = rest.split_once('/').map_or((rest, None), |(s, f)| (s, Some(f)));
                Ok(Self::Debian {
                    series: series.parse()?,
                    flavour: flavour.map(str::parse).transpose()?.unwrap_or_default(),
                })
            }
            "path" if rest.is_empty() => Err(Error::NoPath),
            "path" => Ok(Self::Path(rest.into())),
            "build" => Ok(Self::Build(rest.parse()?)),
            "mutant" => Ok(Self::Mutant(rest.parse()?)),
            "tree" if rest.is_empty() => Err(Error::NoTree),
            "tree" => Ok(Self::Tree(rest.into())),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for KernelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian { series, flavour: Flavour::Cloud } => write!(f, "debian:{series}"),
            Self::Debian { series, flavour } => write!(f, "debian:{series}/{flavour}"),
            Self::Path(path) => write!(f, "path:{}", path.display()),
            Self::Build(name) => write!(f, "build:{name}"),
            Self::Mutant(name) => write!(f, "mutant:{name}"),
            Self::Tree(dir) => write!(f, "tree:{}", dir.display()),
        }
    }
}

fn hint(text: &str) -> String {
    if text.parse::<Series>().is_ok() {
        format!("; did you mean debian:{text}?")
    } else if Path::new(text).is_dir() {
        format!("; did you mean tree:{text}?")
    } else if Path::new(text).exists() {
        format!("; did you mean path:{text}?")
    } else if text.parse::<Name>().is_ok() {
        format!("; did you mean build:{text}?")
    } else {
        ".".to_owned()
    }
}

/// A kernel series (`6.12`) or an exact upstream version (`6.12.117`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series(String);

impl Series {
    /// The series as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Series {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let numbers: Vec<&str> = text.split('.').collect();
        let number = |n: &&str| (1..=5).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit());
        if (2..=4).contains(&numbers.len()) && numbers.iter().all(number) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::Series { text: text.to_owned() })
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A flavour of Debian's amd64 kernel packages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flavour {
    /// `linux-image-*-cloud-amd64`, the one that cloud guests run.
    #[default]
    Cloud,
    /// `linux-image-*-amd64`.
    Generic,
    /// `linux-image-*-rt-amd64`.
    Rt,
}

impl Flavour {
    const ALL: [Self; 3] = [Self::Cloud, Self::Generic, Self::Rt];

    /// What package names of this flavour end with.
    pub fn package_suffix(self) -> &'static str {
        match self {
            Self::Cloud => "-cloud-amd64",
            Self::Generic => "-amd64",
            Self::Rt => "-rt-amd64",
        }
    }

    /// Whether `package` is named like a kernel image of this flavour.
    pub fn names(self, package: &str) -> bool {
        let abi =
            package.strip_prefix("linux-image-").and_then(|rest| rest.strip_suffix(self.package_suffix()));
        abi.is_some_and(|abi| abi.starts_with(|c: char| c.is_ascii_digit()))
            && (self != Self::Generic || ![Self::Cloud, Self::Rt].iter().any(|other| other.names(package)))
    }
}

impl FromStr for Flavour {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|flavour| flavour.to_string() == text)
            .ok_or_else(|| Error::Flavour { text: text.to_owned() })
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cloud => "cloud",
            Self::Generic => "generic",
            Self::Rt => "rt",
        })
    }
}

/// A name that names no kernel.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No known prefix.
    #[error(
        "`{text}` names no kernel{hint} A kernel is debian:SERIES (debian:6.12), build:NAME (build:open-eperm), mutant:NAME, path:FILE (path:/boot/vmlinuz) or tree:DIR (tree:~/linux)"
    )]
    Unknown {
        /// What was given.
        text: String,
        /// A guess at what was meant, or the end of the sentence.
        hint: String,
    },
    /// `path:` alone.
    #[error("`path:` needs a file after the colon: path:/boot/vmlinuz")]
    NoPath,
    /// `tree:` alone.
    #[error("`tree:` needs a kernel source tree after the colon: tree:/home/me/linux")]
    NoTree,
    /// No kernel series.
    #[error(
        "`{text}` is no kernel series; write two or three numbers with dots, as in debian:6.12 or debian:6.12.117"
    )]
    Series {
        /// What was given.
        text: String,
    },
    /// No flavour.
    #[error(
        "`{text}` is no flavour of Debian's kernels; use cloud, generic or rt, as in debian:6.12/generic"
    )]
    Flavour {
        /// What was given.
        text: String,
    },
    /// No name for a built kernel.
    #[error(
        "`{text}` cannot name a built kernel; use up to 40 lower-case letters, digits, `-`, `.` and `_`, beginning with a letter or digit"
    )]
    Name {
        /// What was given.
        text: String,
    },
    /// No such variant.
    #[error("`{unknown}` in `{text}` is no config variant; known: {}", CONFIG_VARIANTS.each_ref().map(|known| known.name).join(", "))]
    ConfigVariant {
        /// What was given.
        text: String,
        /// The part that is wrong.
        unknown: String,
    },
    /// The same variant again.
    #[error("`{text}` names `{variant}` twice; once is enough")]
    RepeatedVariant {
        /// What was given.
        text: String,
        /// The variant.
        variant: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_kind() {
        let debian = |series: &str, flavour| KernelSpec::Debian { series: series.parse().unwrap(), flavour };
        for (text, spec) in [
            ("debian:6.12", debian("6.12", Flavour::Cloud)),
            ("debian:6.12.117", debian("6.12.117", Flavour::Cloud)),
            ("debian:7.2/generic", debian("7.2", Flavour::Generic)),
            ("build:open-eperm", KernelSpec::Build("open-eperm".parse().unwrap())),
            ("build:open-eperm+strict-off", KernelSpec::Build("open-eperm+strict-off".parse().unwrap())),
            ("mutant:range-short", KernelSpec::Mutant("range-short".parse().unwrap())),
            ("path:/boot/vm:linuz", KernelSpec::Path("/boot/vm:linuz".into())),
            ("tree:../linux", KernelSpec::Tree("../linux".into())),
        ] {
            assert_eq!(text.parse(), Ok(spec.clone()));
            assert_eq!(spec.to_string(), text);
        }
    }

    #[test]
    fn guesses_what_was_meant() {
        let message = |text: &str| text.parse::<KernelSpec>().unwrap_err().to_string();
        assert!(message("6.12").contains("did you mean debian:6.12?"));
        assert!(message("open-eperm").contains("did you mean build:open-eperm?"));
        assert!(message("/dev/null").contains("did you mean path:/dev/null?"));
        assert!(message("/dev").contains("did you mean tree:/dev?"));
        assert!(message("upstream+port-off").contains("did you mean build:upstream+port-off?"));
        assert!(message("ubuntu:24").contains("names no kernel"));
        assert!(message("debian:").contains("no kernel series"));
        assert!(message("debian:6.12/arm").contains("no flavour"));
        assert!(message("build:../x").contains("cannot name"));
        assert!(message("path:").contains("needs a file"));
        assert!(message("tree:").contains("needs a kernel source tree"));
        assert!(message("mutant:").contains("cannot name"));
        let unknown = message("build:upstream+port-off+nope");
        assert_eq!(
            unknown,
            "`nope` in `upstream+port-off+nope` is no config variant; known: strict-off, io-strict-off, port-off, virtio"
        );
        assert!(message("build:upstream+").contains("no config variant"));
        assert!(message("build:+port-off").contains("cannot name"));
        assert!(message("build:x+port-off+port-off").ends_with("twice; once is enough"));
    }

    #[test]
    fn variants_have_one_order() {
        let name: Name = "x+port-off+strict-off".parse().unwrap();
        assert_eq!(name.as_str(), "x+strict-off+port-off");
        assert_eq!(name.recipe(), "x");
        assert_eq!(name.variants().collect::<Vec<_>>(), ["strict-off", "port-off"]);
    }

    #[test]
    fn distinguishes_flavours() {
        let cloud = "linux-image-6.12.117+deb12-cloud-amd64";
        let generic = "linux-image-6.12.117+deb12-amd64";
        assert!(Flavour::Cloud.names(cloud) && !Flavour::Cloud.names(generic));
        assert!(Flavour::Generic.names(generic) && !Flavour::Generic.names(cloud));
        assert!(Flavour::Rt.names("linux-image-6.1.0-50-rt-amd64"));
        for other in
            ["linux-image-cloud-amd64", "linux-image-6.12.117+deb12-cloud-amd64-unsigned", "linux-image-"]
        {
            assert!(!Flavour::ALL.iter().any(|flavour| flavour.names(other)), "{other}");
        }
    }

    proptest! {
        #[test]
        fn display_and_parse_agree(text in "(debian:[0-9]{1,2}\\.[0-9]{1,3}(/(generic|rt))?|(build|mutant):[a-z0-9][a-z0-9._-]{0,10}(\\+strict-off)?(\\+port-off)?|build:[a-z0-9][a-z0-9._-]{0,39}|(path|tree):\\PC+)") {
            prop_assert_eq!(text.parse::<KernelSpec>().unwrap().to_string(), text);
        }

        #[test]
        fn any_order_of_variants_is_the_same_kernel(variants in Just(CONFIG_VARIANTS.iter().map(|c| c.name).collect::<Vec<_>>()).prop_shuffle(), count in 0usize..3) {
            let name: Name = std::iter::once("x").chain(variants.into_iter().take(count)).collect::<Vec<_>>().join("+").parse().unwrap();
            prop_assert_eq!(name.as_str().parse::<Name>().unwrap(), name.clone());
            prop_assert_eq!(name.variants().count(), count);
            let places: Vec<_> = name.variants().map(|c| CONFIG_VARIANTS.iter().position(|known| known.name == c)).collect();
            prop_assert!(places.is_sorted());
        }

        #[test]
        fn almost_specs_are_specs_or_errors(text in "(debian|build|mutant|tree|path)?:?[a-z0-9.+/_-]{0,12}(\\+(strict|io-strict|port)(-off)?){0,3}") {
            match text.parse::<KernelSpec>() {
                Ok(spec) => prop_assert_eq!(spec.to_string().parse::<KernelSpec>(), Ok(spec)),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }

        #[test]
        fn any_text_is_a_spec_or_an_error(text in "\\PC*") {
            if let Err(error) = text.parse::<KernelSpec>() {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
