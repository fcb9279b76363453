//! Puts the C header in the order of use. cbindgen translates the declarations of src/capi; here they get their places: a section for each
//! file, in the order of [`SECTIONS`], with the file's own first sentence as its heading.
//!
//! Three things that cbindgen does not do: its order is constants, types, functions; a type must stand before it is used, so handles and the
//! names of structs are told first; and enumerations of a fixed size come out for C and C++ apart, where `typedef int32_t` serves both.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Files of src/capi in the order in which a program needs what is in them.
const SECTIONS: [&str; 24] = [
    "status",
    "error",
    "version",
    "log",
    "cancel",
    "call",
    "context",
    "model_list",
    "model",
    "image",
    "image_file",
    "latent",
    "generator",
    "render",
    "clip",
    "encoder",
    "inversion",
    "adaptation_options",
    "adaptation",
    "domain",
    "frame",
    "face",
    "gallery",
    "evaluation",
];

/// The longest line of a declaration.
const LINE: usize = 120;

/// Files that declare nothing for C.
const INNER: [&str; 5] = ["mod", "handle", "options", "runtime", "values"];

/// The files that cbindgen reads.
pub fn files(capi: &Path) -> Vec<std::path::PathBuf> {
    for entry in std::fs::read_dir(capi).expect("src/capi") {
        let path = entry.expect("src/capi").path();
        let name = path.file_stem().and_then(|n| n.to_str()).expect("UTF-8 names in src/capi").to_string();
        assert!(SECTIONS.contains(&name.as_str()) || INNER.contains(&name.as_str()), "{name}.rs has no section in build/header.rs");
    }
    SECTIONS.iter().map(|name| capi.join(name).with_extension("rs")).collect()
}

/// The header: `head`, a comment, then what `declarations`, cbindgen's output, has.
pub fn assemble(capi: &Path, head: &str, declarations: &str) -> String {
    let mut items: BTreeMap<String, String> = BTreeMap::new();
    for item in declarations.split("\n\n").map(str::trim).filter(|item| !item.is_empty()) {
        let before = items.insert(name(item).unwrap_or_else(|| panic!("no name in\n{item}")), plain(item));
        assert!(before.is_none(), "declared twice:\n{item}");
    }
    let sections: Vec<Section> = SECTIONS.iter().map(|file| Section::new(capi, file, &mut items)).collect();
    assert!(items.is_empty(), "not found in src/capi: {:?}", items.keys());

    let mut out = format!("{}\n#ifndef NADA_H\n#define NADA_H\n\n", head.trim());
    out += "#include <stddef.h>\n#include <stdint.h>\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n";
    out += &heading("handles", "Handles, and structs that are explained further down.");
    for item in sections.iter().flat_map(|s| &s.items).filter(|item| opaque(item)) {
        let _ = write!(out, "\n{item}\n");
    }
    out.push('\n');
    for item in sections.iter().flat_map(|s| &s.items).filter(|item| !opaque(item)) {
        if let Some(name) = structure(item) {
            let _ = writeln!(out, "typedef struct {name} {name};");
        }
    }
    out += "\n/** @} */\n";
    for section in &sections {
        let items: Vec<&String> = section.items.iter().filter(|item| !opaque(item)).collect();
        out += &heading(section.file, &section.title);
        items.iter().for_each(|item| _ = write!(out, "\n{item}\n"));
        out += "\n/** @} */\n";
    }
    out += "\n#ifdef __cplusplus\n}\n#endif\n\n#endif /* NADA_H */\n";
    out
}

struct Section<'a> {
    file: &'a str,
    title: String,
    items: Vec<String>,
}

impl<'a> Section<'a> {
    /// Takes the items that the file declares, in its order: types first, as functions use them.
    fn new(capi: &Path, file: &'a str, items: &mut BTreeMap<String, String>) -> Self {
        let path = capi.join(file).with_extension("rs");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let title: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//! ")).collect();
        assert!(!title.is_empty(), "{file}.rs has no sentence for its heading");
        let mut found = vec![];
        let declared = |line: &str| {
            let rest = ["struct ", "enum ", "type ", "const ", "unsafe extern \"C\" fn ", "extern \"C\" fn "]
                .iter()
                .find_map(|kind| line.strip_prefix("pub ")?.strip_prefix(kind))?;
            Some(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?.to_string())
        };
        for name in text.lines().filter_map(declared) {
            found.extend(items.remove(&name));
        }
        let (types, functions): (Vec<_>, Vec<_>) = found.into_iter().partition(|item| !item.ends_with(");") || item.contains("typedef"));
        Self { file, title: title.join(" "), items: types.into_iter().chain(functions).collect() }
    }
}

