//! CLIP. Owner: clip helper. Interface fixed here:
mod tokenizer;
use crate::error::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::path::Path;
pub use tokenizer::Tokenizer;

/// How a generated picture is shrunk to the CLIP's resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipResize {
    /// Bicubic with a low-pass (a = -0.5), what torchvision does today.
    Antialias,
    /// Bicubic without (a = -0.75), what it did in 2021.
    Aliased,
    /// Mean over areas.
    Area,
}

pub struct Clip {
    /// For domains' descriptions: the folder's or file's name.
    pub name: String,
}

impl Clip {
    /// A Hugging Face folder (config.json, model.safetensors, vocab.json, merges.txt, preprocessor_config.json), or one file
    /// (OpenAI state_dict as safetensors or torch zip, OpenAI TorchScript archive, HF model.safetensors with config.json beside it).
    pub fn open(_path: &Path) -> Result<Self> {
        todo!()
    }
    /// Input side length in pixels.
    pub fn resolution(&self) -> usize {
        todo!()
    }
    /// Length of an embedding.
    pub fn dimension(&self) -> usize {
        todo!()
    }
    /// Picture [n, 3, h, w] nominally in [-1, 1] -> CLIP input [n, 3, r, r]: (x + 1) / 2, resize of the short side, centre crop, normalise. Differentiable.
    pub fn preprocess(&self, _image: &Tensor, _resize: ClipResize) -> Result<Tensor> {
        todo!()
    }
    /// Picture [n, 3, h, w] -> [n, 3, r, r] of the same range: resize of the short side, centre crop. Differentiable.
    pub fn resize(&self, _image: &Tensor, _resize: ClipResize) -> Result<Tensor> {
        todo!()
    }
    /// [n, 3, r, r] nominally in [-1, 1] -> CLIP input. Differentiable.
    pub fn normalise(&self, _image: &Tensor) -> Result<Tensor> {
        todo!()
    }
    /// Mean and std of the colour normalisation (x01 - mean) / std: for callers that augment in [0, 1] between resize and normalising.
    pub fn normalise_colours(&self, _image01: &Tensor) -> Result<Tensor> {
        todo!()
    }
    /// CLIP input [n, 3, r, r] -> features [n, d], not normalised. Differentiable in the input; weights are frozen.
    pub fn encode_image(&self, _input: &Tensor) -> Result<Tensor> {
        todo!()
    }
    /// Token ids [n, context] u32 -> features [n, d], not normalised.
    pub fn encode_tokens(&self, _tokens: &Tensor) -> Result<Tensor> {
        todo!()
    }
    /// Normalised embeddings [texts, d]. A text too long is an `InvalidArgument` that quotes it with its token count and the limit.
    pub fn embed_texts(&self, _texts: &[String]) -> Result<Tensor> {
        todo!()
    }
}
