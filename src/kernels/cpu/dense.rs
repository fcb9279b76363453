//! Products of rows with frozen weights that are packed once: x W^T, and for the gradient of x, g W.
//!
//! Both read the same panels. Those of g W are turned while a job reads them, sixteen by sixteen numbers at a time: a second copy of a ViT-B's
//! weights would be 340 MB, and turning costs what five rows more would. A sum is made in one order whatever rows and columns it is computed
//! with, so that its bits depend neither on threads nor on what else is in the batch.

use super::conv::{Panels, Shared};
use super::micro::{fitted, in_flight, Sink, Terms, MOST, PANEL};
use super::scratch::Scratch;
use super::simd::{dispatch, load, store, vectorised};
use pulp::{Scalar, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Terms of a sum that are added up before the next rows: their weights stay in the first-level cache, their rows in the second.
const DEPTH: usize = 512;

/// Most rows of a job; a multiple of what any vectors have in flight.
const ROWS: usize = 240;

/// Most panels of a job.
const WIDE: usize = 4;

/// Rows of numbers, `step` apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub data: &'a [f32],
    pub step: usize,
    pub count: usize,
}

/// From one row to the next one, for rows that a product reads: an odd number of cache lines, so that rows read side by side do not all want
/// the same places in the cache.
pub(crate) fn step(width: usize) -> usize {
    (width.div_ceil(PANEL) | 1) * PANEL
}

/// What is done with finished sums.
pub(crate) trait Finish: Sync {
    /// Stores what becomes of the sums of `row` from `column` on.
    ///
    /// # Safety
    /// Row, and column to the vector's end, must be of the product.
    unsafe fn put<S: Simd>(&self, simd: S, row: usize, column: usize, v: S::f32s);
}

/// `v` with `f` applied to each number; loops over whole vectors compile to vector code.
#[inline(always)]
pub(crate) fn each<S: Simd>(v: S::f32s, f: impl Fn(f32) -> f32) -> S::f32s {
    let mut lanes = [0.0f32; PANEL];
    // SAFETY: no vector has more than PANEL numbers.
    unsafe {
        store::<S>(lanes.as_mut_ptr(), v);
        for lane in &mut lanes[..S::F32_LANES] {
            *lane = f(*lane);
        }
        load::<S>(lanes.as_ptr())
    }
}

/// The packed weights [outputs, inputs] of a linear layer.
pub(crate) struct Dense(Panels);

impl Dense {
    /// Of weights [outputs, inputs].
    pub(crate) fn new(weights: &[f32], outputs: usize, inputs: usize) -> Self {
        assert_eq!(weights.len(), outputs * inputs);
        let mut data = Scratch::lasting(outputs.div_ceil(PANEL) * inputs * PANEL);
        data.par_chunks_mut((inputs * PANEL).max(1)).zip(weights.par_chunks((inputs * PANEL).max(1))).for_each(|(panel, rows)| {
            vectorised(
                #[inline(always)]
                || pack(rows, inputs, panel),
            );
        });
        Self(Panels::packed(data, outputs, inputs))
    }

    /// Of the output.
    pub(crate) fn outputs(&self) -> usize {
        self.0.outputs
    }

    /// x [rows, inputs] W^T, handed to `finish` as [rows, outputs].
    pub(crate) fn forward<F: Finish>(&self, x: Rows, finish: &F) {
        self.product(x, false, finish);
    }

    /// g [rows, outputs] W, handed to `finish` as [rows, inputs].
    pub(crate) fn backward<F: Finish>(&self, g: Rows, finish: &F) {
        self.product(g, true, finish);
    }

    fn product<F: Finish>(&self, x: Rows, back: bool, finish: &F) {
        let (depth, width) = if back { (self.0.outputs, self.0.inputs) } else { (self.0.inputs, self.0.outputs) };
        if x.count == 0 {
            return;
        }
        assert!(depth <= x.step && (x.count - 1) * x.step + depth <= x.data.len(), "rows reach outside of their numbers");
        let panels = width.div_ceil(PANEL);
        let parts = x.count.div_ceil(ROWS);
        let rows = x.count.div_ceil(parts).next_multiple_of(MOST);
        // At least sixteen jobs, where there are as many panels.
        let wide = (panels * parts / 16).clamp(1, WIDE);
        let jobs = panels.div_ceil(wide);
        // Parts of one job's panels one after the other, so that their weights are still near.
        (0..jobs * parts).into_par_iter().for_each(|job| {
            let (first, row) = (job / parts * wide, job % parts * rows);
            dispatch(Job {
                panels: &self.0,
                back,
                depth,
                width,
                x,
                rows: row..(row + rows).min(x.count),
                range: first..(first + wide).min(panels),
                finish,
            });
        });
    }
}

/// Some rows and some panels of a product.
struct Job<'a, F> {
    panels: &'a Panels,
    back: bool,
    depth: usize,
    width: usize,
    x: Rows<'a>,
    rows: Range<usize>,
    range: Range<usize>,
    finish: &'a F,
}

