//! Layer normalisation (Ba, Kiros and Hinton 2016) over the last dimension.

use super::cpu::norm::Norm;
use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{alike, apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Result, Shape, Tensor};

/// x [.., d], gamma [d], beta [d].
struct LayerNorm {
    epsilon: f32,
}

fn check(x: &Shape, gamma: &Shape, beta: &Shape) -> Result<()> {
    let width = x.dims().last().copied().unwrap_or(0);
    if width == 0 || gamma.dims() != [width] || beta.dims() != [width] {
        bail!("layer_norm of {x:?}: gamma {gamma:?} and beta {beta:?} must be [{width}], not empty");
    }
    Ok(())
}

impl Op<3> for LayerNorm {
    const NAME: &'static str = "layer_norm";
    fn shapes(&self, [x, gamma, beta]: [&Shape; 3]) -> Result<[Shape; 1]> {
        check(x, gamma, beta)?;
        Ok([x.clone()])
    }
    fn cpu(&self, [x, gamma, beta]: [View; 3]) -> Result<[Vec<f32>; 1]> {
        let mut out = vec![0.0; x.values.len()];
        Norm { gamma: gamma.values, beta: beta.values, epsilon: self.epsilon }.forward(x.values, &mut out);
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, gamma, beta]: [cuda::View; 3]) -> Result<[cuda::Numbers; 1]> {
        let width = gamma.values.len();
        let norm = cuda::transformer::Norm { gamma: gamma.at(), beta: beta.at(), width, epsilon: self.epsilon };
        Ok([norm.forward(gpu, x.at(), x.values.len() / width)?])
    }
}

impl Differentiable<3> for LayerNorm {
    fn gradient(&self, given: &Backward<3>) -> Result<[Option<Tensor>; 3]> {
        let [x, gamma, beta] = &given.inputs;
        let gradient = run1(&LayerNormGradient { epsilon: self.epsilon }, [x, gamma, beta, &given.gradient])?;
        Ok([Some(gradient), None, None])
    }
}

/// x, gamma, beta, gradient of the result -> gradient of x.
struct LayerNormGradient {
    epsilon: f32,
}

impl Op<4> for LayerNormGradient {
    const NAME: &'static str = "layer_norm's gradient";
    fn shapes(&self, [x, gamma, beta, gradient]: [&Shape; 4]) -> Result<[Shape; 1]> {
        check(x, gamma, beta)?;
        Ok([alike(Self::NAME, x, gradient)?])
    }
    fn cpu(&self, [x, gamma, beta, gradient]: [View; 4]) -> Result<[Vec<f32>; 1]> {
        let mut out = vec![0.0; x.values.len()];
        Norm { gamma: gamma.values, beta: beta.values, epsilon: self.epsilon }.backward(x.values, gradient.values, &mut out);
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, gamma, beta, gradient]: [cuda::View; 4]) -> Result<[cuda::Numbers; 1]> {
        let width = gamma.values.len();
        let norm = cuda::transformer::Norm { gamma: gamma.at(), beta: beta.at(), width, epsilon: self.epsilon };
        let out = gpu.alloc(x.values.len())?;
        norm.backward(gpu, x.at(), gradient.at(), x.values.len() / width, &out, false)?;
        Ok([out])
    }
}

/// x [.., d] -> (x - mean) / sqrt(variance + epsilon) * gamma [d] + beta [d], over the last dimension. Differentiable in `x`; `gamma` and
/// `beta` are frozen: tracked ones are an error.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, epsilon: f32) -> Result<Tensor> {
    if gamma.track_op() || beta.track_op() {
        bail!("layer_norm has no gradient for gamma and beta: detach them");
    }
    apply(LayerNorm { epsilon }, [&f32s(x)?, &f32s(gamma)?, &f32s(beta)?])
}
