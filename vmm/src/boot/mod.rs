//! What a guest finds in memory when it starts.

pub mod firmware;
pub mod flat;
pub mod image;
pub mod linux;
pub mod marker;
pub mod page_tables;
pub mod smbios;
