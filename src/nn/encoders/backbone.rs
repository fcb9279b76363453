//! The networks before the heads: IR-SE50 (Deng et al. 2019, ArcFace; squeeze and excitation by Hu et al. 2018) and ResNet34 (He et al. 2016).
//!
//! A batch norm behind a convolution is folded into it. The one before each of IR-SE50's blocks is not: its convolution's border is zeros, not
//! what the norm makes of zeros.
//!
//! Folding rounds each weight once more (2^-24 of it). Wide convolutions of stride 1 go through Winograd's points, whose error is up to 8e-5 of a
//! layer's root mean square with 512 channels, where plain sums have 7e-6.

use super::file::{self, Config};
use super::Trace;
use crate::cancel::Cancel;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::kernels::{linear, Convolution, Features};
use candle_core::Tensor;
use rayon::prelude::*;

/// torch's default for batch norms.
const EPSILON: f64 = 1e-5;

/// What a batch norm multiplies with and adds, [channels] each.
fn norm(file: &Checkpoint, name: &str, channels: usize) -> Result<(Tensor, Tensor)> {
    let part = |part: &str| file.f32(&format!("{name}.{part}"), Some(&[channels]));
    let (gamma, beta, mean, variance) = (part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?);
    if variance.to_vec1::<f32>()?.iter().any(|v| *v < 0.0) {
        let key = file.full(&format!("{name}.running_var"));
        return Err(Error::format(&file.path, format!("tensor '{key}' has negative values, where variances are 0 or more")));
    }
    let scale = gamma.div(&variance.affine(1.0, EPSILON)?.sqrt()?)?;
    let shift = beta.sub(&mean.mul(&scale)?)?;
    Ok((scale, shift))
}

/// A convolution with the batch norm behind it folded in. `slopes` is the key of a PReLU's behind that.
fn folded(
    file: &Checkpoint,
    name: &str,
    norm_name: &str,
    shape: [usize; 4],
    slopes: Option<&Tensor>,
    stride: usize,
) -> Result<Convolution> {
    let weight = file.f32(&format!("{name}.weight"), Some(&shape))?;
    let (scale, shift) = norm(file, norm_name, shape[0])?;
    let weight = weight.broadcast_mul(&scale.reshape((shape[0], 1, 1, 1))?)?;
    Ok(Convolution::new(&weight, &shift, slopes, stride)?)
}

/// What is added to a block's result.
enum Shortcut {
    Same,
    EverySecond,
    Convolution(Convolution),
}

impl Shortcut {
    fn new(file: &Checkpoint, name: &str, from: usize, to: usize, stride: usize) -> Result<Self> {
        Ok(match (from == to, stride) {
            (true, 1) => Shortcut::Same,
            (true, _) => Shortcut::EverySecond,
            (false, _) => {
                let (convolution, norm) = (format!("{name}.0"), format!("{name}.1"));
                Shortcut::Convolution(folded(file, &convolution, &norm, [to, from, 1, 1], None, stride)?)
            }
        })
    }

    fn forward(&self, x: &Features) -> Result<Features> {
        Ok(match self {
            Shortcut::Same => x.clone(),
            Shortcut::EverySecond => x.every_second()?,
            Shortcut::Convolution(convolution) => convolution.forward(x)?,
        })
    }
}

enum Block {
    /// Batch norm, convolution, PReLU, convolution, squeeze and excitation, plus the shortcut.
    IrSe { norm: (Tensor, Tensor), convolutions: [Convolution; 2], squeeze: Tensor, excite: Tensor, shortcut: Shortcut },
    /// Two convolutions with a ReLU between them, plus the shortcut, and a ReLU.
    Basic { convolutions: [Convolution; 2], shortcut: Shortcut },
}

impl Block {
    fn ir_se(file: &Checkpoint, name: &str, from: usize, to: usize, stride: usize) -> Result<Self> {
        let layer = |i: usize| format!("{name}.res_layer.{i}");
        let slopes = file.f32(&format!("{}.weight", layer(2)), Some(&[to]))?;
        let first = file.f32(&format!("{}.weight", layer(1)), Some(&[to, from, 3, 3]))?;
        let nothing = Tensor::zeros(to, candle_core::DType::F32, file.device())?;
        let first = Convolution::new(&first, &nothing, Some(&slopes), 1)?;
        let second = folded(file, &layer(3), &layer(4), [to, to, 3, 3], None, stride)?;
        let (down, up) = (format!("{}.fc1.weight", layer(5)), format!("{}.fc2.weight", layer(5)));
        let width = file.shape(&down).and_then(|shape| shape.first().copied()).unwrap_or(0);
        Ok(Block::IrSe {
            norm: norm(file, &layer(0), from)?,
            convolutions: [first, second],
            squeeze: file.f32(&down, Some(&[width, to, 1, 1]))?.reshape((width, to))?,
            excite: file.f32(&up, Some(&[to, width, 1, 1]))?.reshape((to, width))?,
            shortcut: Shortcut::new(file, &format!("{name}.shortcut_layer"), from, to, stride)?,
        })
    }

