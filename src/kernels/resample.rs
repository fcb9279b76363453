//! Pictures at other sizes and under affine maps, as sparse sums whose transposes are the gradients.

use super::slices::{argument, prepared, tensor, vectorised, Values};
use candle_core::{bail, CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::ops::{Range, RangeInclusive};

/// What a pixel of the new size sees of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Keys' cubic with a = -0.5, widened by the factor when shrinking (PIL's, and torchvision's default).
    BicubicAntialias,
    /// Keys' cubic with a = -0.75 over 4 pixels whatever the factor, borders repeated (torch's default).
    Bicubic,
    /// A triangle, widened by the factor when shrinking (PIL's bilinear, and torchvision's default).
    BilinearAntialias,
    /// A triangle over 2 pixels whatever the factor, borders repeated (torch's default).
    Bilinear,
    /// The mean of the pixels that the new one covers at least in part (torch's adaptive average).
    Area,
}

/// Keys' cubic convolution kernel (1981, equation 15 with free a).
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// One dimension's weights: output `i` is the sum of `weights[i]` times the inputs from `starts[i]` on.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    starts: Vec<usize>,
    weights: Vec<Vec<f32>>,
}

/// Antialiased cubic weights, in double precision: (first input, weights that sum to 1) for each output.
pub(crate) fn antialiased(inputs: usize, outputs: usize) -> impl Iterator<Item = (usize, Vec<f64>)> {
    widened(inputs, outputs, 2.0, |x| cubic(x, -0.5))
}

/// As [`antialiased`], of a `kernel` that is 0 beyond `radius`.
fn widened(inputs: usize, outputs: usize, radius: f64, kernel: impl Fn(f64) -> f64) -> impl Iterator<Item = (usize, Vec<f64>)> {
    let scale = inputs as f64 / outputs as f64;
    let stretch = scale.max(1.0);
    let support = radius * stretch;
    (0..outputs).map(move |i| {
        let centre = scale * (i as f64 + 0.5);
        let start = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(inputs);
        let weights: Vec<f64> = (start..end).map(|j| kernel((j as f64 - centre + 0.5) / stretch)).collect();
        let sum: f64 = weights.iter().sum();
        (start, weights.into_iter().map(|w| w / sum).collect())
    })
}

/// Weights of the pixels `taps` around each output's place, whatever the factor; beyond the border its pixel is repeated.
fn interpolated(inputs: usize, outputs: usize, taps: RangeInclusive<isize>, kernel: impl Fn(f64) -> f64) -> Vec<(usize, Vec<f64>)> {
    let weights = |i: usize| {
        let at = inputs as f64 / outputs as f64 * (i as f64 + 0.5) - 0.5;
        let floor = at.floor();
        let tap = |k: isize| (floor as isize + k).clamp(0, inputs as isize - 1) as usize;
        let start = tap(*taps.start());
        let mut weights = vec![0.0; tap(*taps.end()) - start + 1];
        for k in taps.clone() {
            weights[tap(k) - start] += kernel(at - floor - k as f64);
        }
        (start, weights)
    };
    (0..outputs).map(weights).collect()
}

impl Weights {
    fn new(filter: Filter, inputs: usize, outputs: usize) -> Self {
        let rows: Vec<(usize, Vec<f64>)> = match filter {
            Filter::BicubicAntialias => antialiased(inputs, outputs).collect(),
            Filter::BilinearAntialias => widened(inputs, outputs, 1.0, triangle).collect(),
            Filter::Bicubic => interpolated(inputs, outputs, -1..=2, |x| cubic(x, -0.75)),
            Filter::Bilinear => interpolated(inputs, outputs, 0..=1, triangle),
            Filter::Area => (0..outputs)
                .map(|i| {
                    let (start, end) = (i * inputs / outputs, ((i + 1) * inputs).div_ceil(outputs));
                    (start, vec![1.0 / (end - start) as f64; end - start])
                })
                .collect(),
        };
        let (starts, weights) = rows.into_iter().map(|(start, w)| (start, w.into_iter().map(|w| w as f32).collect::<Vec<f32>>())).unzip();
        Self { starts, weights }
    }

