//! A gradient that was computed elsewhere, as the start of a backward pass.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

struct WithGradient(Tensor);

/// A scalar 0 whose gradient with respect to `x` is `gradient` (same shape): `backward` on it continues a chain whose later part, in
/// another graph, has already run.
pub fn with_gradient(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    if x.dims() != gradient.dims() {
        candle_core::bail!("with_gradient: shapes {:?} and {:?} differ", x.dims(), gradient.dims())
    }
    x.apply_op1(WithGradient(gradient.detach()))
}

impl CustomOp1 for WithGradient {
    fn name(&self) -> &'static str {
        "with_gradient"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let factor = grad.to_scalar::<f32>()?;
        Ok(Some(if factor == 1.0 { self.0.clone() } else { self.0.affine(factor as f64, 0.0)? }))
    }
}
