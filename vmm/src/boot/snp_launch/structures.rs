// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The layouts of `arch/x86/include/asm/sev.h` and `arch/x86/coco/sev/shared.c`, under Linux' names.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::VMPCK_SIZE;

/// `struct cc_blob_sev_info`; EDK II, `OvmfPkg/Include/Guid/ConfidentialComputingSevSnpBlob.h`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct CcBlob {
    pub magic: U32,
    pub version: U16,
    pub reserved: U16,
    pub secrets_phys: U64,
    pub secrets_len: U32,
    pub rsvd1: U32,
    pub cpuid_phys: U64,
    pub cpuid_len: U32,
    pub rsvd2: U32,
}

const _: () = {
    assert!(offset_of!(CcBlob, cpuid_phys) == 24);
    assert!(size_of::<CcBlob>() == 40);
};

/// `struct snp_cpuid_table` (firmware ABI 0.9 §8.14.2.6); the entries follow.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct CpuidTable {
    pub count: U32,
    pub reserved1: U32,
    pub reserved2: U64,
}

const _: () = assert!(size_of::<CpuidTable>() == 16);

/// `struct snp_cpuid_fn` (firmware ABI 0.9 §7.1).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct CpuidFunction {
    pub eax_in: U32,
    pub ecx_in: U32,
    pub xcr0_in: U64,
    pub xss_in: U64,
    pub eax: U32,
    pub ebx: U32,
    pub ecx: U32,
    pub edx: U32,
    pub reserved: U64,
}

const _: () = assert!(size_of::<CpuidFunction>() == 48);

/// `struct secrets_os_area` (GHCB specification, "Secrets Page Layout").
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct OsArea {
    pub msg_seqno: [U32; 4],
    pub ap_jump_table_pa: U64,
    pub reserved: [u8; 40],
    pub guest_usage: [u8; 32],
}

const _: () = assert!(size_of::<OsArea>() == 96);

/// `struct snp_secrets_page`; zeros follow to the page's end.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct SecretsPage {
    pub version: U32,
    pub imi_en: U32,
    pub fms: U32,
    pub reserved: U32,
    pub gosvw: [u8; 16],
    pub vmpck: [[u8; VMPCK_SIZE]; 4],
    pub os_area: OsArea,
    pub vmsa_tweak_bitmap: [u8; 64],
    pub svsm_base: U64,
    pub svsm_size: U64,
    pub svsm_caa: U64,
    pub svsm_max_version: U32,
    pub svsm_guest_vmpl: u8,
    pub reserved2: [u8; 3],
}

const _: () = {
    assert!(offset_of!(SecretsPage, vmpck) == 0x20);
    assert!(offset_of!(SecretsPage, os_area) == 0xa0);
    assert!(offset_of!(SecretsPage, vmsa_tweak_bitmap) == 0x100);
    assert!(offset_of!(SecretsPage, svsm_base) == 0x140);
    assert!(size_of::<SecretsPage>() == 0x160);
};
