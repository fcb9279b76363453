//! The lists of settings, wherever they are shown.

use nada::settings::{markdown, Kind, Listed};
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

/// The fields of a struct of include/nada.h.
fn fields(header: &str, name: &str) -> Vec<String> {
    let begin = header.find(&format!("struct {name} {{")).unwrap_or_else(|| panic!("no struct {name}"));
    let body = header[begin..].split_once("\n}").unwrap().0;
    let declarations = body.lines().filter(|line| line.trim_end().ends_with(';'));
    declarations.map(|line| line.trim().trim_end_matches(';').rsplit([' ', '*']).next().unwrap().to_string()).collect()
}

/// Common settings are fields, with underscores for dots; the library's own list says so.
#[test]
fn c_options_have_the_same_names() {
    fn compare<T: Listed>(name: &str, others: &[&str]) {
        let header = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/nada.h")).unwrap();
        let listed: Vec<String> =
            T::SETTINGS.iter().filter(|s| !matches!(s.kind, Kind::Group { .. })).map(|s| s.name.replace('.', "_")).collect();
        let fields = fields(&header, name);
        for field in &fields {
            assert!(listed.contains(field) || others.contains(&field.as_str()), "{name}.{field} is no setting");
        }
        for setting in &listed {
            assert!(fields.contains(setting), "{name} has no field {setting}");
        }
    }
    let others = [
        "struct_size",
        "model",
        "source_text",
        "source_images",
        "source_image_count",
        "target_text",
        "target_images",
        "target_image_count",
        "clips",
        "clip_weights",
        "clip_count",
        "templates",
        "template_count",
        "reserved",
    ];
    compare::<adapt::Settings>("nada_adaptation_options", &others);
    compare::<invert::Settings>("nada_inversion_options", &["struct_size", "clip", "encoder", "reserved"]);
}
