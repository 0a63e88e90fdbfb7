// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operations and guests of all kinds.

use super::*;

pub fn addresses() -> impl Strategy<Value = u64> {
    let edges =
        vec![0, 0x1000, 0x9_fc00, 0xa_0000, 0xf_0000, 0x10_0000, 0x1bfe_0000, 0x1bff_0000, 0xe000_0000];
    let far = vec![0xe100_0000, 1 << 32, 0x1_0400_0000, 0x20_0000_0000, 1 << BIT, 1 << 40, 1 << 63, u64::MAX];
    let near = prop::sample::select([edges, far].concat());
    prop_oneof![(near, -9000_i64..9000).prop_map(|(at, by)| at.wrapping_add_signed(by)), any::<u64>()]
}

pub fn buffers() -> impl Strategy<Value = Buffer> {
    prop::sample::select(Buffer::ALL)
}

pub fn lengths() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..20_000, any::<u64>()]
}

pub fn ops() -> impl Strategy<Value = Op> {
    let data = || prop::collection::vec(any::<u8>(), 0..9000);
    let through = prop::sample::select(vec![
        Through::ProcMem(Via::Itself),
        Through::ProcessVm(Via::Itself),
        Through::ProcMem(Via::Child),
    ]);
    let small = 0_u64..20_000;
    let nodes = prop_oneof![
        8 => Just(Node::Mem),
        4 => prop::sample::select(vec![Node::Port, Node::Kcore, Node::Bar, Node::Config]),
    ];
    prop_oneof![
        (0_u8..3, nodes, 0_i32..4, any::<bool>()).prop_map(|(file, node, mode, sync)| Op::Open {
            file,
            node,
            flags: mode | if sync { libc::O_SYNC } else { 0 }
        }),
        (0_u8..3, any::<i64>(), 0_u8..6).prop_map(|(file, offset, whence)| Op::Lseek {
            file,
            offset,
            whence
        }),
        (0_u8..3, prop::option::of(addresses()), 0_u64..20_000, buffers())
            .prop_map(|(file, at, len, buffer)| Op::Read { file, at, len, buffer }),
        (0_u8..3, prop::option::of(addresses()), data(), buffers())
            .prop_map(|(file, at, data, buffer)| Op::Write { file, at, data, buffer }),
        (0_u8..3, 0_u8..3, addresses(), 0_u64..40_000, 0_u32..4, 0_u32..4).prop_map(
            |(map, file, at, len, prot, flags)| {
                Op::Mmap { map, file, offset: at & !(PAGE - 1), len, prot, flags }
            }
        ),
        (0_u8..3).prop_map(|map| Op::Munmap { map }),
        (0_u8..3, 0_u8..3, addresses(), 1_u64..20_000, 0_u32..8).prop_map(|(map, over, at, len, prot)| {
            Op::MmapOver { map, over, file: 0, offset: at & !(PAGE - 1), len, prot, flags: 1 + (prot & 1) }
        }),
        (0_u8..3, 0_u64..4, 0_u64..20_000, 0_u32..8).prop_map(|(map, page, len, prot)| Op::Mprotect {
            map,
            offset: page * PAGE,
            len,
            prot
        }),
        (0_u8..3, 0_u8..3, 0_u64..20_000).prop_map(|(map, to, len)| Op::Mremap { map, to, len }),
        prop::sample::select(vec![Op::Fork, Op::Exit, Op::Exec, Op::UserNamespace, Op::NoNewPrivs]),
        (0_u8..3).prop_map(|file| Op::SendFile { file }),
        (0_u8..3).prop_map(|file| Op::ReceiveFile { file }),
        (0_u32..5000, 0_u32..5000).prop_map(|(from, len)| Op::Left { from, len }),
        (0_u8..3, small.clone(), 0_u32..64).prop_map(|(map, offset, len)| Op::Load {
            map,
            offset,
            len,
            width: Width::Byte
        }),
        (0_u8..3, small.clone(), prop::collection::vec(any::<u8>(), 0..64))
            .prop_map(|(map, offset, data)| Op::Store { map, offset, data, width: Width::Byte }),
        (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(from, count, on)| Op::Ioperm {
            from,
            count,
            on
        }),
        any::<u8>().prop_map(|level| Op::Iopl { level }),
        any::<u16>().prop_map(|port| Op::PortIn { port, width: Width::Word }),
        (through, 0_u8..3, small, 0_u32..9000).prop_map(|(through, map, offset, len)| Op::Fetch {
            through,
            map,
            offset,
            len
        }),
    ]
}

pub fn worlds() -> impl Strategy<Value = World> {
    let releases = prop::sample::select(vec![(6, 1), (6, 12), (7, 3)]);
    let platforms = prop::sample::select(Platform::ALL);
    (platforms, prop::sample::select(Policy::ALL), releases, any::<[bool; 3]>()).prop_map(
        |(platform, policy, (major, minor), [strict, io_strict, pat])| {
            let mut world = world(platform, policy);
            world.release = Release { major, minor };
            world.config = KernelConfig { strict, io_strict, pat, ..world.config };
            world
        },
    )
}
