//! A whole frozen pre-norm transformer block as one operation (Radford et al. 2021, section 2.4: x + attention(norm(x)), then x + mlp(norm(x))).
//!
//! One operation instead of a dozen: candle adds every gradient to zeros of its own, and between small operations threads mostly wait for
//! each other. Here a thread takes a share of the samples through the whole block, in its own cache.

use super::activation::Activation;
use super::attention::Attention;
use super::norm::Norm;
use super::slices::{add_to, argument, matmul, prepared, repeated, tensor, vectorised, Matrix, Values};
use candle_core::{bail, CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// A frozen linear layer: weight [outputs, inputs], bias [outputs].
#[derive(Debug)]
struct Dense {
    weight: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
}

impl Dense {
    fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// out [rows, outputs] = x W^T + bias + out's present values where `add`.
    fn forward(&self, x: &[f32], out: &mut [f32], parallel: bool) {
        let w = Matrix::rows(&self.weight, self.inputs).transposed();
        let rows = x.len() / self.inputs;
        matmul((rows, self.outputs(), self.inputs), out, self.outputs(), true, 1.0, Matrix::rows(x, self.inputs), w, parallel);
    }

    fn apply(&self, x: &[f32], parallel: bool) -> Vec<f32> {
        let mut out = repeated(Some(&self.bias), x.len() / self.inputs, self.outputs());
        self.forward(x, &mut out, parallel);
        out
    }

    /// x W^T + bias + residual
    fn apply_onto(&self, x: &[f32], mut residual: Vec<f32>, parallel: bool) -> Vec<f32> {
        vectorised(|| residual.chunks_exact_mut(self.outputs()).for_each(|row| add_to(row, &self.bias)));
        self.forward(x, &mut residual, parallel);
        residual
    }

    /// Gradient of x, given that of the output.
    fn backward(&self, gradient: &[f32], parallel: bool) -> Vec<f32> {
        let rows = gradient.len() / self.outputs();
        let mut out = vec![0.0; rows * self.inputs];
        let (g, w) = (Matrix::rows(gradient, self.outputs()), Matrix::rows(&self.weight, self.inputs));
        matmul((rows, self.inputs, self.outputs()), &mut out, self.inputs, false, 1.0, g, w, parallel);
        out
    }
}

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

#[derive(Debug)]
struct Parts {
    norm1: Norm,
    qkv: Dense,
    out: Dense,
    norm2: Norm,
    up: Dense,
    down: Dense,
    attention: Attention,
    activation: Activation,
}

/// What backward needs again of one share.
struct Kept {
    qkv: Vec<f32>,
    /// After attention, before the MLP.
    middle: Vec<f32>,
    /// Before the activation.
    hidden: Vec<f32>,
}

impl Block {
    /// `heads` must divide the width; `causal`: token i sees tokens 0..=i. The weights are copied, as f32.
    pub fn new(weights: &BlockWeights, heads: usize, causal: bool, activation: Activation, epsilon: f32) -> Result<Self> {
        let width = weights.norm1.0.elem_count();
        let hidden = weights.up.1.elem_count();
        if width == 0 || hidden == 0 || heads == 0 || !width.is_multiple_of(heads) {
            bail!("transformer block of width {width} and hidden width {hidden} with {heads} heads");
        }
        let values = |t: &Tensor, shape: &[usize]| match t.dims() == shape {
            true => Ok(Values::of(&prepared(t)?)?.to_vec()),
            false => bail!("transformer block: a weight is {:?}, not {shape:?}", t.dims()),
        };
        let dense = |(w, b): &(Tensor, Tensor), outputs, inputs| {
            Ok::<_, candle_core::Error>(Dense { weight: values(w, &[outputs, inputs])?, bias: values(b, &[outputs])?, inputs })
        };
        let norm = |(g, b): &(Tensor, Tensor)| {
            Ok::<_, candle_core::Error>(Norm { gamma: values(g, &[width])?, beta: values(b, &[width])?, epsilon })
        };
        Ok(Self(Arc::new(Parts {
            norm1: norm(&weights.norm1)?,
            qkv: dense(&weights.qkv, 3 * width, width)?,
            out: dense(&weights.out, width, width)?,
            norm2: norm(&weights.norm2)?,
            up: dense(&weights.up, hidden, width)?,
            down: dense(&weights.down, width, hidden)?,
            attention: Attention { heads, width, causal },
            activation,
        })))
    }

    /// x [n, t, d] -> [n, t, d]. Differentiable in x.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, tokens, _) = x.dims3()?;
        self.first(x, tokens)
    }

    /// The first `queries` tokens of what [`Block::forward`] gives, [n, queries, d]: for a last block of which only the class token is read.
    pub fn first(&self, x: &Tensor, queries: usize) -> Result<Tensor> {
        let (_, tokens, width) = x.dims3()?;
        if width != self.0.attention.width || queries > tokens {
            bail!("transformer block of width {}: x {:?}, first {queries} tokens", self.0.attention.width, x.shape());
        }
        let x = prepared(x)?;
        let op = BlockOp { parts: self.0.clone(), queries, kept: x.track_op().then(|| Mutex::new(Vec::new())) };
        x.apply_op1(op)
    }
}

