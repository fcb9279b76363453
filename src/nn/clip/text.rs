//! CLIP's text transformer (Radford et al. 2021, section 2.4).

use super::config::TextConfig;
use super::pool::End;
use super::weights::{Pair, Weights};
use super::{place, Trace};
use crate::cancel::Cancel;
use crate::checkpoint::{self, Checkpoint};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::kernels::{layer_norm, linear, Block, BlockWeights};
use candle_core::{DType, Tensor};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// A text tower that is in memory only as long as texts are embedded, a matter of seconds: it is two fifths of a ViT-B's weights.
pub(super) struct Text {
    config: TextConfig,
    device: Device,
    /// None: what was opened cannot be opened again, and the tower stays.
    file: Option<File>,
    tower: Mutex<Option<Arc<TextTower>>>,
}

/// Where the tower is read.
struct File {
    path: PathBuf,
    /// Its parts with their lengths and times of change when the CLIP was opened.
    parts: Vec<(PathBuf, Option<Stamp>)>,
}

type Stamp = (u64, Option<SystemTime>);

fn stamp(path: &PathBuf) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|m| (m.len(), m.modified().ok()))
}

impl File {
    /// `Format` where a part is not what it was; where it is gone, why it cannot be opened.
    fn check(&self) -> Result<()> {
        match self.parts.iter().find(|(part, was)| stamp(part) != *was) {
            None => Ok(()),
            Some((part, _)) => {
                std::fs::metadata(part).map_err(|e| Error::io(part, e))?;
                Err(Error::format(part, "changed since the CLIP was opened; open it again"))
            }
        }
    }
}

impl TextConfig {
    /// Where each text ends: the index of the token whose state is the text's.
    fn ends(&self, tokens: &[Vec<u32>]) -> Result<Vec<u32>> {
        let mut ends = Vec::with_capacity(tokens.len());
        for (row, ids) in tokens.iter().enumerate() {
            if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocabulary) {
                let message = format!("row {row} has the id {id}, but the vocabulary has {} tokens", self.vocabulary);
                return Err(Error::argument("tokens", message));
            }
            let end = match self.end {
                End::Largest => ids.iter().max().and_then(|max| ids.iter().position(|id| id == max)),
                End::Token(end) => ids.iter().position(|&id| id == end),
                End::First => Some(0),
                End::Last => Some(ids.len() - 1),
            };
            match end {
                Some(end) => ends.push(end as u32),
                None => return Err(Error::argument("tokens", format!("row {row} has no end token ({:?})", self.end))),
            }
        }
        Ok(ends)
    }
}

impl Text {
    /// Of a file that can be opened again only keys and shapes are looked at. Errors: where one of the tower's is missing or has another shape;
    /// where it cannot be read or is not finite that is said here, or of such a file when it is read.
    pub(super) fn new(weights: &Weights, config: &TextConfig, file: Option<&Checkpoint>) -> Result<Self> {
        let tower = match file {
            Some(_) => {
                TextTower::read(&weights.shapes_alone(), config, |_| Ok(()))?;
                None
            }
            None => Some(Arc::new(TextTower::new(weights, config)?)),
        };
        let file = file.map(|file| {
            // The process may go to another folder in the meantime; a folder that cannot be asked for leaves the path as it is.
            let lasting = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
            let parts = file.files().into_iter().map(lasting).map(|part| (part.clone(), stamp(&part))).collect();
            File { path: lasting(file.path.clone()), parts }
        });
        Ok(Self { config: config.clone(), device: weights.device().clone(), file, tower: Mutex::new(tower) })
    }