impl<F: Finish> WithSimd for Job<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { panels, back, depth, width, x, rows, range, finish } = self;
        let parts = depth.div_ceil(DEPTH);
        // Whole blocks of what is turned.
        let length = depth.div_ceil(parts).next_multiple_of(PANEL);
        let mut sums = Scratch::new(if parts > 1 { range.len() * rows.len() * PANEL } else { 0 });
        let mut turned = Scratch::new(if back { length * PANEL } else { 0 });
        let mut from = [0; MOST];
        for first in (0..depth).step_by(length) {
            let length = length.min(depth - first);
            for (i, panel) in range.clone().enumerate() {
                let b = match back {
                    true => {
                        turn(panels, first / PANEL, panel, &mut turned[..length.next_multiple_of(PANEL) * PANEL]);
                        turned.as_ptr()
                    }
                    false => panels.panel(0, panel)[first * PANEL..].as_ptr(),
                };
                let terms = Terms { a: x.data[first..].as_ptr(), taps: &[0], b, b_tap: 0, channels: length };
                let mut tile = Tile {
                    finish,
                    sums: if parts > 1 { sums[i * rows.len() * PANEL..].as_mut_ptr() } else { std::ptr::null_mut() },
                    begins: first == 0,
                    ends: first + length == depth,
                    group: 0,
                    row: 0,
                    column: panel * PANEL,
                    width,
                };
                for group in (0..rows.len()).step_by(in_flight::<S>()) {
                    let count = in_flight::<S>().min(rows.len() - group);
                    (0..count).for_each(|r| from[r] = (rows.start + group + r) * x.step);
                    (tile.group, tile.row) = (group, rows.start + group);
                    // SAFETY: `product` checked that all rows are inside of `x`; the panel has `length` times 16 numbers from `first` on, and what
                    // was turned as many; each job has sums and an output of its own.
                    unsafe { fitted(simd, terms, &from[..count], &mut tile) };
                }
            }
        }
    }
}

/// Adds up the parts of sums, [rows][16], and hands them on.
struct Tile<'a, F> {
    finish: &'a F,
    /// Null where a sum has one part.
    sums: *mut f32,
    begins: bool,
    ends: bool,
    /// The group's first row among the job's, and among all.
    group: usize,
    row: usize,
    column: usize,
    /// Columns of the output.
    width: usize,
}

impl<F: Finish> Sink for Tile<'_, F> {
    #[inline(always)]
    unsafe fn put<S: Simd>(&mut self, simd: S, row: usize, lane: usize, v: S::f32s) {
        let so_far = self.sums.wrapping_add((self.group + row) * PANEL + lane);
        let v = if self.begins { v } else { simd.add_f32s(load::<S>(so_far), v) };
        if !self.ends {
            return store::<S>(so_far, v);
        }
        let (row, column) = (self.row + row, self.column + lane);
        if column + S::F32_LANES <= self.width {
            return self.finish.put(simd, row, column, v);
        }
        // The end of the last panel, a number at a time.
        let mut lanes = [0.0; PANEL];
        store::<S>(lanes.as_mut_ptr(), v);
        for (i, v) in lanes.into_iter().enumerate().take(self.width.saturating_sub(column)) {
            self.finish.put(Scalar::new(), row, column + i, v);
        }
    }
}

/// panel [inputs][16] = at most sixteen rows of `inputs` weights; what has no row stays as it is.
#[inline(always)]
fn pack(rows: &[f32], inputs: usize, panel: &mut [f32]) {
    for (i, to) in panel.chunks_mut(PANEL * PANEL).enumerate() {
        let (first, count) = (i * PANEL, to.len() / PANEL);
        let mut square = [0.0; PANEL * PANEL];
        for (row, square) in rows.chunks_exact(inputs).zip(square.as_chunks_mut::<PANEL>().0) {
            // Whole ones by an array of their own, which needs no call.
            match row[first..].first_chunk::<PANEL>() {
                Some(from) => *square = *from,
                None => square[..count].copy_from_slice(&row[first..]),
            }
        }
        match to.try_into() {
            Ok(to) => transpose(&square, to),
            Err(_) => {
                let mut turned = [0.0; PANEL * PANEL];
                transpose(&square, &mut turned);
                to.copy_from_slice(&turned[..to.len()]);
            }
        }
    }
}

/// out [outputs][16 inputs] = the weights of the inputs of `panel`, for outputs from the panel `first` on; zeros where there is none of either.
#[inline(always)]
fn turn(panels: &Panels, first: usize, panel: usize, out: &mut [f32]) {
    let begin = panel * PANEL;
    let valid = PANEL.min(panels.inputs - begin);
    for (i, out) in out.as_chunks_mut::<{ PANEL * PANEL }>().0.iter_mut().enumerate() {
        let from = &panels.panel(0, first + i)[begin * PANEL..(begin + valid) * PANEL];
        match from.try_into() {
            Ok(from) => transpose(from, out),
            Err(_) => {
                let mut padded = [0.0; PANEL * PANEL];
                padded[..from.len()].copy_from_slice(from);
                transpose(&padded, out);
            }
        }
    }
}