    fn basic(file: &Checkpoint, name: &str, from: usize, to: usize, stride: usize) -> Result<Self> {
        let relu = Tensor::zeros(to, candle_core::DType::F32, file.device())?;
        let layer = |i: usize, from: usize, slopes: Option<&Tensor>, stride: usize| {
            folded(file, &format!("{name}.conv{i}"), &format!("{name}.bn{i}"), [to, from, 3, 3], slopes, stride)
        };
        Ok(Block::Basic {
            convolutions: [layer(1, from, Some(&relu), stride)?, layer(2, to, None, 1)?],
            shortcut: Shortcut::new(file, &format!("{name}.downsample"), from, to, stride)?,
        })
    }

    fn forward(&self, x: &Features) -> Result<Features> {
        match self {
            Block::IrSe { norm: (scale, shift), convolutions: [first, second], squeeze, excite, shortcut } => {
                let y = second.forward(&first.forward(&x.scaled(scale, shift)?)?)?;
                let gate = linear(&linear(&y.mean()?, squeeze, None)?.relu()?, excite, None)?;
                // The logistic function.
                let gate = gate.neg()?.exp()?.affine(1.0, 1.0)?.recip()?;
                Ok(y.joined(Some(&gate), &shortcut.forward(x)?)?)
            }
            Block::Basic { convolutions: [first, second], shortcut } => {
                let y = second.forward(&first.forward(x)?)?;
                Ok(y.joined(None, &shortcut.forward(x)?)?.relu()?)
            }
        }
    }
}

pub(super) struct Backbone {
    stem: Convolution,
    blocks: Vec<Block>,
    /// The last block before each time that the width changes, and the last of all: of each map, the finest first.
    ends: Vec<usize>,
    /// Channels of the last map.
    pub width: usize,
}

impl Backbone {
    pub(super) fn new(file: &Checkpoint, config: &Config, cancel: &Cancel) -> Result<Self> {
        let ir_se = config.backbone == file::Backbone::IrSe50;
        let outputs = |key: &str| file.shape(key).and_then(|shape| shape.first().copied()).unwrap_or(0);
        let (stem, norm, slopes, k, stride) = match ir_se {
            true => ("input_layer.0", "input_layer.1", "input_layer.2.weight", 3, 1),
            false => ("conv1", "bn1", "relu.weight", 7, 2),
        };
        let mut width = outputs(&format!("{stem}.weight"));
        let slopes = file.f32(slopes, Some(&[width]))?;
        let stem = folded(file, stem, norm, [width, config.input_channels, k, k], Some(&slopes), stride)?;
        let (mut plan, mut ends) = (Vec::with_capacity(config.blocks), Vec::new());
        for i in 0..config.blocks {
            let name = format!("body.{i}");
            let to = outputs(&format!("{name}.{}.weight", if ir_se { "res_layer.1" } else { "conv1" }));
            // The map is halved wherever it becomes wider, and by IR-SE50's first block.
            let stride = if to != width || (ir_se && i == 0) { 2 } else { 1 };
            if to != width && i > 0 {
                ends.push(i - 1);
            }
            plan.push((name, width, to, stride));
            width = to;
        }
        let block = |(name, from, to, stride): (String, usize, usize, usize)| {
            cancel.check()?;
            let block = if ir_se { Block::ir_se } else { Block::basic };
            block(file, &name, from, to, stride)
        };
        let blocks = plan.into_par_iter().map(block).collect::<Result<Vec<Block>>>()?;
        ends.push(config.blocks.saturating_sub(1));
        Ok(Self { stem, blocks, ends, width })
    }

    /// Maps in all, the last included.
    pub(super) fn maps(&self) -> usize {
        self.ends.len()
    }

    /// x [n, c, h, w] -> the last `count` maps, the finest first; `Cancelled` between blocks.
    pub(super) fn forward(&self, x: &Tensor, count: usize, cancel: &Cancel, trace: &mut Option<Trace>) -> Result<Vec<Features>> {
        let mut x = self.stem.forward(&Features::new(x)?)?;
        let mut maps = Vec::with_capacity(count);
        let wanted = &self.ends[self.ends.len().saturating_sub(count)..];
        for (i, block) in self.blocks.iter().enumerate() {
            cancel.check()?;
            x = block.forward(&x)?;
            if let Some(trace) = trace {
                trace(&format!("body.{i}"), &x.to_tensor()?);
            }
            if wanted.contains(&i) {
                maps.push(x.clone());
            }
        }
        Ok(maps)
    }
}
