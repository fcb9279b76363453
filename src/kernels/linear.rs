//! Linear layers whose frozen weights cost nothing backward.

use super::cpu::gemm::{matmul, Matrix};
use super::cpu::simd::vectorised;
use super::cpu::vector::{add_to, repeated};
use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, transformer::Dense, At, Gpu};
use super::op::{apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Result, Shape, Tensor};

/// The result's shape, of x [.., inputs], w [outputs, inputs] and b [outputs].
fn output(x: &Shape, w: &Shape, b: Option<&Shape>) -> Result<Shape> {
    match (x.dims(), w.dims()) {
        ([leading @ .., inputs], &[outputs, same]) if *inputs == same && b.is_none_or(|b| b.dims() == [outputs]) => {
            Ok([leading, &[outputs]].concat().into())
        }
        _ => bail!("linear: x {x:?} does not fit w {w:?} and b {b:?}"),
    }
}

/// How many rows x has.
fn rows(x: &View) -> usize {
    let width = x.dims().last().copied().unwrap_or(0);
    x.values.len().checked_div(width).unwrap_or(0)
}

/// x w^T + b
fn forward(x: View, w: View, b: Option<&[f32]>) -> Result<Vec<f32>> {
    let (outputs, inputs) = w.shape.dims2()?;
    let rows = rows(&x);
    let mut out = repeated(b, rows, outputs);
    let w = Matrix::rows(w.values, inputs).transposed();
    matmul((rows, outputs, inputs), &mut out, outputs, true, 1.0, Matrix::rows(x.values, inputs), w, true);
    Ok(out)
}

/// The layer, and how many rows x has.
#[cfg(feature = "cuda")]
fn on_cuda(x: &cuda::View, w: &cuda::View, bias: Option<cuda::Argument>) -> Result<(Dense, usize)> {
    let (outputs, inputs) = w.shape.dims2()?;
    Ok((Dense { weight: w.at(), bias, inputs, outputs }, x.values.len() / inputs.max(1)))
}

/// x, w -> x w^T
struct Linear;

impl Op<2> for Linear {
    const NAME: &'static str = "linear";
    fn shapes(&self, [x, w]: [&Shape; 2]) -> Result<[Shape; 1]> {
        Ok([output(x, w, None)?])
    }
    fn cpu(&self, [x, w]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        Ok([forward(x, w, None)?])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, w]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        let (dense, rows) = on_cuda(&x, &w, None)?;
        Ok([dense.forward(gpu, x.at(), rows, None)?])
    }
}

impl Differentiable<2> for Linear {
    fn gradient(&self, given: &Backward<2>) -> Result<[Option<Tensor>; 2]> {
        let ([x, w], g) = (&given.inputs, &given.gradient);
        let wanted = |i: usize, f: &dyn Fn() -> Result<Tensor>| given.need[i].then(f).transpose();
        Ok([wanted(0, &|| run1(&InputGradient, [g, w]))?, wanted(1, &|| run1(&WeightGradient, [g, x]))?])
    }
}

/// x, w, b -> x w^T + b
struct BiasedLinear;

impl Op<3> for BiasedLinear {
    const NAME: &'static str = "linear with bias";
    fn shapes(&self, [x, w, b]: [&Shape; 3]) -> Result<[Shape; 1]> {
        Ok([output(x, w, Some(b))?])
    }
    fn cpu(&self, [x, w, b]: [View; 3]) -> Result<[Vec<f32>; 1]> {
        Ok([forward(x, w, Some(b.values))?])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, w, b]: [cuda::View; 3]) -> Result<[cuda::Numbers; 1]> {
        let (dense, rows) = on_cuda(&x, &w, Some(b.at()))?;
        Ok([dense.forward(gpu, x.at(), rows, None)?])
    }
}

impl Differentiable<3> for BiasedLinear {
    fn gradient(&self, given: &Backward<3>) -> Result<[Option<Tensor>; 3]> {
        let ([x, w, _], g) = (&given.inputs, &given.gradient);
        let wanted = |i: usize, f: &dyn Fn() -> Result<Tensor>| given.need[i].then(f).transpose();
        Ok([
            wanted(0, &|| run1(&InputGradient, [g, w]))?,
            wanted(1, &|| run1(&WeightGradient, [g, x]))?,
            wanted(2, &|| run1(&BiasGradient, [g]))?,
        ])
    }
}

