//! Linear layers whose frozen weights cost nothing backward.

use super::slices::{argument, matmul, prepared, repeated, tensor, vectorised, Matrix, Values};
use candle_core::{bail, CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

/// out [m, outputs] = x [m, inputs] w^T + b; w [outputs, inputs].
fn forward(x: &[f32], w: &[f32], b: Option<&[f32]>, (inputs, outputs): (usize, usize)) -> Vec<f32> {
    let rows = x.len().checked_div(inputs).unwrap_or(0);
    let mut out = repeated(b, rows, outputs);
    let w = Matrix::rows(w, inputs).transposed();
    matmul((rows, outputs, inputs), &mut out, outputs, true, 1.0, Matrix::rows(x, inputs), w, true);
    out
}

/// Gradients of x and, where tracked, of w and of a bias.
fn backward(x: &Tensor, w: &Tensor, b: Option<&Tensor>, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
    let (outputs, inputs) = w.dims2()?;
    let gradient = prepared(gradient)?;
    let gradient = Values::of(&gradient)?;
    let rows = gradient.len().checked_div(outputs).unwrap_or(0);
    let x_gradient = match x.track_op() {
        true => {
            let mut out = vec![0.0; rows * inputs];
            let g = Matrix::rows(&gradient, outputs);
            matmul((rows, inputs, outputs), &mut out, inputs, false, 1.0, g, Matrix::rows(&Values::of(w)?, inputs), true);
            Some(tensor(out, x.shape())?)
        }
        false => None,
    };
    let w_gradient = match w.track_op() {
        true => {
            let mut out = vec![0.0; outputs * inputs];
            let g = Matrix::rows(&gradient, outputs).transposed();
            matmul((outputs, inputs, rows), &mut out, inputs, false, 1.0, g, Matrix::rows(&Values::of(x)?, inputs), true);
            Some(tensor(out, w.shape())?)
        }
        false => None,
    };
    let b_gradient = match b {
        Some(b) if b.track_op() => {
            let mut out = vec![0.0; outputs];
            vectorised(|| gradient.chunks_exact(outputs).for_each(|row| super::slices::add_to(&mut out, row)));
            Some(tensor(out, b.shape())?)
        }
        _ => None,
    };
    Ok((x_gradient, w_gradient, b_gradient))
}

fn output_shape(x: &Layout, outputs: usize) -> Shape {
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = outputs;
    }
    dims.into()
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, w: &CpuStorage, wl: &Layout) -> Result<(CpuStorage, Shape)> {
        let (outputs, inputs) = wl.shape().dims2()?;
        let out = forward(argument(x, xl)?, argument(w, wl)?, None, (inputs, outputs));
        Ok((CpuStorage::F32(out), output_shape(xl, outputs)))
    }
    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (x, w, _) = backward(x, w, None, gradient)?;
        Ok((x, w))
    }
}

struct BiasedLinear;

impl CustomOp3 for BiasedLinear {
    fn name(&self) -> &'static str {
        "linear with bias"
    }
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (outputs, inputs) = wl.shape().dims2()?;
        let out = forward(argument(x, xl)?, argument(w, wl)?, Some(argument(b, bl)?), (inputs, outputs));
        Ok((CpuStorage::F32(out), output_shape(xl, outputs)))
    }
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        backward(x, w, Some(b), gradient)
    }
}

/// x [.., inputs] times the transpose of w [outputs, inputs], plus b [outputs] -> [.., outputs]. Differentiable in every tracked argument.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = w.dims2()?;
    if x.dims().last() != Some(&inputs) || b.is_some_and(|b| b.dims() != [outputs]) {
        bail!("linear: x {:?} does not fit w {:?} and b {:?}", x.shape(), w.shape(), b.map(|b| b.shape()));
    }
    let (x, w) = (prepared(x)?, prepared(w)?);
    match b {
        Some(b) => x.apply_op3(&w, &prepared(b)?, BiasedLinear),
        None => x.apply_op2(&w, Linear),
    }
}
