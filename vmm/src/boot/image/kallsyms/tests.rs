// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables as scripts/kallsyms.c writes them, in all orders that kernels have had.

use std::borrow::Cow;

use proptest::prelude::*;

use crate::boot::image::{ElfFacts, Segment, Vmlinux, synth};

/// Where the image is linked to.
const BASE: u64 = 0xffff_ffff_8100_0000;
/// How large it is in memory.
const SIZE: u64 = 0x100_0000;
/// What the bytes that are no character represent.
const TOKENS: [(u8, &str); 3] = [(0x01, "Tsys_"), (0x80, "_read"), (0xff, "copy_from_")];

/// Which tables come in what order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Until 6.1.
    Offsets,
    /// 6.2, 6.3, and 6.1 as maintained.
    OffsetsAndSeqs,
    /// Since 6.4.
    NamesFirst,
    /// The same, each table aligned to 4 bytes, as in 7.3.
    NamesFirstBy4,
}

/// What the offsets count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    AbsolutePercpu,
    Relative,
    Place,
}

const KINDS: [(Order, Encoding); 8] = [
    (Order::Offsets, Encoding::AbsolutePercpu),
    (Order::Offsets, Encoding::Relative),
    (Order::OffsetsAndSeqs, Encoding::AbsolutePercpu),
    (Order::OffsetsAndSeqs, Encoding::Relative),
    (Order::NamesFirst, Encoding::AbsolutePercpu),
    (Order::NamesFirst, Encoding::Relative),
    (Order::NamesFirst, Encoding::Place),
    (Order::NamesFirstBy4, Encoding::Place),
];

type Symbols = Vec<(u64, String)>;

/// Some symbols, with their types, by address; two of them per-CPU if the layout allows it.
fn some_symbols(count: u64, encoding: Encoding) -> Symbols {
    let mut symbols = vec![];
    if encoding == Encoding::AbsolutePercpu {
        symbols.extend([(0, "Dfixed_percpu_data".to_owned()), (0x35000, "Dpcpu_hot".to_owned())]);
    }
    symbols.push((BASE, "T_stext".to_owned()));
    symbols.extend((1..count).map(|i| (BASE + i * 0x10, format!("Tsys_{i}_read"))));
    symbols.push((BASE + count * 0x10, format!("tcopy_from_{}", "x".repeat(300))));
    symbols.push((BASE + SIZE, "B_end".to_owned()));
    symbols
}

fn align_to(data: &mut Vec<u8>, align: usize) {
    data.resize(data.len().next_multiple_of(align), 0);
}

fn token(code: u8) -> String {
    let character = (b'!'..=b'~').contains(&code).then(|| char::from(code).to_string());
    let special = || TOKENS.iter().find(|(c, _)| *c == code).map(|(_, text)| (*text).to_owned());
    character.or_else(special).unwrap_or_default()
}

fn compress(name: &str) -> Vec<u8> {
    let mut rest = name;
    let mut out = vec![];
    while let Some(&first) = rest.as_bytes().first() {
        let (code, length) =
            TOKENS.iter().find(|(_, t)| rest.starts_with(t)).map_or((first, 1), |(code, t)| (*code, t.len()));
        out.push(code);
        rest = &rest[length..];
    }
    let length = out.len();
    let mut with_length =
        if length < 0x80 { vec![length as u8] } else { vec![length as u8 | 0x80, (length >> 7) as u8] };
    with_length.append(&mut out);
    with_length
}

fn offsets(data: &mut Vec<u8>, symbols: &Symbols, encoding: Encoding, by: usize) {
    align_to(data, by);
    for (address, _) in symbols {
        let offset = match encoding {
            Encoding::AbsolutePercpu if *address < BASE => *address,
            Encoding::AbsolutePercpu => BASE.wrapping_sub(*address).wrapping_sub(1),
            Encoding::Relative => address - BASE,
            Encoding::Place => address.wrapping_sub(BASE + data.len() as u64),
        };
        data.extend((offset as u32).to_le_bytes());
    }
    align_to(data, by);
    if encoding != Encoding::Place {
        data.extend(BASE.to_le_bytes());
    }
}

/// The tables, behind and before something else.
fn tables(symbols: &Symbols, order: Order, encoding: Encoding) -> Vec<u8> {
    let by = if order == Order::NamesFirstBy4 { 4 } else { 8 };
    let align = |data: &mut Vec<u8>| align_to(data, by);
    let names_first = matches!(order, Order::NamesFirst | Order::NamesFirstBy4);
    // Something like the tokens, as UTF-16 tables have it.
    let mut data: Vec<u8> = (0..=0x7f_u8).flat_map(|c| [c, 0]).chain([0xcc; 64]).collect();
    if !names_first {
        offsets(&mut data, symbols, encoding, by);
    }
    align(&mut data);
    data.extend((symbols.len() as u32).to_le_bytes());
    align(&mut data);
    let names = data.len();
    let mut markers = vec![];
    for (number, (_, name)) in symbols.iter().enumerate() {
        if number % 256 == 0 {
            markers.push((data.len() - names) as u32);
        }
        data.extend(compress(name));
    }
    align(&mut data);
    data.extend(markers.iter().flat_map(|m| m.to_le_bytes()));
    align(&mut data);
    if order == Order::OffsetsAndSeqs {
        data.extend((0..symbols.len() as u32).rev().flat_map(|seq| seq.to_be_bytes()[1..].to_vec()));
        align(&mut data);
    }
    let table = data.len();
    let mut index = vec![];
    for code in 0..=255 {
        index.extend(((data.len() - table) as u16).to_le_bytes());
        data.extend(token(code).as_bytes());
        data.push(0);
    }
    align(&mut data);
    data.append(&mut index);
    if names_first {
        offsets(&mut data, symbols, encoding, by);
    }
    align(&mut data);
    data.extend([0xab; 40]);
    data
}