    /// The tower, read where it is not there. Errors: as those of reading every tensor of the tower; `Cancelled` once the flag is raised; `Format`
    /// where the file is another than it was.
    pub(super) fn tower(&self, cancel: &Cancel) -> Result<Arc<TextTower>> {
        let there = || self.tower.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tower) = &*there() {
            return Ok(tower.clone());
        }
        let file = self.file.as_ref().ok_or_else(|| Error::Internal("the text tower is gone".into()))?;
        file.check()?;
        // Not behind the lock: reading uses all threads, one of which may come here for another's text and would wait for itself. Those who
        // come at the same time each read it, and one is kept.
        let opened = place(&checkpoint::open_unless(&file.path, cancel)?.on(&self.device));
        let tower = Arc::new(TextTower::new(&Weights::new(&opened)?, &self.config)?);
        // It may have been written to while it was read.
        file.check()?;
        Ok(there().get_or_insert(tower).clone())
    }

    /// Where the weights lie.
    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Lets go of the tower; who uses it at the moment keeps it until then.
    pub(super) fn release(&self) {
        if self.file.is_some() {
            let tower = self.tower.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(tower);
        }
    }

    /// How many tokens of each text are computed where it stands alone.
    pub(super) fn lengths(&self, tokens: &[Vec<u32>]) -> Result<Vec<usize>> {
        match self.config.causal {
            true => Ok(self.config.ends(tokens)?.into_iter().map(|end| end as usize + 1).collect()),
            false => Ok(tokens.iter().map(Vec::len).collect()),
        }
    }
}

/// What a tower has beside its blocks.
struct Rest {
    tokens: Tensor,
    position: Tensor,
    last: Pair,
    projection: Tensor,
}

pub(super) struct TextTower {
    config: TextConfig,
    /// [vocabulary, width]
    tokens: Tensor,
    /// [context, width]
    position: Tensor,
    blocks: Vec<Block>,
    last: Pair,
    projection: Tensor,
}

impl TextTower {
    fn new(weights: &Weights, config: &TextConfig) -> Result<Self> {
        let t = &config.transformer;
        let mut blocks = Vec::with_capacity(t.layers);
        let rest = Self::read(weights, config, |block| {
            blocks.push(Block::new(&block, t.heads, config.causal, t.activation, t.epsilon)?);
            Ok(())
        })?;
        let Rest { tokens, position, last, projection } = rest;
        Ok(Self { config: config.clone(), tokens, position, blocks, last, projection })
    }

    /// All of its tensors, block by block, and the rest.
    fn read(weights: &Weights, config: &TextConfig, mut each: impl FnMut(BlockWeights) -> Result<()>) -> Result<Rest> {
        let t = &config.transformer;
        let d = t.width;
        let key = |openai, hf| weights.either(openai, hf);
        if config.context == 0 || config.vocabulary == 0 {
            return Err(weights.format("the text tower has no positions or no tokens"));
        }
        for i in 0..t.layers {
            each(weights.block("transformer.resblocks.", "text_model.encoder.layers.", i, d, t.hidden)?)?;
        }
        Ok(Rest {
            tokens: weights.get(key("token_embedding.weight", "text_model.embeddings.token_embedding.weight"), &[config.vocabulary, d])?,
            position: weights.get(key("positional_embedding", "text_model.embeddings.position_embedding.weight"), &[config.context, d])?,
            last: weights.pair(key("ln_final", "text_model.final_layer_norm"), &[d])?,
            projection: weights.projection("text_projection", "text_projection.weight", config.embedding, d)?,
        })
    }

    /// tokens [n, up to context] -> features [n, embedding]. Where attention is causal, what follows the last end is not computed, except
    /// with `trace`.
    pub(super) fn forward(&self, tokens: &Tensor, mut trace: Option<Trace>) -> Result<Tensor> {
        let length = match tokens.dims() {
            &[n, length] if n > 0 && length > 0 && length <= self.config.context => length,
            dims => return Err(Error::argument("tokens", format!("shape {dims:?} is not [texts, 1 to {} tokens]", self.config.context))),
        };
        let rows = tokens.to_dtype(DType::U32)?.to_vec2::<u32>()?;
        let ends = self.config.ends(&rows)?;
        let needed = match trace {
            Some(_) => length,
            None if !self.config.causal => length,
            None => ends.iter().max().map_or(length, |&end| end as usize + 1),
        };
        let ids: Vec<u32> = rows.iter().flat_map(|row| &row[..needed]).copied().collect();
        let (n, d) = (rows.len(), self.config.transformer.width);
        let device = self.tokens.device();
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
