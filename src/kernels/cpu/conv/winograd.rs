//! 3x3 convolutions by F(4x4, 3x3) of Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4: tiles of 6x6 at a
//! distance of 4, 36 products instead of 144.
//!
//! Against the same sums in f64 the error is up to 8e-5 of the outputs' root mean square with 512 channels, where sums of products alone have
//! 7e-6 (tests: `winograd_is_near_the_definition`).

use super::direct::Out;
use super::epilogue::{Epilogue, Place};
use super::panels::Panels;
use super::{shares, Map, Shared};
use crate::kernels::cpu::micro::{group, in_flight, outer, Outer, Sink, Terms, PANEL};
use crate::kernels::cpu::scratch::Scratch;
use crate::kernels::cpu::simd::{dispatch, load, store};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Products a tile has.
pub(crate) const POINTS: usize = 36;
/// Side of a tile's output.
const STEP: usize = 4;
/// Output channels that are transformed back at a time.
const GROUP: usize = 64;

/// Takes 3 taps to 6 points.
const G: [[f32; 3]; 6] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

#[inline(always)]
fn times<S: Simd>(simd: S, x: f32, a: S::f32s, b: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(x), a, b)
}

/// 6 inputs to 6 points.
#[inline(always)]
fn into<S: Simd>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
    let (a, b) = (times(simd, -4.0, d[2], d[4]), times(simd, -4.0, d[1], d[3]));
    let (c, e) = (simd.sub_f32s(d[4], d[2]), simd.mul_f32s(simd.splat_f32s(2.0), simd.sub_f32s(d[3], d[1])));
    [
        times(simd, -5.0, d[2], times(simd, 4.0, d[0], d[4])),
        simd.add_f32s(a, b),
        simd.sub_f32s(a, b),
        simd.add_f32s(c, e),
        simd.sub_f32s(c, e),
        times(simd, -5.0, d[3], times(simd, 4.0, d[1], d[5])),
    ]
}

/// 6 points to 4 outputs.
#[inline(always)]
fn out_of<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
    let (s, d) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (t, e) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [simd.add_f32s(m[0], simd.add_f32s(s, t)), times(simd, 2.0, e, d), times(simd, 4.0, t, s), simd.add_f32s(m[5], times(simd, 8.0, e, d))]
}

/// 4 outputs' gradients to 6 points: the transpose of [`out_of`].
#[inline(always)]
fn back_into<S: Simd>(simd: S, y: [S::f32s; 4]) -> [S::f32s; 6] {
    let (s, d) = (simd.add_f32s(y[0], y[2]), simd.add_f32s(y[1], y[3]));
    let (t, e) = (times(simd, 4.0, y[2], y[0]), times(simd, 8.0, y[3], simd.mul_f32s(simd.splat_f32s(2.0), y[1])));
    [y[0], simd.add_f32s(s, d), simd.sub_f32s(s, d), simd.add_f32s(t, e), simd.sub_f32s(t, e), y[3]]
}

/// 3 taps to 6 points.
#[inline(always)]
fn spread<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
    let mut points = [g[0]; 6];
    for a in 0..6 {
        let first = simd.mul_f32s(simd.splat_f32s(G[a][0]), g[0]);
        let second = simd.mul_add_e_f32s(simd.splat_f32s(G[a][1]), g[1], first);
        points[a] = simd.mul_add_e_f32s(simd.splat_f32s(G[a][2]), g[2], second);
    }
    points
}

/// 6 points' gradients to 3 taps': the transpose of [`spread`].
#[inline(always)]
fn gather<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 3] {
    let mut taps = [m[0]; 3];
    for t in 0..3 {
        let mut sum = simd.mul_f32s(simd.splat_f32s(G[0][t]), m[0]);
        for a in 1..6 {
            sum = simd.mul_add_e_f32s(simd.splat_f32s(G[a][t]), m[a], sum);
        }
        taps[t] = sum;
    }
    taps
}

