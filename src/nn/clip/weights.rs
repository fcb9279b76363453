//! A checkpoint's tensors under either of the key layouts that CLIPs come in.

use crate::checkpoint::{Checkpoint, Format};
use crate::device::{Device, HOST};
use crate::error::{Error, Result};
use crate::kernels::BlockWeights;
use candle_core::{DType, Tensor};
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
    /// Tensors are looked for, and not read: see [`Weights::shapes_alone`].
    unread: bool,
}

const OPENAI: &str = "visual.conv1.weight";
const HUGGING_FACE: &str = "vision_model.embeddings.patch_embedding.weight";

/// The CLIP in a file, without what a trainer keeps beside it: open_clip's trainer writes it under `state_dict`, others' under `model` or
/// `model_state_dict`, and any of these may be wrapped ([`Checkpoint::find_prefix`]).
pub(crate) fn place(file: &Checkpoint) -> Checkpoint {
    const NAMES: [&str; 3] = ["clip", "clipmodel", "openclip"];
    file.with_prefix(&file.find_prefix(&NAMES, &[OPENAI, HUGGING_FACE]).unwrap_or_default())
}

pub(super) type Pair = (Tensor, Tensor);

/// Relatives of CLIP whose other keys are the same: they would give wrong numbers.
const RELATIVES: [(&str, &str); 12] = [
    (".ls_1.", "layer scale (ls_init_value)"),
    (".attn.ln_q.", "norms of queries and keys (qk_norm)"),
    (".attn.ln_k.", "norms of queries and keys (qk_norm)"),
    (".attn.head_scale", "scaled heads (scale_heads)"),
    (".attn.logit_scale", "cosine attention (scaled_cosine_attn)"),
    (".attn.ln_inner.", "norms inside attention (scale_attn_inner)"),
    (".ln_attn.", "norms after attention (scale_attn)"),
    (".mlp.ln.", "norms inside its MLPs (scale_fc)"),
    ("visual.attn_pool.", "attention pooling (attentional_pool)"),
    ("text.cls_emb", "a class token of texts (embed_cls)"),
    ("text_decoder.", "a decoder of texts (CoCa)"),
    ("text.text_projection.bias", "a bias of the text projection (proj_bias)"),
];

/// A key of the text towers in each layout.
const TOKENS: [&str; 3] = ["token_embedding.weight", "text.token_embedding.weight", "text_model.embeddings.token_embedding.weight"];

const WHOLE: &str = "take the whole model, such as openai/clip-vit-large-patch14";

/// What networks are called that are near a CLIP and none; None for others.
fn relative(file: &Checkpoint, layout: Option<Layout>) -> Option<String> {
    let key_with = |part: &str| file.keys().find(|key| key.contains(part));
    let sees = layout.is_some() || key_with("visual.").is_some() || key_with("vision_model.").is_some();
    let unclassed = layout == Some(Layout::HuggingFace) && !file.contains("vision_model.embeddings.class_embedding");
    if key_with("vision_model.head.probe").is_some() || (unclassed && file.contains("logit_bias")) {
        return Some("a SigLIP model, which is not supported: it needs a CLIP".into());
    }
    if let Some(key) = key_with("visual.trunk.") {
        return Some(format!("a CLIP with a vision tower of timm (tensor '{key}') is not supported"));
    }
    if let (true, Some(key)) = (sees, key_with("word_embeddings.weight")) {
        // RoBERTa has one type of token, BERT two.
        let types = file.shape(&key.replace("word_embeddings", "token_type_embeddings")).and_then(|shape| shape.first().copied());
        let words = file.shape(key).and_then(|shape| shape.first().copied()).unwrap_or(0);
        let network = match (types, words) {
            (_, 250_002) => "XLM-RoBERTa",
            (Some(1), _) => "RoBERTa or XLM-RoBERTa",
            _ if key.contains("bert.") && !key.contains("roberta.") => "BERT",
            (Some(2), _) => "BERT",
            _ => "XLM-RoBERTa or BERT",
        };
        return Some(format!("a CLIP whose texts go through {network} (tensor '{key}') is not supported"));
    }
    let t5 = ["text.transformer.shared.weight", "text.transformer.encoder.embed_tokens.weight", "text.transformer.embed_tokens.weight"];
    if let (true, Some(key)) = (sees, t5.iter().find(|key| file.contains(key))) {
        return Some(format!("a CLIP whose texts go through mT5, or another network of many languages (tensor '{key}'), is not supported"));
    }
    let reads = file.keys().any(|key| TOKENS.iter().any(|tokens| key == *tokens || key.ends_with(&format!(".{tokens}"))));
    // Single tensors that are missing are said by their names.
    let text_tower = ["text_model.", "text.transformer.", "transformer.resblocks."];
    let has_text = reads || file.keys().any(|key| text_tower.iter().any(|part| key.starts_with(part)));
    let keys = |one: &'static str, other: &'static str| if key_with("_model.").is_some() { one } else { other };
    match (layout, has_text) {
        (None, true) if !sees && reads && key_with("text_model.").or(key_with("resblocks.")).is_some() => {
            let tower = keys("text_model.*", "transformer.*");
            Some(format!("only the text tower of a CLIP ({tower}): pictures cannot be judged with it; {WHOLE}"))
        }
        (Some(_), false) => {
            let tower = keys("vision_model.*", "visual.*");
            Some(format!("only the picture tower of a CLIP ({tower}): pictures cannot be compared with words by it; {WHOLE}"))
        }
        (Some(_), _) => RELATIVES
            .iter()
            .find_map(|(part, what)| key_with(part).map(|key| format!("a CLIP with {what} (tensor '{key}') is not supported"))),
        _ => None,
    }
}

