// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The text of `copra repro mmap-hole`: the three paths to the same bytes, and what the patch changes.

use types::Platform;

use super::observed::Observed;
use engine::report::evidence::hexdump;
use model::class::Class;

/// A memory region and its title.
struct Section {
    id: &'static str,
    title: &'static str,
}

const SECTIONS: [Section; 3] = [
    Section {
        id: "low-ram",
        title: "low System RAM, where the boot loader placed the kernel's command line",
    },
    Section {
        id: "rom",
        title: "system ROM, e820 reserved (the firmware's marker contains view and address)",
    },
    Section { id: "page0", title: "page 0, behind the BIOS data area" },
];

const PATHS: [(&str, &str); 3] = [("read", "read(2)"), ("mmap", "mmap(2)"), ("self-mem", "/proc/self/mem")];

/// Prints the results of the stock kernel; returns whether all are as documented.
pub fn describe(stock: &Observed, platform: Platform) -> bool {
    head(stock, platform);
    let mut all = mark(stock, "open", "open(/dev/mem) by root", &stock.answer("open"));
    for section in &SECTIONS {
        outln!("\n{:#x}: {}", stock.gpa(&format!("{}-mmap", section.id)), section.title);
        for (path, call) in PATHS {
            let id = format!("{}-{path}", section.id);
            all &= show(stock, &id, call);
        }
        outln!("  {}", conclusion(stock, section.id, platform));
    }
    outln!("\n0x1000000: System RAM above 1 MiB, the kernel's own text");
    all &= mark(stock, "ram-read", "read(2)", &stock.answer("ram-read"));
    all &= mark(stock, "ram-map", "mmap(2)", &stock.answer("ram-map"));
    all
}

/// Prints the kernel, the platform and the guest type that the kernel logged.
pub fn head(stock: &Observed, platform: Platform) {
    let (rewritten, kernel) = (stock.rewritten(), stock.kernel());
    outln!(
        "{} ({}) as {} guest{}, sha256 {}",
        kernel.spec,
        kernel.release,
        name(platform),
        if rewritten.is_empty() { ", unmodified" } else { "" },
        kernel.sha256.get(..16).unwrap_or("?")
    );
    for line in &kernel.log {
        outln!("  guest log: {}", line.trim());
    }
    if !rewritten.is_empty() {
        outln!("  instructions rewritten in the loaded image, as KVM cannot intercept them: {rewritten}");
    }
    outln!("  forbidden accesses during boot: {}", stock.boot_events());
}

/// Prints the results of the patched kernel; returns whether it denies, and does not affect ordinary guests.
pub fn contrast(stock: &Observed, patched: &[Observed], platform: Platform) -> bool {
    let mut all = true;
    outln!("\nThe same steps with the patch of the thread (policy open-eperm), side by side:\n");
    let columns: Vec<(&Observed, String)> = std::iter::once((stock, format!("stock, {platform}")))
        .chain(patched.iter().zip([platform, Platform::None]).map(|(w, p)| (w, format!("patched, {p}"))))
        .collect();
    out!("  {:<34}", "");
    for (_, title) in &columns {
        out!("{title:<18}");
    }
    outln!();
    let rows = [("open", "open(/dev/mem)"), ("port", "open(/dev/port)")]
        .into_iter()
        .map(|(id, what)| (id.to_owned(), what.to_owned()));
    let sections = SECTIONS.iter().flat_map(|section| {
        PATHS.map(|(path, call)| (format!("{}-{path}", section.id), format!("{call} of {}", section.id)))
    });
    for (id, what) in rows.chain(sections) {
        out!("  {what:<34}");
        for (observed, _) in &columns {
            let good = observed.is_as_documented(&id);
            all &= good;
            out!("{:<18}", format!("{} {}", sign(good), brief(observed, &id)));
        }
        outln!();
    }
    all
}

fn show(observed: &Observed, id: &str, call: &str) -> bool {
    let good = mark(observed, id, call, &brief(observed, id));
    for line in hexdump(observed.gpa(id), observed.bytes(id)).iter().take(2) {
        outln!("      {line}");
    }
    for line in observed.events(id).iter().take(2) {
        outln!("      {line}");
    }
    good
}

/// Prints one line: the sign, the call, the result.
pub fn mark(observed: &Observed, id: &str, call: &str, what: &str) -> bool {
    let good = observed.is_as_documented(id);
    outln!("  {} {call:<24} {what}", sign(good));
    good
}

pub fn sign(good: bool) -> char {
    if good { '✓' } else { '✗' }
}

fn brief(observed: &Observed, id: &str) -> String {
    let classes = observed.class_names(id);
    if classes.is_empty() { observed.answer(id) } else { classes }
}

/// The conclusion from the results of the three paths.
fn conclusion(observed: &Observed, section: &str, platform: Platform) -> &'static str {
    let is = |path: &str, class: Class| observed.classes(&format!("{section}-{path}")).contains(class);
    let other_view = is("read", Class::Ciphertext) || is("read", Class::Shared);
    match (is("read", Class::Zeros), other_view, is("mmap", Class::Plain)) {
        (true, _, true) => "→ the mmap hole: read(2) gives zeros where mmap(2) gives the bytes.",
        (_, true, true) => {
            "→ two views of one page: read(2) goes through the shared one, mmap(2) through the private one."
        }
        (_, _, true) if platform == Platform::None => "→ one view: both paths give the same bytes.",
        (_, true, false) => {
            "→ read(2) goes through the shared view; an access through the private view, as by mmap(2), is forbidden here."
        }
        _ => "→ not the documented result.",
    }
}

fn name(platform: Platform) -> String {
    match platform {
        Platform::None => "an ordinary".into(),
        other => format!("a simulated {}", other.name().to_uppercase()),
    }
}
