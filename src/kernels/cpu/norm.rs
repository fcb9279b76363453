//! Layer normalisation of rows, and its gradient.

use super::simd::vectorised;
use super::vector::{dot, sum};

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

impl Norm<'_> {
    /// out = normalised rows of `x`.
    pub(crate) fn forward(&self, x: &[f32], out: &mut [f32]) {
        let width = self.gamma.len();
        vectorised(
            #[inline(always)]
            || {
                for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                    let scale = moments(x, self.epsilon, out);
                    for ((out, gamma), beta) in out.iter_mut().zip(self.gamma).zip(self.beta) {
                        *out = *out * scale * gamma + beta;
                    }
                }
            },
        )
    }

    /// out += gradient of `x`, given the gradient of the normalised rows.
    pub(crate) fn backward(&self, x: &[f32], gradient: &[f32], out: &mut [f32]) {
        let width = self.gamma.len();
        let (mut centred, mut scaled) = (vec![0.0; width], vec![0.0; width]);
        vectorised(
            #[inline(always)]
            || {
                for ((x, gradient), out) in x.chunks_exact(width).zip(gradient.chunks_exact(width)).zip(out.chunks_exact_mut(width)) {
                    let scale = moments(x, self.epsilon, &mut centred);
                    for ((s, g), gamma) in scaled.iter_mut().zip(gradient).zip(self.gamma) {
                        *s = g * gamma;
                    }
                    let mean = sum(&scaled) / width as f32;
                    let along = dot(&scaled, &centred) * scale * scale / width as f32;
                    for ((out, s), c) in out.iter_mut().zip(&scaled).zip(&centred) {
                        *out += (s - mean - c * along) * scale;
                    }
                }
            },
        )
    }
}
