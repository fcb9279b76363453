//! The sizes of a CLIP, read from its tensors (and from config.json where there is one: what tensors do not tell).

use super::files::Beside;
use super::weights::{Layout, Weights};
use crate::error::{Error, Result};
use crate::files::read_small;
use crate::kernels::Activation;
use serde::Deserialize;
use std::path::Path;

/// A transformer's sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerConfig {
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Width between the two layers of an MLP.
    pub hidden: usize,
    pub activation: Activation,
    pub epsilon: f32,
}

/// A vision transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct VitConfig {
    /// Side length of the picture in pixels.
    pub resolution: usize,
    pub patch: usize,
    pub transformer: TransformerConfig,
    /// Length of an embedding.
    pub embedding: usize,
}

/// CLIP's ModifiedResNet.
#[derive(Clone, Debug, PartialEq)]
pub struct ResNetConfig {
    /// Side length of the picture in pixels, 32 times that of the last feature map.
    pub resolution: usize,
    /// Channels of the first stage inside a bottleneck.
    pub width: usize,
    /// Bottlenecks in each of the four stages.
    pub layers: [usize; 4],
    /// Heads of the attention pool.
    pub heads: usize,
    /// Length of an embedding.
    pub embedding: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum VisionConfig {
    Vit(VitConfig),
    ResNet(ResNetConfig),
}

/// Which token's state is the text's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The one with the largest id (OpenAI: 49407 is the end and the largest).
    Largest,
    /// The first with this id.
    Token(u32),
}

#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Most tokens in a text, start and end included.
    pub context: usize,
    pub vocabulary: usize,
    pub transformer: TransformerConfig,
    pub embedding: usize,
    pub end: End,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub vision: VisionConfig,
    pub text: TextConfig,
}

/// What is read of a Hugging Face config.json; fields that older files leave out have that library's defaults.
#[derive(Deserialize)]
pub(super) struct HfConfig {
    vision_config: HfTower,
    text_config: HfTower,
}

#[derive(Deserialize)]
struct HfTower {
    num_attention_heads: Option<usize>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f32>,
    image_size: Option<usize>,
    eos_token_id: Option<u32>,
}

impl HfConfig {
    pub(super) fn open(path: &Path) -> Result<Self> {
        read_json(path)
    }
}

/// What is read of an open_clip_config.json; what it leaves out has that library's defaults.
#[derive(Deserialize)]
pub(super) struct OpenClipConfig {
    model_cfg: OpenClipModel,
    preprocess_cfg: Option<OpenClipPreprocess>,
}

#[derive(Deserialize)]
struct OpenClipModel {
    vision_cfg: OpenClipTower,
    text_cfg: OpenClipTower,
    #[serde(default)]
    quick_gelu: bool,
}

#[derive(Deserialize)]
struct OpenClipTower {
    head_width: Option<usize>,
    heads: Option<usize>,
    image_size: Option<usize>,
}

#[derive(Deserialize)]
struct OpenClipPreprocess {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
}

impl OpenClipConfig {
    pub(super) fn open(path: &Path) -> Result<Self> {
        read_json(path)
    }

    pub(super) fn mean(&self) -> Option<[f32; 3]> {
        self.preprocess_cfg.as_ref().and_then(|c| c.mean)
    }

    pub(super) fn std(&self) -> Option<[f32; 3]> {
        self.preprocess_cfg.as_ref().and_then(|c| c.std)
    }

    /// The vision tower of this width, in the words of Hugging Face.
    fn vision(&self, width: usize) -> HfTower {
        let tower = &self.model_cfg.vision_cfg;
        self.tower(width / tower.head_width.unwrap_or(HEAD_WIDTH).max(1), tower.image_size)
    }

    fn text(&self) -> HfTower {
        self.tower(self.model_cfg.text_cfg.heads.unwrap_or(8), None)
    }

