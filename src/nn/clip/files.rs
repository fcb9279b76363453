//! Which files make up a CLIP: the tensors, and what lies beside them in the folders of Hugging Face and open_clip.

use super::config::{HfConfig, OpenClipConfig};
use super::weights::Layout;
use super::{Preprocessing, Tokenizer};
use crate::error::{Error, Result};
use crate::progress::Cancel;
use std::path::{Path, PathBuf};

/// Names of the tensors' file in a folder, best first.
const TENSORS: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
];

/// The file with the tensors of `path`, a file or a folder.
pub(crate) fn tensors(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    TENSORS.iter().map(|name| path.join(name)).find(|file| file.is_file()).ok_or_else(|| {
        let what = path.display().to_string();
        Error::NotFound { what, message: format!("the folder has no CLIP: none of the files {}", TENSORS.join(", ")) }
    })
}

/// Whether `name` is one that says nothing about which CLIP it is, so that its folder's name is better.
pub(crate) fn is_common_name(name: &str) -> bool {
    TENSORS.contains(&name)
}

/// What the tensors do not tell.
pub(super) enum Beside {
    HuggingFace(PathBuf, HfConfig),
    OpenClip(PathBuf, OpenClipConfig),
}

/// The configuration beside the tensors. A file in OpenAI's layout without one is taken for OpenAI's.
pub(super) fn config(folder: &Path, layout: Layout) -> Result<Option<Beside>> {
    let file = |name: &str| Some(folder.join(name)).filter(|file| file.is_file());
    Ok(match layout {
        Layout::HuggingFace => match file("config.json") {
            Some(path) => Some(Beside::HuggingFace(path.clone(), HfConfig::open(&path)?)),
            None => None,
        },
        Layout::OpenAi => match file("open_clip_config.json") {
            Some(path) => Some(Beside::OpenClip(path.clone(), OpenClipConfig::open(&path)?)),
            None => None,
        },
    })
}

pub(super) fn preprocessing(folder: &Path, beside: Option<&Beside>, resolution: usize) -> Result<Preprocessing> {
    let file = folder.join("preprocessor_config.json");
    match beside {
        Some(Beside::HuggingFace(..)) if file.is_file() => Preprocessing::open(&file, resolution),
        Some(Beside::OpenClip(path, config)) => Preprocessing::openai(resolution).with_colours(path, config.mean(), config.std()),
        _ => Ok(Preprocessing::openai(resolution)),
    }
}

pub(super) fn tokenizer(folder: &Path, beside: Option<&Beside>, cancel: &Cancel) -> Result<Option<Tokenizer>> {
    let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
    // Beside an OpenAI file these names may belong to something else.
    match beside.is_some() && vocabulary.is_file() && merges.is_file() {
        true => Tokenizer::open_unless(&vocabulary, &merges, cancel).map(Some),
        false => Ok(None),
    }
}