    fn only(mut self, outputs: Range<usize>) -> Self {
        self.starts = self.starts[outputs.clone()].to_vec();
        self.weights = self.weights[outputs].to_vec();
        self
    }

    fn len(&self) -> usize {
        self.starts.len()
    }

    fn taps(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.starts.iter().copied().zip(self.weights.iter().map(Vec::as_slice))
    }
}

struct Resize {
    rows: Weights,
    columns: Weights,
}

#[inline(always)]
fn add_scaled(out: &mut [f32], x: &[f32], scale: f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += x * scale;
    }
}

impl Resize {
    /// One plane [.., w] -> out [rows, columns]: down the columns first, where whole rows are added.
    fn forward(&self, x: &[f32], w: usize, out: &mut [f32]) {
        let mut row = vec![0.0f32; w];
        vectorised(
            #[inline(always)]
            || {
                for ((start, weights), out) in self.rows.taps().zip(out.chunks_exact_mut(self.columns.len())) {
                    row.fill(0.0);
                    for (k, &weight) in weights.iter().enumerate() {
                        add_scaled(&mut row, &x[(start + k) * w..][..w], weight);
                    }
                    for ((start, weights), out) in self.columns.taps().zip(out) {
                        *out = row[start..].iter().zip(weights).map(|(x, w)| x * w).sum();
                    }
                }
            },
        )
    }

    fn backward(&self, gradient: &[f32], w: usize, out: &mut [f32]) {
        let mut row = vec![0.0f32; w];
        vectorised(
            #[inline(always)]
            || {
                for ((start, weights), gradient) in self.rows.taps().zip(gradient.chunks_exact(self.columns.len())) {
                    row.fill(0.0);
                    for ((start, weights), &g) in self.columns.taps().zip(gradient) {
                        add_scaled(&mut row[start..], weights, g);
                    }
                    for (k, &weight) in weights.iter().enumerate() {
                        add_scaled(&mut out[(start + k) * w..][..w], &row, weight);
                    }
                }
            },
        )
    }
}

impl CustomOp1 for Resize {
    fn name(&self) -> &'static str {
        "resize"
    }
    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = argument(storage, layout)?;
        let (n, c, h, w) = layout.shape().dims4()?;
        let plane = self.rows.len() * self.columns.len();
        let mut out = vec![0.0; n * c * plane];
        out.par_chunks_mut(plane).zip(x.par_chunks(h * w)).for_each(|(out, x)| self.forward(x, w, out));
        Ok((CpuStorage::F32(out), (n, c, self.rows.len(), self.columns.len()).into()))
    }
    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, h, w) = x.dims4()?;
        let gradient = prepared(gradient)?;
        let gradient = Values::of(&gradient)?;
        let mut out = vec![0.0; x.elem_count()];
        let plane = self.rows.len() * self.columns.len();
        let values: &[f32] = &gradient;
        out.par_chunks_mut(h * w).zip(values.par_chunks(plane)).for_each(|(out, g)| self.backward(g, w, out));
        Ok(Some(tensor(out, x.shape())?))
    }
}

/// x [n, c, h, w] resized to (height, width), of which the rows and columns in `crop` are computed -> [n, c, crop.0.len(), crop.1.len()].
/// Differentiable.
pub fn resize(x: &Tensor, (height, width): (usize, usize), crop: (Range<usize>, Range<usize>), filter: Filter) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    if n * c * h * w == 0 || crop.0.is_empty() || crop.1.is_empty() || crop.0.end > height || crop.1.end > width {
        bail!("resize of {:?} to {height} x {width}, cropped to {crop:?}", x.shape());
    }
    let op = Resize { rows: Weights::new(filter, h, height).only(crop.0), columns: Weights::new(filter, w, width).only(crop.1) };
    prepared(x)?.apply_op1(op)
}

/// For each pixel of each sample its four neighbours and their weights.
struct AffineSample {
    taps: Vec<[(u32, f32); 4]>,
}