impl Parts {
    /// x, tokens of n samples one after another, with only the first `queries` of each sample.
    fn asking<'a>(&self, x: &'a [f32], (_, queries, tokens): (usize, usize, usize)) -> impl Iterator<Item = &'a [f32]> {
        let width = self.attention.width;
        x.chunks_exact(tokens * width).map(move |sample| &sample[..queries * width])
    }

    fn forward(&self, x: &[f32], size: (usize, usize, usize), parallel: bool) -> (Vec<f32>, Kept) {
        let (n, queries, _) = size;
        let width = self.attention.width;
        let mut normed = vec![0.0; x.len()];
        self.norm1.forward(x, &mut normed);
        let qkv = self.qkv.apply(&normed, parallel);
        normed.truncate(n * queries * width);
        let mut attended = normed;
        self.attention.forward(&qkv, size, &mut attended, parallel);
        let mut residual = Vec::with_capacity(n * queries * width);
        self.asking(x, size).for_each(|rows| residual.extend_from_slice(rows));
        let middle = self.out.apply_onto(&attended, residual, parallel);
        self.norm2.forward(&middle, &mut attended);
        let hidden = self.up.apply(&attended, parallel);
        let mut activated = vec![0.0; hidden.len()];
        self.activation.forward(&hidden, &mut activated);
        let out = self.down.apply_onto(&activated, middle.clone(), parallel);
        (out, Kept { qkv, middle, hidden })
    }

    fn backward(&self, x: &[f32], kept: &Kept, gradient: &[f32], size: (usize, usize, usize), parallel: bool) -> Vec<f32> {
        let (_, _, tokens) = size;
        let width = self.attention.width;
        let mut hidden = self.down.backward(gradient, parallel);
        self.activation.backward(&kept.hidden, &mut hidden);
        let normed = self.up.backward(&hidden, parallel);
        let mut middle = gradient.to_vec();
        self.norm2.backward(&kept.middle, &normed, &mut middle);
        let attended = self.out.backward(&middle, parallel);
        let mut qkv = vec![0.0; kept.qkv.len()];
        self.attention.backward(&kept.qkv, &attended, size, &mut qkv, parallel);
        let normed = self.qkv.backward(&qkv, parallel);
        // The residual's own gradient reaches only the tokens that asked.
        let mut out = vec![0.0; x.len()];
        let asked = middle.len() / (x.len() / (tokens * width));
        for (out, middle) in out.chunks_exact_mut(tokens * width).zip(middle.chunks_exact(asked)) {
            out[..asked].copy_from_slice(middle);
        }
        self.norm1.backward(x, &normed, &mut out);
        out
    }
}

struct BlockOp {
    parts: Arc<Parts>,
    queries: usize,
    /// One for each share of the samples; None where no gradient will be asked for.
    kept: Option<Mutex<Vec<Kept>>>,
}

/// How many of `n` samples go through a block together. It follows from `n` alone: the last bits of a product depend on its shape, and
/// training makes whole steps of them, so that a seed would give another domain on another number of threads. Two samples read a block's
/// weights once where two shares read them twice; batches of fewer than four have no sample to spare for that.
fn share(n: usize) -> usize {
    match n {
        ..4 => 1,
        n => n.div_ceil(16).max(2),
    }
}

/// Whether the products within a share are spread over threads too, which changes none of their bits: where whole shares would leave some
/// threads waiting.
fn spread(n: usize) -> bool {
    let (shares, threads) = (n.div_ceil(share(n)), rayon::current_num_threads());
    !shares.is_multiple_of(threads) && shares < 4 * threads
}

impl BlockOp {
    fn size(&self, layout: &Layout) -> Result<(usize, usize, usize)> {
        let (n, tokens, _) = layout.shape().dims3()?;
        Ok((n, self.queries, tokens))
    }
}

impl CustomOp1 for BlockOp {
    fn name(&self) -> &'static str {
        "transformer block"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, queries, tokens) = self.size(layout)?;
        let width = self.parts.attention.width;
        let x = argument(storage, layout)?;
        let parallel = spread(n);
        let done: Vec<(Vec<f32>, Kept)> = x
            .par_chunks(share(n) * tokens * width)
            .map(|x| self.parts.forward(x, (x.len() / (tokens * width), queries, tokens), parallel))
            .collect();
        let (outs, kept): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        if let Some(place) = &self.kept {
            *place.lock().unwrap_or_else(|e| e.into_inner()) = kept;
        }
        Ok((CpuStorage::F32(outs.concat()), (n, queries, width).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (n, tokens, width) = x.dims3()?;
        let queries = self.queries;
        let gradient = prepared(gradient)?;
        let (values, gradient) = (Values::of(x)?, Values::of(&gradient)?);
        let Some(kept) = &self.kept else { bail!("transformer block: backward without a tracked input") };
        let kept = kept.lock().unwrap_or_else(|e| e.into_inner());
        let (values, gradient): (&[f32], &[f32]) = (&values, &gradient);
        let (share, parallel) = (share(n), spread(n));
        let outs: Vec<Vec<f32>> = values
            .par_chunks(share * tokens * width)
            .zip(gradient.par_chunks(share * queries * width))
            .zip(kept.as_slice())
            .map(|((x, g), kept)| self.parts.backward(x, kept, g, (x.len() / (tokens * width), queries, tokens), parallel))
            .collect();
        Ok(Some(tensor(outs.concat(), x.shape())?))
    }
}
