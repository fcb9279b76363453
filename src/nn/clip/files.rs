//! Which files make up a CLIP: the tensors, and what lies beside them in the folders of Hugging Face and open_clip.

use super::described::Described;
use super::fields::Fields;
use super::weights::Layout;
use super::{Preprocessing, Tokenizer};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
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

/// open_clip's configuration.
const OPEN_CLIP: &str = "open_clip_config.json";

/// Files beside the tensors that are read, as far as a CLIP has them.
pub(crate) const BESIDE: [&str; 7] =
    ["config.json", OPEN_CLIP, "preprocessor_config.json", "processor_config.json", "vocab.json", "merges.txt", "tokenizer_config.json"];

/// Whether a configuration of the tensors stands beside them in `folder`.
pub(crate) fn is_described(folder: &Path, hugging_face: bool) -> bool {
    folder.join(if hugging_face { "config.json" } else { OPEN_CLIP }).is_file()
}

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

/// The configuration beside the tensors. A file in OpenAI's layout without one is taken for OpenAI's.
pub(super) fn config(folder: &Path, layout: Layout) -> Result<Option<Described>> {
    let (name, read): (_, fn(&Path) -> Result<Described>) = match layout {
        Layout::HuggingFace => ("config.json", Described::hugging_face),
        Layout::OpenAi => (OPEN_CLIP, Described::open_clip),
    };
    let path = folder.join(name);
    path.is_file().then(|| read(&path)).transpose()
}

/// The preprocessing, and what to say of it.
pub(super) fn preprocessing(
    folder: &Path,
    layout: Layout,
    described: Option<&mut Described>,
    resolution: usize,
) -> Result<(Preprocessing, Option<String>)> {
    match (layout, described) {
        (Layout::OpenAi, Some(described)) => match described.preprocess.take() {
            Some(said) => Ok((Preprocessing::described(&described.path, resolution, said)?, None)),
            None => Ok((Preprocessing::openai(resolution), None)),
        },
        (Layout::HuggingFace, Some(_)) => {
            for name in ["preprocessor_config.json", "processor_config.json"] {
                let file = folder.join(name);
                // The second is also there for reasons of its own.
                if file.is_file() && (name == "preprocessor_config.json" || Fields::open(&file)?.peek("image_processor").is_some()) {
                    return Preprocessing::read(&file, resolution);
                }
            }
            Ok((Preprocessing::openai(resolution), None))
        }
        _ => Ok((Preprocessing::openai(resolution), None)),
    }
}

pub(super) fn tokenizer(folder: &Path, described: bool, cancel: &Cancel) -> Result<Option<Tokenizer>> {
    let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
    // Beside an OpenAI file these names may belong to something else.
    match described && vocabulary.is_file() && merges.is_file() {
        true => Tokenizer::open_unless(&vocabulary, &merges, cancel).map(Some),
        false => Ok(None),
    }
}
