//! A checkpoint's tensors under either of the key layouts that CLIPs come in.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::kernels::BlockWeights;
use candle_core::Tensor;
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `visual.*`, `transformer.*`: OpenAI's state_dict and TorchScript archives, open_clip's files. Some of open_clip's have the text tower
    /// under `text.` (its CustomTextCLIP).
    OpenAi,
    /// `vision_model.*`, `text_model.*`: transformers' CLIPModel.
    HuggingFace,
}

/// Tensors of one checkpoint; every error names the file and the key.
pub(super) struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    layout: Layout,
    /// The text tower's keys begin with `text.`.
    text_apart: bool,
}

const OPENAI: &str = "visual.conv1.weight";
const HUGGING_FACE: &str = "vision_model.embeddings.patch_embedding.weight";

/// The CLIP in a file, without what a trainer keeps beside it: open_clip's trainer writes it under `state_dict`, others' under `model` or
/// `model_state_dict`, and any of these may be wrapped ([`Checkpoint::find_prefix`]).
pub(crate) fn place(file: &Checkpoint) -> Checkpoint {
    const NAMES: [&str; 3] = ["clip", "clipmodel", "openclip"];
    file.with_prefix(&file.find_prefix(&NAMES, &[OPENAI, HUGGING_FACE]).unwrap_or_default())
}

type Pair = (Tensor, Tensor);

impl<'a> Weights<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint) -> Result<Self> {
        let has = |key: &str| checkpoint.contains(key);
        let layout = if has(OPENAI) {
            Layout::OpenAi
        } else if has(HUGGING_FACE) {
            Layout::HuggingFace
        } else {
            let message = format!(
                "not a CLIP: it has neither OpenAI's '{OPENAI}' nor Hugging Face's '{HUGGING_FACE}', alone, under state_dict, under model or \
                 under model_state_dict"
            );
            return Err(Error::format(&checkpoint.path, message));
        };
        // Relatives of CLIP whose other keys are the same: they would give wrong numbers.
        for (part, what) in [
            (".ls_1.", "layer scale"),
            ("visual.attn_pool.", "attention pooling"),
            ("visual.trunk.", "a vision tower of timm"),
            ("text.cls_emb", "a class token of texts"),
            ("text.text_projection.bias", "a bias of the text projection"),
        ] {
            if let Some(key) = checkpoint.keys().find(|key| key.contains(part)) {
                let message = format!("a CLIP with {what} (tensor '{key}') is not supported");
                return Err(Error::unsupported(checkpoint.path.display().to_string(), message));
            }
        }
        Ok(Self { checkpoint, layout, text_apart: layout == Layout::OpenAi && has("text.token_embedding.weight") })
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    pub(super) fn format(&self, message: impl Into<String>) -> Error {
        Error::format(&self.checkpoint.path, message)
    }

    /// What the file calls `key`.
    fn name<'k>(&self, key: &'k str) -> Cow<'k, str> {
        match self.text_apart && !key.starts_with("visual.") {
            true => format!("text.{key}").into(),
            false => key.into(),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.checkpoint.contains(&self.name(key))
    }

    /// How many of `<prefix>0.`, `<prefix>1.`, ... are there without a gap.
    pub(super) fn count(&self, prefix: &str) -> usize {
        let prefix = self.name(prefix);
        let there = |prefix: &str| self.checkpoint.keys().any(|key| key.starts_with(prefix));
        (0..).take_while(|i| there(&format!("{prefix}{i}."))).count()
    }

    /// The shape of `key`, which must have N dimensions.
    pub(super) fn dims<const N: usize>(&self, key: &str) -> Result<[usize; N]> {
        let key = self.name(key);
        let dims = self.checkpoint.shape(&key).ok_or_else(|| self.format(format!("tensor '{}' is missing", self.checkpoint.full(&key))))?;
        dims.try_into().map_err(|_| {
            self.format(format!("tensor '{}' has shape {dims:?}, where {N} dimensions are needed", self.checkpoint.full(&key)))
        })
    }

    pub(super) fn get(&self, key: &str, shape: &[usize]) -> Result<Tensor> {
        self.checkpoint.f32(&self.name(key), Some(shape))
    }

    /// `<key>.weight` and `<key>.bias`.
    pub(super) fn pair(&self, key: &str, shape: &[usize]) -> Result<Pair> {
        Ok((self.get(&format!("{key}.weight"), shape)?, self.get(&format!("{key}.bias"), &shape[..1])?))
    }

    /// `<key>` of the layout at hand.
    pub(super) fn either<'k>(&self, openai: &'k str, hf: &'k str) -> &'k str {
        match self.layout {
            Layout::OpenAi => openai,
            Layout::HuggingFace => hf,
        }
    }

    /// A projection without bias, as [outputs, inputs] whichever way the layout keeps it.
    pub(super) fn projection(&self, openai: &str, hf: &str, outputs: usize, inputs: usize) -> Result<Tensor> {
        match self.layout {
            Layout::OpenAi => Ok(self.get(openai, &[inputs, outputs])?.t()?.contiguous()?),
            Layout::HuggingFace => self.get(hf, &[outputs, inputs]),
        }
    }

    /// Three linear layers over one input as one: [3 * d, d] and [3 * d].
    pub(super) fn packed(&self, keys: [String; 3], d: usize) -> Result<Pair> {
        let mut pairs = Vec::with_capacity(3);
        for key in &keys {
            pairs.push(self.pair(key, &[d, d])?);
        }
        let (weights, biases): (Vec<Tensor>, Vec<Tensor>) = pairs.into_iter().unzip();
        Ok((Tensor::cat(&weights, 0)?, Tensor::cat(&biases, 0)?))
    }

    /// Block `index` of the tower whose blocks lie under `openai` or `hf`.
    pub(super) fn block(&self, openai: &str, hf: &str, index: usize, d: usize, hidden: usize) -> Result<BlockWeights> {
        let base = format!("{}{index}", self.either(openai, hf));
        let key = |openai: &str, hf: &str| format!("{base}.{}", self.either(openai, hf));
        let qkv = match self.layout {
            Layout::OpenAi => {
                let (w, b) = (format!("{base}.attn.in_proj_weight"), format!("{base}.attn.in_proj_bias"));
                (self.get(&w, &[3 * d, d])?, self.get(&b, &[3 * d])?)
            }
            Layout::HuggingFace => self.packed(["q", "k", "v"].map(|part| format!("{base}.self_attn.{part}_proj")), d)?,
        };
        Ok(BlockWeights {
            norm1: self.pair(&key("ln_1", "layer_norm1"), &[d])?,
            qkv,
            out: self.pair(&key("attn.out_proj", "self_attn.out_proj"), &[d, d])?,
            norm2: self.pair(&key("ln_2", "layer_norm2"), &[d])?,
            up: self.pair(&key("mlp.c_fc", "mlp.fc1"), &[hidden, d])?,
            down: self.pair(&key("mlp.c_proj", "mlp.fc2"), &[d, hidden])?,
        })
    }
}