/// `half` along both directions of a square of vectors, N x N to M x M.
#[inline(always)]
pub(super) fn both<S: Simd, const N: usize, const M: usize>(
    simd: S,
    at: impl Fn(usize, usize) -> S::f32s,
    half: impl Fn([S::f32s; N]) -> [S::f32s; M],
) -> [[S::f32s; M]; M] {
    // Loops that the compiler unrolls: what std's functions on arrays call is not compiled for these vectors.
    let zero = simd.splat_f32s(0.0);
    let mut columns = [[zero; N]; M];
    for b in 0..N {
        let mut column = [zero; N];
        for a in 0..N {
            column[a] = at(a, b);
        }
        let column = half(column);
        for a in 0..M {
            columns[a][b] = column[a];
        }
    }
    let mut square = [[zero; M]; M];
    for a in 0..M {
        square[a] = half(columns[a]);
    }
    square
}

/// Whether this way is the faster one, and takes these sizes: weights are transformed too, which many pixels must pay.
pub(crate) fn is_worth(n: usize, h: usize, w: usize, inputs: usize, outputs: usize) -> bool {
    inputs.is_multiple_of(PANEL) && outputs.is_multiple_of(PANEL) && inputs.min(outputs) >= 32 && h.min(w) >= 8 && n * h * w >= 512
}

/// A convolution's weights at the 36 points.
pub(crate) struct Winograd {
    /// [36][outputs / 16][inputs][16]
    data: Scratch,
    inputs: usize,
    outputs: usize,
}

struct Spread<'a> {
    panels: &'a Panels,
    panel: usize,
    out: Shared,
}

impl WithSimd for Spread<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { panels, panel, out } = self;
        let size = panels.inputs * PANEL;
        let first = panels.panel(0, panel).as_ptr();
        for i in (0..size).step_by(S::F32_LANES) {
            let points = both::<S, 3, 6>(
                simd,
                // SAFETY: a panel has `size` numbers, a multiple of every vector's.
                #[inline(always)]
                |a: usize, b: usize| unsafe { load::<S>(first.add((3 * a + b) * panels.tap_step() + i)) },
                #[inline(always)]
                |g| spread(simd, g),
            );
            for (f, row) in points.iter().enumerate() {
                for (g, v) in row.iter().enumerate() {
                    // SAFETY: as above; each panel is one job's.
                    unsafe { store::<S>(out.at(((6 * f + g) * panels.count() + panel) * size + i), *v) };
                }
            }
        }
    }
}

/// Tiles that are transformed together, so that a point's inputs stay in the second-level cache.
fn block(inputs: usize, outputs: usize) -> usize {
    let fit = match inputs.max(outputs) {
        wide @ ..=64 => 220 * 1024 / (POINTS * 4 * wide),
        _ => 192 * 1024 / (4 * inputs),
    };
    (fit / crate::kernels::cpu::micro::MOST * crate::kernels::cpu::micro::MOST).clamp(12, 96)
}

/// The pieces of a picture that a convolution sums over one by one.
pub(crate) fn parts(h: usize, w: usize, inputs: usize, outputs: usize) -> usize {
    (h.div_ceil(STEP) * w.div_ceil(STEP)).div_ceil(block(inputs, outputs))
}

impl Winograd {
    /// `lasting`: for more than one pass.
    pub(crate) fn new(panels: &Panels, lasting: bool) -> Self {
        let len = POINTS * panels.inputs * panels.outputs;
        let mut data = if lasting { Scratch::lasting(len) } else { Scratch::new(len) };
        assert!(panels.taps == 9 && panels.outputs.is_multiple_of(PANEL));
        let out = Shared(data.as_mut_ptr());
        (0..panels.count()).into_par_iter().for_each(|panel| dispatch(Spread { panels, panel, out }));
        Self { data, inputs: panels.inputs, outputs: panels.outputs }
    }

    /// As [`super::correlate`]; the parts are as many as [`parts`] says.
    pub(crate) fn correlate<E: Epilogue>(&self, x: Map, factor: &[f32], epilogue: &E, out: &mut [f32]) {
        let (c, k) = (self.inputs, self.outputs);
        assert!(c == x.c && c.is_multiple_of(PANEL) && factor.len() == x.n * c && out.len() == x.n * x.area() * k);
        let tiles = x.h.div_ceil(STEP) * x.w.div_ceil(STEP);
        let block = block(c, k);
        let parts = tiles.div_ceil(block);
        let groups = k.div_ceil(GROUP);
        let shares = shares(x.n * parts, groups);
        let shared = Shared(out.as_mut_ptr());
        (0..x.n * parts * shares).into_par_iter().for_each(|job| {
            let (n, part, share) = (job / shares / parts, job / shares % parts, job % shares);
            let tiles = part * block..((part + 1) * block).min(tiles);
            // A group of pixels more, whose products nobody looks at.
            let mut points = Scratch::new(POINTS * tiles.len() * c);
            let mut products = Scratch::new(POINTS * tiles.len() * GROUP.min(k));
            dispatch(Forward {
                weights: self,
                x,
                factor: &factor[n * c..][..c],
                tiles,
                groups: groups * share / shares..groups * (share + 1) / shares,
                points: &mut points,
                products: &mut products,
                out: Out { epilogue, out: shared, area: x.area(), channels: k, n, part, channel: 0, pixels: &[] },
            });
        });
    }
}

