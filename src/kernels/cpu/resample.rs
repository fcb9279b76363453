//! Sparse sums over pictures, and their transposes.

use super::simd::vectorised;
use crate::kernels::filters::{weights, Filter};
use std::ops::Range;

/// One dimension's weights: output `i` is the sum of `weights[i]` times the inputs from `starts[i]` on.
#[derive(Clone, Debug)]
pub(crate) struct Taps {
    starts: Vec<usize>,
    weights: Vec<Vec<f32>>,
}

impl Taps {
    /// Of those of `outputs` that are in `only`.
    pub(crate) fn new(filter: Filter, inputs: usize, outputs: usize, only: Range<usize>) -> Self {
        let narrow = |(start, w): (usize, Vec<f64>)| (start, w.into_iter().map(|w| w as f32).collect::<Vec<f32>>());
        let kept = weights(filter, inputs, outputs).into_iter().skip(only.start).take(only.len());
        let (starts, weights) = kept.map(narrow).unzip();
        Self { starts, weights }
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The weights turned round: output and input change places, for `inputs` of these.
    #[cfg(feature = "cuda")]
    pub(crate) fn transposed(&self, inputs: usize) -> Self {
        let sees = |i: usize, j: usize| j >= self.starts[i] && j < self.starts[i] + self.weights[i].len();
        let (mut starts, mut weights) = (vec![], vec![]);
        for j in 0..inputs {
            let first = (0..self.len()).find(|&i| sees(i, j)).unwrap_or(0);
            let last = (0..self.len()).rfind(|&i| sees(i, j)).map_or(first, |last| last + 1);
            starts.push(first);
            weights.push((first..last).map(|i| if sees(i, j) { self.weights[i][j - self.starts[i]] } else { 0.0 }).collect());
        }
        Self { starts, weights }
    }

    /// Starts; weights of all outputs, filled up with zeros to the same number each; that number.
    #[cfg(feature = "cuda")]
    pub(crate) fn table(&self) -> (Vec<i32>, Vec<f32>, usize) {
        let most = self.weights.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let filled = self.weights.iter().flat_map(|w| w.iter().copied().chain(std::iter::repeat(0.0)).take(most));
        (self.starts.iter().map(|&s| s as i32).collect(), filled.collect(), most)
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.starts.iter().copied().zip(self.weights.iter().map(Vec::as_slice))
    }
}

/// Both dimensions of a resize.
#[derive(Debug)]
pub(crate) struct Grid {
    pub rows: Taps,
    pub columns: Taps,
}

#[inline(always)]
fn add_scaled(out: &mut [f32], x: &[f32], scale: f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += x * scale;
    }
}

impl Grid {
    /// One plane [.., w] -> out [rows, columns]: down the columns first, where whole rows are added.
    pub(crate) fn forward(&self, x: &[f32], w: usize, out: &mut [f32]) {
        let mut row = vec![0.0f32; w];
        vectorised(
            #[inline(always)]
            || {
                for ((start, weights), out) in self.rows.iter().zip(out.chunks_exact_mut(self.columns.len())) {
                    row.fill(0.0);
                    for (k, &weight) in weights.iter().enumerate() {
                        add_scaled(&mut row, &x[(start + k) * w..][..w], weight);
                    }
                    for ((start, weights), out) in self.columns.iter().zip(out) {
                        *out = row[start..].iter().zip(weights).map(|(x, w)| x * w).sum();
                    }
                }
            },
        )
    }

    /// The transpose: adds to one plane [.., w].
    pub(crate) fn backward(&self, gradient: &[f32], w: usize, out: &mut [f32]) {
        let mut row = vec![0.0f32; w];
        vectorised(
            #[inline(always)]
            || {
                for ((start, weights), gradient) in self.rows.iter().zip(gradient.chunks_exact(self.columns.len())) {
                    row.fill(0.0);
                    for ((start, weights), &g) in self.columns.iter().zip(gradient) {
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

/// For each pixel of each sample its four neighbours and their weights.
pub(crate) type Neighbours = Vec<[(u32, f32); 4]>;

/// Mirrored at the outer edges of the first and the last pixel, then clamped to their centres.
fn reflect(x: f32, size: usize) -> f32 {
    let span = size as f32;
    let from = (x + 0.5).abs();
    let (flips, extra) = ((from / span).floor(), from % span);
    let x = if flips % 2.0 == 0.0 { extra - 0.5 } else { span - extra - 0.5 };
    x.clamp(0.0, span - 1.0)
}

/// Of planes of h x w under the 2 x 3 matrices in `theta`.
pub(crate) fn neighbours(theta: &[f32], h: usize, w: usize) -> Neighbours {
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
    taps
}
