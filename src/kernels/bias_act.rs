//! Noise, bias and leaky ReLU of a synthesis layer in one pass (Karras et al. 2020, figure 2).

use super::cpu::vector::long_dot;
use super::cpu::View;
use super::op::{alike, apply, run, Backward, Differentiable, Op};
use candle_core::{bail, DType, Result, Shape, Tensor};
use rayon::prelude::*;

const SLOPE: f32 = 0.2;
const GAIN: f32 = std::f32::consts::SQRT_2;

/// x [n, c, h, w], bias [c], strength [1], noise [n or 1, 1, h, w] or, for none, [0].
struct BiasAct;

/// `sqrt(2) * leaky_relu(x + strength * noise + bias)` with slope 0.2.
///
/// `x` [n, c, h, w], `bias` [c], `strength` [1], `noise` [n or 1, 1, h, w]. Gradients of all, each only when candle tracks it; without
/// noise that of the strength is zero.
pub fn bias_act(x: &Tensor, bias: &Tensor, strength: &Tensor, noise: Option<&Tensor>) -> Result<Tensor> {
    match noise {
        // Noise is trained by some inversions only, which take the slower way.
        Some(noise) if noise.track_op() => {
            bias_act(&x.broadcast_add(&noise.broadcast_mul(strength)?)?, bias, &strength.zeros_like()?, None)
        }
        Some(noise) => apply(BiasAct, [x, bias, strength, noise]),
        None => apply(BiasAct, [x, bias, strength, &Tensor::zeros(0, DType::F32, x.device())?]),
    }
}

/// (c, h * w), checked.
fn sizes([x, bias, strength, noise]: [&Shape; 4]) -> Result<(usize, usize)> {
    let noise_fits = |n: usize, h: usize, w: usize| match noise.dims() {
        &[m, 1, a, b] => (m == n || m == 1) && a == h && b == w,
        other => other == [0],
    };
    match x.dims() {
        &[n, c, h, w] if bias.dims() == [c] && strength.elem_count() == 1 && noise_fits(n, h, w) && n * c * h * w > 0 => Ok((c, h * w)),
        _ => bail!("bias_act: shapes {x:?}, {bias:?}, {strength:?}, {noise:?} do not fit"),
    }
}

/// The noise plane of sample `n`; one plane serves every sample when there is only one.
fn plane(noise: &[f32], n: usize, area: usize) -> &[f32] {
    let planes = noise.len() / area;
    &noise[if planes > 1 { n * area } else { 0 }..][..area]
}

impl Op<4> for BiasAct {
    const NAME: &'static str = "bias_act";
    fn shapes(&self, inputs: [&Shape; 4]) -> Result<[Shape; 1]> {
        sizes(inputs)?;
        Ok([inputs[0].clone()])
    }
    fn cpu(&self, inputs: [View; 4]) -> Result<[Vec<f32>; 1]> {
        let (c, area) = sizes(inputs.map(|i| i.shape))?;
        let [x, bias, strength, noise] = inputs.map(|i| i.values);
        let strength = strength[0];
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(area).zip(x.par_chunks(area)).with_min_len(4).enumerate().for_each(|(i, (y, x))| {
            let b = bias[i % c];
            let act = |v: f32| if v > 0.0 { v * GAIN } else { v * (SLOPE * GAIN) };
            if noise.is_empty() {
                for (y, x) in y.iter_mut().zip(x) {
                    *y = act(x + b);
                }
            } else {
                for ((y, x), n) in y.iter_mut().zip(x).zip(plane(noise, i / c, area)) {
                    *y = act(x + strength * n + b);
                }
            }
        });
        Ok([y])
    }
}

impl Differentiable<4> for BiasAct {
    fn gradient(&self, given: &Backward<4>) -> Result<[Option<Tensor>; 4]> {
        let ([_, bias, strength, noise], [y]) = (&given.inputs, &given.outputs);
        let [dx, db, ds] = run(&BiasActGradient, [y, bias, strength, noise, &given.gradient])?;
        Ok([Some(dx), Some(db), Some(ds), None])
    }
}

/// The result, bias, strength, noise, gradient of the result -> gradients of x, bias and strength.
struct BiasActGradient;

impl Op<5, 3> for BiasActGradient {
    const NAME: &'static str = "bias_act's gradient";
    fn shapes(&self, [y, bias, strength, noise, dy]: [&Shape; 5]) -> Result<[Shape; 3]> {
        sizes([y, bias, strength, noise])?;
        Ok([alike(Self::NAME, y, dy)?, bias.clone(), strength.clone()])
    }
    fn cpu(&self, inputs: [View; 5]) -> Result<[Vec<f32>; 3]> {
        let [y, bias, strength, noise, _] = inputs.map(|i| i.shape);
        let (c, area) = sizes([y, bias, strength, noise])?;
        let [y, _, _, noise, dy] = inputs.map(|i| i.values);
        let mut dx = vec![0.0; y.len()];
        // Per plane: the sum of the gradient, and of the gradient times the noise.
        let sums: Vec<(f64, f64)> = dx
            .par_chunks_mut(area)
            .zip(y.par_chunks(area))
            .zip(dy.par_chunks(area))
            .with_min_len(4)
            .enumerate()
            .map(|(i, ((dx, y), dy))| {
                // The output has the sign of what went into the activation.
                for ((dx, y), dy) in dx.iter_mut().zip(y).zip(dy) {
                    *dx = if *y > 0.0 { dy * GAIN } else { dy * (SLOPE * GAIN) };
                }
                let with_noise = if noise.is_empty() { 0.0 } else { long_dot(dx, plane(noise, i / c, area)) };
                (dx.chunks(64).map(|c| f64::from(c.iter().sum::<f32>())).sum(), with_noise)
            })
            .collect();
        let mut db = vec![0.0f64; c];
        sums.iter().enumerate().for_each(|(i, s)| db[i % c] += s.0);
        let ds = sums.iter().map(|s| s.1).sum::<f64>() as f32;
        Ok([dx, db.into_iter().map(|v| v as f32).collect(), vec![ds]])
    }
}