struct Forward<'a, E> {
    weights: &'a Winograd,
    x: Map<'a>,
    factor: &'a [f32],
    tiles: std::ops::Range<usize>,
    groups: std::ops::Range<usize>,
    /// [36][tiles][c]
    points: &'a mut [f32],
    /// [36][tiles][channels of a group]
    products: &'a mut [f32],
    out: Out<'a, E>,
}

/// Puts a panel's products in their place.
struct Products {
    to: *mut f32,
    row: usize,
}

impl Sink for Products {
    #[inline(always)]
    unsafe fn put<S: Simd>(&mut self, _: S, row: usize, lane: usize, v: S::f32s) {
        store::<S>(self.to.add(row * self.row + lane), v);
    }
}

impl<E: Epilogue> WithSimd for Forward<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, x, factor, tiles, groups, points, products, out } = self;
        let (c, k, count) = (weights.inputs, weights.outputs, tiles.len());
        let across = x.w.div_ceil(STEP);
        // SAFETY: `points` has room for all tiles, the factor for all channels.
        unsafe { transform(simd, x.sample(out.n), x, factor, tiles.clone(), points.as_mut_ptr(), count) };
        let rows: Vec<usize> = (0..count).map(|tile| tile * c).collect();
        for first in groups.map(|g| g * GROUP) {
            let wide = GROUP.min(k - first);
            for f in 0..POINTS {
                for panel in 0..wide / PANEL {
                    let b = weights.data[((f * (k / PANEL) + first / PANEL + panel) * c) * PANEL..].as_ptr();
                    let terms = Terms { a: points[f * count * c..].as_ptr(), taps: &[0], b, b_tap: 0, channels: c };
                    for (i, rows) in rows.chunks(in_flight::<S>()).enumerate() {
                        let to = (f * count + i * in_flight::<S>()) * wide + panel * PANEL;
                        // SAFETY: the rows are tiles of this job, whose products are in `products`.
                        unsafe { group(simd, terms, rows, &mut Products { to: products.as_mut_ptr().add(to), row: wide }) };
                    }
                }
            }
            for (i, tile) in tiles.clone().enumerate() {
                let (y0, x0) = (tile / across * STEP, tile % across * STEP);
                for o in (0..wide).step_by(S::F32_LANES) {
                    // SAFETY: inside of `products`, as above.
                    let square = both::<S, 6, 4>(
                        simd,
                        #[inline(always)]
                        |a: usize, b: usize| unsafe { load::<S>(products.as_ptr().add(((a * 6 + b) * count + i) * wide + o)) },
                        #[inline(always)]
                        |m| out_of(simd, m),
                    );
                    for (a, row) in square.iter().enumerate() {
                        for (b, v) in row.iter().enumerate() {
                            let (y, q) = (y0 + a, x0 + b);
                            if y < x.h && q < x.w {
                                let place = Place { n: out.n, part: out.part, pixel: y * x.w + q, channel: first + o };
                                // SAFETY: a pixel of the output, and this job's alone.
                                unsafe { out.store(simd, place, *v) };
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Tiles of x times `factor` -> out [36][count][c], `tiles` from the beginning of each.
///
/// # Safety
/// `out` must have room, c be a multiple of every vector's length.
#[inline(always)]
unsafe fn transform<S: Simd>(simd: S, x: &[f32], map: Map, factor: &[f32], tiles: std::ops::Range<usize>, out: *mut f32, count: usize) {
    let Map { h, w, c, .. } = map;
    let across = w.div_ceil(STEP);
    let zero = simd.splat_f32s(0.0);
    for (i, tile) in tiles.enumerate() {
        // The place of the tile's first output; its inputs begin one before.
        let (y0, x0) = (tile / across * STEP, tile % across * STEP);
        let inside = y0 > 0 && x0 > 0 && y0 + 5 <= h && x0 + 5 <= w;
        for channel in (0..c).step_by(S::F32_LANES) {
            let f = load::<S>(factor.as_ptr().add(channel));
            let square = both::<S, 6, 6>(
                simd,
                #[inline(always)]
                |a: usize, b: usize| {
                    let (y, q) = ((y0 + a).wrapping_sub(1), (x0 + b).wrapping_sub(1));
                    match inside || y < h && q < w {
                        true => simd.mul_f32s(f, load::<S>(x.as_ptr().add((y * w + q) * c + channel))),
                        false => zero,
                    }
                },
                #[inline(always)]
                |d| into(simd, d),
            );
            for (a, row) in square.iter().enumerate() {
                for (b, v) in row.iter().enumerate() {
                    store::<S>(out.add(((a * 6 + b) * count + i) * c + channel), *v);
                }
            }
        }
    }
}

/// Tiles of a gradient times `factor` -> out [36][count][k], as [`transform`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn transform_gradient<S: Simd>(
    simd: S,
    g: &[f32],
    map: Map,
    factor: &[f32],
    tiles: std::ops::Range<usize>,
    out: *mut f32,
    count: usize,
) {
    let Map { h, w, c: k, .. } = map;
    let across = w.div_ceil(STEP);
    let zero = simd.splat_f32s(0.0);
    for (i, tile) in tiles.enumerate() {
        let (y0, x0) = (tile / across * STEP, tile % across * STEP);
        for channel in (0..k).step_by(S::F32_LANES) {
            let f = load::<S>(factor.as_ptr().add(channel));
            let square = both::<S, 4, 6>(
                simd,
                #[inline(always)]
                |a: usize, b: usize| match y0 + a < h && x0 + b < w {
                    true => simd.mul_f32s(f, load::<S>(g.as_ptr().add(((y0 + a) * w + x0 + b) * k + channel))),
                    false => zero,
                },
                #[inline(always)]
                |y| back_into(simd, y),
            );
            for (a, row) in square.iter().enumerate() {
                for (b, v) in row.iter().enumerate() {
                    store::<S>(out.add(((a * 6 + b) * count + i) * k + channel), *v);
                }
            }
        }
    }
}

enum Transformed {
    Input,
    Gradient,
}

struct Transform<'a> {
    of: Transformed,
    map: Map<'a>,
    n: usize,
    factor: &'a [f32],
    tiles: std::ops::Range<usize>,
    /// Of the first tile of all that are transformed together, [36][count][channels].
    out: Shared,
    at: usize,
    count: usize,
}

impl WithSimd for Transform<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { of, map, n, factor, tiles, out, at, count } = self;
        // SAFETY: `weight_gradient` gave room for `count` tiles, of which these are this job's alone.
        unsafe {
            let out = out.at(at * map.c);
            match of {
                Transformed::Input => transform(simd, map.sample(n), map, factor, tiles, out, count),
                Transformed::Gradient => transform_gradient(simd, map.sample(n), map, factor, tiles, out, count),
            }
        }
    }
}

/// Tiles whose products are added up at a time.
const RUN: usize = 96;

/// du [c][16] of one point and panel += the products of `count` tiles.
pub(super) struct Sum<'a> {
    /// [tiles][c] and [tiles][k], of the point.
    pub inputs: &'a [f32],
    pub gradients: &'a [f32],
    pub c: usize,
    pub k: usize,
    pub panel: usize,
    pub count: usize,
    pub out: *mut f32,
}

impl WithSimd for Sum<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { inputs, gradients, c, k, panel, count, out } = self;
        let ones = [1.0f32; 2 * PANEL];
        let mut packed = [0.0f32; RUN * PANEL];
        for first in (0..count).step_by(RUN) {
            let run = RUN.min(count - first);
            for (packed, g) in packed.chunks_exact_mut(PANEL).zip(gradients[first * k..].chunks(k)).take(run) {
                packed.copy_from_slice(&g[panel * PANEL..][..PANEL]);
            }
            let wide = in_flight::<S>();
            for i in (0..c).step_by(wide) {
                // The last rows overlap those before: what is done is left out.
                let at = i.min(c - wide);
                let terms = Outer {
                    a: inputs[first * c + at..].as_ptr(),
                    a_step: c,
                    b: packed.as_ptr(),
                    pixels: run,
                    left: ones.as_ptr(),
                    right: ones.as_ptr(),
                    // SAFETY: `out` has 16 numbers for each of c.
                    out: unsafe { out.add(at * PANEL) },
                    rows: i - at..wide,
                };
                // SAFETY: c >= 32 channels of `run` tiles from `first` on.
                unsafe { outer(simd, terms) };
            }
        }
    }
}

