//! Layer normalisation (Ba, Kiros and Hinton 2016) over the last dimension.

use super::slices::{argument, dot, prepared, sum, tensor, vectorised, Values};
use candle_core::{bail, CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// Scale and shift of a normalisation, frozen.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
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

impl Norm {
    /// out = normalised rows of `x`.
    pub(crate) fn forward(&self, x: &[f32], out: &mut [f32]) {
        let width = self.gamma.len();
        vectorised(
            #[inline(always)]
            || {
                for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                    let scale = moments(x, self.epsilon, out);
                    for ((out, gamma), beta) in out.iter_mut().zip(&self.gamma).zip(&self.beta) {
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
                    for ((s, g), gamma) in scaled.iter_mut().zip(gradient).zip(&self.gamma) {
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

impl CustomOp1 for Norm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }
    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = argument(storage, layout)?;
        let mut out = vec![0.0; x.len()];
        self.forward(x, &mut out);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = prepared(gradient)?;
        let mut out = vec![0.0; x.elem_count()];
        self.backward(&Values::of(x)?, &Values::of(&gradient)?, &mut out);
        Ok(Some(tensor(out, x.shape())?))
    }
}

/// x [.., d] -> (x - mean) / sqrt(variance + epsilon) * gamma [d] + beta [d], over the last dimension. Differentiable in `x`; `gamma` and
/// `beta` are frozen: tracked ones are an error.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, epsilon: f32) -> Result<Tensor> {
    if gamma.track_op() || beta.track_op() {
        bail!("layer_norm has no gradient for gamma and beta: detach them");
    }
    let width = x.dims().last().copied().unwrap_or(0);
    if width == 0 || gamma.dims() != [width] || beta.dims() != [width] {
        bail!("layer_norm of {:?}: gamma {:?} and beta {:?} must be [{width}], not empty", x.shape(), gamma.shape(), beta.shape());
    }
    let norm = Norm { gamma: Values::of(&prepared(gamma)?)?.to_vec(), beta: Values::of(&prepared(beta)?)?.to_vec(), epsilon };
    prepared(x)?.apply_op1(norm)
}
