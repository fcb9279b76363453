//! CLIP's ModifiedResNet (Radford et al. 2021, section 2.4): a stem of three convolutions, blur-free average pools instead of strides
//! (ResNet-D, He et al. 2019), attention pooling. Batch norms are folded into the convolutions before them.

use super::config::ResNetConfig;
use super::weights::Weights;
use super::Trace;
use crate::error::Result;
use crate::kernels::{attention, conv2d, linear};
use candle_core::Tensor;

/// A convolution with its batch norm folded in.
struct Convolution {
    weight: Tensor,
    /// [1, channels, 1, 1]
    bias: Tensor,
    stride: usize,
    padding: usize,
}

/// torch's BatchNorm2d default.
const EPSILON: f64 = 1e-5;

impl Convolution {
    fn new(weights: &Weights, convolution: &str, norm: &str, shape: [usize; 4], stride: usize) -> Result<Self> {
        let outputs = shape[0];
        let weight = weights.get(&format!("{convolution}.weight"), &shape)?;
        let (gamma, beta) = weights.pair(norm, &[outputs])?;
        let mean = weights.get(&format!("{norm}.running_mean"), &[outputs])?;
        let variance = weights.get(&format!("{norm}.running_var"), &[outputs])?;
        if variance.to_vec1::<f32>()?.iter().any(|v| *v < 0.0) {
            return Err(weights.format(format!("tensor '{norm}.running_var' has negative values")));
        }
        let scale = gamma.div(&variance.affine(1.0, EPSILON)?.sqrt()?)?;
        Ok(Self {
            weight: weight.broadcast_mul(&scale.reshape((outputs, 1, 1, 1))?)?,
            bias: beta.sub(&mean.mul(&scale)?)?.reshape((1, outputs, 1, 1))?,
            stride,
            padding: shape[2] / 2,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(conv2d(x, &self.weight, self.stride, self.padding)?.broadcast_add(&self.bias)?)
    }
}

fn pool(x: &Tensor, factor: usize) -> Result<Tensor> {
    Ok(if factor == 1 { x.clone() } else { x.avg_pool2d(factor)? })
}

struct Bottleneck {
    convolutions: [Convolution; 3],
    downsample: Option<Convolution>,
    stride: usize,
}

impl Bottleneck {
    fn new(weights: &Weights, key: &str, inputs: usize, width: usize, stride: usize) -> Result<Self> {
        let convolution = |i: usize, shape| Convolution::new(weights, &format!("{key}.conv{i}"), &format!("{key}.bn{i}"), shape, 1);
        let outputs = width * 4;
        let downsample = match stride > 1 || inputs != outputs {
            true => {
                let (conv, norm) = (format!("{key}.downsample.0"), format!("{key}.downsample.1"));
                Some(Convolution::new(weights, &conv, &norm, [outputs, inputs, 1, 1], 1)?)
            }
            false => None,
        };
        let convolutions =
            [convolution(1, [width, inputs, 1, 1])?, convolution(2, [width, width, 3, 3])?, convolution(3, [outputs, width, 1, 1])?];
        Ok(Self { convolutions, downsample, stride })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.convolutions;
        let y = second.forward(&first.forward(x)?.relu()?)?.relu()?;
        let y = third.forward(&pool(&y, self.stride)?)?;
        let x = match &self.downsample {
            Some(downsample) => downsample.forward(&pool(x, self.stride)?)?,
            None => x.clone(),
        };
        Ok((x + y)?.relu()?)
    }
}

pub(super) struct ResNet {
    stem: [Convolution; 3],
    stages: Vec<Vec<Bottleneck>>,
    heads: usize,
    /// [side * side + 1, channels]
    position: Tensor,
    qkv: (Tensor, Tensor),
    out: (Tensor, Tensor),
}

impl ResNet {
    pub(super) fn new(weights: &Weights, config: &ResNetConfig) -> Result<Self> {
        let (width, channels) = (config.width, config.width * 32);
        let half = width / 2;
        let stem = |i: usize, shape, stride| Convolution::new(weights, &format!("visual.conv{i}"), &format!("visual.bn{i}"), shape, stride);
        let mut stages = Vec::with_capacity(4);
        let mut inputs = width;
        for (stage, &layers) in config.layers.iter().enumerate() {
            let mut blocks = Vec::with_capacity(layers);
            for i in 0..layers {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                blocks.push(Bottleneck::new(weights, &format!("visual.layer{}.{i}", stage + 1), inputs, width << stage, stride)?);
                inputs = (width << stage) * 4;
            }
            stages.push(blocks);
        }
        let side = config.resolution / 32;
        Ok(Self {
            stem: [stem(1, [half, 3, 3, 3], 2)?, stem(2, [half, half, 3, 3], 1)?, stem(3, [width, half, 3, 3], 1)?],
            stages,
            heads: config.heads,
            position: weights.get("visual.attnpool.positional_embedding", &[side * side + 1, channels])?,
            qkv: weights.packed(["q", "k", "v"].map(|part| format!("visual.attnpool.{part}_proj")), channels)?,
            out: weights.pair("visual.attnpool.c_proj", &[config.embedding, channels])?,
        })
    }

    /// input [n, 3, r, r] -> features [n, embedding]
    pub(super) fn forward(&self, input: &Tensor, mut trace: Option<Trace>) -> Result<Tensor> {
        let mut tell = |name: &str, x: &Tensor| {
            if let Some(trace) = &mut trace {
                trace(name, x);
            }
        };
        let mut x = input.clone();
        for convolution in &self.stem {
            x = convolution.forward(&x)?.relu()?;
        }
        x = pool(&x, 2)?;
        tell("rn.avgpool", &x);
        for (i, stage) in self.stages.iter().enumerate() {
            for block in stage {
                x = block.forward(&x)?;
            }
            tell(&format!("rn.layer{}", i + 1), &x);
        }
        // One query, the mean of all places, attends to itself and to them.
        let places = x.flatten_from(2)?.transpose(1, 2)?;
        let tokens = Tensor::cat(&[&places.mean_keepdim(1)?, &places], 1)?.broadcast_add(&self.position)?;
        let pooled = attention(&linear(&tokens, &self.qkv.0, Some(&self.qkv.1))?, self.heads, false)?;
        let features = linear(&pooled.narrow(1, 0, 1)?.squeeze(1)?, &self.out.0, Some(&self.out.1))?;
        tell("rn.attnpool", &features);
        Ok(features)
    }
}
