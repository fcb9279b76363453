//! The one kernel that all convolutions, and products with packed weights, come down to: a few pixels (or rows) times sixteen output channels, over
//! taps and input channels.

use crate::kernels::cpu::simd::{load, store};
use pulp::Simd;

/// Output channels of a panel of weights, whatever the vectors.
pub(crate) const PANEL: usize = 16;

/// Most pixels in flight.
pub(super) const MOST: usize = 12;

/// Pixels in flight: as many as the accumulators of [`PANEL`] channels leave registers for.
#[inline(always)]
pub(super) fn in_flight<S: Simd>() -> usize {
    match S::F32_LANES {
        16 => 12,
        _ => 6,
    }
}

/// What is done with sums on their way to memory.
pub(super) trait Sink {
    /// `v` are the sums of the pixel that is `row` of a group, for the channels of its panel from `lane` on.
    ///
    /// # Safety
    /// As who made the sink says.
    unsafe fn put<S: Simd>(&mut self, simd: S, row: usize, lane: usize, v: S::f32s);
}

/// Input channels of some pixels, and the weights that they are multiplied with.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    /// What pixels and taps are distances from.
    pub a: *const f32,
    /// To the input pixels of one tap or more, in numbers.
    pub taps: &'a [usize],
    /// [taps][channels][16]
    pub b: *const f32,
    /// From one tap's weights to the next one's.
    pub b_tap: usize,
    pub channels: usize,
}

/// The sums over taps and channels for `pixels` (distances from `a`), at most [`in_flight`] of them.
///
/// # Safety
/// Every pixel with every tap must have its channels behind `terms.a`, every tap its weights behind `terms.b`.
#[inline(always)]
pub(super) unsafe fn group<S: Simd, K: Sink>(simd: S, terms: Terms, pixels: &[usize], sink: &mut K) {
    match S::F32_LANES {
        16 => block::<S, K, 12, 1>(simd, terms, pixels, sink),
        8 => block::<S, K, 6, 2>(simd, terms, pixels, sink),
        _ => block::<S, K, 6, 4>(simd, terms, pixels, sink),
    }
}

/// As [`group`], with fewer accumulators where there are fewer pixels: for products of few rows, of which the last group is a large part.
///
/// # Safety
/// As [`group`].
#[inline(always)]
pub(super) unsafe fn fitted<S: Simd, K: Sink>(simd: S, terms: Terms, pixels: &[usize], sink: &mut K) {
    match (S::F32_LANES, pixels.len()) {
        (16, 9..) => block::<S, K, 12, 1>(simd, terms, pixels, sink),
        (16, 5..) => block::<S, K, 8, 1>(simd, terms, pixels, sink),
        (16, _) => block::<S, K, 4, 1>(simd, terms, pixels, sink),
        (8, 4..) => block::<S, K, 6, 2>(simd, terms, pixels, sink),
        (8, _) => block::<S, K, 3, 2>(simd, terms, pixels, sink),
        (_, 4..) => block::<S, K, 6, 4>(simd, terms, pixels, sink),
        _ => block::<S, K, 3, 4>(simd, terms, pixels, sink),
    }
}

#[inline(always)]
unsafe fn block<S: Simd, K: Sink, const R: usize, const V: usize>(simd: S, terms: Terms, pixels: &[usize], sink: &mut K) {
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; V]; R];
    let rows: [usize; R] = std::array::from_fn(|r| pixels[r.min(pixels.len() - 1)]);
    for (t, &tap) in terms.taps.iter().enumerate() {
        let a: [*const f32; R] = rows.map(|row| terms.a.add(row + tap));
        let mut b = terms.b.add(t * terms.b_tap);
        for i in 0..terms.channels {
            let weights: [S::f32s; V] = std::array::from_fn(|v| load::<S>(b.add(v * S::F32_LANES)));
            b = b.add(PANEL);
            for r in 0..R {
                let x = simd.splat_f32s(*a[r].add(i));
                for v in 0..V {
                    sums[r][v] = simd.mul_add_e_f32s(x, weights[v], sums[r][v]);
                }
            }
        }
    }
    for r in 0..R {
        if r < pixels.len() {
            for v in 0..V {
                sink.put(simd, r, v * S::F32_LANES, sums[r][v]);
            }
        }
    }
}

/// Sums of products over pixels: `out[r][j] += left[r] * right[j] * sum over p of a[p * a_step + r] * b[p * 16 + j]` for channels r in `rows`, which
/// end at [`in_flight`], and the sixteen j of a panel.
///
/// # Safety
/// [`in_flight`] numbers must be readable at each pixel of `a` and at `left`, 16 at each pixel of `b` and at `right`; `out` has 16 for each
/// of `rows`.
#[derive(Clone)]
pub(super) struct Outer {
    pub a: *const f32,
    pub a_step: usize,
    pub b: *const f32,
    pub pixels: usize,
    pub left: *const f32,
    pub right: *const f32,
    pub out: *mut f32,
    pub rows: std::ops::Range<usize>,
}

/// # Safety
/// As [`Outer`] says.
#[inline(always)]
pub(super) unsafe fn outer<S: Simd>(simd: S, terms: Outer) {
    match S::F32_LANES {
        16 => outer_block::<S, 12, 1>(simd, terms),
        8 => outer_block::<S, 6, 2>(simd, terms),
        _ => outer_block::<S, 6, 4>(simd, terms),
    }
}

#[inline(always)]
unsafe fn outer_block<S: Simd, const R: usize, const V: usize>(simd: S, terms: Outer) {
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; V]; R];
    let (mut a, mut b) = (terms.a, terms.b);
    for _ in 0..terms.pixels {
        let right: [S::f32s; V] = std::array::from_fn(|v| load::<S>(b.add(v * S::F32_LANES)));
        for r in 0..R {
            let x = simd.splat_f32s(*a.add(r));
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(x, right[v], sums[r][v]);
            }
        }
        a = a.add(terms.a_step);
        b = b.add(PANEL);
    }
    let factor: [S::f32s; V] = std::array::from_fn(|v| load::<S>(terms.right.add(v * S::F32_LANES)));
    for r in 0..R {
        if terms.rows.contains(&r) {
            let left = simd.splat_f32s(*terms.left.add(r));
            for v in 0..V {
                let out = terms.out.add(r * PANEL + v * S::F32_LANES);
                let scaled = simd.mul_f32s(left, factor[v]);
                store::<S>(out, simd.mul_add_e_f32s(scaled, sums[r][v], load::<S>(out)));
            }
        }
    }
}
