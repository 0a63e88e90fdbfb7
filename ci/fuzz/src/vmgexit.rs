// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VMGEXIT, PVALIDATE and RMPADJUST of an SNP guest: no sequence of them leaves an RMP entry without a state.

use kvm_bindings::kvm_regs;
use types::{Mode, VcpuId, View};
use vmm::layout::{LARGE_PAGE_SIZE, PAGE_SIZE};
use vmm::memory::protected::Architecture;
use vmm::platform::PlatformModel;
use vmm::platform::services::Next;
use vmm::platform::snp::events::Event;
use vmm::platform::snp::ghcb::{Field, SHARED_BUFFER, SIZE, VALID_BITMAP};
use vmm::platform::snp::msr_protocol::{Message, OPERATION_SHARED};
use vmm::platform::snp::{MSR_GHCB, Snp, psc};
use vmm::x86::opcode::Opcode;

use crate::bench::{BIT, Bench};

/// Set in an address of the private view.
const PRIVATE: u64 = 1 << BIT;
/// GPA of the GHCB.
const GHCB: u64 = 0x10_0000;
/// RFLAGS bit 1, always set.
const RESERVED_FLAG: u64 = 2;
/// Requests taken from one input.
const MAX_STEPS: usize = 32;
/// Kinds of request.
const KINDS: u8 = 7;

/// Bytes taken from the front, zeros behind the end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let (front, rest) = self.0.split_at(N.min(self.0.len()));
        taken[..front.len()].copy_from_slice(front);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    /// Any value, or one that passes the first checks: a private page of RAM, a small number, an address in the GHCB.
    fn value(&mut self) -> u64 {
        match self.byte() % 5 {
            0 => u64::from_le_bytes(self.bytes()),
            1 => PRIVATE | (u64::from(u16::from_le_bytes(self.bytes())) * PAGE_SIZE),
            2 => PRIVATE | (u64::from(self.byte()) * LARGE_PAGE_SIZE),
            3 => u64::from(self.byte()),
            _ => GHCB + u64::from(u16::from_le_bytes(self.bytes()) % 0x1000),
        }
    }
}

/// A guest and what it runs on.
struct Guest {
    snp: Snp,
    bench: Bench,
}

impl Guest {
    /// VMGEXIT with this in the GHCB MSR.
    fn msr(&mut self, value: u64) -> Next {
        let _ = self.snp.write_msr(VcpuId::BOOT, MSR_GHCB, value, &self.bench.memory);
        self.snp.instruction(Opcode::Vmgexit, &mut kvm_regs::default(), &mut self.bench)
    }

    /// Shares the page at [`GHCB`] and registers it.
    fn set_up_ghcb(&mut self) {
        let frame = GHCB / PAGE_SIZE;
        self.msr(Message::PageStateRequest { frame, operation: OPERATION_SHARED }.encode());
        self.msr(Message::RegisterGhcbRequest { frame }.encode());
    }

    /// VMGEXIT with this page at [`GHCB`].
    fn exit(&mut self, page: &[u8; SIZE]) -> Next {
        let _ = self.bench.memory.store(View::Shared, GHCB, page);
        self.msr(GHCB)
    }

    fn step(&mut self, input: &mut Input<'_>) -> Next {
        match input.byte() % KINDS {
            0 => self.msr(u64::from_le_bytes(input.bytes())),
            1 => self.instruction(Opcode::Pvalidate, input),
            2 => self.instruction(Opcode::Rmpadjust, input),
            3 => self.exit(&exit_page(input)),
            4 => self.exit(&input.bytes()),
            5 => self.exit(&page_state_changes(input)),
            _ => {
                self.set_up_ghcb();
                Next::Resume
            }
        }
    }

