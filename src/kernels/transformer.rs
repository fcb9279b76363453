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
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{alike, apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Error, Result, Shape, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

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
pub struct Block(Arc<Frozen>);

/// The block as the device of its weights takes it.
enum Frozen {
    Host(arithmetic::Block),
    #[cfg(feature = "cuda")]
    Gpu(OnGpu),
}

#[cfg(feature = "cuda")]
struct OnGpu {
    /// f32, contiguous.
    weights: BlockWeights,
    attention: Attention,
    activation: Activation,
    epsilon: f32,
}

impl Frozen {
    fn attention(&self) -> &Attention {
        match self {
            Frozen::Host(block) => &block.attention,
            #[cfg(feature = "cuda")]
            Frozen::Gpu(block) => &block.attention,
        }
    }

    fn activation(&self) -> Activation {
        match self {
            Frozen::Host(block) => block.activation,
            #[cfg(feature = "cuda")]
            Frozen::Gpu(block) => block.activation,
        }
    }

    fn on_host(&self) -> Result<&arithmetic::Block> {
        match self {
            Frozen::Host(block) => Ok(block),
            #[cfg(feature = "cuda")]
            Frozen::Gpu(_) => bail!("transformer block: its weights lie on a GPU, x does not"),
        }
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self) -> Result<cuda::transformer::Block> {
        let Frozen::Gpu(OnGpu { weights, attention, activation, epsilon }) = self else {
            bail!("transformer block: x lies on a GPU, its weights do not")
        };
        let (width, hidden, epsilon) = (attention.width, weights.up.1.elem_count(), *epsilon);
        // The tensors live as long as the block.
        let at = |t: &Tensor| cuda::with(t, BlockOp::NAME, Ok);
        let norm = |(gamma, beta): &(Tensor, Tensor)| -> Result<cuda::transformer::Norm> {
            Ok(cuda::transformer::Norm { gamma: at(gamma)?, beta: at(beta)?, width, epsilon })
        };
        let dense = |(weight, bias): &(Tensor, Tensor), inputs, outputs| -> Result<cuda::transformer::Dense> {
            Ok(cuda::transformer::Dense { weight: at(weight)?, bias: Some(at(bias)?), inputs, outputs })
        };
        Ok(cuda::transformer::Block {
            norm1: norm(&weights.norm1)?,
            qkv: dense(&weights.qkv, width, 3 * width)?,
            out: dense(&weights.out, width, width)?,
            norm2: norm(&weights.norm2)?,
            up: dense(&weights.up, width, hidden)?,
            down: dense(&weights.down, hidden, width)?,
            attention: *attention,
            activation: *activation,
        })
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Block").field("attention", self.0.attention()).field("activation", &self.0.activation()).finish_non_exhaustive()
    }
}

impl Block {
    /// `heads` must divide the width; `causal`: token i sees tokens 0..=i. It computes where the weights lie. On the CPU they are copied, as f32
    /// and without their gradients, and nothing holds on to the tensors; on a GPU they are kept as they are.
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
        let attention = Attention { heads, width, causal };
        #[cfg(feature = "cuda")]
        if weights.norm1.0.device().is_cuda() {
            let pair = |(a, b): &(Tensor, Tensor), one: &[usize], other: usize| Result::Ok((tensor(a, one)?, tensor(b, &[other])?));
            let weights = BlockWeights {
                norm1: pair(&weights.norm1, &[width], width)?,
                qkv: pair(&weights.qkv, &[3 * width, width], 3 * width)?,
                out: pair(&weights.out, &[width, width], width)?,
                norm2: pair(&weights.norm2, &[width], width)?,
                up: pair(&weights.up, &[hidden, width], hidden)?,
                down: pair(&weights.down, &[width, hidden], width)?,
            };
            return Ok(Self(Arc::new(Frozen::Gpu(OnGpu { weights, attention, activation, epsilon }))));
        }
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
        Ok(Self(Arc::new(Frozen::Host(arithmetic::Block {
            norm1: scale(&weights.norm1)?,
            qkv: layer(&weights.qkv, 3 * width, width)?,
            out: layer(&weights.out, width, width)?,
            norm2: scale(&weights.norm2)?,
            up: layer(&weights.up, hidden, width)?,
            down: layer(&weights.down, width, hidden)?,
            attention,
            activation,
            epsilon,
        }))))
    }

    /// x [n, t, d] -> [n, t, d]. Differentiable in x.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, tokens, _) = x.dims3()?;
        self.first(x, tokens)
    }

    /// The first `queries` tokens of what [`Block::forward`] gives, [n, queries, d]: for a last block of which only the class token is read.
    pub fn first(&self, x: &Tensor, queries: usize) -> Result<Tensor> {
        let x = f32s(x)?;
        let pass = Pass {
            block: self.0.clone(),
            queries,
            keep: x.track_op(),
            kept: Mutex::new(None),
            #[cfg(feature = "cuda")]
            kept_on_gpu: Mutex::new(None),
        };
        apply(BlockOp(Arc::new(pass)), [&x])
    }
}

/// One call.
struct Pass {
    block: Arc<Frozen>,
    queries: usize,
    keep: bool,
    /// What the way back needs of the way there.
    kept: Mutex<Option<Kept>>,
    /// The same on a GPU: qkv, middle, hidden.
    #[cfg(feature = "cuda")]
    kept_on_gpu: Mutex<Option<[cuda::Numbers; 3]>>,
}

/// What a lock is poisoned by.
fn lost<T>(_: PoisonError<T>) -> Error {
    Error::Msg("transformer block: another thread failed".into())
}

impl Pass {
    /// (n, queries, tokens)
    fn size(&self, x: &Shape) -> Result<(usize, usize, usize)> {
        match x.dims() {
            &[n, tokens, width] if width == self.block.attention().width && (1..=tokens).contains(&self.queries) => {
                Ok((n, self.queries, tokens))
            }
            other => bail!("transformer block of width {}: x {other:?}, first {} tokens", self.block.attention().width, self.queries),
        }
    }
}

/// x [n, tokens, d] -> [n, queries, d].
struct BlockOp(Arc<Pass>);

impl Op<1> for BlockOp {
    const NAME: &'static str = "transformer block";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let (n, queries, _) = self.0.size(x)?;
        Ok([(n, queries, self.0.block.attention().width).into()])
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (out, kept) = self.0.block.on_host()?.forward(x.values, self.0.size(x.shape)?, self.0.keep);
        *self.0.kept.lock().map_err(lost)? = kept;
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        let [out, kept @ ..] = self.0.block.on_gpu()?.forward(gpu, x.at(), self.0.size(x.shape)?)?;
        *self.0.kept_on_gpu.lock().map_err(lost)? = self.0.keep.then_some(kept);
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
        let (block, size) = (self.0.block.on_host()?, self.0.size(x.shape)?);
        // The way back uses up what the way there kept; who goes back again pays for it.
        let kept = self.0.kept.lock().map_err(lost)?.take();
        match kept.or_else(|| block.forward(x.values, size, true).1) {
            Some(kept) => Ok([block.backward(x.values, &kept, gradient.values, size)]),
            None => bail!("transformer block kept nothing"),
        }
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, gradient]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        let (block, size) = (self.0.block.on_gpu()?, self.0.size(x.shape)?);
        let kept = match self.0.kept_on_gpu.lock().map_err(lost)?.take() {
            Some(kept) => kept,
            None => {
                let [_, kept @ ..] = block.forward(gpu, x.at(), size)?;
                kept
            }
        };
        Ok([block.backward(gpu, x.at(), kept.each_ref().map(At::at), gradient.at(), size)?])
    }
}
