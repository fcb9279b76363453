//! The three networks of MTCNN (Zhang et al. 2016, "Joint face detection and alignment using multitask cascaded convolutional networks",
//! arXiv 1604.02878), in the sizes of its authors' release. How they are used stands in [`crate::face`].
//!
//! All take pictures [n, 3, h, w] of (v - 127.5) / 128 for v in 0..255. They are small: they run on the CPU, wherever the generator does.

#![allow(rustdoc::broken_intra_doc_links)] // shapes stand in square brackets

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::kernels::{conv2d, linear, prelu_pool};
use candle_core::Tensor;

/// A convolution without padding, PReLU, and a max-pool where `pool` is not 0.
struct Conv {
    weight: Tensor,
    bias: Tensor,
    slope: Tensor,
    pool: usize,
}

impl Conv {
    /// Layer `i` of a network, [outputs, inputs, kernel, kernel].
    fn read(file: &Checkpoint, i: usize, shape: [usize; 3], pool: usize) -> Result<Self> {
        let [outputs, inputs, kernel] = shape;
        Ok(Self {
            weight: file.f32(&format!("conv{i}.weight"), Some(&[outputs, inputs, kernel, kernel]))?,
            bias: file.f32(&format!("conv{i}.bias"), Some(&[outputs]))?,
            slope: file.f32(&format!("prelu{i}.weight"), Some(&[outputs]))?,
            pool,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(prelu_pool(&conv2d(x, &self.weight, 1, 0)?, &self.bias, &self.slope, self.pool)?)
    }
}

/// A dense layer with PReLU behind the convolutions, and the heads behind it, as one matrix.
struct Dense {
    weight: Tensor,
    bias: Tensor,
    slope: Tensor,
    heads: (Tensor, Tensor),
}

impl Dense {
    /// Layer `i` of a network, [outputs, inputs]; its heads, `i + 1`, have so many numbers.
    fn read(file: &Checkpoint, i: usize, [outputs, inputs]: [usize; 2], heads: &[usize]) -> Result<Self> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for (k, &n) in heads.iter().enumerate() {
            weights.push(file.f32(&format!("dense{}_{}.weight", i + 1, k + 1), Some(&[n, outputs]))?);
            biases.push(file.f32(&format!("dense{}_{}.bias", i + 1, k + 1), Some(&[n]))?);
        }
        Ok(Self {
            weight: file.f32(&format!("dense{i}.weight"), Some(&[outputs, inputs]))?,
            bias: file.f32(&format!("dense{i}.bias"), Some(&[outputs]))?,
            slope: file.f32(&format!("prelu{i}.weight"), Some(&[outputs]))?,
            heads: (Tensor::cat(&weights, 0)?, Tensor::cat(&biases, 0)?),
        })
    }

    /// [n, c, 3, 3] -> [n, numbers of all heads]
    fn forward(&self, x: &Tensor) -> Result<Vec<Vec<f32>>> {
        // The dense layer's inputs lie with x outermost, then y, then the channel.
        let x = x.permute((0, 3, 2, 1))?.flatten_from(1)?;
        let hidden = linear(&x, &self.weight, None)?.unsqueeze(2)?.unsqueeze(3)?;
        let hidden = prelu_pool(&hidden, &self.bias, &self.slope, 0)?.flatten_from(1)?;
        Ok(linear(&hidden, &self.heads.0, Some(&self.heads.1))?.to_vec2::<f32>()?)
    }
}

/// The second of two softmax outputs.
fn second_of(a: f32, b: f32) -> f32 {
    let high = a.max(b);
    let (a, b) = ((a - high).exp(), (b - high).exp());
    b / (a + b)
}

/// What a network says of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// That there is a face, in [0, 1].
    pub score: f32,
    /// How far each side of the face's box (left, top, right, bottom) is off the picture's, in widths and heights of the picture.
    pub offsets: [f32; 4],
    /// x of left eye, right eye, nose, left and right corner of the mouth, then y of each, over the picture; empty where the network does not
    /// find them.
    pub points: Vec<f32>,
}

