//! Files from a slow disk.

use std::path::{Path, PathBuf};

/// Builds tests/slow.c, which makes a process that it is preloaded into (LD_PRELOAD) read as from a slow disk.
pub fn slow_disk(folder: &Path) -> PathBuf {
    let library = folder.join("slow.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slow.c");
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let built = std::process::Command::new(cc).args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status().unwrap();
    assert!(built.success(), "{} does not compile", source.display());
    library
}
