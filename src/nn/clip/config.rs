//! The sizes of a CLIP, read from its tensors (and from the configuration where there is one: what tensors do not tell).

use super::described::{Described, Heads, Size, Tower, EPSILON};
use super::pool::{End, VisionPool};
use super::weights::{Layout, Weights};
use crate::error::{Error, Result};
use crate::kernels::Activation;

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
    /// Whether there is a norm before the first block.
    pub pre_norm: bool,
    pub pool: VisionPool,
    /// The last norm is after the pool, not before it. For one token that is the same.
    pub norm_after_pool: bool,
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

#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Most tokens in a text, start and end included.
    pub context: usize,
    pub vocabulary: usize,
    pub transformer: TransformerConfig,
    pub embedding: usize,
    pub end: End,
    /// Token i sees tokens 0..=i; else every token sees all, padding included.
    pub causal: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub vision: VisionConfig,
    pub text: TextConfig,
}

/// OpenAI's CLIPs have one head per 64 channels.
const HEAD_WIDTH: usize = 64;
/// Of OpenAI's vision transformers: ViT-L.
const OPENAI_WIDEST: usize = 1024;

fn root(n: usize) -> Option<usize> {
    let root = (n as f64).sqrt().round() as usize;
    (root > 0 && root.checked_mul(root) == Some(n)).then_some(root)
}

impl TransformerConfig {
    /// `up` is the key of the first block's first MLP layer; `tower` what a configuration says, and `activation` what holds without one.
    fn read(weights: &Weights, blocks: &str, up: &str, described: Option<(&Described, &Tower)>, activation: Activation) -> Result<Self> {
        let layers = weights.count(blocks);
        let key = format!("{blocks}0.{up}");
        let [hidden, width] = weights.dims(&key)?;
        let Some((file, tower)) = described else {
            if width == 0 || hidden == 0 || width % HEAD_WIDTH != 0 {
                let message = format!("tensor '{key}': width {width} is not a multiple of {HEAD_WIDTH}, OpenAI's width of a head");
                return Err(weights.format(message));
            }
            return Ok(Self { width, layers, heads: width / HEAD_WIDTH, hidden, activation, epsilon: EPSILON });
        };
        file.check(tower, &[(Size::Width, width), (Size::Layers, layers), (Size::Hidden, hidden)])?;
        let heads = tower.heads(width);
        let epsilon = tower.epsilon;
        if hidden == 0 || heads == 0 || width == 0 || width % heads != 0 || !(epsilon >= 0.0 && epsilon.is_finite()) {
            let message = format!("{heads} heads must divide the width {width}; the norms' epsilon {epsilon} must be 0 or more");
            return Err(Error::format(&file.path, message));
        }
        Ok(Self { width, layers, heads, hidden, activation: tower.activation, epsilon })
    }
}

impl Tower {
    fn heads(&self, width: usize) -> usize {
        match self.heads {
            Heads::Count(heads) => heads,
            Heads::Width(of_one) => width / of_one.max(1),
        }
    }
}

impl Config {
    /// The function in the MLPs of both towers; None where each has its own.
    pub(super) fn activation(&self) -> Option<Activation> {
        let text = self.text.transformer.activation;
        match &self.vision {
            VisionConfig::Vit(vit) if vit.transformer.activation != text => None,
            _ => Some(text),
        }
    }

    /// From the tensors, and from the configuration beside them; without one a file in OpenAI's layout has `activation`.
    pub(super) fn read(weights: &Weights, beside: Option<&Described>, activation: Activation) -> Result<Self> {
        match (weights.layout(), beside) {
            (Layout::HuggingFace, Some(described)) => Self::read_hf(weights, described),
            (Layout::HuggingFace, None) => {
                Err(weights.format("a Hugging Face CLIP needs the config.json of its folder beside it (it tells the heads)"))
            }
            (Layout::OpenAi, described) => Self::read_openai(weights, described, activation),
        }
    }