/// Numbers that the points of tiles may take at a time.
pub(crate) const ROOM: usize = 12 << 20;

/// dw, as [`Panels`] of outputs g.c and inputs x.c, += the sum over samples and pixels of x times `s` [n][c] and g times `d` [n][k].
pub(crate) fn weight_gradient(x: Map, s: &[f32], g: Map, d: &[f32], dw: &mut [f32]) {
    let (c, k) = (x.c, g.c);
    assert!((x.n, x.h, x.w) == (g.n, g.h, g.w) && s.len() == x.n * c && d.len() == g.n * k && dw.len() == 9 * c * k);
    assert!(c.is_multiple_of(PANEL) && k.is_multiple_of(PANEL) && c.min(k) >= 32);
    let tiles = x.h.div_ceil(STEP) * x.w.div_ceil(STEP);
    let together = (ROOM / (POINTS * (c + k))).clamp(1, tiles);
    let mut inputs = Scratch::new(POINTS * together * c);
    let mut gradients = Scratch::new(POINTS * together * k);
    let mut du = Scratch::new(POINTS * c * k);
    du.fill(0.0);
    let panels = k / PANEL;
    for n in 0..x.n {
        for first in (0..tiles).step_by(together) {
            let count = together.min(tiles - first);
            let (to_inputs, to_gradients, sums) = (Shared(inputs.as_mut_ptr()), Shared(gradients.as_mut_ptr()), Shared(du.as_mut_ptr()));
            let piece = count.div_ceil(16);
            (0..count.div_ceil(piece)).into_par_iter().for_each(|i| {
                let tiles = first + i * piece..first + ((i + 1) * piece).min(count);
                let at = i * piece;
                let of = |of, map: Map, factor: &[f32], out| {
                    dispatch(Transform { of, map, n, factor: &factor[n * map.c..][..map.c], tiles: tiles.clone(), out, at, count })
                };
                // Wherever a job begins, its points are `count` tiles apart.
                of(Transformed::Input, x, s, to_inputs);
                of(Transformed::Gradient, g, d, to_gradients);
            });
            let (inputs, gradients) = (&inputs[..], &gradients[..]);
            (0..POINTS * panels).into_par_iter().for_each(|i| {
                let (f, panel) = (i / panels, i % panels);
                dispatch(Sum {
                    inputs: &inputs[f * count * c..][..count * c],
                    gradients: &gradients[f * count * k..][..count * k],
                    c,
                    k,
                    panel,
                    count,
                    // SAFETY: a part of `du` that is this job's alone.
                    out: unsafe { sums.at(i * c * PANEL) },
                });
            });
        }
    }
    let (out, du) = (Shared(dw.as_mut_ptr()), &du[..]);
    (0..panels).into_par_iter().for_each(|panel| dispatch(Gather { du, panels, panel, c, out }));
}

/// 36 points' gradients to 9 taps'.
struct Gather<'a> {
    du: &'a [f32],
    panels: usize,
    panel: usize,
    c: usize,
    out: Shared,
}

impl WithSimd for Gather<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { du, panels, panel, c, out } = self;
        for i in (0..c * PANEL).step_by(S::F32_LANES) {
            // SAFETY: a panel has c * 16 numbers, and is one job's alone.
            let taps = both::<S, 6, 3>(
                simd,
                #[inline(always)]
                |a: usize, b: usize| unsafe { load::<S>(du.as_ptr().add(((a * 6 + b) * panels + panel) * c * PANEL + i)) },
                #[inline(always)]
                |m| gather(simd, m),
            );
            for (a, row) in taps.iter().enumerate() {
                for (b, v) in row.iter().enumerate() {
                    // SAFETY: as above.
                    unsafe {
                        let to = out.at(((a * 3 + b) * panels + panel) * c * PANEL + i);
                        store::<S>(to, simd.add_f32s(load::<S>(to), *v));
                    }
                }
            }
        }
    }
}
