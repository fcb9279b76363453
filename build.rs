//! Writes the C header from src/capi, and names the shared library.

use std::path::{Path, PathBuf};

/// The number in the soname. It changes with the high 16 bits of `NADA_ABI_VERSION`.
const SONAME: &str = "libnada.so.0";

fn main() {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo:rerun-if-changed=src/capi");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-env-changed=NADA_WRITE_HEADER");
    header(&root, &out);
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{SONAME}");
        soname_link(&out);
    }
}

/// Only src/capi is parsed: nothing else is part of the ABI. `include/nada.h` is written on request alone, so that a build never changes
/// the tree; a test compares the two.
fn header(root: &Path, out: &Path) {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("src/capi"))
        .expect("src/capi")
        .map(|entry| entry.expect("src/capi").path())
        // mod.rs declares nothing but the other files, which cbindgen would follow and so read twice.
        .filter(|path| path.extension().is_some_and(|e| e == "rs") && path.file_name().is_none_or(|n| n != "mod.rs"))
        .collect();
    // In the order of the folder the header would differ from machine to machine.
    files.sort();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in &files {
        builder = builder.with_src(file);
    }
    let bindings = builder.generate().expect("cbindgen understands src/capi");
    bindings.write_to_file(out.join("nada.h"));
    if std::env::var("NADA_WRITE_HEADER").as_deref() == Ok("1") {
        std::fs::create_dir_all(root.join("include")).expect("include/");
        bindings.write_to_file(root.join("include/nada.h"));
    }
}

/// Programs linked with `-lnada` look for the soname at run time: a link of that name beside the library lets them run from the build
/// folder, as an installed library has it. Failing is no reason not to build.
fn soname_link(out: &Path) {
    // target/<profile>/build/nada-<hash>/out
    let Some(profile) = out.ancestors().nth(3) else { return };
    let link = profile.join(SONAME);
    if link.symlink_metadata().is_err() {
        #[cfg(unix)]
        let _ = std::os::unix::fs::symlink("libnada.so", link);
    }
}
