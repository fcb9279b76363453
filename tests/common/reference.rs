//! What the published codes computed, which is too large for the repository.

use std::path::{Path, PathBuf};

/// The folder of reference data: `NADA_REFERENCE`, by default `../shared/reference` beside the package. A test that asks for it is ignored
/// for the reason below; where it is run all the same and there is no folder, it fails with it.
pub fn reference() -> PathBuf {
    let folder = match std::env::var_os("NADA_REFERENCE") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference"),
    };
    let needed = "needs the reference data: NADA_REFERENCE or ../shared/reference";
    assert!(folder.is_dir(), "{needed}; {} is no folder", folder.display());
    folder
}
