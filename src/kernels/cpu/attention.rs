//! Attention of one head after another, its probabilities computed again backward.

use super::gemm::{matmul, Matrix};
use super::simd::vectorised;
use super::vector::{dot, exp, maximum, sum};
use crate::kernels::attention::Attention;
use rayon::prelude::*;

impl Attention {
    fn head_width(&self) -> usize {
        self.width / self.heads
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_width() as f32).sqrt()
    }

    /// Query, key and value of one head in one sample's qkv [tokens, 3 * width].
    fn parts<'a>(&self, qkv: &'a [f32], head: usize) -> [Matrix<'a>; 3] {
        [0, 1, 2].map(|part| Matrix::rows(&qkv[part * self.width + head * self.head_width()..], 3 * self.width))
    }

    /// softmax(scale * Q K^T) of one head, [queries, tokens].
    fn probabilities(&self, qkv: &[f32], head: usize, (queries, tokens): (usize, usize), out: &mut [f32]) {
        let [q, k, _] = self.parts(qkv, head);
        matmul((queries, tokens, self.head_width()), out, tokens, false, self.scale(), q, k.transposed(), false);
        vectorised(
            #[inline(always)]
            || {
                for (i, row) in out.chunks_exact_mut(tokens).enumerate() {
                    let (seen, hidden) = row.split_at_mut(if self.causal { i + 1 } else { tokens });
                    let most = maximum(seen);
                    for p in seen.iter_mut() {
                        *p = exp(*p - most);
                    }
                    let scale = 1.0 / sum(seen);
                    for p in seen.iter_mut() {
                        *p *= scale;
                    }
                    hidden.fill(0.0);
                }
            },
        )
    }

    /// One head of one sample: out [queries, head width], rows `out_row` apart.
    fn head(&self, qkv: &[f32], head: usize, size: (usize, usize), scratch: &mut [f32], out: &mut [f32], out_row: usize) {
        let (queries, tokens) = size;
        self.probabilities(qkv, head, size, scratch);
        let [_, _, v] = self.parts(qkv, head);
        matmul((queries, self.head_width(), tokens), out, out_row, false, 1.0, Matrix::rows(scratch, tokens), v, false);
    }

    /// One head's part of the gradient of qkv, into out [tokens, 3 * head width]; `gradient` is that of one sample's output.
    fn head_backward(
        &self,
        qkv: &[f32],
        head: usize,
        (queries, tokens): (usize, usize),
        gradient: &[f32],
        out: &mut [f32],
        out_row: [usize; 2],
    ) {
        let (width, scale) = (self.head_width(), self.scale());
        let (row, part) = (out_row[0], out_row[1]);
        let [q, k, v] = self.parts(qkv, head);
        let g = Matrix::rows(&gradient[head * width..], self.width);
        let mut p = vec![0.0; queries * tokens];
        self.probabilities(qkv, head, (queries, tokens), &mut p);
        let dv = Matrix::rows(&p, tokens).transposed();
        matmul((tokens, width, queries), &mut out[2 * part..], row, false, 1.0, dv, g, false);
        let mut dp = vec![0.0; queries * tokens];
        matmul((queries, tokens, width), &mut dp, tokens, false, 1.0, g, v.transposed(), false);
        vectorised(
            #[inline(always)]
            || {
                for (p, dp) in p.chunks_exact(tokens).zip(dp.chunks_exact_mut(tokens)) {
                    let along = dot(p, dp);
                    for (dp, p) in dp.iter_mut().zip(p) {
                        *dp = (*dp - along) * p;
                    }
                }
            },
        );
        let ds = Matrix::rows(&dp, tokens);
        matmul((queries, width, tokens), out, row, false, scale, ds, k, false);
        matmul((tokens, width, queries), &mut out[part..], row, false, scale, ds.transposed(), q, false);
    }

    /// qkv [n, tokens, 3 * width] -> out [n, queries, width]; `parallel` spreads samples and heads over rayon's threads.
    pub(crate) fn forward(&self, qkv: &[f32], (n, queries, tokens): (usize, usize, usize), out: &mut [f32], parallel: bool) {
        let (width, size) = (self.head_width(), (queries, tokens));
        let sample = |i: usize| &qkv[i * tokens * 3 * self.width..(i + 1) * tokens * 3 * self.width];
        if !parallel {
            let mut scratch = vec![0.0; queries * tokens];
            for (i, out) in out.chunks_exact_mut(queries * self.width).take(n).enumerate() {
                for head in 0..self.heads {
                    self.head(sample(i), head, size, &mut scratch, &mut out[head * width..], self.width);
                }
            }
            return;
        }
        // Heads of one sample lie interleaved in the output: each is computed apart, then copied in.
        let heads: Vec<Vec<f32>> = (0..n * self.heads)
            .into_par_iter()
            .map(|task| {
                let (mut scratch, mut out) = (vec![0.0; queries * tokens], vec![0.0; queries * width]);
                self.head(sample(task / self.heads), task % self.heads, size, &mut scratch, &mut out, width);
                out
            })
            .collect();
        for (task, head) in heads.iter().enumerate() {
            let (i, column) = (task / self.heads, task % self.heads * width);
            for (q, row) in head.chunks_exact(width).enumerate() {
                let at = (i * queries + q) * self.width + column;
                out[at..at + width].copy_from_slice(row);
            }
        }
    }

    /// out [n, tokens, 3 * width] = gradient of qkv, given that of the output [n, queries, width]; `out` must be zero where a token does not ask.
    pub(crate) fn backward(
        &self,
        qkv: &[f32],
        gradient: &[f32],
        (n, queries, tokens): (usize, usize, usize),
        out: &mut [f32],
        parallel: bool,
    ) {
        let (width, size, packed) = (self.head_width(), (queries, tokens), tokens * 3 * self.width);
        let sample = |i: usize| (&qkv[i * packed..(i + 1) * packed], &gradient[i * queries * self.width..(i + 1) * queries * self.width]);
        if !parallel {
            for (i, out) in out.chunks_exact_mut(packed).take(n).enumerate() {
                let (qkv, gradient) = sample(i);
                for head in 0..self.heads {
                    self.head_backward(qkv, head, size, gradient, &mut out[head * width..], [3 * self.width, self.width]);
                }
            }
            return;
        }
        let heads: Vec<Vec<f32>> = (0..n * self.heads)
            .into_par_iter()
            .map(|task| {
                let mut out = vec![0.0; tokens * 3 * width];
                let (qkv, gradient) = sample(task / self.heads);
                self.head_backward(qkv, task % self.heads, size, gradient, &mut out, [3 * width, width]);
                out
            })
            .collect();
        for (task, head) in heads.iter().enumerate() {
            let (i, column) = (task / self.heads, task % self.heads * width);
            for (t, row) in head.chunks_exact(3 * width).enumerate() {
                for (part, values) in row.chunks_exact(width).enumerate() {
                    let at = i * packed + (t * 3 + part) * self.width + column;
                    out[at..at + width].copy_from_slice(values);
                }
            }
        }
    }
}
