//! The program, run as a user runs it.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// A pack of random weights: small, so that there are many steps a second.
pub const PACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/models/starter");

pub fn here() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Lets programs that are started from here on hear signals: a shell starts what it puts in the background with SIGINT ignored, which the
/// program honours.
pub fn hear_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the default action is no function of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

pub fn nada(folder: &Path) -> Command {
    hear_signals();
    let mut c = Command::new(env!("CARGO_BIN_EXE_nada"));
    // A gallery of its own: what cannot be written elsewhere goes there.
    c.current_dir(folder).env_remove("NADA_MODELS").env("NADA_DOMAINS", folder.join("gallery"));
    c
}

pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    nada(folder).args(arguments).output().unwrap()
}

/// The JSON object of a call that must succeed.
pub fn json(folder: &Path, arguments: &[&str]) -> Value {
    let out = nada(folder).arg("--json").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{arguments:?}: {text}{}", error(&out));
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e} in {text}"))
}

/// What a call said on its standard error.
pub fn error(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

pub fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Temporary files and folders in `folder`.
pub fn temporary(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".nada-")).count()
}

/// [`PACK`] in `folder`, with another recipe.
pub fn pack_with_recipe(folder: &Path, recipe: &str) -> std::path::PathBuf {
    copy(Path::new(PACK), folder);
    let file = folder.join("model.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, _) = text.split_once("[recipe]").unwrap();
    std::fs::write(&file, format!("{head}[recipe]\n{recipe}\nnoise = false\n")).unwrap();
    folder.to_path_buf()
}

/// A folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        match from.is_dir() {
            true => copy(&from, &to),
            false => _ = std::fs::copy(&from, &to).unwrap(),
        }
    }
}
