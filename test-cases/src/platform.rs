//! What the guest believes it runs on.

use crate::names::named;

named! {
    /// The simulated platform of a guest.
    pub enum Platform ("platform") {
        None = "none", "an ordinary virtual machine, nothing encrypted";
        Sev = "sev", "AMD SEV: one memory, read as ciphertext through the wrong view";
        Snp = "snp", "AMD SEV-SNP: private and shared pages with contents of their own, validated page by page";
        Tdx = "tdx", "Intel TDX: private and shared pages with contents of their own, accepted page by page";
        Vbs = "vbs", "Hyper-V VBS isolation (vTOM): private and shared pages, no hardware behind them";
    }
}

impl Platform {
    /// Whether the guest believes that its memory is hidden from the host.
    pub const fn is_confidential(self) -> bool {
        !matches!(self, Self::None)
    }
}
