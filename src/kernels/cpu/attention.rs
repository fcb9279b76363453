//! Attention of one head after another, its probabilities computed again backward.

use super::conv::Shared;
use super::gemm::{matmul, Matrix};
use super::scratch::Scratch;
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
        let mut p = Scratch::new(queries * tokens);
        self.probabilities(qkv, head, (queries, tokens), &mut p);
        let dv = Matrix::rows(&p, tokens).transposed();
        matmul((tokens, width, queries), &mut out[2 * part..], row, false, 1.0, dv, g, false);
        let mut dp = Scratch::new(queries * tokens);
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

    /// qkv [n, tokens, 3 * width] -> out [n, queries, width], its rows `step` apart.
    pub(crate) fn forward(&self, qkv: &[f32], (n, queries, tokens): (usize, usize, usize), out: &mut [f32], step: usize) {
        let (width, packed) = (self.head_width(), tokens * 3 * self.width);
        assert!(qkv.len() >= n * packed && out.len() >= (n * queries).saturating_sub(1) * step + self.width && step >= self.width);
        let out = Shared(out.as_mut_ptr());
        (0..n * self.heads).into_par_iter().for_each(|task| {
            let (i, head) = (task / self.heads, task % self.heads);
            let (mut scratch, mut rows) = (Scratch::new(queries * tokens), Scratch::new(queries * width));
            self.head(&qkv[i * packed..][..packed], head, (queries, tokens), &mut scratch, &mut rows, width);
            for (q, row) in rows.chunks_exact(width).enumerate() {
                // SAFETY: inside, as asserted; each head has columns of its own.
                unsafe { out.write((i * queries + q) * step + head * width, row) };
            }
        });
    }

    /// out [n, tokens, 3 * width], its rows `step` apart, = gradient of qkv, given that of the output [n, queries, width].
    pub(crate) fn backward(
        &self,
        qkv: &[f32],
        gradient: &[f32],
        (n, queries, tokens): (usize, usize, usize),
        out: &mut [f32],
        step: usize,
    ) {
        let (width, packed, asked) = (self.head_width(), tokens * 3 * self.width, queries * self.width);
        assert!(qkv.len() >= n * packed && gradient.len() >= n * asked && step >= 3 * self.width);
        assert!(out.len() >= (n * tokens).saturating_sub(1) * step + 3 * self.width);
        let out = Shared(out.as_mut_ptr());
        (0..n * self.heads).into_par_iter().for_each(|task| {
            let (i, head) = (task / self.heads, task % self.heads);
            // Zeros where a token does not ask.
            let mut rows = Scratch::zeros(tokens * 3 * width);
            let gradient = &gradient[i * asked..][..asked];
            self.head_backward(&qkv[i * packed..][..packed], head, (queries, tokens), gradient, &mut rows, [3 * width, width]);
            for (t, row) in rows.chunks_exact(3 * width).enumerate() {
                for (part, values) in row.chunks_exact(width).enumerate() {
                    // SAFETY: as in `forward`.
                    unsafe { out.write((i * tokens + t) * step + part * self.width + head * width, values) };
                }
            }
        });
    }
}
