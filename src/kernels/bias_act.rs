//! Bias and leaky ReLU with gain: the activation of the mapping network.

use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{alike, apply, run, Backward, Differentiable, Op};
use candle_core::{bail, Result, Shape, Tensor};
use rayon::prelude::*;

const SLOPE: f32 = 0.2;
const GAIN: f32 = std::f32::consts::SQRT_2;

/// x [n, c, ..], bias [c].
struct BiasAct;

/// `sqrt(2) * leaky_relu(x + bias)` with slope 0.2, for `x` [n, c, ..] and `bias` [c]. Gradients of both, each only when candle tracks it.
pub fn bias_act(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    apply(BiasAct, [x, bias])
}

/// (c, numbers of a channel), checked.
fn sizes(x: &Shape, bias: &Shape) -> Result<(usize, usize)> {
    match x.dims() {
        &[n, c, ref rest @ ..] if bias.dims() == [c] && x.elem_count() > 0 && n > 0 => Ok((c, rest.iter().product())),
        _ => bail!("bias_act: shapes {x:?}, {bias:?} do not fit"),
    }
}

impl Op<2> for BiasAct {
    const NAME: &'static str = "bias_act";
    fn shapes(&self, [x, bias]: [&Shape; 2]) -> Result<[Shape; 1]> {
        sizes(x, bias)?;
        Ok([x.clone()])
    }
    fn cpu(&self, [x, bias]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        let (c, area) = sizes(x.shape, bias.shape)?;
        let act = |v: f32| if v > 0.0 { v * GAIN } else { v * (SLOPE * GAIN) };
        let mut y = vec![0.0; x.values.len()];
        y.par_chunks_mut(c * area).zip(x.values.par_chunks(c * area)).for_each(|(y, x)| {
            for ((y, x), b) in y.chunks_mut(area).zip(x.chunks(area)).zip(bias.values) {
                y.iter_mut().zip(x).for_each(|(y, x)| *y = act(x + b));
            }
        });
        Ok([y])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, bias]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        let (c, area) = sizes(x.shape, bias.shape)?;
        let out = gpu.alloc(x.values.len())?;
        let arguments = cuda::arguments![x.at(), bias.at(), out.at(), x.values.len(), c, area];
        // SAFETY: the kernel's arguments.
        unsafe { gpu.each(("picture", "bias_act_forward"), x.values.len(), arguments)? };
        Ok([out])
    }
}

impl Differentiable<2> for BiasAct {
    fn gradient(&self, given: &Backward<2>) -> Result<[Option<Tensor>; 2]> {
        let ([_, bias], [y]) = (&given.inputs, &given.outputs);
        Ok(run(&BiasActGradient, [y, bias, &given.gradient])?.map(Some))
    }
}

/// The result, bias, gradient of the result -> gradients of x and bias.
struct BiasActGradient;

impl Op<3, 2> for BiasActGradient {
    const NAME: &'static str = "bias_act's gradient";
    fn shapes(&self, [y, bias, dy]: [&Shape; 3]) -> Result<[Shape; 2]> {
        sizes(y, bias)?;
        Ok([alike(Self::NAME, y, dy)?, bias.clone()])
    }
    fn cpu(&self, [y, bias, dy]: [View; 3]) -> Result<[Vec<f32>; 2]> {
        let (c, area) = sizes(y.shape, bias.shape)?;
        // The output has the sign of what went into the activation.
        let back = |(y, dy): (&f32, &f32)| if *y > 0.0 { dy * GAIN } else { dy * (SLOPE * GAIN) };
        let dx: Vec<f32> = y.values.par_iter().zip(dy.values).map(back).collect();
        let mut db = vec![0.0f64; c];
        dx.chunks(area).enumerate().for_each(|(i, plane)| db[i % c] += plane.iter().map(|v| f64::from(*v)).sum::<f64>());
        Ok([dx, db.into_iter().map(|v| v as f32).collect()])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [y, bias, dy]: [cuda::View; 3]) -> Result<[cuda::Numbers; 2]> {
        let (c, area) = sizes(y.shape, bias.shape)?;
        let count = y.values.len();
        let (dx, db) = (gpu.alloc(count)?, gpu.alloc(c)?);
        // SAFETY: the kernels' arguments.
        unsafe {
            gpu.each(("picture", "bias_act_backward"), count, cuda::arguments![y.at(), dy.at(), dx.at(), count])?;
            let sums = cuda::arguments![dx.at(), db.at(), count / (c * area), c, area];
            gpu.launch(("style", "channel_totals"), [c, 1, 1], 256, 0, sums)?;
        }
        Ok([dx, db])
    }
}
