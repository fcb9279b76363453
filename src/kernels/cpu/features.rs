//! Channels-last features of a frozen network on the CPU.

use super::conv::{correlate, correlate_halving, is_worth, padded, Activated, Map, Panels, Winograd};
use super::on_host;
use super::simd::vectorised;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Numbers that a job of the loops below reads at the most.
const CHUNK: usize = 1 << 14;

/// A 3x3 convolution's weights in the order in which its kernel reads them.
pub(crate) struct Packed {
    weights: Weights,
    /// Whole panels.
    bias: Vec<f32>,
    /// Whole panels, or empty.
    slopes: Vec<f32>,
    pub stride: usize,
    pub inputs: usize,
    pub outputs: usize,
}

enum Weights {
    Direct(Panels),
    Winograd(Winograd),
}

/// A map that is as small as the smallest that the widest layers of an encoder see.
const USUAL: usize = 16;

impl Packed {
    /// weight [outputs, inputs, 3, 3], bias [outputs], slopes [outputs]; all on the host.
    pub(crate) fn new(weight: &Tensor, bias: &Tensor, slopes: Option<&Tensor>, stride: usize) -> Result<Self> {
        let (outputs, inputs, _, _) = weight.dims4()?;
        let weight = weight.contiguous()?;
        let (storage, layout) = weight.storage_and_layout();
        let panels = Panels::new(on_host(&storage, layout, "a convolution")?, outputs, inputs, 9);
        // Two of the usual maps, as the choice should not depend on the batch.
        let weights = match stride == 1 && is_worth(2, USUAL, USUAL, inputs, outputs) {
            true => Weights::Winograd(Winograd::new(&panels, true)),
            false => Weights::Direct(panels),
        };
        let whole = |numbers: &Tensor| -> Result<Vec<f32>> { Ok(padded(&numbers.to_vec1::<f32>()?, outputs)) };
        let (bias, slopes) = (whole(bias)?, slopes.map(whole).transpose()?.unwrap_or_default());
        Ok(Self { weights, bias, slopes, stride, inputs, outputs })
    }

    /// x [n, h, w, inputs] -> [n, h / stride, w / stride, outputs], rounded up
    pub(crate) fn forward(&self, x: &[f32], (n, h, w): (usize, usize, usize)) -> Vec<f32> {
        let x = Map::new(x, n, h, w, self.inputs);
        let ones = vec![1.0; n * self.inputs];
        let finish = Activated { bias: &self.bias, slopes: &self.slopes };
        let mut out = vec![0.0; n * h.div_ceil(self.stride) * w.div_ceil(self.stride) * self.outputs];
        match (&self.weights, self.stride) {
            (Weights::Winograd(weights), _) => weights.correlate(x, &ones, &finish, &mut out),
            (Weights::Direct(panels), 1) => correlate(x, &ones, panels, &finish, &mut out),
            (Weights::Direct(panels), _) => correlate_halving(x, &ones, panels, &finish, &mut out),
        }
        out
    }
}

/// Pixels of c channels that a job reads.
fn pixels(c: usize) -> usize {
    (CHUNK / c.max(1)).max(1)
}

/// x [.., c] * scale [c] + shift [c]
pub(crate) fn scaled(x: &[f32], scale: &[f32], shift: &[f32]) -> Vec<f32> {
    let c = scale.len();
    let mut out = vec![0.0; x.len()];
    let job = pixels(c) * c.max(1);
    out.par_chunks_mut(job).zip(x.par_chunks(job)).for_each(|(out, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                    for (((out, x), scale), shift) in out.iter_mut().zip(x).zip(scale).zip(shift) {
                        *out = x * scale + shift;
                    }
                }
            },
        )
    });
    out
}

/// x [n, pixels, c] -> [n, c]. The parts that are added up are of shapes alone.
pub(crate) fn mean(x: &[f32], n: usize, area: usize, c: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(n * c);
    for x in x.chunks_exact((area * c).max(1)) {
        let parts: Vec<Vec<f32>> = x
            .par_chunks(pixels(c) * c)
            .map(|x| {
                let mut sums = vec![0.0f32; c];
                vectorised(
                    #[inline(always)]
                    || {
                        for x in x.chunks_exact(c) {
                            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
                        }
                    },
                );
                sums
            })
            .collect();
        out.extend((0..c).map(|i| (parts.iter().map(|part| f64::from(part[i])).sum::<f64>() / area as f64) as f32));
    }
    out
}

/// x [n, pixels, c] * gate [n, c] + y
pub(crate) fn gated(x: &[f32], gate: &[f32], y: &[f32], (_, area, c): (usize, usize, usize)) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    let (sample, job) = ((area * c).max(1), pixels(c) * c.max(1));
    for (((out, x), y), gate) in out.chunks_mut(sample).zip(x.chunks(sample)).zip(y.chunks(sample)).zip(gate.chunks(c.max(1))) {
        out.par_chunks_mut(job).zip(x.par_chunks(job)).zip(y.par_chunks(job)).for_each(|((out, x), y)| {
            vectorised(
                #[inline(always)]
                || {
                    for ((out, x), y) in out.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(y.chunks_exact(c)) {
                        for (((out, x), y), gate) in out.iter_mut().zip(x).zip(y).zip(gate) {
                            *out = x * gate + y;
                        }
                    }
                },
            )
        });
    }
    out
}

/// For each of `to` places the two of `from` between which it lies, and the second one's share, where the corners of both coincide.
pub(crate) fn between_corners(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let step = if to > 1 { (from - 1) as f32 / (to - 1) as f32 } else { 0.0 };
    let place = |i: usize| {
        let at = i as f32 * step;
        let first = (at as usize).min(from - 1);
        (first, (first + 1).min(from - 1), at - first as f32)
    };
    (0..to).map(place).collect()
}

/// x [n, h, w, c] bilinearly at the size of y [n, h', w', c], plus y
pub(crate) fn enlarged_onto(x: &[f32], y: &[f32], (h, w): (usize, usize), (oh, ow): (usize, usize), c: usize) -> Vec<f32> {
    let (down, across) = (between_corners(h, oh), between_corners(w, ow));
    let mut out = vec![0.0; y.len()];
    out.par_chunks_mut(ow * c).zip(y.par_chunks(ow * c)).enumerate().for_each(|(row, (out, y))| {
        let x = &x[row / oh * h * w * c..][..h * w * c];
        let (top, bottom, below) = down[row % oh];
        vectorised(
            #[inline(always)]
            || {
                for ((out, y), &(left, right, beside)) in out.chunks_exact_mut(c).zip(y.chunks_exact(c)).zip(&across) {
                    let at = |row: usize, column: usize| &x[(row * w + column) * c..][..c];
                    let (a, b) = (at(top, left), at(top, right));
                    let (d, e) = (at(bottom, left), at(bottom, right));
                    for i in 0..c {
                        let upper = a[i] * (1.0 - beside) + b[i] * beside;
                        let lower = d[i] * (1.0 - beside) + e[i] * beside;
                        out[i] = upper * (1.0 - below) + lower * below + y[i];
                    }
                }
            },
        )
    });
    out
}
