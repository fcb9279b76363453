//! CLIP's text transformer (Radford et al. 2021, section 2.4).

use super::config::TextConfig;
use super::pool::End;
use super::weights::Weights;
use super::Trace;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::kernels::{layer_norm, linear, Block};
use candle_core::{DType, Tensor};

pub(super) struct TextTower {
    config: TextConfig,
    /// [vocabulary, width]
    tokens: Tensor,
    /// [context, width]
    position: Tensor,
    blocks: Vec<Block>,
    last: (Tensor, Tensor),
    projection: Tensor,
}

impl TextTower {
    pub(super) fn new(weights: &Weights, config: &TextConfig) -> Result<Self> {
        let t = &config.transformer;
        let d = t.width;
        let key = |openai, hf| weights.either(openai, hf);
        if config.context == 0 || config.vocabulary == 0 {
            return Err(weights.format("the text tower has no positions or no tokens"));
        }
        let mut blocks = Vec::with_capacity(t.layers);
        for i in 0..t.layers {
            let block = weights.block("transformer.resblocks.", "text_model.encoder.layers.", i, d, t.hidden)?;
            blocks.push(Block::new(&block, t.heads, config.causal, t.activation, t.epsilon)?);
        }
        Ok(Self {
            tokens: weights.get(key("token_embedding.weight", "text_model.embeddings.token_embedding.weight"), &[config.vocabulary, d])?,
            position: weights.get(key("positional_embedding", "text_model.embeddings.position_embedding.weight"), &[config.context, d])?,
            blocks,
            last: weights.pair(key("ln_final", "text_model.final_layer_norm"), &[d])?,
            projection: weights.projection("text_projection", "text_projection.weight", config.embedding, d)?,
            config: config.clone(),
        })
    }

    /// Where each text ends: the index of the token whose state is the text's.
    fn ends(&self, tokens: &[Vec<u32>]) -> Result<Vec<u32>> {
        let mut ends = Vec::with_capacity(tokens.len());
        for (row, ids) in tokens.iter().enumerate() {
            if let Some(id) = ids.iter().find(|&&id| id as usize >= self.config.vocabulary) {
                let message = format!("row {row} has the id {id}, but the vocabulary has {} tokens", self.config.vocabulary);
                return Err(Error::argument("tokens", message));
            }
            let end = match self.config.end {
                End::Largest => ids.iter().max().and_then(|max| ids.iter().position(|id| id == max)),
                End::Token(end) => ids.iter().position(|&id| id == end),
                End::First => Some(0),
                End::Last => Some(ids.len() - 1),
            };
            match end {
                Some(end) => ends.push(end as u32),
                None => return Err(Error::argument("tokens", format!("row {row} has no end token ({:?})", self.config.end))),
            }
        }
        Ok(ends)
    }

    /// How many tokens of each text are computed where it stands alone.
    pub(super) fn lengths(&self, tokens: &[Vec<u32>]) -> Result<Vec<usize>> {
        match self.config.causal {
            true => Ok(self.ends(tokens)?.into_iter().map(|end| end as usize + 1).collect()),
            false => Ok(tokens.iter().map(Vec::len).collect()),
        }
    }

    /// Where the weights lie.
    pub(super) fn device(&self) -> &Device {
        self.tokens.device()
    }

    /// tokens [n, up to context] -> features [n, embedding]. Where attention is causal, what follows the last end is not computed, except
    /// with `trace`.
    pub(super) fn forward(&self, tokens: &Tensor, mut trace: Option<Trace>) -> Result<Tensor> {
        let length = match tokens.dims() {
            &[n, length] if n > 0 && length > 0 && length <= self.config.context => length,
            dims => return Err(Error::argument("tokens", format!("shape {dims:?} is not [texts, 1 to {} tokens]", self.config.context))),
        };
        let rows = tokens.to_dtype(DType::U32)?.to_vec2::<u32>()?;
        let ends = self.ends(&rows)?;
        let needed = match trace {
            Some(_) => length,
            None if !self.config.causal => length,
            None => ends.iter().max().map_or(length, |&end| end as usize + 1),
        };
        let ids: Vec<u32> = rows.iter().flat_map(|row| &row[..needed]).copied().collect();
        let (n, d) = (rows.len(), self.config.transformer.width);
        let device = self.device();
        let ids = Tensor::from_vec(ids, n * needed, device)?;
        let mut x = self.tokens.index_select(&ids, 0)?.reshape((n, needed, d))?.broadcast_add(&self.position.narrow(0, 0, needed)?)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x)?;
            if let Some(trace) = &mut trace {
                trace(&format!("text.block.{i}"), &x);
            }
        }
        let at: Vec<u32> = ends.iter().enumerate().map(|(row, end)| (row * needed) as u32 + end).collect();
        let x = x.reshape((n * needed, d))?.index_select(&Tensor::from_vec(at, n, device)?, 0)?;
        let x = layer_norm(&x, &self.last.0, &self.last.1, self.config.transformer.epsilon)?;
        Ok(linear(&x, &self.projection, None)?)
    }
}
