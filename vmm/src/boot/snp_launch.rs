// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the launch of an SNP guest puts into its memory: the pages the firmware fills (SEV Secure Nested Paging Firmware
//! ABI, AMD 56860) and the blob by which Linux finds them. All of it belongs into private memory that is validated.

use std::mem::size_of;

use zerocopy::IntoBytes;

use self::structures::{CcBlob, CpuidFunction, CpuidTable, OsArea, SecretsPage};
use crate::layout::PAGE_SIZE;

mod structures;
#[cfg(test)]
mod tests;

/// `CC_BLOB_SEV_HDR_MAGIC`: "AMDE".
const CC_BLOB_MAGIC: u32 = 0x4544_4d41;
/// The firmware's limit (revision 0.9 §8.14.2.6), which Linux holds it to (`arch/x86/coco/sev/shared.c:setup_cpuid_table`).
pub const MAX_CPUID_ENTRIES: usize = 64;
/// The layout's version; Linux does not look at it.
const SECRETS_VERSION: u32 = 3;
/// Bytes of a VMPCK, a key to talk to the firmware with.
const VMPCK_SIZE: usize = 32;
/// The leaf about the state of processor extensions.
const XSTATE_LEAF: u32 = 0xd;
/// The subleaves whose EBX depends on XCR0 and XSS (revision 0.9 §7.1).
const XSTATE_SIZES: [u32; 2] = [0, 1];
/// x87 alone, which XCR0 always has.
const XCR0_X87: u64 = 1;
/// APM volume 3 appendix E.3.8: the size of x87's and SSE's state with the header.
const LEGACY_XSTATE_SIZE: u32 = 0x240;

/// Why there can be no CPUID page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuidPageError {
    /// Too many entries.
    #[error(
        "the guest's CPUID has {0} entries and an SNP CPUID page takes {MAX_CPUID_ENTRIES}: copra has to leave some out"
    )]
    TooMany(usize),
    /// None; Linux ends at once then.
    #[error("the guest's CPUID is all zeros, which makes an empty SNP CPUID page")]
    Empty,
}

/// An answer of CPUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuidEntry {
    /// EAX of the CPUID instruction.
    pub leaf: u32,
    /// ECX of the CPUID instruction.
    pub subleaf: u32,
    /// EAX answered.
    pub eax: u32,
    /// EBX answered.
    pub ebx: u32,
    /// ECX answered.
    pub ecx: u32,
    /// EDX answered.
    pub edx: u32,
}

/// The blob `boot_params.cc_blob_address` points to, a 32-bit address (`arch/x86/coco/sev/core.c:find_cc_blob`).
/// `secrets` and `cpuid` are the addresses of the pages; neither may be 0.
pub fn cc_blob(secrets: u64, cpuid: u64) -> Vec<u8> {
    let blob = CcBlob {
        magic: CC_BLOB_MAGIC.into(),
        version: 0.into(),
        reserved: 0.into(),
        secrets_phys: secrets.into(),
        secrets_len: (PAGE_SIZE as u32).into(),
        rsvd1: 0.into(),
        cpuid_phys: cpuid.into(),
        cpuid_len: (PAGE_SIZE as u32).into(),
        rsvd2: 0.into(),
    };
    blob.as_bytes().to_vec()
}

/// The CPUID page, the hypervisor's leaves included. Answers of zeros are left out, as Linux answers zeros to what is not
/// there (`arch/x86/coco/sev/shared.c:snp_cpuid`) and the page has not many entries.
pub fn cpuid_page(entries: &[CpuidEntry]) -> Result<Vec<u8>, CpuidPageError> {
    let is_used = |entry: &&CpuidEntry| [entry.eax, entry.ebx, entry.ecx, entry.edx] != [0; 4];
    let functions: Vec<_> = entries.iter().filter(is_used).map(function).collect();
    if functions.len() > MAX_CPUID_ENTRIES {
        return Err(CpuidPageError::TooMany(functions.len()));
    }
    if functions.is_empty() {
        return Err(CpuidPageError::Empty);
    }
    let header =
        CpuidTable { count: (functions.len() as u32).into(), reserved1: 0.into(), reserved2: 0.into() };
    let mut page = [header.as_bytes(), functions.as_bytes()].concat();
    page.resize(PAGE_SIZE as usize, 0);
    Ok(page)
}

/// An entry as the firmware has it. Linux needs the sizes of the extensions' state for XCR0 as at reset
/// (`arch/x86/coco/sev/shared.c:snp_cpuid_get_validated_func`) and computes the rest.
fn function(entry: &CpuidEntry) -> CpuidFunction {
    let sizes = entry.leaf == XSTATE_LEAF && XSTATE_SIZES.contains(&entry.subleaf);
    CpuidFunction {
        eax_in: entry.leaf.into(),
        ecx_in: entry.subleaf.into(),
        xcr0_in: if sizes { XCR0_X87 } else { 0 }.into(),
        xss_in: 0.into(),
        eax: entry.eax.into(),
        ebx: if sizes { LEGACY_XSTATE_SIZE } else { entry.ebx }.into(),
        ecx: entry.ecx.into(),
        edx: entry.edx.into(),
        reserved: 0.into(),
    }
}

/// The secrets page, without secrets: its keys are texts that mark them as none. There is no SVSM, as the kernel runs
/// at VMPL 0.
pub fn secrets_page() -> Vec<u8> {
    let page = SecretsPage {
        version: SECRETS_VERSION.into(),
        imi_en: 0.into(),
        fms: 0.into(),
        reserved: 0.into(),
        gosvw: [0; 16],
        vmpck: [
            *b"copra simulated VMPCK0 no secret",
            *b"copra simulated VMPCK1 no secret",
            *b"copra simulated VMPCK2 no secret",
            *b"copra simulated VMPCK3 no secret",
        ],
        os_area: OsArea {
            msg_seqno: [0.into(); 4],
            ap_jump_table_pa: 0.into(),
            reserved: [0; 40],
            guest_usage: [0; 32],
        },
        vmsa_tweak_bitmap: [0; 64],
        svsm_base: 0.into(),
        svsm_size: 0.into(),
        svsm_caa: 0.into(),
        svsm_max_version: 0.into(),
        svsm_guest_vmpl: 0,
        reserved2: [0; 3],
    };
    let mut bytes = page.as_bytes().to_vec();
    bytes.resize(PAGE_SIZE as usize, 0);
    bytes
}

const _: () = assert!(
    size_of::<CpuidTable>() + MAX_CPUID_ENTRIES * size_of::<CpuidFunction>() <= PAGE_SIZE as usize
        && size_of::<SecretsPage>() <= PAGE_SIZE as usize
);
