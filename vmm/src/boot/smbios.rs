// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SMBIOS tables: the DMTF's System Management BIOS Reference Specification (DSP0134). Version 2.8, whose entry point
//! every kernel and dmidecode looks for between 0xF0000 and 0xFFFFF.

use zerocopy::{Immutable, IntoBytes};

use self::memory::{BootInformation, EndOfTable, MemoryArray, MemoryDevice, MemoryMapping};
use self::structures::{Bios, Chassis, EntryPoint, Processor, System};

mod memory;
mod structures;
#[cfg(test)]
mod tests;

/// SMBIOS 2.8: the last version before 64-bit addresses.
const VERSION: (u8, u8) = (2, 8);
/// §6.1.3: strings longer than this belong to version 3.
const MAX_STRING: usize = 64;
/// "copra" and nothing more, in the form of a version 8 UUID.
const UUID: u128 = 0x636f_7072_6100_8000_8000_0000_0000_0001;
/// Who made all this.
const MANUFACTURER: &str = "copra";

/// What the tables describe.
#[derive(Debug, Clone, Copy)]
pub struct Params<'a> {
    /// The simulated platform; "none" if none is.
    pub platform: &'a str,
    /// Guest physical address of the structure table.
    pub table_address: u32,
    /// Size of RAM in MiB.
    pub ram_mib: u32,
}

/// The tables, ready to be written to guest memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smbios {
    /// Belongs at a multiple of 16 between 0xF0000 and 0xFFFFF.
    pub entry_point: Vec<u8>,
    /// Belongs at [`Params::table_address`].
    pub table: Vec<u8>,
}

/// Builds entry point and structures.
pub fn build(params: &Params<'_>) -> Smbios {
    let product = match params.platform {
        "none" => "guest without memory encryption".to_owned(),
        platform => format!("simulated {} guest", platform.to_uppercase()),
    };
    let ram_kib = u64::from(params.ram_mib) << 10;
    let mut table = Table::default();
    table.push(&Bios::new(), &[MANUFACTURER, env!("CARGO_PKG_VERSION"), "01/01/2026"]);
    table.push(&System::new(UUID), &[MANUFACTURER, &product, "1"]);
    table.push(&Chassis::new(), &[MANUFACTURER]);
    table.push(&Processor::new(), &["CPU 0", MANUFACTURER, "KVM"]);
    table.push(&MemoryArray::new(ram_kib), &[]);
    table.push(&MemoryDevice::new(params.ram_mib), &["DIMM 0", MANUFACTURER]);
    table.push(&MemoryMapping::new(ram_kib), &[]);
    table.push(&BootInformation::new(), &[]);
    table.push(&EndOfTable::new(), &[]);
    let entry_point = EntryPoint::new(
        VERSION,
        table.largest as u16,
        table.bytes.len() as u16,
        params.table_address,
        table.count,
    );
    Smbios { entry_point: entry_point.as_bytes().to_vec(), table: table.bytes }
}

/// The structure table while it grows.
#[derive(Default)]
struct Table {
    bytes: Vec<u8>,
    count: u16,
    largest: usize,
}

impl Table {
    /// §6.1.3: the formatted part, then its strings, each with a NUL, and another NUL; two if there is no string.
    fn push(&mut self, formatted: &(impl IntoBytes + Immutable), strings: &[&str]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(formatted.as_bytes());
        for string in strings {
            let clean = string.bytes().filter(|b| b.is_ascii_graphic() || *b == b' ').take(MAX_STRING);
            let before = self.bytes.len();
            self.bytes.extend(clean);
            if self.bytes.len() == before {
                // An empty string would end the list.
                self.bytes.push(b'?');
            }
            self.bytes.push(0);
        }
        let ending: &[u8] = if strings.is_empty() { &[0, 0] } else { &[0] };
        self.bytes.extend_from_slice(ending);
        self.count += 1;
        self.largest = self.largest.max(self.bytes.len() - start);
    }
}