fn heading(group: &str, title: &str) -> String {
    let (name, rest) = title.split_once(':').unwrap_or((title.trim_end_matches('.'), ""));
    let rest = rest.trim();
    let rest = match rest.chars().next() {
        Some(first) => format!(" * {}{}\n", first.to_uppercase(), &rest[first.len_utf8()..]),
        None => String::new(),
    };
    format!("\n\n/* {} */\n/**\n * @defgroup nada_{group} {name}\n{rest} * @{{\n */\n", "=".repeat(110))
}

/// The code of an item, without its comment.
fn code(item: &str) -> &str {
    item.rsplit_once("*/\n").filter(|_| item.starts_with("/**")).map_or(item, |_| {
        // Fields have comments too: the item's own ends first.
        item.split_once("*/\n").map_or(item, |(_, code)| code)
    })
}

/// The struct that an item defines or names.
fn structure(item: &str) -> Option<&str> {
    let code = code(item);
    code.strip_prefix("typedef struct ").or_else(|| code.strip_prefix("struct "))?.split([' ', ';']).next()
}

/// Whether it is a handle: a struct without fields.
fn opaque(item: &str) -> bool {
    structure(item).is_some() && !item.contains('{')
}

/// What cbindgen's item declares.
fn name(item: &str) -> Option<String> {
    let code = code(item);
    let word = |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(String::from);
    let after = |prefix: &str| code.strip_prefix(prefix).and_then(word);
    after("#define ")
        .or_else(|| structure(item).map(String::from))
        .or_else(|| after("enum "))
        .or_else(|| code.split_once("(*").and_then(|(_, rest)| word(rest)).filter(|_| code.starts_with("typedef ")))
        .or_else(|| code.split_once('(')?.0.rsplit([' ', '*']).next().map(String::from))
}

/// An item as it stands in the header.
fn plain(item: &str) -> String {
    let (comment, code) = item.split_at(item.len() - code(item).len());
    let code = if let Some(rest) = code.strip_prefix("enum ") {
        let name = rest.split_whitespace().next().expect("an enumeration has a name");
        assert!(code.contains(&format!("typedef int32_t {name};")), "enumerations are repr(i32):\n{code}");
        let (_, rest) = rest.split_once('{').expect("an enumeration has a brace");
        let (members, _) = rest.split_once("};").expect("an enumeration ends");
        format!("typedef int32_t {name};\nenum {{{members}}};")
    } else if let (Some(name), Some((_, fields))) = (structure(code), code.split_once('{')) {
        let end = format!("}} {name};");
        let fields = fields.strip_suffix(&end).expect("a struct ends with its name");
        // The names are told at the top, with typedef.
        format!("struct {name} {{{}}};", fields.replace("struct nada_", "nada_"))
    } else if let (false, Some((start, arguments))) = (code.starts_with("#define"), code.split_once('(')) {
        function(start, arguments)
    } else {
        code.to_string()
    };
    one_line(&format!("{comment}{code}"))
}

/// A function's declaration, or a callback's, on one line where it fits.
fn function(start: &str, arguments: &str) -> String {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let line = format!("{start}({}", words.join(" ")).replace("struct nada_", "nada_");
    match line.len() <= LINE || line.starts_with("typedef") {
        true => line,
        false => line.replacen('(', "(\n    ", 1).replace(", ", ",\n    "),
    }
}

/// Comments of one line on one line.
fn one_line(item: &str) -> String {
    let mut lines: Vec<String> = vec![];
    let all: Vec<&str> = item.lines().collect();
    let mut i = 0;
    while i < all.len() {
        let short = match all[i..] {
            [begin, text, end, ..] if begin.trim() == "/**" && end.trim() == "*/" => {
                text.trim().strip_prefix("* ").map(|text| (begin, text))
            }
            _ => None,
        };
        match short {
            Some((begin, text)) => {
                lines.push(format!("{begin} {text} */"));
                i += 3;
            }
            None => {
                lines.push(all[i].to_string());
                i += 1;
            }
        }
    }
    lines.join("\n")
}
