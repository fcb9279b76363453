//! A whole frozen pre-norm transformer block as one operation (Radford et al. 2021, section 2.4: x + attention(norm(x)), then x + mlp(norm(x))).
//!
//! One operation instead of a dozen: candle adds every gradient to zeros of its own, and between small operations threads mostly wait for
//! each other. On the CPU the weights are packed once, in place of the tensors that they come from, and bias, activation, residual and norms are
//! computed while the products' rows are read and written.

use super::activation::Activation;
use super::attention::Attention;
use super::cpu::dense::Dense;
use super::cpu::transformer::{self as arithmetic, Kept, Layer, Scale};
use super::cpu::{self, View};
use super::op::{alike, apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Error, Result, Shape, Tensor};
use std::sync::{Arc, Mutex};

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
#[derive(Clone)]
pub struct Block(Arc<arithmetic::Block>);

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Block").field("attention", &self.0.attention).field("activation", &self.0.activation).finish_non_exhaustive()
    }
}

impl Block {
    /// `heads` must divide the width; `causal`: token i sees tokens 0..=i. The weights are copied, as f32 and without their gradients: nothing
    /// holds on to the tensors.
    pub fn new(weights: &BlockWeights, heads: usize, causal: bool, activation: Activation, epsilon: f32) -> Result<Self> {
        let width = weights.norm1.0.elem_count();
        let hidden = weights.up.1.elem_count();
        if width == 0 || hidden == 0 || heads == 0 || !width.is_multiple_of(heads) {
            bail!("transformer block of width {width} and hidden width {hidden} with {heads} heads");
        }
        let tensor = |t: &Tensor, shape: &[usize]| match t.dims() == shape {
            true => f32s(&t.detach())?.contiguous(),
            false => bail!("transformer block: a weight is {:?}, not {shape:?}", t.dims()),
        };
        let numbers = |t: &Tensor, count: usize| tensor(t, &[count])?.to_vec1::<f32>();
        let scale = |(gamma, beta): &(Tensor, Tensor)| -> Result<Scale> {
            Ok(Scale { gamma: numbers(gamma, width)?, beta: numbers(beta, width)? })
        };
        let layer = |(w, bias): &(Tensor, Tensor), outputs: usize, inputs: usize| -> Result<Layer> {
            let w = tensor(w, &[outputs, inputs])?;
            let (storage, layout) = w.storage_and_layout();
            let weights = Dense::new(cpu::on_host(&storage, layout, BlockOp::NAME)?, outputs, inputs);
            Ok(Layer { weights, bias: numbers(bias, outputs)? })
        };
        Ok(Self(Arc::new(arithmetic::Block {
            norm1: scale(&weights.norm1)?,
            qkv: layer(&weights.qkv, 3 * width, width)?,
            out: layer(&weights.out, width, width)?,
            norm2: scale(&weights.norm2)?,
            up: layer(&weights.up, hidden, width)?,
            down: layer(&weights.down, width, hidden)?,
            attention: Attention { heads, width, causal },
            activation,
            epsilon,
        })))
    }

    /// x [n, t, d] -> [n, t, d]. Differentiable in x.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, tokens, _) = x.dims3()?;
        self.first(x, tokens)
    }

    /// The first `queries` tokens of what [`Block::forward`] gives, [n, queries, d]: for a last block of which only the class token is read.
    pub fn first(&self, x: &Tensor, queries: usize) -> Result<Tensor> {
        let x = f32s(x)?;
        apply(BlockOp(Arc::new(Pass { block: self.0.clone(), queries, keep: x.track_op(), kept: Mutex::new(None) })), [&x])
    }
}

/// One call.
struct Pass {
    block: Arc<arithmetic::Block>,
    queries: usize,
    keep: bool,
    /// What the way back needs of the way there.
    kept: Mutex<Option<Kept>>,
}

impl Pass {
    /// (n, queries, tokens)
    fn size(&self, x: &Shape) -> Result<(usize, usize, usize)> {
        match x.dims() {
            &[n, tokens, width] if width == self.block.attention.width && (1..=tokens).contains(&self.queries) => {
                Ok((n, self.queries, tokens))
            }
            other => bail!("transformer block of width {}: x {other:?}, first {} tokens", self.block.attention.width, self.queries),
        }
    }

    fn kept(&self) -> Result<std::sync::MutexGuard<'_, Option<Kept>>> {
        self.kept.lock().map_err(|_| Error::Msg("transformer block: another thread failed".into()))
    }
}

/// x [n, tokens, d] -> [n, queries, d].
struct BlockOp(Arc<Pass>);

impl Op<1> for BlockOp {
    const NAME: &'static str = "transformer block";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let (n, queries, _) = self.0.size(x)?;
        Ok([(n, queries, self.0.block.attention.width).into()])
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (out, kept) = self.0.block.forward(x.values, self.0.size(x.shape)?, self.0.keep);
        *self.0.kept()? = kept;
        Ok([out])
    }
}

impl Differentiable<1> for BlockOp {
    fn gradient(&self, given: &Backward<1>) -> Result<[Option<Tensor>; 1]> {
        let [x] = &given.inputs;
        Ok([Some(run1(&BlockGradient(self.0.clone()), [x, &given.gradient])?)])
    }
}

/// x, gradient of the result -> gradient of x.
struct BlockGradient(Arc<Pass>);

impl Op<2> for BlockGradient {
    const NAME: &'static str = "transformer block's gradient";
    fn shapes(&self, [x, gradient]: [&Shape; 2]) -> Result<[Shape; 1]> {
        let [out] = BlockOp(self.0.clone()).shapes([x])?;
        alike(Self::NAME, gradient, &out)?;
        Ok([x.clone()])
    }
    fn cpu(&self, [x, gradient]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        let (block, size) = (&self.0.block, self.0.size(x.shape)?);
        // The way back uses up what the way there kept; who goes back again pays for it.
        let kept = self.0.kept()?.take();
        match kept.or_else(|| block.forward(x.values, size, true).1) {
            Some(kept) => Ok([block.backward(x.values, &kept, gradient.values, size)]),
            None => bail!("transformer block kept nothing"),
        }
    }
}