/// g [.., outputs], w [outputs, inputs] -> g w
struct InputGradient;

impl Op<2> for InputGradient {
    const NAME: &'static str = "linear's gradient of x";
    fn shapes(&self, [g, w]: [&Shape; 2]) -> Result<[Shape; 1]> {
        match (g.dims(), w.dims()) {
            ([leading @ .., outputs], &[same, inputs]) if *outputs == same => Ok([[leading, &[inputs]].concat().into()]),
            _ => bail!("{}: {g:?} and {w:?} do not fit", Self::NAME),
        }
    }
    fn cpu(&self, [g, w]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        let (outputs, inputs) = w.shape.dims2()?;
        let rows = rows(&g);
        let mut out = vec![0.0; rows * inputs];
        let (g, w) = (Matrix::rows(g.values, outputs), Matrix::rows(w.values, inputs));
        matmul((rows, inputs, outputs), &mut out, inputs, false, 1.0, g, w, true);
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [g, w]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        let (outputs, inputs) = w.shape.dims2()?;
        let dense = Dense { weight: w.at(), bias: None, inputs, outputs };
        Ok([dense.backward(gpu, g.at(), g.values.len() / outputs.max(1))?])
    }
}

/// g [.., outputs], x [.., inputs] -> g^T x [outputs, inputs]
struct WeightGradient;

impl Op<2> for WeightGradient {
    const NAME: &'static str = "linear's gradient of w";
    fn shapes(&self, [g, x]: [&Shape; 2]) -> Result<[Shape; 1]> {
        match (g.dims(), x.dims()) {
            ([leading @ .., outputs], [same @ .., inputs]) if leading == same => Ok([(*outputs, *inputs).into()]),
            _ => bail!("{}: {g:?} and {x:?} do not fit", Self::NAME),
        }
    }
    fn cpu(&self, [g, x]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        let [out] = self.shapes([g.shape, x.shape])?;
        let (outputs, inputs) = out.dims2()?;
        let rows = rows(&g);
        let mut out = vec![0.0; outputs * inputs];
        let (g, x) = (Matrix::rows(g.values, outputs).transposed(), Matrix::rows(x.values, inputs));
        matmul((outputs, inputs, rows), &mut out, inputs, false, 1.0, g, x, true);
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [g, x]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        let [out] = self.shapes([g.shape, x.shape])?;
        let (outputs, inputs) = out.dims2()?;
        let dense = Dense { weight: cuda::Argument::NULL, bias: None, inputs, outputs };
        Ok([dense.of_weights(gpu, g.at(), x.at(), g.values.len() / outputs.max(1))?])
    }
}

/// g [.., outputs] -> its sum over all rows [outputs]
struct BiasGradient;

impl Op<1> for BiasGradient {
    const NAME: &'static str = "linear's gradient of b";
    fn shapes(&self, [g]: [&Shape; 1]) -> Result<[Shape; 1]> {
        Ok([g.dims().last().copied().unwrap_or(0).into()])
    }
    fn cpu(&self, [g]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let outputs = g.dims().last().copied().unwrap_or(0);
        let mut out = vec![0.0; outputs];
        vectorised(|| g.values.chunks_exact(outputs.max(1)).for_each(|row| add_to(&mut out, row)));
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [g]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        let outputs = g.dims().last().copied().unwrap_or(0);
        Ok([cuda::transformer::column_sums(gpu, g.at(), g.values.len() / outputs.max(1), outputs)?])
    }
}

/// x [.., inputs] times the transpose of w [outputs, inputs], plus b [outputs] -> [.., outputs]. Differentiable in every tracked argument.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (x, w) = (f32s(x)?, f32s(w)?);
    match b {
        Some(b) => apply(BiasedLinear, [&x, &w, &f32s(b)?]),
        None => apply(Linear, [&x, &w]),
    }
}
