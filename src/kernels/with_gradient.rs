//! A gradient that was computed elsewhere, as the start of a backward pass.

use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda;
use super::op::{apply, Backward, Differentiable, Op};
use candle_core::{bail, Result, Shape, Tensor};

/// x, its gradient.
struct WithGradient;

impl Op<2> for WithGradient {
    const NAME: &'static str = "with_gradient";
    fn shapes(&self, [x, gradient]: [&Shape; 2]) -> Result<[Shape; 1]> {
        match x == gradient {
            true => Ok([Shape::from(())]),
            false => bail!("with_gradient: shapes {x:?} and {gradient:?} differ"),
        }
    }
    fn cpu(&self, _: [View; 2]) -> Result<[Vec<f32>; 1]> {
        Ok([vec![0.0]])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &cuda::Gpu, _: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        Ok([gpu.zeros(1)?])
    }
}

impl Differentiable<2> for WithGradient {
    fn gradient(&self, given: &Backward<2>) -> Result<[Option<Tensor>; 2]> {
        let [_, gradient] = &given.inputs;
        Ok([Some(times(gradient, &given.gradient)?), None])
    }
}

/// A gradient times that of the scalar it is of.
pub(super) fn times(gradient: &Tensor, scalar: &Tensor) -> Result<Tensor> {
    // Mostly the factor is 1. To look costs nothing on the CPU, but would wait for any other device.
    match scalar.device().is_cpu() && scalar.to_scalar::<f32>()? == 1.0 {
        true => Ok(gradient.clone()),
        false => gradient.broadcast_mul(scalar),
    }
}

/// A scalar 0 whose gradient with respect to `x` is `gradient` (same shape): `backward` on it continues a chain whose later part, in
/// another graph, has already run.
pub fn with_gradient(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    apply(WithGradient, [x, &gradient.detach()])
}