    fn tower(&self, heads: usize, image_size: Option<usize>) -> HfTower {
        let activation = if self.model_cfg.quick_gelu { "quick_gelu" } else { "gelu" };
        HfTower {
            num_attention_heads: Some(heads),
            hidden_act: Some(activation.into()),
            layer_norm_eps: None,
            image_size,
            eos_token_id: None,
        }
    }
}

/// Configurations have some thousand bytes.
const MAX_CONFIG: u64 = 1 << 20;

pub(super) fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let text = read_small(path, "a CLIP's configuration", MAX_CONFIG)?;
    serde_json::from_slice(&text).map_err(|e| Error::format(path, e.to_string()))
}

/// OpenAI's CLIPs have one head per 64 channels.
const HEAD_WIDTH: usize = 64;
const EPSILON: f32 = 1e-5;

fn root(n: usize) -> Option<usize> {
    let root = (n as f64).sqrt().round() as usize;
    (root > 0 && root.checked_mul(root) == Some(n)).then_some(root)
}

impl TransformerConfig {
    /// `up` is the key of the first block's first MLP layer.
    fn read(weights: &Weights, blocks: &str, up: &str, tower: Option<(&Path, &HfTower)>) -> Result<Self> {
        let layers = weights.count(blocks);
        let key = format!("{blocks}0.{up}");
        let [hidden, width] = weights.dims(&key)?;
        let (heads, activation, epsilon) = match tower {
            None if width % HEAD_WIDTH != 0 => {
                return Err(
                    weights.format(format!("tensor '{key}': width {width} is not a multiple of {HEAD_WIDTH}, OpenAI's width of a head"))
                )
            }
            None => (width / HEAD_WIDTH, Activation::QuickGelu, EPSILON),
            Some((path, tower)) => {
                let heads = tower.num_attention_heads.ok_or_else(|| Error::format(path, "num_attention_heads is missing"))?;
                let activation = match tower.hidden_act.as_deref() {
                    None | Some("quick_gelu") => Activation::QuickGelu,
                    Some("gelu") => Activation::Gelu,
                    Some(other) => {
                        let what = format!("{}: hidden_act {other:?}", path.display());
                        return Err(Error::unsupported(what, "quick_gelu and gelu are known"));
                    }
                };
                (heads, activation, tower.layer_norm_eps.unwrap_or(EPSILON))
            }
        };
        if hidden == 0 || heads == 0 || width == 0 || width % heads != 0 || !(epsilon >= 0.0 && epsilon.is_finite()) {
            let message = format!("{heads} heads must divide the width {width}; layer_norm_eps {epsilon} must be 0 or more");
            return Err(tower.map_or_else(|| weights.format(&message), |(path, _)| Error::format(path, &message)));
        }
        Ok(Self { width, layers, heads, hidden, activation, epsilon })
    }
}

impl Config {
    /// From the tensors, and from the configuration beside them.
    pub(super) fn read(weights: &Weights, beside: Option<&Beside>) -> Result<Self> {
        match (weights.layout(), beside) {
            (Layout::HuggingFace, Some(Beside::HuggingFace(path, hf))) => Self::read_hf(weights, path, hf),
            (Layout::HuggingFace, _) => {
                Err(weights.format("a Hugging Face CLIP needs the config.json of its folder beside it (it tells the heads)"))
            }
            (Layout::OpenAi, Some(Beside::OpenClip(path, config))) => Self::read_openai(weights, Some((path, config))),
            (Layout::OpenAi, _) => Self::read_openai(weights, None),
        }
    }

