//! A whole frozen pre-norm transformer block as one operation (Radford et al. 2021, section 2.4: x + attention(norm(x)), then x + mlp(norm(x))).
//!
//! One operation instead of a dozen: candle adds every gradient to zeros of its own, and between small operations threads mostly wait for
//! each other. On the CPU a thread takes a share of the samples through the whole block, in its own cache.

use super::activation::Activation;
use super::attention::Attention;
use super::cpu::norm::Norm;
use super::cpu::transformer::{Dense, Kept};
use super::cpu::{self, View};
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{alike, apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Error, Result, Shape, Tensor};
use std::sync::Arc;

/// What a block is made of; each pair is (weight, bias) or (gamma, beta). d is the width.
pub struct BlockWeights {
    /// [d], [d]
    pub norm1: (Tensor, Tensor),
    /// [3d, d], [3d]: queries, keys, values
    pub qkv: (Tensor, Tensor),
    /// [d, d], [d]
    pub out: (Tensor, Tensor),
    /// [d], [d]
    pub norm2: (Tensor, Tensor),
    /// [hidden, d], [hidden]
    pub up: (Tensor, Tensor),
    /// [d, hidden], [d]
    pub down: (Tensor, Tensor),
}

/// A frozen transformer block. Cheap to clone; threads may share it.
#[derive(Clone, Debug)]
pub struct Block(Arc<Parts>);

/// How many tensors [`BlockWeights`] has.
const WEIGHTS: usize = 12;

#[derive(Debug)]
struct Parts {
    /// In the order of [`BlockWeights`], f32, contiguous.
    weights: [Tensor; WEIGHTS],
    attention: Attention,
    activation: Activation,
    epsilon: f32,
}

impl Block {
    /// `heads` must divide the width; `causal`: token i sees tokens 0..=i. The weights are kept as f32, without their gradients.
    pub fn new(weights: &BlockWeights, heads: usize, causal: bool, activation: Activation, epsilon: f32) -> Result<Self> {
        let width = weights.norm1.0.elem_count();
        let hidden = weights.up.1.elem_count();
        if width == 0 || hidden == 0 || heads == 0 || !width.is_multiple_of(heads) {
            bail!("transformer block of width {width} and hidden width {hidden} with {heads} heads");
        }
        let values = |t: &Tensor, shape: &[usize]| match t.dims() == shape {
            true => f32s(&t.detach())?.contiguous(),
            false => bail!("transformer block: a weight is {:?}, not {shape:?}", t.dims()),
        };
        let BlockWeights { norm1, qkv, out, norm2, up, down } = weights;
        let weights = [
            values(&norm1.0, &[width])?,
            values(&norm1.1, &[width])?,
            values(&qkv.0, &[3 * width, width])?,
            values(&qkv.1, &[3 * width])?,
            values(&out.0, &[width, width])?,
            values(&out.1, &[width])?,
            values(&norm2.0, &[width])?,
            values(&norm2.1, &[width])?,
            values(&up.0, &[hidden, width])?,
            values(&up.1, &[hidden])?,
            values(&down.0, &[width, hidden])?,
            values(&down.1, &[width])?,
        ];
        Ok(Self(Arc::new(Parts { weights, attention: Attention { heads, width, causal }, activation, epsilon })))
    }

    /// x [n, t, d] -> [n, t, d]. Differentiable in x.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, tokens, _) = x.dims3()?;
        self.first(x, tokens)
    }

    /// The first `queries` tokens of what [`Block::forward`] gives, [n, queries, d]: for a last block of which only the class token is read.
    pub fn first(&self, x: &Tensor, queries: usize) -> Result<Tensor> {
        let Parts { weights, attention, activation, epsilon } = &*self.0;
        let op = BlockOp { attention: *attention, activation: *activation, epsilon: *epsilon, queries };
        let x = f32s(x)?;
        apply(op, std::array::from_fn(|i| if i == 0 { &x } else { &weights[i - 1] }))
    }
}

/// x [n, tokens, d] and the weights -> [n, queries, d], and [`Kept`].
#[derive(Clone, Copy)]
struct BlockOp {
    attention: Attention,
    activation: Activation,
    epsilon: f32,
    queries: usize,
}

impl BlockOp {
    /// (n, queries, tokens)
    fn size(&self, x: &Shape) -> Result<(usize, usize, usize)> {
        match x.dims() {
            &[n, tokens, width] if width == self.attention.width && (1..=tokens).contains(&self.queries) => Ok((n, self.queries, tokens)),
            other => bail!("transformer block of width {}: x {other:?}, first {} tokens", self.attention.width, self.queries),
        }
    }