    fn read_openai(weights: &Weights, described: Option<&Described>, activation: Activation) -> Result<Self> {
        let [_, embedding] = weights.dims("text_projection")?;
        Self::check_embedding(weights, "text_projection", embedding)?;
        let vision_tower = described.map(|d| (d, &d.vision));
        let vision = if weights.has("visual.layer1.0.conv1.weight") {
            let [width, ..]: [usize; 4] = weights.dims("visual.layer1.0.conv1.weight")?;
            let layers = [1, 2, 3, 4].map(|stage| weights.count(&format!("visual.layer{stage}.")));
            let key = "visual.attnpool.positional_embedding";
            let [positions, channels] = weights.dims(key)?;
            let side = root(positions.saturating_sub(1))
                .ok_or_else(|| weights.format(format!("tensor '{key}': {positions} positions are not a square and 1")))?;
            let heads = vision_tower.map_or(channels / HEAD_WIDTH, |(_, tower)| tower.heads(channels));
            if channels != width * 32 || heads == 0 || channels % heads != 0 || channels == 0 || layers.contains(&0) {
                let message = format!(
                    "tensor '{key}': {channels} channels of {heads} heads in {layers:?} stages of width {width}; {} channels, a multiple of the \
                     heads, and no empty stage expected",
                    width * 32
                );
                return Err(weights.format(message));
            }
            if let Some((file, tower)) = vision_tower {
                file.check(tower, &[(Size::Width, width), (Size::Embedding, embedding)])?;
                if let Some(said) = file.image_size.filter(|said| *said != side * 32) {
                    return Err(Error::format(&file.path, format!("image_size {said} is not the {} that the weights have", side * 32)));
                }
            }
            VisionConfig::ResNet(ResNetConfig { resolution: side * 32, width, layers, heads, embedding })
        } else {
            let [width, _, patch, _] = weights.dims("visual.conv1.weight")?;
            if described.is_none() && width > OPENAI_WIDEST && !weights.is_openais_own() {
                // open_clip's are 80 (ViT-H), 88 (ViT-g), 104 (ViT-bigG) and more; 64 would divide some widths, and give other numbers.
                let message = format!(
                    "tensor 'visual.conv1.weight': a vision transformer of width {width} is none of OpenAI's, so the width of its heads is not known; \
                     put the open_clip_config.json of the file beside it"
                );
                return Err(weights.format(message));
            }
            let transformer =
                TransformerConfig::read(weights, "visual.transformer.resblocks.", "mlp.c_fc.weight", vision_tower, activation)?;
            Self::vit(weights, "visual.positional_embedding", patch, transformer, embedding, described)?
        };
        let text = described.map(|d| (d, &d.text));
        let transformer = TransformerConfig::read(weights, "transformer.resblocks.", "mlp.c_fc.weight", text, activation)?;
        let [context, _] = weights.dims("positional_embedding")?;
        let [vocabulary, _] = weights.dims("token_embedding.weight")?;
        Ok(Self { vision, text: Self::text(context, vocabulary, transformer, embedding, described)? })
    }

    fn read_hf(weights: &Weights, described: &Described) -> Result<Self> {
        let [embedding, _] = weights.dims("text_projection.weight")?;
        Self::check_embedding(weights, "text_projection.weight", embedding)?;
        let [_, _, patch, _] = weights.dims("vision_model.embeddings.patch_embedding.weight")?;
        // config.json says the activation of each tower.
        let unused = Activation::QuickGelu;
        let tower = |blocks, tower| TransformerConfig::read(weights, blocks, "mlp.fc1.weight", Some((described, tower)), unused);
        let transformer = tower("vision_model.encoder.layers.", &described.vision)?;
        let key = "vision_model.embeddings.position_embedding.weight";
        let vision = Self::vit(weights, key, patch, transformer, embedding, Some(described))?;
        let transformer = tower("text_model.encoder.layers.", &described.text)?;
        let [context, _] = weights.dims("text_model.embeddings.position_embedding.weight")?;
        let [vocabulary, _] = weights.dims("text_model.embeddings.token_embedding.weight")?;
        Ok(Self { vision, text: Self::text(context, vocabulary, transformer, embedding, Some(described))? })
    }

    fn check_embedding(weights: &Weights, key: &str, embedding: usize) -> Result<()> {
        match embedding {
            0 => Err(weights.format(format!("tensor '{key}': embeddings of length 0"))),
            _ => Ok(()),
        }
    }

    /// `positions` is the key of the position embedding.
    fn vit(
        weights: &Weights,
        positions: &str,
        patch: usize,
        transformer: TransformerConfig,
        embedding: usize,
        described: Option<&Described>,
    ) -> Result<VisionConfig> {
        let side = Self::side(weights, positions)?;
        // A product beyond all numbers fits no side below.
        let resolution = described.and_then(|d| d.image_size).unwrap_or(side.saturating_mul(patch));
        if patch == 0 || resolution / patch != side {
            let message =
                format!("image_size {resolution} does not give the {side} x {side} patches of {patch} pixels that the weights have");
            return Err(described.map_or_else(|| weights.format(&message), |d| Error::format(&d.path, &message)));
        }
        if let Some(d) = described {
            d.check(&d.vision, &[(Size::Patch, patch), (Size::Embedding, embedding)])?;
        }
        Ok(VisionConfig::Vit(VitConfig {
            resolution,
            patch,
            transformer,
            pre_norm: described.is_none_or(|d| d.pre_norm),
            pool: described.map_or(VisionPool::Class, |d| d.pool),
            norm_after_pool: described.is_some_and(|d| d.norm_after_pool),
            embedding,
        }))
    }

    fn text(
        context: usize,
        vocabulary: usize,
        transformer: TransformerConfig,
        embedding: usize,
        described: Option<&Described>,
    ) -> Result<TextConfig> {
        if let Some(d) = described {
            d.check(&d.text, &[(Size::Context, context), (Size::Vocabulary, vocabulary)])?;
        }
        let end = described.map_or(End::Largest, |d| d.end);
        Ok(TextConfig { context, vocabulary, transformer, embedding, end, causal: described.is_none_or(|d| d.causal) })
    }

    /// Patches along one side of the picture.
    fn side(weights: &Weights, key: &str) -> Result<usize> {
        let [positions, _] = weights.dims(key)?;
        root(positions.saturating_sub(1))
            .ok_or_else(|| weights.format(format!("tensor '{key}': {positions} positions are not a square and 1")))
    }
}