    fn read_openai(weights: &Weights, open_clip: Option<(&Path, &OpenClipConfig)>) -> Result<Self> {
        let [_, embedding] = weights.dims("text_projection")?;
        let vision = if weights.has("visual.layer1.0.conv1.weight") {
            let [width, ..]: [usize; 4] = weights.dims("visual.layer1.0.conv1.weight")?;
            let layers = [1, 2, 3, 4].map(|stage| weights.count(&format!("visual.layer{stage}.")));
            let key = "visual.attnpool.positional_embedding";
            let [positions, channels] = weights.dims(key)?;
            let side = root(positions.saturating_sub(1))
                .ok_or_else(|| weights.format(format!("tensor '{key}': {positions} positions are not a square and 1")))?;
            if channels != width * 32 || channels % HEAD_WIDTH != 0 || channels == 0 || layers.contains(&0) {
                let message = format!(
                    "tensor '{key}': {channels} channels in {layers:?} stages of width {width}; {} and no empty stage expected",
                    width * 32
                );
                return Err(weights.format(message));
            }
            VisionConfig::ResNet(ResNetConfig { resolution: side * 32, width, layers, heads: channels / HEAD_WIDTH, embedding })
        } else {
            let [_, _, patch, _] = weights.dims("visual.conv1.weight")?;
            let [width] = weights.dims("visual.class_embedding")?;
            let tower = open_clip.map(|(path, config)| (path, config.vision(width)));
            let tower = tower.as_ref().map(|(path, tower)| (*path, tower));
            let transformer = TransformerConfig::read(weights, "visual.transformer.resblocks.", "mlp.c_fc.weight", tower)?;
            let side = Self::side(weights, "visual.positional_embedding")?;
            let resolution = tower.and_then(|(_, tower)| tower.image_size).unwrap_or(side * patch);
            Self::check_resolution(resolution, side, patch)
                .map_err(|e| tower.map_or_else(|| weights.format(&e), |(path, _)| Error::format(path, &e)))?;
            VisionConfig::Vit(VitConfig { resolution, patch, transformer, embedding })
        };
        let [context, _] = weights.dims("positional_embedding")?;
        let [vocabulary, _] = weights.dims("token_embedding.weight")?;
        let tower = open_clip.map(|(path, config)| (path, config.text()));
        let tower = tower.as_ref().map(|(path, tower)| (*path, tower));
        let transformer = TransformerConfig::read(weights, "transformer.resblocks.", "mlp.c_fc.weight", tower)?;
        Ok(Self { vision, text: TextConfig { context, vocabulary, transformer, embedding, end: End::Largest } })
    }

    fn read_hf(weights: &Weights, path: &Path, hf: &HfConfig) -> Result<Self> {
        let [embedding, _] = weights.dims("text_projection.weight")?;
        let [_, _, patch, _] = weights.dims("vision_model.embeddings.patch_embedding.weight")?;
        let side = Self::side(weights, "vision_model.embeddings.position_embedding.weight")?;
        let resolution = hf.vision_config.image_size.unwrap_or(side * patch);
        Self::check_resolution(resolution, side, patch).map_err(|e| Error::format(path, e))?;
        let tower = |blocks, tower| TransformerConfig::read(weights, blocks, "mlp.fc1.weight", Some((path, tower)));
        let vision = VisionConfig::Vit(VitConfig {
            resolution,
            patch,
            transformer: tower("vision_model.encoder.layers.", &hf.vision_config)?,
            embedding,
        });
        let [context, _] = weights.dims("text_model.embeddings.position_embedding.weight")?;
        let [vocabulary, _] = weights.dims("text_model.embeddings.token_embedding.weight")?;
        // Early files all say 2, which is not their tokenizer's end; their readers take the largest id.
        let end = match hf.text_config.eos_token_id {
            None | Some(2) => End::Largest,
            Some(id) => End::Token(id),
        };
        let transformer = tower("text_model.encoder.layers.", &hf.text_config)?;
        Ok(Self { vision, text: TextConfig { context, vocabulary, transformer, embedding, end } })
    }

    fn check_resolution(resolution: usize, side: usize, patch: usize) -> std::result::Result<(), String> {
        match patch > 0 && resolution / patch == side {
            true => Ok(()),
            false => {
                Err(format!("image_size {resolution} does not give the {side} x {side} patches of {patch} pixels that the weights have"))
            }
        }
    }

    /// Patches along one side of the picture.
    fn side(weights: &Weights, key: &str) -> Result<usize> {
        let [positions, _] = weights.dims(key)?;
        root(positions.saturating_sub(1))
            .ok_or_else(|| weights.format(format!("tensor '{key}': {positions} positions are not a square and 1")))
    }
}
