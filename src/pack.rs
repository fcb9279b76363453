//! Model packs. Owner: pack helper. Interface fixed here:
use crate::error::Result;
use std::path::{Path, PathBuf};

/// A folder with `model.toml`.
pub struct ModelPack {
    pub name: String,
    pub folder: PathBuf,
}

impl ModelPack {
    /// By name in the search folders, or a path to a folder.
    pub fn find(_name_or_path: &str) -> Result<Self> {
        todo!()
    }
    pub fn open(_folder: &Path) -> Result<Self> {
        todo!()
    }
}
