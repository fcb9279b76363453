//! Layer normalisation of rows, and its gradient.

use super::scratch::Scratch;
use super::simd::vectorised;
use super::vector::{dot, sum};
use rayon::prelude::*;

/// Scale and shift of a normalisation.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    pub epsilon: f32,
}

/// Mean and 1 / sqrt(variance + epsilon). Two passes: the variance of a large mean would cancel in one.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32, centred: &mut [f32]) -> f32 {
    let mean = sum(x) / x.len() as f32;
    for (c, x) in centred.iter_mut().zip(x) {
        *c = x - mean;
    }
    1.0 / (dot(centred, centred) / x.len() as f32 + epsilon).sqrt()
}

/// Rows that a thread takes.
const ROWS: usize = 32;

impl Norm<'_> {
    /// out = normalised rows of `x`.
    pub(crate) fn forward(&self, x: &[f32], out: &mut [f32]) {
        self.forward_to(x, out, self.gamma.len());
    }

    /// As [`Norm::forward`], the rows of `out` `step` apart.
    pub(crate) fn forward_to(&self, x: &[f32], out: &mut [f32], step: usize) {
        let width = self.gamma.len();
        let part = |(x, out): (&[f32], &mut [f32])| {
            vectorised(
                #[inline(always)]
                || {
                    for (x, out) in x.chunks_exact(width).zip(out.chunks_mut(step)) {
                        let out = &mut out[..width];
                        let scale = moments(x, self.epsilon, out);
                        for ((out, gamma), beta) in out.iter_mut().zip(self.gamma).zip(self.beta) {
                            *out = *out * scale * gamma + beta;
                        }
                    }
                },
            )
        };
        x.par_chunks(ROWS * width).zip(out.par_chunks_mut(ROWS * step)).for_each(part);
    }

    /// out += gradient of `x`, given the gradient of the normalised rows.
    pub(crate) fn backward(&self, x: &[f32], gradient: &[f32], out: &mut [f32]) {
        self.backward_to(x, gradient, out, self.gamma.len());
    }

    /// As [`Norm::backward`], the rows of `out` `step` apart.
    pub(crate) fn backward_to(&self, x: &[f32], gradient: &[f32], out: &mut [f32], step: usize) {
        let width = self.gamma.len();
        let part = |((x, gradient), out): ((&[f32], &[f32]), &mut [f32])| {
            let mut work = Scratch::new(2 * width);
            let (centred, scaled) = work.split_at_mut(width);
            vectorised(
                #[inline(always)]
                || {
                    for ((x, gradient), out) in x.chunks_exact(width).zip(gradient.chunks_exact(width)).zip(out.chunks_mut(step)) {
                        let scale = moments(x, self.epsilon, centred);
                        for ((s, g), gamma) in scaled.iter_mut().zip(gradient).zip(self.gamma) {
                            *s = g * gamma;
                        }
                        let mean = sum(scaled) / width as f32;
                        let along = dot(scaled, centred) * scale * scale / width as f32;
                        for ((out, s), c) in out.iter_mut().zip(scaled.iter()).zip(centred.iter()) {
                            *out += (s - mean - c * along) * scale;
                        }
                    }
                },
            )
        };
        x.par_chunks(ROWS * width).zip(gradient.par_chunks(ROWS * width)).zip(out.par_chunks_mut(ROWS * step)).for_each(part);
    }
}
