// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page as JSON.

use engine::spec::{Answer, COLUMNS, DOORS, Kernel, Page, Row, Sheet, Word, consequence, reasons};
use serde_json::{Map, Value, json};

use super::Described;
use super::text::OPTIONS;

/// The form written here.
pub const SCHEMA: &str = "copra-spec/1";

/// A kernel's pages, and those of others, as a JSON value.
pub fn value(described: &[Described]) -> Value {
    let pages = described.iter().flat_map(|one| &one.pages);
    let used = reasons(pages.flat_map(|page| page.sheets.iter().flat_map(Sheet::answers)));
    let reasons: Map<String, Value> = used
        .iter()
        .map(|reason| {
            let about = json!({ "function": reason.function(), "about": reason.about() });
            (reason.name().to_owned(), about)
        })
        .collect();
    let words: Map<String, Value> =
        Word::ALL.iter().map(|word| (word.name().to_owned(), word.about().into())).collect();
    json!({
        "schema": SCHEMA,
        "copra": env!("CARGO_PKG_VERSION"),
        "reasons": reasons,
        "answers": words,
        "columns": COLUMNS.iter().map(|column| (column.id.to_owned(), column.about.into())).collect::<Map<_, _>>(),
        "kernels": described.iter().map(kernel).collect::<Vec<_>>(),
    })
}

fn kernel(described: &Described) -> Value {
    let missing: Vec<Value> =
        described.missing.iter().map(|(platform, why)| json!({ "platform": platform, "why": why })).collect();
    json!({
        "name": described.kernel.name,
        "release": described.kernel.release,
        "config": options(&described.kernel),
        "command_line": described.kernel.command_line,
        "platforms": described.pages.iter().map(page).collect::<Vec<_>>(),
        "missing": missing,
    })
}

/// The options that decide the answers.
fn options(kernel: &Kernel) -> Map<String, Value> {
    let value = |name: &&str| kernel.options.get(*name).map_or("n", String::as_str).into();
    OPTIONS.iter().map(|name| ((*name).to_owned(), value(name))).collect()
}

fn page(page: &Page) -> Value {
    let consequences: Vec<Value> = page
        .forbidden()
        .into_iter()
        .map(|access| {
            let after = consequence(page.platform, access);
            json!({ "kind": access.kind, "state": access.state, "what": after.what, "source": after.source })
        })
        .collect();
    json!({
        "platform": page.platform,
        "physical_bits": page.guest.world.physical_bits,
        "encryption_bit": page.guest.world.encryption_bit,
        "simulated": vmm::platform::simulated(page.platform),
        "not_simulated": vmm::platform::not_simulated(page.platform),
        "forbidden": consequences,
        "regions": page.guest.regions,
        "policies": page.sheets.iter().map(sheet).collect::<Vec<_>>(),
    })
}

fn sheet(sheet: &Sheet) -> Value {
    let doors: Map<String, Value> = DOORS
        .iter()
        .zip(&sheet.doors)
        .map(|(door, answer)| (door.id.to_owned(), self::answer(answer)))
        .collect();
    json!({
        "policy": sheet.policy,
        "operations": doors,
        "places": sheet.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Value {
    let cells: Map<String, Value> = COLUMNS
        .iter()
        .zip(&row.cells)
        .map(|(column, cell)| {
            let value = match cell.as_slice() {
                [(_, answer)] => self::answer(answer),
                several => several.iter().map(|(name, it)| ((*name).to_owned(), answer(it))).collect(),
            };
            (column.id.to_owned(), value)
        })
        .collect();
    json!({ "regions": row.regions, "answers": cells })
}

fn answer(answer: &Answer) -> Value {
    json!({
        "answer": answer.word,
        "error": answer.error,
        "forbidden": answer.forbidden,
        "reasons": answer.reasons,
    })
}