    fn instruction(&mut self, opcode: Opcode, input: &mut Input<'_>) -> Next {
        let (rax, rcx, rdx) = (input.value(), input.value(), input.value());
        let mut regs = kvm_regs { rax, rcx, rdx, rflags: RESERVED_FLAG, ..Default::default() };
        let next = self.snp.instruction(opcode, &mut regs, &mut self.bench);
        assert_eq!((regs.rcx, regs.rdx), (rcx, rdx), "{opcode} changes RAX and RFLAGS only");
        let unchanged = (regs.rax, regs.rflags) == (rax, RESERVED_FLAG);
        assert!(!matches!(next, Next::Fault(_)) || unchanged, "{opcode} that faults changes nothing");
        next
    }
}

/// Fills a field and sets its bit in the valid bitmap.
fn put(page: &mut [u8; SIZE], field: Field, value: u64) {
    page[field.offset..field.offset + field.len].copy_from_slice(&value.to_le_bytes()[..field.len]);
    let bit = field.offset / 8;
    page[VALID_BITMAP + bit / 8] |= 1 << (bit % 8);
}

/// A request with a known exit code, and some of the fields valid.
fn exit_page(input: &mut Input<'_>) -> [u8; SIZE] {
    let mut page = [0; SIZE];
    let event = Event::ALL[usize::from(input.byte()) % Event::ALL.len()];
    put(&mut page, Field::SW_EXITCODE, event.code());
    let present = u16::from_le_bytes(input.bytes());
    for (index, field) in Field::ALL.into_iter().enumerate() {
        if field != Field::SW_EXITCODE && present >> index & 1 == 0 {
            put(&mut page, field, input.value());
        }
    }
    page[SHARED_BUFFER.start..SHARED_BUFFER.start + 64].copy_from_slice(&input.bytes::<64>());
    page
}

/// A page state change list of up to eight entries.
fn page_state_changes(input: &mut Input<'_>) -> [u8; SIZE] {
    let mut page = [0; SIZE];
    put(&mut page, Field::SW_EXITCODE, Event::PageStateChange.code());
    put(&mut page, Field::SW_EXITINFO1, 0);
    put(&mut page, Field::SW_EXITINFO2, 0);
    put(&mut page, Field::SW_SCRATCH, GHCB + SHARED_BUFFER.start as u64);
    let list = &mut page[SHARED_BUFFER];
    list[..psc::HEADER_SIZE].copy_from_slice(&[input.byte(), 0, input.byte(), 0, 0, 0, 0, 0]);
    for bytes in list[psc::HEADER_SIZE..].chunks_exact_mut(psc::ENTRY_SIZE).take(8) {
        let shape = input.byte();
        let large = shape & 0x10 != 0;
        let frame = u64::from(u16::from_le_bytes(input.bytes()));
        let frame = if large { frame & !0x1ff } else { frame };
        let done = if shape & 0x20 != 0 { u16::from(input.byte()) } else { 0 };
        let entry = psc::Entry { done, frame, operation: shape & 0x07, large };
        bytes.copy_from_slice(&entry.encode().to_le_bytes());
    }
    page
}

/// Carries out the requests that the bytes encode.
pub fn run(bytes: &[u8]) {
    let Some(bench) = Bench::new(Architecture::Snp) else { return };
    let mut guest = Guest { snp: Snp::new(BIT, Mode::Faithful), bench };
    guest.set_up_ghcb();
    let mut input = Input(bytes);
    for _ in 0..MAX_STEPS {
        if input.0.is_empty() {
            break;
        }
        let before = guest.bench.bad_calls;
        let next = guest.step(&mut input);
        assert!(
            guest.bench.bad_calls <= before + 3,
            "one request, {} bad calls",
            guest.bench.bad_calls - before
        );
        if let Next::End(termination) = next {
            assert!(!termination.to_string().is_empty());
            break;
        }
    }
    guest.bench.check();
}

/// Every kind of request, and all byte values in a row.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let kinds = (0..KINDS).map(|kind| (format!("kind-{kind}"), [kind].repeat(64)));
    kinds.chain([("mixed".to_owned(), (0..=255u8).collect())]).collect()
}
