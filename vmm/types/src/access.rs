// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accesses to guest memory.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::names::named;
use crate::{PageState, View};

named! {
    /// What an access does.
    pub enum AccessKind ("access") {
        Read = "read", "a load";
        Write = "write", "a store, or a read-modify-write";
        Fetch = "fetch", "an instruction fetch";
    }
}

named! {
    /// A forbidden access, by view and kind.
    pub enum EventKind ("event") {
        SharedRead = "shared-read", "a read through the shared view of a page that is private";
        SharedWrite = "shared-write", "a write through the shared view to a page that is private";
        SharedFetch = "shared-fetch", "an instruction fetch through the shared view of a page that is private";
        PrivateRead = "private-read", "a read through the private view of a page that is shared or not accepted";
        PrivateWrite = "private-write", "a write through the private view to a page that is shared or not accepted";
        PrivateFetch = "private-fetch", "a fetch through the private view of a page that is shared or not accepted";
    }
}

impl EventKind {
    /// An access of this kind through this view.
    pub const fn of(view: View, kind: AccessKind) -> Self {
        match (view, kind) {
            (View::Shared, AccessKind::Read) => Self::SharedRead,
            (View::Shared, AccessKind::Write) => Self::SharedWrite,
            (View::Shared, AccessKind::Fetch) => Self::SharedFetch,
            (View::Private, AccessKind::Read) => Self::PrivateRead,
            (View::Private, AccessKind::Write) => Self::PrivateWrite,
            (View::Private, AccessKind::Fetch) => Self::PrivateFetch,
        }
    }

    /// The view it goes through.
    pub const fn view(self) -> View {
        match self {
            Self::SharedRead | Self::SharedWrite | Self::SharedFetch => View::Shared,
            Self::PrivateRead | Self::PrivateWrite | Self::PrivateFetch => View::Private,
        }
    }

    /// What the access does.
    pub const fn access(self) -> AccessKind {
        match self {
            Self::SharedRead | Self::PrivateRead => AccessKind::Read,
            Self::SharedWrite | Self::PrivateWrite => AccessKind::Write,
            Self::SharedFetch | Self::PrivateFetch => AccessKind::Fetch,
        }
    }
}

/// Name of a page whose conversion to private was refused.
const REFUSED: &str = "shared-refused";

/// What an access is made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccessTarget {
    /// RAM, in a page of this state.
    Page(PageState),
    /// RAM, in a shared page whose conversion to private was refused: the guest must not use it again.
    Refused,
    /// No RAM: a device answers.
    Device,
}

impl fmt::Display for AccessTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page(state) => state.fmt(f),
            Self::Refused => f.pad(REFUSED),
            Self::Device => f.pad("device"),
        }
    }
}

impl Serialize for AccessTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::str::FromStr for AccessTarget {
    type Err = crate::names::UnknownName;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        match given {
            "device" => Ok(Self::Device),
            REFUSED => Ok(Self::Refused),
            state => state.parse().map(Self::Page),
        }
    }
}

impl<'de> Deserialize<'de> for AccessTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::json::read_name(deserializer)
    }
}