impl<'a> Weights<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint) -> Result<Self> {
        let has = |key: &str| checkpoint.contains(key);
        let layout = if has(OPENAI) {
            Some(Layout::OpenAi)
        } else if has(HUGGING_FACE) {
            Some(Layout::HuggingFace)
        } else {
            None
        };
        if let Some(message) = relative(checkpoint, layout) {
            return Err(Error::unsupported(checkpoint.path.display().to_string(), message));
        }
        let Some(layout) = layout else {
            let message = format!(
                "not a CLIP: it has neither OpenAI's '{OPENAI}' nor Hugging Face's '{HUGGING_FACE}', alone, under state_dict, under model or \
                 under model_state_dict"
            );
            return Err(Error::format(&checkpoint.path, message));
        };
        Ok(Self { checkpoint, layout, text_apart: layout == Layout::OpenAi && has("text.token_embedding.weight"), unread: false })
    }

    /// Whether the file is OpenAI's own: only those keep the sizes beside the weights, as TorchScript archives or what became of them.
    pub(super) fn is_openais_own(&self) -> bool {
        let kept = |key: &str| self.checkpoint.contains(key) || self.checkpoint.value(key).is_some();
        self.checkpoint.format == Format::TorchScript || kept("input_resolution")
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
        self.checkpoint.count_numbered(&self.name(prefix))
    }

    /// The shape of `key`, which must have N dimensions.
    pub(super) fn dims<const N: usize>(&self, key: &str) -> Result<[usize; N]> {
        let key = self.name(key);
        let dims = self.checkpoint.shape(&key).ok_or_else(|| self.format(format!("tensor '{}' is missing", self.checkpoint.full(&key))))?;
        dims.try_into().map_err(|_| {
            self.format(format!("tensor '{}' has shape {dims:?}, where {N} dimensions are needed", self.checkpoint.full(&key)))
        })
    }

    /// The same with zeros in the place of every tensor that has the shape that is asked for, which take no memory as long as nothing is made of
    /// them. Errors are those of keys and shapes; what cannot be read or is not finite is not seen.
    pub(super) fn shapes_alone(&self) -> Self {
        Self { unread: true, ..*self }
    }

    /// Where tensors are put.
    pub(super) fn device(&self) -> &Device {
        self.checkpoint.device()
    }

    pub(super) fn get(&self, key: &str, shape: &[usize]) -> Result<Tensor> {
        let key = self.name(key);
        if self.unread && self.checkpoint.shape(&key) == Some(shape) {
            return Ok(Tensor::zeros((), DType::F32, HOST)?.broadcast_as(shape)?);
        }
        self.checkpoint.f32(&key, Some(shape))
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