/// Mirrored at the outer edges of the first and the last pixel, then clamped to their centres.
fn reflect(x: f32, size: usize) -> f32 {
    let span = size as f32;
    let from = (x + 0.5).abs();
    let (flips, extra) = ((from / span).floor(), from % span);
    let x = if flips % 2.0 == 0.0 { extra - 0.5 } else { span - extra - 0.5 };
    x.clamp(0.0, span - 1.0)
}

impl AffineSample {
    fn new(theta: &[f32], h: usize, w: usize) -> Self {
        let mut taps = Vec::with_capacity(theta.len() / 6 * h * w);
        // Centre of pixel i of `size` in torch's coordinates, where -1 and 1 are the outer edges; and back.
        let unit = |i: usize, size: usize| (2 * i + 1) as f32 / size as f32 - 1.0;
        let pixel = |u: f32, size: usize| reflect(((u + 1.0) * size as f32 - 1.0) / 2.0, size);
        for t in theta.chunks_exact(6) {
            for y in 0..h {
                for x in 0..w {
                    let (ux, uy) = (unit(x, w), unit(y, h));
                    let (px, py) = (pixel(t[0] * ux + t[1] * uy + t[2], w), pixel(t[3] * ux + t[4] * uy + t[5], h));
                    let (x0, y0) = (px.floor() as usize, py.floor() as usize);
                    let (x1, y1) = ((x0 + 1).min(w - 1), (y0 + 1).min(h - 1));
                    let (fx, fy) = (px - px.floor(), py - py.floor());
                    let at = |y: usize, x: usize| (y * w + x) as u32;
                    taps.push([
                        (at(y0, x0), (1.0 - fx) * (1.0 - fy)),
                        (at(y0, x1), fx * (1.0 - fy)),
                        (at(y1, x0), (1.0 - fx) * fy),
                        (at(y1, x1), fx * fy),
                    ]);
                }
            }
        }
        Self { taps }
    }
}

impl CustomOp1 for AffineSample {
    fn name(&self) -> &'static str {
        "affine_sample"
    }
    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = argument(storage, layout)?;
        let (_, c, h, w) = layout.shape().dims4()?;
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(h * w).zip(x.par_chunks(h * w)).enumerate().for_each(|(plane, (out, x))| {
            for (out, taps) in out.iter_mut().zip(&self.taps[plane / c * h * w..]) {
                *out = taps.iter().map(|&(at, weight)| x[at as usize] * weight).sum();
            }
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (_, c, h, w) = x.dims4()?;
        let gradient = prepared(gradient)?;
        let gradient = Values::of(&gradient)?;
        let values: &[f32] = &gradient;
        let mut out = vec![0.0; x.elem_count()];
        out.par_chunks_mut(h * w).zip(values.par_chunks(h * w)).enumerate().for_each(|(plane, (out, g))| {
            for (g, taps) in g.iter().zip(&self.taps[plane / c * h * w..]) {
                for &(at, weight) in taps {
                    out[at as usize] += g * weight;
                }
            }
        });
        Ok(Some(tensor(out, x.shape())?))
    }
}

/// x [n, c, h, w] where each output pixel at (x, y), in [-1, 1] over the picture, is taken at theta * (x, y, 1): bilinear, mirrored at the
/// borders; torch's `grid_sample(affine_grid(theta), padding_mode="reflection", align_corners=False)`. `theta` holds a 2 x 3 matrix for each
/// sample, row by row. Differentiable in x.
pub fn affine_sample(x: &Tensor, theta: &[f32]) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    if c * h * w == 0 || u32::try_from(h * w).is_err() || theta.len() != n * 6 || theta.iter().any(|t| !t.is_finite()) {
        bail!("affine_sample of {:?} by {} numbers: {} finite ones are needed", x.shape(), theta.len(), n * 6);
    }
    prepared(x)?.apply_op1(AffineSample::new(theta, h, w))
}