    fn block<'a>(&self, weights: [View<'a>; WEIGHTS]) -> cpu::transformer::Block<'a> {
        let [gamma1, beta1, qkv, qkv_bias, out, out_bias, gamma2, beta2, up, up_bias, down, down_bias] = weights.map(|w| w.values);
        let epsilon = self.epsilon;
        cpu::transformer::Block {
            norm1: Norm { gamma: gamma1, beta: beta1, epsilon },
            qkv: Dense { weight: qkv, bias: qkv_bias },
            out: Dense { weight: out, bias: out_bias },
            norm2: Norm { gamma: gamma2, beta: beta2, epsilon },
            up: Dense { weight: up, bias: up_bias },
            down: Dense { weight: down, bias: down_bias },
            attention: self.attention,
            activation: self.activation,
        }
    }

    #[cfg(feature = "cuda")]
    fn block_on_gpu(&self, weights: [cuda::View; WEIGHTS]) -> cuda::transformer::Block {
        let (width, hidden, epsilon) = (self.attention.width, weights[9].values.len(), self.epsilon);
        let [gamma1, beta1, qkv, qkv_bias, out, out_bias, gamma2, beta2, up, up_bias, down, down_bias] = weights.map(|w| w.at());
        let norm = |gamma, beta| cuda::transformer::Norm { gamma, beta, width, epsilon };
        let dense = |weight, bias, inputs, outputs| cuda::transformer::Dense { weight, bias: Some(bias), inputs, outputs };
        cuda::transformer::Block {
            norm1: norm(gamma1, beta1),
            qkv: dense(qkv, qkv_bias, width, 3 * width),
            out: dense(out, out_bias, width, width),
            norm2: norm(gamma2, beta2),
            up: dense(up, up_bias, width, hidden),
            down: dense(down, down_bias, hidden, width),
            attention: self.attention,
            activation: self.activation,
        }
    }
}

impl Op<{ 1 + WEIGHTS }, 4> for BlockOp {
    const NAME: &'static str = "transformer block";
    fn shapes(&self, [x, weights @ ..]: [&Shape; 1 + WEIGHTS]) -> Result<[Shape; 4]> {
        let (n, queries, tokens) = self.size(x)?;
        let (width, hidden) = (self.attention.width, weights[9].elem_count());
        let out = Shape::from((n, queries, width));
        Ok([out.clone(), (n, tokens, 3 * width).into(), out, (n, queries, hidden).into()])
    }
    fn cpu(&self, [x, weights @ ..]: [View; 1 + WEIGHTS]) -> Result<[Vec<f32>; 4]> {
        let (out, Kept { qkv, middle, hidden }) = self.block(weights).forward(x.values, self.size(x.shape)?);
        Ok([out, qkv, middle, hidden])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, weights @ ..]: [cuda::View; 1 + WEIGHTS]) -> Result<[cuda::Numbers; 4]> {
        self.block_on_gpu(weights).forward(gpu, x.at(), self.size(x.shape)?)
    }
}

impl Differentiable<{ 1 + WEIGHTS }, 4> for BlockOp {
    fn gradient(&self, given: &Backward<{ 1 + WEIGHTS }, 4>) -> Result<[Option<Tensor>; 1 + WEIGHTS]> {
        let [_, kept @ ..] = &given.outputs;
        let inputs: Vec<&Tensor> = std::iter::once(&given.gradient).chain(kept).chain(&given.inputs).collect();
        let inputs = inputs.try_into().map_err(|_| Error::Msg("transformer block: as many inputs as there are".into()))?;
        let mut gradients = [const { None }; 1 + WEIGHTS];
        gradients[0] = Some(run1(&BlockGradient(*self), inputs)?);
        Ok(gradients)
    }
}

/// Gradient of the result, what was kept of qkv, middle and hidden, x, the weights -> gradient of x.
struct BlockGradient(BlockOp);

impl Op<{ 5 + WEIGHTS }> for BlockGradient {
    const NAME: &'static str = "transformer block's gradient";
    fn shapes(&self, [gradient, qkv, middle, hidden, x, weights @ ..]: [&Shape; 5 + WEIGHTS]) -> Result<[Shape; 1]> {
        let mut inputs = [x; 1 + WEIGHTS];
        inputs[1..].copy_from_slice(&weights);
        let outputs = self.0.shapes(inputs)?;
        for (have, want) in [gradient, qkv, middle, hidden].into_iter().zip(&outputs) {
            alike(Self::NAME, have, want)?;
        }
        Ok([x.clone()])
    }
    fn cpu(&self, [gradient, qkv, middle, hidden, x, weights @ ..]: [View; 5 + WEIGHTS]) -> Result<[Vec<f32>; 1]> {
        let kept = Kept { qkv: qkv.values, middle: middle.values, hidden: hidden.values };
        Ok([self.0.block(weights).backward(x.values, kept, gradient.values, self.0.size(x.shape)?)])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [gradient, qkv, middle, hidden, x, weights @ ..]: [cuda::View; 5 + WEIGHTS]) -> Result<[cuda::Numbers; 1]> {
        let kept = [qkv.at(), middle.at(), hidden.at()];
        Ok([self.0.block_on_gpu(weights).backward(gpu, x.at(), kept, gradient.at(), self.0.size(x.shape)?)?])
    }
}
