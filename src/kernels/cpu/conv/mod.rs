//! StyleGAN2's 3x3 convolutions and their gradients, with features channels-last.
//!
//! A pixel's channels lie side by side ([n][height][width][channels]), so that everything between two convolutions is done on whole vectors
//! while pixels are read (style) and written (demodulation, noise, bias, activation): [`Epilogue`]. Plain convolutions are computed directly
//! ([`direct`]: a product of matrices whose rows are read where they lie) or, where enough pixels share a weight, by Winograd's F(4x4, 3x3)
//! ([`winograd`]). The up-sampling one is a transposed convolution of stride 2, in four phases by the parity of row and column, and a blur;
//! both happen tile by tile ([`up`]), with F(3, 2) where that pays ([`up_winograd`]).
//!
//! Sums over pixels are made of parts that depend on shapes alone, added in one order: results are the same for any number of threads.

mod direct;
mod epilogue;
mod outer;
mod panels;
mod up;
#[allow(clippy::needless_range_loop)] // as in winograd
mod up_winograd;
#[allow(clippy::needless_range_loop)] // arrays of registers: loops that the compiler unrolls, over several at once
mod winograd;

pub(crate) use crate::kernels::cpu::micro::PANEL;
pub(crate) use direct::{correlate, correlate_halving, parts, points};
#[cfg(test)]
pub(crate) use epilogue::Unchanged;
pub(crate) use epilogue::{Activated, Epilogue, Scaled, Styled, Sums, GAIN, SLOPE};
pub(crate) use outer::{weight_gradient, Kind};
pub(crate) use panels::{unpacked, Panels};
pub(crate) use up::{parts_back as up_parts_back, up, up_back};
pub(crate) use up_winograd::{
    is_worth as is_worth_up, is_worth_gradient as is_worth_up_gradient, parts_back as wino_up_parts_back,
    weight_gradient as wino_up_weight_gradient, WinogradUp, POINTS as UP_POINTS,
};
pub(crate) use winograd::{is_worth, parts as wino_parts, weight_gradient as wino_weight_gradient, Winograd};
pub(crate) use winograd::{POINTS as WINOGRAD_POINTS, ROOM as WINOGRAD_ROOM};

use rayon::prelude::*;
use std::ops::Range;

/// Features [n][h][w][c].
#[derive(Clone, Copy)]
pub(crate) struct Map<'a> {
    pub data: &'a [f32],
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

impl<'a> Map<'a> {
    pub(crate) fn new(data: &'a [f32], n: usize, h: usize, w: usize, c: usize) -> Self {
        assert_eq!(data.len(), n * h * w * c, "features of another size");
        Self { data, n, h, w, c }
    }

    pub(crate) fn area(&self) -> usize {
        self.h * self.w
    }

    fn sample(&self, n: usize) -> &'a [f32] {
        &self.data[n * self.area() * self.c..][..self.area() * self.c]
    }
}

/// Memory of which several threads write disjoint parts.
#[derive(Clone, Copy)]
pub(super) struct Shared(pub *mut f32);
// SAFETY: who shares it sees to it that no two threads use the same place.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// `i` must lie inside.
    pub(super) unsafe fn at(self, i: usize) -> *mut f32 {
        self.0.add(i)
    }

    /// # Safety
    /// Place for `values` must lie inside from `i` on.
    pub(super) unsafe fn write(self, i: usize, values: &[f32]) {
        std::ptr::copy_nonoverlapping(values.as_ptr(), self.0.add(i), values.len());
    }
}

/// A number a channel and sample, [n][c], with zeros up to whole panels: [n][c rounded up to 16].
pub(crate) fn padded(values: &[f32], c: usize) -> Vec<f32> {
    let whole = c.next_multiple_of(PANEL);
    let mut out = vec![0.0; values.len() / c * whole];
    for (out, values) in out.chunks_mut(whole).zip(values.chunks(c)) {
        out[..c].copy_from_slice(values);
    }
    out
}

/// A rectangle of a picture.
#[derive(Clone, Copy)]
struct Tile {
    y: usize,
    x: usize,
    h: usize,
    w: usize,
}

/// Tiles of at most so many rows and columns that cover h x w, as equal as they can be.
fn tiles(h: usize, w: usize, (high, wide): (usize, usize)) -> Vec<Tile> {
    let cut = |n: usize, side: usize| {
        let parts = n.div_ceil(side);
        (0..parts).map(move |i| (n * i / parts, n * (i + 1) / parts))
    };
    cut(h, high).flat_map(|(y0, y1)| cut(w, wide).map(move |(x0, x1)| Tile { y: y0, x: x0, h: y1 - y0, w: x1 - x0 })).collect()
}

/// Into how many parts the panels of a job are divided, so that there are a few jobs for each thread. No sum depends on it: a panel's are its own.
fn shares(jobs: usize, panels: usize) -> usize {
    (4 * rayon::current_num_threads()).div_ceil(jobs).min(panels).max(1)
}

/// One of the jobs that a convolution is divided into: a tile of a sample, and some panels.
struct Share {
    n: usize,
    /// Which tile it is.
    part: usize,
    tile: Tile,
    panels: Range<usize>,
}

/// Runs `job` on all threads for every sample, tile and share of so many panels.
fn over_tiles(n: usize, tiles: &[Tile], count: usize, job: impl Fn(Share) + Sync) {
    let shares = shares(n * tiles.len(), count);
    (0..n * tiles.len() * shares).into_par_iter().for_each(|i| {
        let (at, share) = (i / shares, i % shares);
        let part = at % tiles.len();
        job(Share { n: at / tiles.len(), part, tile: tiles[part], panels: count * share / shares..count * (share + 1) / shares });
    });
}

/// The pixels of `tile` and one more on each side, each channel times its factor, zeros where the picture ends: [tile.h + 2][tile.w + 2][c].
#[inline(always)]
fn framed(x: &[f32], (h, w, c): (usize, usize, usize), factor: &[f32], tile: Tile, out: &mut [f32]) {
    let (first, last) = (tile.x.saturating_sub(1), (tile.x + tile.w + 1).min(w));
    let left = (first + 1 - tile.x) * c;
    for (r, row) in out[..(tile.h + 2) * (tile.w + 2) * c].chunks_mut((tile.w + 2) * c).enumerate() {
        let y = tile.y + r;
        if y < 1 || y > h {
            row.fill(0.0);
            continue;
        }
        let from = &x[((y - 1) * w + first) * c..((y - 1) * w + last) * c];
        row[..left].fill(0.0);
        row[left + from.len()..].fill(0.0);
        for (to, from) in row[left..left + from.len()].chunks_exact_mut(c).zip(from.chunks_exact(c)) {
            for ((to, from), f) in to.iter_mut().zip(from).zip(factor) {
                *to = from * f;
            }
        }
    }
}

#[cfg(test)]
mod tests;
