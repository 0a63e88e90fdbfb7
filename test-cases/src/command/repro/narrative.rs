// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a person reads: the three paths to the same bytes, side by side, and what the patch changes.

use types::Platform;

use super::observed::Observed;
use engine::report::evidence::hexdump;
use model::class::Class;

/// A place and what is to be said of it.
struct Section {
    id: &'static str,
    title: &'static str,
}

const SECTIONS: [Section; 3] = [
    Section { id: "low-ram", title: "low System RAM, where the boot loader left the kernel's command line" },
    Section { id: "rom", title: "system ROM, e820 reserved (the firmware's marker names view and address)" },
    Section { id: "page0", title: "page 0, behind the BIOS data area" },
];

const PATHS: [(&str, &str); 3] = [("read", "read(2)"), ("mmap", "mmap(2)"), ("self-mem", "/proc/self/mem")];

/// Shows what the stock kernel does; whether all of it is as documented.
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

/// Which kernel as which guest, and what it says of itself.
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
        outln!("  rewritten in the loaded image, as KVM cannot hand them over: {rewritten}");
    }
    outln!("  forbidden accesses during boot: {}", stock.boot_events());
}

/// Shows what the patched kernel does; whether it denies and leaves ordinary guests alone.
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

/// One line: the sign, the call, what came back.
pub fn mark(observed: &Observed, id: &str, call: &str, what: &str) -> bool {
    let good = observed.is_as_documented(id);
    outln!("  {} {call:<24} {what}", sign(good));
    good
}

fn sign(good: bool) -> char {
    if good { '✓' } else { '✗' }
}

fn brief(observed: &Observed, id: &str) -> String {
    let classes = observed.class_names(id);
    if classes.is_empty() { observed.answer(id) } else { classes }
}

/// One sentence on what the three answers mean together.
fn conclusion(observed: &Observed, section: &str, platform: Platform) -> &'static str {
    let is = |path: &str, class: Class| observed.classes(&format!("{section}-{path}")).contains(class);
    let other_view = is("read", Class::Ciphertext) || is("read", Class::Shared);
    match (is("read", Class::Zeros), other_view, is("mmap", Class::Plain)) {
        (true, _, true) => "→ the mmap hole: what read(2) hides, mmap(2) shows.",
        (_, true, true) => {
            "→ two views of one page: read(2) goes through the shared one, mmap(2) through the private one."
        }
        (_, _, true) if platform == Platform::None => "→ one view, one answer.",
        (_, true, false) => {
            "→ read(2) goes through the shared view; the private one, mmap(2)'s, may not be touched at all here."
        }
        _ => "→ not what is documented.",
    }
}

fn name(platform: Platform) -> String {
    match platform {
        Platform::None => "an ordinary".into(),
        other => format!("a simulated {}", other.name().to_uppercase()),
    }
}
