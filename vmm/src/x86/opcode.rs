// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The four instructions of confidential guests that KVM cannot pass to user space, and what the loader writes in their place.

use std::fmt;

use crate::layout;

/// OUT imm8, EAX (Intel SDM volume 2, OUT).
const OUT_IMM8_EAX: u8 = 0xe7;
/// The NOP of two bytes (Intel SDM volume 2, NOP): with it the rewrite is as long as what it replaces.
const NOP2: [u8; 2] = [0x66, 0x90];

/// One of the four instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Opcode {
    /// TDX: a call to the TDX module (`arch/x86/virt/vmx/tdx/tdxcall.S`).
    Tdcall,
    /// SEV-ES and SNP: a call to the hypervisor (`arch/x86/include/asm/sev.h:VMGEXIT`).
    Vmgexit,
    /// SNP: validates a page or takes that back (`arch/x86/include/asm/sev.h:pvalidate`).
    Pvalidate,
    /// SNP: changes the rights of a VM privilege level (`arch/x86/include/asm/sev.h:rmpadjust`).
    Rmpadjust,
}

impl Opcode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tdcall, Self::Vmgexit, Self::Pvalidate, Self::Rmpadjust];
    /// Bytes each takes, rewritten or not.
    pub const LEN: usize = 4;

    /// What the assembler makes of it.
    pub const fn bytes(self) -> [u8; Self::LEN] {
        match self {
            Self::Tdcall => [0x66, 0x0f, 0x01, 0xcc],
            Self::Vmgexit => [0xf3, 0x0f, 0x01, 0xd9],
            Self::Pvalidate => [0xf2, 0x0f, 0x01, 0xff],
            Self::Rmpadjust => [0xf3, 0x0f, 0x01, 0xfe],
        }
    }

    /// The port its rewrite writes to; below 0x100 all.
    pub const fn port(self) -> u16 {
        match self {
            Self::Tdcall => layout::TDCALL_PORT,
            Self::Vmgexit => layout::VMGEXIT_PORT,
            Self::Pvalidate => layout::PVALIDATE_PORT,
            Self::Rmpadjust => layout::RMPADJUST_PORT,
        }
    }

    /// The instruction whose rewrite writes to a port.
    pub fn of_port(port: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|opcode| opcode.port() == port)
    }

    /// What is written in its place: `out %eax, $port` and a NOP.
    pub const fn replacement(self) -> [u8; Self::LEN] {
        [OUT_IMM8_EAX, self.port() as u8, NOP2[0], NOP2[1]]
    }

    /// Its mnemonic.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tdcall => "TDCALL",
            Self::Vmgexit => "VMGEXIT",
            Self::Pvalidate => "PVALIDATE",
            Self::Rmpadjust => "RMPADJUST",
        }
    }
}

const _: () = {
    let mut index = 0;
    while index < Opcode::ALL.len() {
        assert!(Opcode::ALL[index].port() <= u8::MAX as u16, "OUT has room for one byte");
        index += 1;
    }
};

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