/// A matrix of 16 x 16. Dealing out its two halves in turn moves the highest bit of each number's place to the lowest; four times exchange row
/// and column. The compiler makes vector shuffles of it.
#[inline(always)]
fn transpose(from: &[f32; PANEL * PANEL], out: &mut [f32; PANEL * PANEL]) {
    let mut between = [0.0; PANEL * PANEL];
    deal(from, &mut between);
    deal(&between, out);
    deal(out, &mut between);
    deal(&between, out);
}

#[inline(always)]
fn deal(from: &[f32; PANEL * PANEL], out: &mut [f32; PANEL * PANEL]) {
    const HALF: usize = PANEL * PANEL / 2;
    for i in 0..HALF {
        out[2 * i] = from[i];
        out[2 * i + 1] = from[HALF + i];
    }
}

/// The sums plus a bias.
pub(crate) struct Biased<'a> {
    pub bias: &'a [f32],
    pub out: Target,
}

impl Finish for Biased<'_> {
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, simd: S, row: usize, column: usize, v: S::f32s) {
        self.out.store::<S>(row, column, simd.add_f32s(v, load::<S>(self.bias.as_ptr().add(column))));
    }
}

/// Nothing but the sums.
impl Finish for Target {
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, _: S, row: usize, column: usize, v: S::f32s) {
        self.store::<S>(row, column, v);
    }
}

/// Rows that a product writes.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    data: Shared,
    step: usize,
}

impl Target {
    /// The caller sees to it that `data` has as many rows as the product, and outlives it.
    pub(crate) fn new(data: &mut [f32], step: usize, rows: usize, width: usize) -> Self {
        assert!(width <= step && (rows == 0 || (rows - 1) * step + width <= data.len()), "a product's rows do not fit where they go");
        Self { data: Shared(data.as_mut_ptr()), step }
    }

    /// # Safety
    /// Row and columns must be inside, and no other thread's.
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd>(&self, row: usize, column: usize, v: S::f32s) {
        store::<S>(self.data.at(row * self.step + column), v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::noise;
    use crate::kernels::cpu::simd::at_each_level;

    /// Sizes of transformers, and odd ones: rows in several parts, sums in several parts, last panels that are not whole, few rows.
    #[test]
    fn products_are_their_definition() {
        for (rows, inputs, outputs) in [(50, 96, 64), (197, 64, 192), (7, 1100, 24), (1, 20, 12), (13, 12, 531), (250, 33, 17), (3, 513, 1)]
        {
            let (w, bias) = (noise(outputs * inputs, 1), noise(outputs, 2));
            let dense = Dense::new(&w, outputs, inputs);
            let (x, g) = (noise(rows * step(inputs), 3), noise(rows * step(outputs), 4));
            let mut y = vec![0f64; rows * outputs];
            let mut dx = vec![0f64; rows * inputs];
            for r in 0..rows {
                for o in 0..outputs {
                    y[r * outputs + o] = f64::from(bias[o]);
                    for i in 0..inputs {
                        y[r * outputs + o] += f64::from(x[r * step(inputs) + i]) * f64::from(w[o * inputs + i]);
                        dx[r * inputs + i] += f64::from(g[r * step(outputs) + o]) * f64::from(w[o * inputs + i]);
                    }
                }
            }
            at_each_level(|level| {
                // Roundings of sums of products of size 1, by 2^-24 of what has been added up: seen were 1e-5 of 64 terms, 8e-5 of 1100.
                let near = |what: &str, got: &[f32], want: &[f64], terms: usize| {
                    let worst = got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                    assert!(got.iter().all(|v| v.is_finite()), "{what}: not all was written");
                    let most = 5e-6 * (terms as f64).sqrt().max(4.0);
                    assert!(worst < most, "{what}, {level}, {rows} x {inputs} to {outputs}: {worst:e}");
                };
                let mut got = vec![f32::NAN; rows * outputs];
                let out = Target::new(&mut got, outputs, rows, outputs);
                dense.forward(Rows { data: &x, step: step(inputs), count: rows }, &Biased { bias: &bias, out });
                near("y", &got, &y, inputs);
                let mut got = vec![f32::NAN; rows * inputs];
                let out = Target::new(&mut got, inputs, rows, inputs);
                dense.backward(Rows { data: &g, step: step(outputs), count: rows }, &out);
                near("dx", &got, &dx, outputs);
            });
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_any_company() {
        let (inputs, outputs) = (700, 40);
        let dense = Dense::new(&noise(outputs * inputs, 1), outputs, inputs);
        let x = noise(300 * inputs, 2);
        let product = |rows: usize| {
            let mut y = vec![f32::NAN; rows * outputs];
            let out = Target::new(&mut y, outputs, rows, outputs);
            dense.forward(Rows { data: &x, step: inputs, count: rows }, &out);
            y
        };
        at_each_level(|_| {
            let all = product(300);
            for rows in [1, 5, 13, 241] {
                assert_eq!(product(rows), all[..rows * outputs]);
            }
        });
    }
}
