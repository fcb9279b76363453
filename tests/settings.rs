//! The lists of settings, wherever they are shown.

use nada::settings::markdown;
use nada::{adapt, invert};
use std::path::Path;

/// `text` with `table` between the marks of that name.
fn filled(text: &str, mark: &str, table: &str) -> String {
    let begin = format!("<!-- {mark} -->\n");
    let from = text.find(&begin).unwrap_or_else(|| panic!("no mark {mark}")) + begin.len();
    let to = from + text[from..].find("<!-- end -->").expect("an end");
    format!("{}{table}{}", &text[..from], &text[to..])
}

#[test]
fn docs_list_every_setting() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let adaptation = filled(&text, "adaptation", &markdown(&adapt::Settings::default()).unwrap());
    let right = filled(&adaptation, "inversion", &markdown(&invert::Settings::default()).unwrap());
    if std::env::var("NADA_WRITE_DOCS").as_deref() == Ok("1") {
        std::fs::write(&path, right).unwrap();
    } else {
        assert_eq!(text, right, "docs/settings.md is not up to date: NADA_WRITE_DOCS=1 cargo test --test settings");
    }
}