struct ChannelAffine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl ChannelAffine {
    fn map(&self, x: &[f32], shape: &Shape, shift: bool) -> Result<Vec<f32>> {
        let (_, c, h, w) = shape.dims4()?;
        let mut out = vec![0.0; x.len()];
        for (plane, (out, x)) in out.chunks_exact_mut((h * w).max(1)).zip(x.chunks_exact((h * w).max(1))).enumerate() {
            let (scale, shift) = (self.scale[plane % c], if shift { self.shift[plane % c] } else { 0.0 });
            vectorised(|| out.iter_mut().zip(x).for_each(|(out, x)| *out = x * scale + shift));
        }
        Ok(out)
    }
}

impl CustomOp1 for ChannelAffine {
    fn name(&self) -> &'static str {
        "channel_affine"
    }
    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.map(argument(storage, layout)?, layout.shape(), true)?), layout.shape().clone()))
    }
    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = prepared(gradient)?;
        let out = self.map(&Values::of(&gradient)?, x.shape(), false)?;
        Ok(Some(tensor(out, x.shape())?))
    }
}

/// x [n, c, h, w] * scale [c] + shift [c]. Differentiable in x.
pub fn channel_affine(x: &Tensor, scale: &[f32], shift: &[f32]) -> Result<Tensor> {
    let (_, c, _, _) = x.dims4()?;
    if scale.len() != c || shift.len() != c {
        bail!("channel_affine of {:?} with {} scales and {} shifts", x.shape(), scale.len(), shift.len());
    }
    prepared(x)?.apply_op1(ChannelAffine { scale: scale.to_vec(), shift: shift.to_vec() })
}

/// An 8-bit RGB picture, rows without padding, resized as PIL's bicubic does: antialiased with a = -0.5, across first, then down, each in
/// 22-bit fixed point and rounded to 8 bits. Sizes are (height, width), not 0.
pub fn resize_rgb8(pixels: &[u8], size: (usize, usize), new_size: (usize, usize)) -> Vec<u8> {
    resize_rgb8_by(pixels, size, new_size, antialiased)
}

/// As [`resize_rgb8`], as PIL's bilinear does.
pub fn resize_rgb8_bilinear(pixels: &[u8], size: (usize, usize), new_size: (usize, usize)) -> Vec<u8> {
    resize_rgb8_by(pixels, size, new_size, |inputs, outputs| widened(inputs, outputs, 1.0, triangle))
}

fn resize_rgb8_by<W: Iterator<Item = (usize, Vec<f64>)>>(
    pixels: &[u8],
    (height, width): (usize, usize),
    (new_height, new_width): (usize, usize),
    weights: impl Fn(usize, usize) -> W,
) -> Vec<u8> {
    let across = match new_width == width {
        true => pixels.to_vec(),
        false => {
            let taps = fixed_point(weights(width, new_width));
            pixels.chunks_exact(width * 3).flat_map(|row| weighted(&taps, row, 3, 3)).collect()
        }
    };
    match new_height == height {
        true => across,
        false => weighted(&fixed_point(weights(height, new_height)), &across, new_width * 3, new_width * 3),
    }
}

const FIXED_POINT: u32 = 22;

fn fixed_point(weights: impl Iterator<Item = (usize, Vec<f64>)>) -> Vec<(usize, Vec<i32>)> {
    let fixed = |w: f64| (w * f64::from(1 << FIXED_POINT)).round() as i32;
    weights.map(|(start, weights)| (start, weights.into_iter().map(fixed).collect())).collect()
}

/// For each of `taps`, the weighted sum of runs of `run` bytes that lie `step` apart.
fn weighted(taps: &[(usize, Vec<i32>)], x: &[u8], step: usize, run: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(taps.len() * run);
    let mut sums = vec![0i32; run];
    for (start, weights) in taps {
        sums.fill(1 << (FIXED_POINT - 1));
        for (k, weight) in weights.iter().enumerate() {
            let from = &x[(start + k) * step..][..run];
            sums.iter_mut().zip(from).for_each(|(sum, x)| *sum += i32::from(*x) * weight);
        }
        out.extend(sums.iter().map(|sum| (sum >> FIXED_POINT).clamp(0, 255) as u8));
    }
    out
}
