//! CLIP's vision transformer (Radford et al. 2021, section 2.4; Dosovitskiy et al. 2021).

use super::config::VitConfig;
use super::pool::VisionPool;
use super::weights::Weights;
use super::Trace;
use crate::error::Result;
use crate::kernels::{layer_norm, linear, Block, EmbedWeights, PatchEmbedding};
use candle_core::Tensor;

pub(super) struct Vit {
    config: VitConfig,
    embedding: PatchEmbedding,
    blocks: Vec<Block>,
    post: (Tensor, Tensor),
    projection: Tensor,
}

impl Vit {
    pub(super) fn new(weights: &Weights, config: &VitConfig) -> Result<Self> {
        let (t, patch) = (&config.transformer, config.patch);
        let (d, side) = (t.width, config.resolution / patch);
        let key = |openai, hf| weights.either(openai, hf);
        if t.layers == 0 {
            return Err(weights.format("the vision transformer has no blocks"));
        }
        let mut blocks = Vec::with_capacity(t.layers);
        for i in 0..t.layers {
            let block = weights.block("visual.transformer.resblocks.", "vision_model.encoder.layers.", i, d, t.hidden)?;
            blocks.push(Block::new(&block, t.heads, false, t.activation, t.epsilon)?);
        }
        let pre = match config.pre_norm {
            true => Some(weights.pair(key("visual.ln_pre", "vision_model.pre_layrnorm"), &[d])?),
            false => None,
        };
        let convolution = key("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight");
        let class = key("visual.class_embedding", "vision_model.embeddings.class_embedding");
        let position = key("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight");
        let embedding = PatchEmbedding::new(&EmbedWeights {
            convolution: &weights.get(convolution, &[d, 3, patch, patch])?,
            class: &weights.get(class, &[d])?,
            position: &weights.get(position, &[side * side + 1, d])?,
            norm: pre.as_ref().map(|(gamma, beta)| (gamma, beta, t.epsilon)),
        })?;
        Ok(Self {
            config: config.clone(),
            embedding,
            blocks,
            post: weights.pair(key("visual.ln_post", "vision_model.post_layernorm"), &[d])?,
            projection: weights.projection("visual.proj", "visual_projection.weight", config.embedding, d)?,
        })
    }

    /// input [n, 3, r, r] -> features [n, embedding]. With `trace` every block is computed for every token; else the last for the class
    /// token only, where that is all that is read of it.
    pub(super) fn forward(&self, input: &Tensor, mut trace: Option<Trace>) -> Result<Tensor> {
        let epsilon = self.config.transformer.epsilon;
        let mut x = self.embedding.forward(input)?;
        if let Some(trace) = &mut trace {
            trace("vit.conv1", &self.embedding.convolution(input)?);
            trace("vit.ln_pre", &x);
        }
        let last = self.blocks.len().saturating_sub(1);
        for (i, block) in self.blocks.iter().enumerate() {
            match &mut trace {
                Some(trace) => {
                    x = block.forward(&x)?;
                    trace(&format!("vit.block.{i}"), &x);
                }
                None if i == last && self.config.pool == VisionPool::Class => x = block.first(&x, 1)?,
                None => x = block.forward(&x)?,
            }
        }
        let norm = |x: &Tensor| layer_norm(x, &self.post.0, &self.post.1, epsilon);
        let others = || x.narrow(1, 1, x.dim(1)? - 1);
        let pooled = match (self.config.pool, self.config.norm_after_pool) {
            (VisionPool::Class, _) => norm(&x.narrow(1, 0, 1)?.squeeze(1)?)?,
            (VisionPool::Mean, true) => norm(&others()?.mean(1)?)?,
            (VisionPool::Mean, false) => norm(&others()?.contiguous()?)?.mean(1)?,
        };
        if let Some(trace) = &mut trace {
            trace("vit.ln_post", &pooled);
        }
        Ok(linear(&pooled, &self.projection, None)?)
    }
}
