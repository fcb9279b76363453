//! Writes the C header from src/capi, names the shared library, and has the CUDA kernels compiled where the feature asks for them.

#[path = "build/cuda.rs"]
mod cuda;
#[path = "build/header.rs"]
mod header;

use std::path::{Path, PathBuf};

/// Its number is the high 16 bits of `NADA_ABI_VERSION`.
const SONAME: &str = "libnada.so.3";

fn main() {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo:rerun-if-changed=src/capi");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-env-changed=NADA_WRITE_HEADER");
    write_header(&root, &out);
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        cuda::build(&root, &out);
    }
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{SONAME}");
        soname_link(&out);
    }
}

/// Only src/capi is parsed: nothing else is part of the ABI. `include/nada.h` is written on request alone, so that a build never changes
/// the tree; a test compares the two.
fn write_header(root: &Path, out: &Path) {
    let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let head = config.header.take().expect("cbindgen.toml has the header's head");
    let capi = root.join("src/capi");
    let mut builder = cbindgen::Builder::new().with_config(config);
    // Not mod.rs, which declares nothing but the other files: cbindgen would follow it and so read them twice.
    for file in header::files(&capi) {
        builder = builder.with_src(file);
    }
    let mut declarations = vec![];
    builder.generate().expect("cbindgen understands src/capi").write(&mut declarations);
    let text = header::assemble(&capi, &head, std::str::from_utf8(&declarations).expect("cbindgen writes UTF-8"));
    std::fs::write(out.join("nada.h"), &text).expect("OUT_DIR can be written");
    if std::env::var("NADA_WRITE_HEADER").as_deref() == Ok("1") {
        std::fs::create_dir_all(root.join("include")).expect("include/");
        std::fs::write(root.join("include/nada.h"), &text).expect("include/nada.h can be written");
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
