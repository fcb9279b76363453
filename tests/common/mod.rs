//! Shared by the integration tests: the reference data, and a comparison that says where it failed.
#![allow(dead_code)] // each test program uses a part

pub mod program;

use candle_core::{DType, Tensor};
use std::path::{Path, PathBuf};

/// The folder of reference data: `NADA_REFERENCE`, by default `../shared/reference` beside the package. None, with a line that says so,
/// where there is none; a folder that was named and is missing is a failure.
pub fn reference() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("NADA_REFERENCE") {
        let folder = PathBuf::from(folder);
        assert!(folder.is_dir(), "NADA_REFERENCE names {}, which is not a folder", folder.display());
        return Some(folder);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no reference data at {} (set NADA_REFERENCE)", folder.display());
    None
}

/// A file of `tests/data`.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Panics with the worst element unless |have - want| <= atol + rtol * |want| everywhere; shapes must be equal.
pub fn close(name: &str, have: &Tensor, want: &Tensor, atol: f64, rtol: f64) {
    assert_eq!(have.dims(), want.dims(), "{name}: shape");
    let values = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let (h, w) = (values(have), values(want));
    let mut worst = (f64::NEG_INFINITY, 0);
    for (i, (a, b)) in h.iter().zip(&w).enumerate() {
        let excess = (a - b).abs() - (atol + rtol * b.abs());
        // NaN on either side is the worst there is.
        let excess = if excess.is_nan() { f64::INFINITY } else { excess };
        if excess > worst.0 {
            worst = (excess, i);
        }
    }
    let (excess, i) = worst;
    assert!(
        h.is_empty() || excess <= 0.0,
        "{name}: element {i} of {:?} is {} where {} is wanted (difference {:e}, allowed {:e})",
        have.dims(),
        h[i],
        w[i],
        (h[i] - w[i]).abs(),
        atol + rtol * w[i].abs()
    );
}

/// The largest number of a tensor, without its sign.
pub fn largest(t: &Tensor) -> f64 {
    t.to_dtype(DType::F64).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap()
}

/// Builds tests/slow.c, which makes a process that it is preloaded into (LD_PRELOAD) read as from a slow disk.
pub fn slow_disk(folder: &Path) -> PathBuf {
    let library = folder.join("slow.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slow.c");
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let built = std::process::Command::new(cc).args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status().unwrap();
    assert!(built.success(), "{} does not compile", source.display());
    library
}
