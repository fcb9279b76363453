//! Noise, bias and leaky ReLU of a synthesis layer in one pass (Karras et al. 2020, figure 2).

use super::buffer::{numbers, tensor, with_numbers};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

const SLOPE: f32 = 0.2;
const GAIN: f32 = std::f32::consts::SQRT_2;

struct BiasAct {
    /// [n or 1, 1, h, w]
    noise: Option<Tensor>,
}

/// `sqrt(2) * leaky_relu(x + strength * noise + bias)` with slope 0.2.
///
/// `x` [n, c, h, w], `bias` [c], `strength` [1], `noise` [n or 1, 1, h, w]. Gradients of all, each only when candle tracks it; without
/// noise that of the strength is zero.
pub fn bias_act(x: &Tensor, bias: &Tensor, strength: &Tensor, noise: Option<&Tensor>) -> Result<Tensor> {
    // Noise is trained by some inversions only, which take the slower way.
    if let Some(noise) = noise.filter(|n| n.track_op()) {
        return bias_act(&x.broadcast_add(&noise.broadcast_mul(strength)?)?, bias, &strength.zeros_like()?, None);
    }
    x.apply_op3(bias, strength, BiasAct { noise: noise.map(|n| n.detach()) })
}

/// (n, c, h * w), checked.
fn sizes(x: &[usize], bias: &[usize], strength: &[usize], noise: Option<&Tensor>) -> Result<(usize, usize, usize)> {
    let noise_fits =
        |n: usize, h: usize, w: usize| noise.is_none_or(|t| matches!(t.dims(), &[m, 1, a, b] if (m == n || m == 1) && a == h && b == w));
    match x {
        &[n, c, h, w] if bias == [c] && strength.iter().product::<usize>() == 1 && noise_fits(n, h, w) && n * c * h * w > 0 => {
            Ok((n, c, h * w))
        }
        _ => candle_core::bail!("bias_act: shapes {x:?}, {bias:?}, {strength:?}, {:?} do not fit", noise.map(|n| n.dims().to_vec())),
    }
}

impl BiasAct {
    /// Calls `f` with the noise's numbers, empty without noise.
    fn with_noise<R>(&self, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
        match &self.noise {
            Some(t) => with_numbers(t, f),
            None => f(&[]),
        }
    }
}

/// The noise plane of sample `n`; one plane serves every sample when there is only one.
fn plane(noise: &[f32], n: usize, area: usize) -> &[f32] {
    let planes = noise.len() / area;
    &noise[if planes > 1 { n * area } else { 0 }..][..area]
}

impl CustomOp3 for BiasAct {
    fn name(&self) -> &'static str {
        "bias_act"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
        s: &CpuStorage,
        sl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, c, area) = sizes(xl.dims(), bl.dims(), sl.dims(), self.noise.as_ref())?;
        let (x, bias, strength) = (numbers(x, xl)?, numbers(b, bl)?, numbers(s, sl)?[0]);
        self.with_noise(|noise| {
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
            Ok((CpuStorage::F32(y), xl.shape().clone()))
        })
    }

    fn bwd(&self, x: &Tensor, b: &Tensor, s: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (_, c, area) = sizes(x.dims(), b.dims(), s.dims(), self.noise.as_ref())?;
        let (gx, sums) = with_numbers(y, |y| {
            with_numbers(dy, |dy| {
                self.with_noise(|noise| {
                    let mut gx = vec![0.0; y.len()];
                    // Per plane: the sum of the gradient, and of the gradient times the noise.
                    let sums: Vec<(f64, f64)> = gx
                        .par_chunks_mut(area)
                        .zip(y.par_chunks(area))
                        .zip(dy.par_chunks(area))
                        .with_min_len(4)
                        .enumerate()
                        .map(|(i, ((gx, y), dy))| {
                            // The output has the sign of what went into the activation.
                            for ((gx, y), dy) in gx.iter_mut().zip(y).zip(dy) {
                                *gx = if *y > 0.0 { dy * GAIN } else { dy * (SLOPE * GAIN) };
                            }
                            let with_noise = if noise.is_empty() { 0.0 } else { super::modulated::dot(gx, plane(noise, i / c, area)) };
                            (gx.chunks(64).map(|c| f64::from(c.iter().sum::<f32>())).sum(), with_noise)
                        })
                        .collect();
                    Ok((gx, sums))
                })
            })
        })?;
        let db = b.track_op().then(|| {
            let mut db = vec![0.0f64; c];
            sums.iter().enumerate().for_each(|(i, s)| db[i % c] += s.0);
            tensor(db.iter().map(|v| *v as f32).collect(), b.dims())
        });
        let ds = s.track_op().then(|| tensor(vec![sums.iter().map(|s| s.1).sum::<f64>() as f32], s.dims()));
        Ok((x.track_op().then(|| tensor(gx, x.dims())).transpose()?, db.transpose()?, ds.transpose()?))
    }
}