impl Verdict {
    fn of(numbers: &[f32]) -> Self {
        let (head, points) = numbers.split_at(6);
        Self { score: second_of(head[0], head[1]), offsets: [head[2], head[3], head[4], head[5]], points: points.to_vec() }
    }
}

/// Proposes windows of 12 pixels a side, 2 apart.
pub struct Proposal {
    convs: [Conv; 3],
    heads: (Tensor, Tensor),
}

/// Judges windows of 24 or of 48 pixels a side.
pub struct Judge {
    convs: Vec<Conv>,
    dense: Dense,
    side: usize,
}

/// The networks, in the order in which they look.
pub struct Networks {
    pub proposal: Proposal,
    pub refine: Judge,
    pub output: Judge,
}

impl Networks {
    /// Keys `pnet.*`, `rnet.*`, `onet.*`. Errors: `Format` that names a key which is missing or of another shape.
    pub fn read(file: &Checkpoint) -> Result<Self> {
        let (p, r, o) = (file.with_prefix("pnet."), file.with_prefix("rnet."), file.with_prefix("onet."));
        let both = |what: &str, shapes: [&[usize]; 2]| {
            let parts = [1, 2].map(|k| p.f32(&format!("conv4_{k}.{what}"), Some(shapes[k - 1])));
            let [a, b] = parts;
            Ok::<_, crate::Error>(Tensor::cat(&[a?, b?], 0)?)
        };
        Ok(Self {
            proposal: Proposal {
                convs: [Conv::read(&p, 1, [10, 3, 3], 2)?, Conv::read(&p, 2, [16, 10, 3], 0)?, Conv::read(&p, 3, [32, 16, 3], 0)?],
                heads: (both("weight", [&[2, 32, 1, 1], &[4, 32, 1, 1]])?, both("bias", [&[2], &[4]])?),
            },
            refine: Judge {
                convs: vec![Conv::read(&r, 1, [28, 3, 3], 3)?, Conv::read(&r, 2, [48, 28, 3], 3)?, Conv::read(&r, 3, [64, 48, 2], 0)?],
                dense: Dense::read(&r, 4, [128, 576], &[2, 4])?,
                side: 24,
            },
            output: Judge {
                convs: vec![
                    Conv::read(&o, 1, [32, 3, 3], 3)?,
                    Conv::read(&o, 2, [64, 32, 3], 3)?,
                    Conv::read(&o, 3, [64, 64, 3], 2)?,
                    Conv::read(&o, 4, [128, 64, 2], 0)?,
                ],
                dense: Dense::read(&o, 5, [256, 1152], &[2, 4, 10])?,
                side: 48,
            },
        })
    }
}

impl Proposal {
    /// Cells along a side of so many pixels, of which the network sees at least 12.
    pub fn cells(pixels: usize) -> usize {
        (pixels - 2).div_ceil(2) - 4
    }

    /// One picture [1, 3, h, w], of at least 12 pixels a side -> a verdict for each of cells(h) x cells(w), row by row.
    pub fn forward(&self, picture: &Tensor) -> Result<Vec<Verdict>> {
        let mut x = picture.clone();
        for conv in &self.convs {
            x = conv.forward(&x)?;
        }
        let (weight, bias) = (&self.heads.0, self.heads.1.to_vec1::<f32>()?);
        let maps: Vec<Vec<f32>> = conv2d(&x, weight, 1, 0)?.squeeze(0)?.flatten_from(1)?.to_vec2()?;
        let at = |cell: usize| Verdict::of(&[0, 1, 2, 3, 4, 5].map(|c| maps[c][cell] + bias[c]));
        Ok((0..maps[0].len()).map(at).collect())
    }
}

impl Judge {
    /// Pixels a side that it looks at.
    pub fn side(&self) -> usize {
        self.side
    }

    /// [n, 3, side, side] -> a verdict for each.
    pub fn forward(&self, pictures: &Tensor) -> Result<Vec<Verdict>> {
        let mut x = pictures.clone();
        for conv in &self.convs {
            x = conv.forward(&x)?;
        }
        Ok(self.dense.forward(&x)?.iter().map(|numbers| Verdict::of(numbers)).collect())
    }
}
