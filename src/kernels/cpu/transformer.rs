//! A transformer block, sample by sample: a thread takes a share of the samples through the whole block, in its own cache.

use super::gemm::{matmul, Matrix};
use super::norm::Norm;
use super::simd::vectorised;
use super::vector::add_to;
use crate::kernels::attention::Attention;
use crate::kernels::Activation;
use rayon::prelude::*;

/// A linear layer: weight [outputs, inputs], bias [outputs].
#[derive(Clone, Copy)]
pub(crate) struct Dense<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
}

impl Dense<'_> {
    fn outputs(&self) -> usize {
        self.bias.len()
    }

    fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    /// out [rows, outputs] += x W^T
    fn add(&self, x: &[f32], out: &mut [f32], parallel: bool) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let w = Matrix::rows(self.weight, inputs).transposed();
        matmul((x.len() / inputs, outputs, inputs), out, outputs, true, 1.0, Matrix::rows(x, inputs), w, parallel);
    }

    /// out = x W^T + bias
    fn forward(&self, x: &[f32], out: &mut [f32], parallel: bool) {
        out.chunks_exact_mut(self.outputs()).for_each(|row| row.copy_from_slice(self.bias));
        self.add(x, out, parallel);
    }

    /// out += x W^T + bias
    fn forward_onto(&self, x: &[f32], out: &mut [f32], parallel: bool) {
        vectorised(|| out.chunks_exact_mut(self.outputs()).for_each(|row| add_to(row, self.bias)));
        self.add(x, out, parallel);
    }

    /// Gradient of x, given that of the output.
    fn backward(&self, gradient: &[f32], parallel: bool) -> Vec<f32> {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let rows = gradient.len() / outputs;
        let mut out = vec![0.0; rows * inputs];
        let (g, w) = (Matrix::rows(gradient, outputs), Matrix::rows(self.weight, inputs));
        matmul((rows, inputs, outputs), &mut out, inputs, false, 1.0, g, w, parallel);
        out
    }
}

pub(crate) struct Block<'a> {
    pub norm1: Norm<'a>,
    pub qkv: Dense<'a>,
    pub out: Dense<'a>,
    pub norm2: Norm<'a>,
    pub up: Dense<'a>,
    pub down: Dense<'a>,
    pub attention: Attention,
    pub activation: Activation,
}

/// What the gradient needs again.
pub(crate) struct Kept<T> {
    /// [n, tokens, 3 d]
    pub qkv: T,
    /// After attention, before the MLP: [n, queries, d].
    pub middle: T,
    /// Before the activation: [n, queries, hidden].
    pub hidden: T,
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

impl Block<'_> {
    /// x [n, tokens, d] -> [n, queries, d]; `size` is (n, queries, tokens).
    pub(crate) fn forward(&self, x: &[f32], (n, queries, tokens): (usize, usize, usize)) -> (Vec<f32>, Kept<Vec<f32>>) {
        let (width, hidden) = (self.attention.width, self.up.outputs());
        let numbers = |rows: usize, width: usize| vec![0.0; n * rows * width];
        let mut out = numbers(queries, width);
        let mut kept = Kept { qkv: numbers(tokens, 3 * width), middle: numbers(queries, width), hidden: numbers(queries, hidden) };
        let (share, parallel) = (share(n), spread(n));
        let chunk = |rows: usize, width: usize| share * rows * width;
        x.par_chunks(chunk(tokens, width))
            .zip(out.par_chunks_mut(chunk(queries, width)))
            .zip(kept.qkv.par_chunks_mut(chunk(tokens, 3 * width)))
            .zip(kept.middle.par_chunks_mut(chunk(queries, width)))
            .zip(kept.hidden.par_chunks_mut(chunk(queries, hidden)))
            .for_each(|((((x, out), qkv), middle), hidden)| {
                let size = (x.len() / (tokens * width), queries, tokens);
                self.forward_share(x, size, parallel, out, Kept { qkv, middle, hidden });
            });
        (out, kept)
    }

    fn forward_share(&self, x: &[f32], size: (usize, usize, usize), parallel: bool, out: &mut [f32], kept: Kept<&mut [f32]>) {
        let (n, queries, tokens) = size;
        let width = self.attention.width;
        let mut normed = vec![0.0; x.len()];
        self.norm1.forward(x, &mut normed);
        self.qkv.forward(&normed, kept.qkv, parallel);
        normed.truncate(n * queries * width);
        let mut attended = normed;
        self.attention.forward(kept.qkv, size, &mut attended, parallel);
        for (to, x) in kept.middle.chunks_exact_mut(queries * width).zip(x.chunks_exact(tokens * width)) {
            to.copy_from_slice(&x[..queries * width]);
        }
        self.out.forward_onto(&attended, kept.middle, parallel);
        self.norm2.forward(kept.middle, &mut attended);
        self.up.forward(&attended, kept.hidden, parallel);
        let mut activated = vec![0.0; kept.hidden.len()];
        self.activation.forward(kept.hidden, &mut activated);
        out.copy_from_slice(kept.middle);
        self.down.forward_onto(&activated, out, parallel);
    }

    /// Gradient of x, given that of the result [n, queries, d].
    pub(crate) fn backward(
        &self,
        x: &[f32],
        kept: Kept<&[f32]>,
        gradient: &[f32],
        (n, queries, tokens): (usize, usize, usize),
    ) -> Vec<f32> {
        let (width, hidden) = (self.attention.width, self.up.outputs());
        let (share, parallel) = (share(n), spread(n));
        let chunk = |rows: usize, width: usize| share * rows * width;
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(chunk(tokens, width))
            .zip(x.par_chunks(chunk(tokens, width)))
            .zip(gradient.par_chunks(chunk(queries, width)))
            .zip(kept.qkv.par_chunks(chunk(tokens, 3 * width)))
            .zip(kept.middle.par_chunks(chunk(queries, width)))
            .zip(kept.hidden.par_chunks(chunk(queries, hidden)))
            .for_each(|(((((out, x), gradient), qkv), middle), hidden)| {
                let size = (x.len() / (tokens * width), queries, tokens);
                self.backward_share(x, Kept { qkv, middle, hidden }, gradient, size, parallel, out);
            });
        out
    }

    /// `out` is zero.
    fn backward_share(
        &self,
        x: &[f32],
        kept: Kept<&[f32]>,
        gradient: &[f32],
        size: (usize, usize, usize),
        parallel: bool,
        out: &mut [f32],
    ) {
        let (_, queries, tokens) = size;
        let width = self.attention.width;
        let mut hidden = self.down.backward(gradient, parallel);
        self.activation.backward(kept.hidden, &mut hidden);
        let normed = self.up.backward(&hidden, parallel);
        let mut middle = gradient.to_vec();
        self.norm2.backward(kept.middle, &normed, &mut middle);
        let attended = self.out.backward(&middle, parallel);
        let mut qkv = vec![0.0; kept.qkv.len()];
        self.attention.backward(kept.qkv, &attended, size, &mut qkv, parallel);
        let normed = self.qkv.backward(&qkv, parallel);
        // The residual's own gradient reaches only the tokens that asked.
        for (out, middle) in out.chunks_exact_mut(tokens * width).zip(middle.chunks_exact(queries * width)) {
            out[..queries * width].copy_from_slice(middle);
        }
        self.norm1.backward(x, &normed, out);
    }
}