fn kernel(data: Vec<u8>) -> Vmlinux<'static> {
    let segment = Segment {
        offset: 0,
        vaddr: BASE,
        paddr: 0x100_0000,
        filesz: data.len() as u64,
        memsz: SIZE,
        executable: true,
        writable: false,
    };
    let facts = ElfFacts { entry: 0x100_0000, segments: vec![segment], build_id: None };
    Vmlinux { elf: Cow::Owned(data), facts, bzimage: None }
}

#[test]
fn all_orders_are_read() {
    for (order, encoding) in KINDS {
        // Numbers around those at which alignment leaves a gap, or a marker comes.
        for count in [260, 261, 508, 509, 510, 511, 765, 766, 1000, 3000] {
            let symbols = some_symbols(count, encoding);
            let found = kernel(tables(&symbols, order, encoding)).kallsyms();
            let found = found.unwrap_or_else(|| panic!("{order:?}, {encoding:?}, {count}"));
            assert_eq!(found.len(), symbols.len());
            for (address, name) in &symbols {
                assert_eq!(found.address_of(&name[1..]), Some(*address), "{order:?}, {encoding:?}");
            }
            assert_eq!(found.resolve(BASE + 0x25).unwrap().to_string(), "sys_2_read+0x5");
            assert_eq!(found.next_after(BASE), Some(BASE + 0x10));
            assert_eq!(found.next_after(BASE + SIZE), None);
        }
    }
}

#[test]
fn an_address_beside_the_image_has_no_name() {
    let symbols = some_symbols(600, Encoding::AbsolutePercpu);
    let found = kernel(tables(&symbols, Order::NamesFirst, Encoding::AbsolutePercpu)).kallsyms().unwrap();
    // A copy of code in an identity mapping, per-CPU offsets, the direct map, a module.
    for address in [0x1_03f5_8070, 0x35010, 0, 0xffff_8881_0000_0000, BASE - 1, BASE + SIZE + 0x10, u64::MAX]
    {
        assert_eq!(found.resolve(address), None, "{address:#x}");
    }
    assert_eq!(found.resolve(BASE + 4).unwrap().to_string(), "_stext+0x4");
}

#[test]
fn what_contradicts_itself_is_not_accepted() {
    let symbols = some_symbols(600, Encoding::Relative);
    let good = tables(&symbols, Order::NamesFirst, Encoding::Relative);
    assert!(kernel(good.clone()).kallsyms().is_some());
    let base = good.windows(8).rposition(|w| w == BASE.to_le_bytes()).unwrap();
    // The base, an offset, and the number of symbols.
    for (at, bytes) in [(base, [0xff; 4]), (base - 8, [0; 4]), (320, 0_u32.to_le_bytes())] {
        let mut bad = good.clone();
        bad[at..at + 4].copy_from_slice(&bytes);
        assert!(kernel(bad).kallsyms().is_none(), "{at:#x}");
    }
    for length in (0..good.len() - 48).step_by(7) {
        assert!(kernel(good[..length].to_vec()).kallsyms().is_none(), "{length:#x}");
    }
    assert!(kernel(vec![0; 1 << 20]).kallsyms().is_none());
}

#[test]
fn the_files_symbols_come_first() {
    let file = synth::elf();
    let with_symbols = crate::boot::image::extract_vmlinux(&file).unwrap();
    assert!(with_symbols.kallsyms().is_none());
    assert!(with_symbols.symbol_table().unwrap().address_of("startup_64").is_some());

    let symbols = some_symbols(300, Encoding::Relative);
    let mut stripped = kernel(tables(&symbols, Order::NamesFirst, Encoding::Relative));
    assert!(stripped.symbol_table().unwrap().address_of("_stext").is_some());
    stripped.facts.segments.clear();
    assert!(stripped.symbol_table().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_tables_never_panic(
        kind in prop::sample::select(&KINDS[..]),
        count in 300_u64..900,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut data = tables(&some_symbols(count, kind.1), kind.0, kind.1);
        for (index, value) in changes {
            let at = index.index(data.len());
            data[at] = value;
        }
        if is_cut {
            data.truncate(cut.index(data.len()));
        }
        if let Some(symbols) = kernel(data).kallsyms() {
            symbols.resolve(BASE);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..4000)) {
        kernel(data).kallsyms();
    }

    #[test]
    fn any_names_survive(
        names in prop::collection::vec("[a-zA-Z_.$][a-zA-Z0-9_.]{1,200}", 257..600),
        kind in prop::sample::select(&KINDS[..]),
    ) {
        let addresses = (0_u64..).map(|i| BASE + 0x30 * (i / 3));
        let symbols: Symbols = addresses.zip(names).map(|(a, name)| (a, format!("t{name}"))).collect();
        let found = kernel(tables(&symbols, kind.0, kind.1)).kallsyms();
        let found = found.ok_or_else(|| TestCaseError::fail("not found"))?;
        for (_, name) in symbols.iter().filter(|(_, name)| !name[1..].starts_with(".L")) {
            let lowest = symbols.iter().find(|(_, n)| n == name).map(|(a, _)| *a);
            prop_assert_eq!(found.address_of(&name[1..]), lowest);
        }
    }
}
