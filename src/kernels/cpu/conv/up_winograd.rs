//! StyleGAN2's up-sampling convolution by F(3, 2) of Winograd 1980, "Arithmetic Complexity of Computations", chapter V, as Lavin and Gray 2016 nest
//! it for two dimensions.
//!
//! Along one direction the transposed convolution's even lines have two taps, T[2m] = w2 x[m - 1] + w0 x[m], and its odd ones a single one,
//! T[2m + 1] = w1 x[m]. Three even lines in a row take four products instead of six, so that nine pixels take 49 instead of 81. Its input gradient
//! has the same shape: dx[m] = w0 dT[2m] + w2 dT[2m + 2], of even lines again, plus w1 dT[2m + 1]; and so has the weights' gradient.
//!
//! Against the same sums in f64 the error is up to 5e-6 of the outputs' root mean square, that of sums of products alone (tests:
//! `winograd_up_is_near_the_definition`).

use super::direct::Out;
use super::epilogue::{Epilogue, Place};
use super::panels::Panels;
use super::up::{flipped, four, unblurred};
use super::winograd::{both, Sum};
use super::{over_tiles, tiles, Map, Share, Shared, Tile};
use crate::kernels::cpu::micro::{fitted, in_flight, Sink, Terms, PANEL};
use crate::kernels::cpu::scratch::Scratch;
use crate::kernels::cpu::simd::{dispatch, load, store, vectorised};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Kinds of lines: the four points of even lines, and odd lines.
const KINDS: usize = 5;
/// The kind of odd lines.
const ODD: usize = 4;
/// Even lines that share four products.
const STEP: usize = 3;
/// Matrices that a convolution's weights become.
pub(crate) const POINTS: usize = KINDS * KINDS;

/// Which lines of the transposed convolution are read and which are written.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// From the small picture to the large one.
    There,
    Back,
}

/// 4 lines to 4 points.
#[inline(always)]
fn into<S: Simd>(simd: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
    [simd.sub_f32s(d[0], d[2]), simd.add_f32s(d[1], d[2]), simd.sub_f32s(d[2], d[1]), simd.sub_f32s(d[3], d[1])]
}

/// 3 lines to the 4 points that they are multiplied with for the weights' gradient: the transpose of [`out_of`].
#[inline(always)]
fn back_into<S: Simd>(simd: S, x: [S::f32s; 3]) -> [S::f32s; 4] {
    let ends = simd.add_f32s(x[0], x[2]);
    [x[0], simd.add_f32s(ends, x[1]), simd.sub_f32s(ends, x[1]), x[2]]
}

/// The points of a group of lines: of an `INPUT` for the weights' gradient, whose fourth line is not looked at, or of all else.
#[inline(always)]
fn points_of<S: Simd, const INPUT: bool>(simd: S, lines: [S::f32s; 4]) -> [S::f32s; 4] {
    match INPUT {
        true => back_into(simd, [lines[0], lines[1], lines[2]]),
        false => into(simd, lines),
    }
}

/// 4 points to 3 lines.
#[inline(always)]
fn out_of<S: Simd>(simd: S, m: [S::f32s; 4]) -> [S::f32s; 3] {
    let both = simd.add_f32s(m[1], m[2]);
    [simd.add_f32s(m[0], both), simd.sub_f32s(m[1], m[2]), simd.add_f32s(both, m[3])]
}

/// 3 taps to the 4 points of even lines and the odd line's tap.
#[inline(always)]
fn spread<S: Simd>(simd: S, way: Way, w: [S::f32s; 3]) -> [S::f32s; KINDS] {
    let half = simd.splat_f32s(0.5);
    let (first, second) = if way == Way::There { (w[2], w[0]) } else { (w[0], w[2]) };
    let (sum, difference) = (simd.add_f32s(first, second), simd.sub_f32s(first, second));
    [first, simd.mul_f32s(half, sum), simd.mul_f32s(half, difference), second, w[1]]
}

/// 5 points' gradients to 3 taps': the transpose of [`spread`] for the way back.
#[inline(always)]
fn gather<S: Simd>(simd: S, m: [S::f32s; KINDS]) -> [S::f32s; 3] {
    let half = simd.splat_f32s(0.5);
    [simd.mul_add_e_f32s(half, simd.add_f32s(m[1], m[2]), m[0]), m[ODD], simd.mul_add_e_f32s(half, simd.sub_f32s(m[1], m[2]), m[3])]
}

/// Whether this way is the faster one, and takes these sizes of the small picture: weights are transformed too, which many pixels must pay.
pub(crate) fn is_worth(n: usize, h: usize, w: usize, inputs: usize, outputs: usize) -> bool {
    inputs.is_multiple_of(PANEL) && outputs.is_multiple_of(PANEL) && inputs.min(outputs) >= 32 && h.min(w) >= 8 && n * h * w >= 1024
}

/// A convolution's weights at the points of both directions.
pub(crate) struct WinogradUp {
    /// [25][outputs / 16][inputs][16]
    data: Scratch,
    inputs: usize,
    outputs: usize,
    way: Way,
}

struct Spread<'a> {
    panels: &'a Panels,
    panel: usize,
    way: Way,
    out: Shared,
}

impl WithSimd for Spread<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { panels, panel, way, out } = self;
        let size = panels.inputs * PANEL;
        let first = panels.panel(0, panel).as_ptr();
        for i in (0..size).step_by(S::F32_LANES) {
            let points = both::<S, 3, KINDS>(
                simd,
                // SAFETY: a panel has `size` numbers, a multiple of every vector's.
                #[inline(always)]
                |a: usize, b: usize| unsafe { load::<S>(first.add((3 * a + b) * panels.tap_step() + i)) },
                #[inline(always)]
                |w| spread(simd, way, w),
            );
            for (kind, v) in points.as_flattened().iter().enumerate() {
                // SAFETY: as above; each panel is one job's.
                unsafe { store::<S>(out.at((kind * panels.count() + panel) * size + i), *v) };
            }
        }
    }
}

/// The lines of a tile along one direction.
#[derive(Clone, Copy)]
struct Lines {
    /// Of even lines.
    groups: usize,
    odd: usize,
}

impl Lines {
    fn new(way: Way, side: usize) -> Self {
        match way {
            // Lines -1 to 2 side + 1 of the transposed convolution, which the blur reads.
            Way::There => Self { groups: (side + 1).div_ceil(STEP), odd: side + 2 },
            Way::Back => Self { groups: side.div_ceil(STEP), odd: side },
        }
    }

    fn of(self, kind: usize) -> usize {
        if kind == ODD {
            self.odd
        } else {
            self.groups
        }
    }

    fn all(self) -> usize {
        4 * self.groups + self.odd
    }

    /// Where even line m of those that come out is among all lines, kind by kind, once [`out_of`] has put them in the place of the first
    /// three points.
    fn even(self, m: usize) -> usize {
        m % STEP * self.groups + m / STEP
    }

    /// Where odd line m is.
    fn odd(self, m: usize) -> usize {
        4 * self.groups + m
    }
}

/// A tile's points, kind by kind: those of a kind of row and a kind of column lie together, so that they are the rows of one product of matrices.
#[derive(Clone, Copy)]
struct Points {
    rows: Lines,
    columns: Lines,
}

impl Points {
    fn new(way: Way, tile: Tile) -> Self {
        Self { rows: Lines::new(way, tile.h), columns: Lines::new(way, tile.w) }
    }

    fn count(self) -> usize {
        self.rows.all() * self.columns.all()
    }

    /// Where those of a kind begin, and how many they are.
    fn kind(self, a: usize, b: usize) -> Range<usize> {
        let first = a * self.rows.groups * self.columns.all() + b * self.columns.groups * self.rows.of(a);
        first..first + self.rows.of(a) * self.columns.of(b)
    }

    fn at(self, (a, i): (usize, usize), (b, j): (usize, usize)) -> usize {
        self.kind(a, b).start + i * self.columns.of(b) + j
    }
}

/// No line: zeros.
const NONE: usize = usize::MAX;

/// What points are made of: lines of pixels, each channel times its factor.
struct Source<'a> {
    data: &'a [f32],
    /// Pixels of a line.
    width: usize,
    c: usize,
    factor: &'a [f32],
    /// The four lines that each group of even lines is made of, and odd lines; columns likewise.
    rows: (Vec<[usize; 4]>, Vec<usize>),
    columns: (Vec<[usize; 4]>, Vec<usize>),
}

/// For a tile that begins at line `first` of a small picture with `side` lines: the lines of it, or of the frame that [`unblurred`] makes, from which
/// points are made.
fn sources(way: Way, lines: Lines, first: usize, side: usize, tile: usize) -> (Vec<[usize; 4]>, Vec<usize>) {
    let line = |at: usize| match way {
        // Counted from the line before the tile.
        Way::There => (first + at).checked_sub(1).filter(|y| *y < side).unwrap_or(NONE),
        Way::Back => Some(2 * at).filter(|y| *y <= 2 * tile).unwrap_or(NONE),
    };
    let even = (0..lines.groups).map(|i| std::array::from_fn(|t| line(STEP * i + t))).collect();
    let odd = (0..lines.odd).map(|m| if way == Way::There { line(m) } else { 2 * m + 1 }).collect();
    (even, odd)
}

impl Source<'_> {
    /// All points of a tile, [points][c].
    ///
    /// # Safety
    /// `out` must have room; c must be a multiple of every vector's length.
    #[inline(always)]
    unsafe fn transform<S: Simd, const INPUT: bool>(&self, simd: S, points: Points, out: *mut f32) {
        let c = self.c;
        let (rows, odd_rows) = (&self.rows.0, &self.rows.1);
        let (columns, odd_columns) = (&self.columns.0, &self.columns.1);
        for (i, lines) in rows.iter().enumerate() {
            for (j, pixels) in columns.iter().enumerate() {
                let to: [[usize; 4]; 4] = std::array::from_fn(|a| std::array::from_fn(|b| points.at((a, i), (b, j)) * c));
                self.piece::<S, _, _, INPUT>(simd, *lines, *pixels, to, out);
            }
            for (j, pixel) in odd_columns.iter().enumerate() {
                let to: [[usize; 1]; 4] = std::array::from_fn(|a| [points.at((a, i), (ODD, j)) * c]);
                self.piece::<S, _, _, INPUT>(simd, *lines, [*pixel], to, out);
            }
        }
        for (i, line) in odd_rows.iter().enumerate() {
            for (j, pixels) in columns.iter().enumerate() {
                let to: [[usize; 4]; 1] = [std::array::from_fn(|b| points.at((ODD, i), (b, j)) * c)];
                self.piece::<S, _, _, INPUT>(simd, [*line], *pixels, to, out);
            }
            for (j, pixel) in odd_columns.iter().enumerate() {
                self.piece::<S, _, _, INPUT>(simd, [*line], [*pixel], [[points.at((ODD, i), (ODD, j)) * c]], out);
            }
        }
    }

    /// A group of rows or an odd one, by a group of columns or an odd one.
    #[inline(always)]
    unsafe fn piece<S: Simd, const A: usize, const B: usize, const INPUT: bool>(
        &self,
        simd: S,
        rows: [usize; A],
        columns: [usize; B],
        to: [[usize; B]; A],
        out: *mut f32,
    ) {
        let zero = simd.splat_f32s(0.0);
        let read = |n: usize| if INPUT && n == 4 { STEP } else { n };
        let whole = !rows[..read(A)].contains(&NONE) && !columns[..read(B)].contains(&NONE);
        for channel in (0..self.c).step_by(S::F32_LANES) {
            let factor = load::<S>(self.factor.as_ptr().add(channel));
            let mut square = [[zero; B]; A];
            for a in 0..read(A) {
                for b in 0..read(B) {
                    if whole || rows[a] != NONE && columns[b] != NONE {
                        let from = (rows[a] * self.width + columns[b]) * self.c + channel;
                        square[a][b] = simd.mul_f32s(factor, load::<S>(self.data.as_ptr().add(from)));
                    }
                }
            }
            if A == 4 {
                for b in 0..read(B) {
                    let column = points_of::<S, INPUT>(simd, [square[0][b], square[1 % A][b], square[2 % A][b], square[3 % A][b]]);
                    for a in 0..A {
                        square[a][b] = column[a];
                    }
                }
            }
            if B == 4 {
                for row in &mut square {
                    let points = points_of::<S, INPUT>(simd, [row[0], row[1 % B], row[2 % B], row[3 % B]]);
                    row.copy_from_slice(&points[..B]);
                }
            }
            for a in 0..A {
                for b in 0..B {
                    store::<S>(out.add(to[a][b] + channel), square[a][b]);
                }
            }
        }
    }
}

/// Puts a panel's products in their place.
struct Products(*mut f32);

impl Sink for Products {
    #[inline(always)]
    unsafe fn put<S: Simd>(&mut self, _: S, row: usize, lane: usize, v: S::f32s) {
        store::<S>(self.0.add(row * PANEL + lane), v);
    }
}

/// Panels whose products are computed one after another while a kind's points are near.
const GROUP: usize = 4;

/// Rows and columns of a tile of the small picture, whose even lines are whole groups. The points of many channels take too much memory for more
/// rows; with few channels there is more to win from fewer borders.
fn side(way: Way, channels: usize) -> (usize, usize) {
    match (way, channels) {
        (Way::There, ..=128) => (32, 32),
        (Way::There, _) => (8, 32),
        (Way::Back, _) => (9, 33),
    }
}

/// The pieces of a small picture that [`WinogradUp::run`] sums over on the way back one by one.
pub(crate) fn parts_back(h: usize, w: usize, channels: usize) -> usize {
    tiles(h, w, side(Way::Back, channels)).len()
}

impl WinogradUp {
    /// Of [`Panels::new`]; `lasting`: for more than one pass.
    pub(crate) fn there(panels: &Panels, lasting: bool) -> Self {
        Self::new(panels, Way::There, lasting)
    }

    /// Of [`Panels::back`], not turned.
    pub(crate) fn back(panels: &Panels, lasting: bool) -> Self {
        Self::new(panels, Way::Back, lasting)
    }

    fn new(panels: &Panels, way: Way, lasting: bool) -> Self {
        assert!(panels.taps == 9 && panels.outputs.is_multiple_of(PANEL));
        let len = POINTS * panels.inputs * panels.outputs;
        let mut data = if lasting { Scratch::lasting(len) } else { Scratch::new(len) };
        let out = Shared(data.as_mut_ptr());
        (0..panels.count()).into_par_iter().for_each(|panel| dispatch(Spread { panels, panel, way, out }));
        Self { data, inputs: panels.inputs, outputs: panels.outputs, way }
    }

    fn panels(&self) -> usize {
        self.outputs / PANEL
    }

    /// As [`super::up`] or, of weights for the way back, as [`super::up_back`], whose parts are as many as [`parts_back`] says.
    pub(crate) fn run<E: Epilogue>(&self, x: Map, factor: &[f32], blur: [f32; 4], epilogue: &E, out: &mut [f32]) {
        match self.way {
            Way::There => self.up(x, factor, blur, epilogue, out),
            Way::Back => self.up_back(x, factor, blur, epilogue, out),
        }
    }

    fn up<E: Epilogue>(&self, x: Map, factor: &[f32], blur: [f32; 4], epilogue: &E, out: &mut [f32]) {
        let (c, k) = (self.inputs, self.outputs);
        assert!(self.way == Way::There && c == x.c && c.is_multiple_of(PANEL));
        assert!(factor.len() == x.n * c && out.len() == 4 * x.n * x.area() * k);
        let shared = Shared(out.as_mut_ptr());
        over_tiles(x.n, &tiles(x.h, x.w, side(self.way, c)), self.panels(), |Share { n, part, tile, panels: range }| {
            let points = Points::new(self.way, tile);
            dispatch(Job {
                weights: self,
                source: Source {
                    data: x.sample(n),
                    width: x.w,
                    c,
                    factor: &factor[n * c..][..c],
                    rows: sources(self.way, points.rows, tile.y, x.h, tile.h),
                    columns: sources(self.way, points.columns, tile.x, x.w, tile.w),
                },
                points,
                tile,
                across: 2 * x.w,
                range,
                blur: flipped(blur),
                out: Out { epilogue, out: shared, area: 4 * x.area(), channels: k, n, part, channel: 0, pixels: &[] },
            });
        });
    }

    fn up_back<E: Epilogue>(&self, g: Map, factor: &[f32], blur: [f32; 4], epilogue: &E, out: &mut [f32]) {
        let (h, w, k) = (g.h / 2, g.w / 2, g.c);
        assert!(self.way == Way::Back && self.inputs == k && k.is_multiple_of(PANEL));
        assert!(factor.len() == g.n * k && out.len() == g.n * h * w * self.outputs);
        let shared = Shared(out.as_mut_ptr());
        let ones = vec![1.0; k];
        over_tiles(g.n, &tiles(h, w, side(self.way, k)), self.panels(), |Share { n, part, tile, panels: range }| {
            let points = Points::new(self.way, tile);
            let mut frame = Scratch::new((2 * tile.h + 1) * (2 * tile.w + 1) * k);
            vectorised(
                #[inline(always)]
                || unblurred(g.sample(n), (g.h, g.w, k), &ones, blur, tile, 0..2 * tile.h + 1, &mut frame),
            );
            dispatch(Job {
                weights: self,
                source: Source {
                    data: &frame,
                    width: 2 * tile.w + 1,
                    c: k,
                    factor: &factor[n * k..][..k],
                    rows: sources(self.way, points.rows, tile.y, h, tile.h),
                    columns: sources(self.way, points.columns, tile.x, w, tile.w),
                },
                points,
                tile,
                across: w,
                range,
                blur,
                out: Out { epilogue, out: shared, area: h * w, channels: self.outputs, n, part, channel: 0, pixels: &[] },
            });
        });
    }
}

struct Job<'a, E> {
    weights: &'a WinogradUp,
    source: Source<'a>,
    points: Points,
    tile: Tile,
    /// Width of the output.
    across: usize,
    range: Range<usize>,
    /// Flipped.
    blur: [f32; 4],
    out: Out<'a, E>,
}

impl<E: Epilogue> WithSimd for Job<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, source, points, range, .. } = &self;
        let c = weights.inputs;
        let mut inputs = Scratch::new(points.count() * c);
        // SAFETY: room for all points, whose channels are whole panels.
        unsafe { source.transform::<S, false>(simd, *points, inputs.as_mut_ptr()) };
        let together = range.len().min(GROUP);
        let size = points.count() * PANEL;
        let mut products = Scratch::new(together * size);
        let mut row = Scratch::new(points.columns.all() * PANEL);
        let rows: Vec<usize> =
            (0..points.rows.odd.max(points.rows.groups) * points.columns.odd.max(points.columns.groups)).map(|i| i * c).collect();
        for first in range.clone().step_by(together) {
            let some = first..(first + together).min(range.end);
            for kind in 0..POINTS {
                let places = points.kind(kind / KINDS, kind % KINDS);
                for panel in some.clone() {
                    let b = weights.data[(kind * weights.panels() + panel) * c * PANEL..].as_ptr();
                    let terms = Terms { a: inputs[places.start * c..].as_ptr(), taps: &[0], b, b_tap: 0, channels: c };
                    for (i, rows) in rows[..places.len()].chunks(in_flight::<S>()).enumerate() {
                        let to = (panel - first) * size + (places.start + i * in_flight::<S>()) * PANEL;
                        // SAFETY: points of this kind, whose products have their place.
                        unsafe { fitted(simd, terms, rows, &mut Products(products.as_mut_ptr().add(to))) };
                    }
                }
            }
            for (panel, products) in some.zip(products.chunks_exact_mut(size)) {
                // SAFETY: `products` are this tile's, `row` has room for a line of them, and the pixels are this job's alone.
                unsafe {
                    even_rows(simd, *points, products.as_mut_ptr());
                    match weights.way {
                        Way::There => self.blurred(simd, panel, products, &mut row),
                        Way::Back => self.summed(simd, panel, products, &mut row),
                    }
                }
            }
        }
    }
}

/// Puts even rows in the place of their points.
///
/// # Safety
/// `products` must have 16 numbers for each of `points`.
#[inline(always)]
unsafe fn even_rows<S: Simd>(simd: S, points: Points, products: *mut f32) {
    for b in 0..KINDS {
        let size = points.rows.groups * points.columns.of(b) * PANEL;
        let place: [*mut f32; 4] = [0, 1, 2, 3].map(|a| products.add(points.kind(a, b).start * PANEL));
        for i in (0..size).step_by(S::F32_LANES) {
            let at = |a: usize| load::<S>(place[a].add(i));
            let lines = out_of(simd, [at(0), at(1), at(2), at(3)]);
            for a in 0..STEP {
                store::<S>(place[a].add(i), lines[a]);
            }
        }
    }
}

/// Puts even columns of a row in the place of their points.
///
/// # Safety
/// `row` must have 16 numbers for each of `columns`.
#[inline(always)]
unsafe fn even_columns<S: Simd>(simd: S, columns: Lines, row: *mut f32) {
    let size = columns.groups * PANEL;
    for i in (0..size).step_by(S::F32_LANES) {
        let at = |a: usize| load::<S>(row.add(a * size + i));
        let lines = out_of(simd, [at(0), at(1), at(2), at(3)]);
        for a in 0..STEP {
            store::<S>(row.add(a * size + i), lines[a]);
        }
    }
}

impl<E: Epilogue> Job<'_, E> {
    /// Where a row's columns of a kind begin in the products: even row m, or odd row m.
    #[inline(always)]
    fn even(&self, m: usize, b: usize) -> usize {
        self.points.at((m % STEP, m / STEP), (b, 0)) * PANEL
    }

    #[inline(always)]
    fn odd(&self, m: usize, b: usize) -> usize {
        self.points.at((ODD, m), (b, 0)) * PANEL
    }

    /// The blurred tile.
    ///
    /// # Safety
    /// `products` must be this tile's, with even rows in their place.
    #[inline(always)]
    unsafe fn blurred<S: Simd>(&self, simd: S, panel: usize, products: &[f32], row: &mut [f32]) {
        let g: [S::f32s; 4] = self.blur.map(
            #[inline(always)]
            |v| simd.splat_f32s(v),
        );
        let columns = self.points.columns;
        let channel = panel * PANEL;
        for y in 0..2 * self.tile.h {
            // Rows y - 1 to y + 2 of the transposed convolution.
            let q = y / 2;
            let mut to = 0;
            for b in 0..KINDS {
                let from = match y % 2 {
                    0 => [self.odd(q, b), self.even(q, b), self.odd(q + 1, b), self.even(q + 1, b)],
                    _ => [self.even(q, b), self.odd(q + 1, b), self.even(q + 1, b), self.odd(q + 2, b)],
                };
                let size = columns.of(b) * PANEL;
                for i in (0..size).step_by(S::F32_LANES) {
                    let v = four(
                        simd,
                        g,
                        #[inline(always)]
                        |k| load::<S>(products.as_ptr().add(from[k] + i)),
                    );
                    store::<S>(row.as_mut_ptr().add(to + i), v);
                }
                to += size;
            }
            even_columns(simd, columns, row.as_mut_ptr());
            let first = (2 * self.tile.y + y) * self.across + 2 * self.tile.x;
            for q in 0..self.tile.w {
                let (e, o) = ([columns.even(q), columns.even(q + 1)], [columns.odd(q), columns.odd(q + 1), columns.odd(q + 2)]);
                for lane in (0..PANEL).step_by(S::F32_LANES) {
                    let at = |line: usize| load::<S>(row.as_ptr().add(line * PANEL + lane));
                    let (e, o) = ([at(e[0]), at(e[1])], [at(o[0]), at(o[1]), at(o[2])]);
                    let pair = [[o[0], e[0], o[1], e[1]], [e[0], o[1], e[1], o[2]]];
                    for (i, lines) in pair.into_iter().enumerate() {
                        let v = four(
                            simd,
                            g,
                            #[inline(always)]
                            |k| lines[k],
                        );
                        let place = Place { n: self.out.n, part: self.out.part, pixel: first + 2 * q + i, channel: channel + lane };
                        self.out.store(simd, place, v);
                    }
                }
            }
        }
    }

    /// Even and odd lines of the tile added up.
    ///
    /// # Safety
    /// As [`Job::blurred`].
    #[inline(always)]
    unsafe fn summed<S: Simd>(&self, simd: S, panel: usize, products: &[f32], row: &mut [f32]) {
        let columns = self.points.columns;
        let channel = panel * PANEL;
        for y in 0..self.tile.h {
            let mut to = 0;
            for b in 0..KINDS {
                let (even, odd) = (self.even(y, b), self.odd(y, b));
                let size = columns.of(b) * PANEL;
                for i in (0..size).step_by(S::F32_LANES) {
                    let v = simd.add_f32s(load::<S>(products.as_ptr().add(even + i)), load::<S>(products.as_ptr().add(odd + i)));
                    store::<S>(row.as_mut_ptr().add(to + i), v);
                }
                to += size;
            }
            even_columns(simd, columns, row.as_mut_ptr());
            let first = (self.tile.y + y) * self.across + self.tile.x;
            for x in 0..self.tile.w {
                for lane in (0..PANEL).step_by(S::F32_LANES) {
                    let at = |line: usize| load::<S>(row.as_ptr().add(line * PANEL + lane));
                    let v = simd.add_f32s(at(columns.even(x)), at(columns.odd(x)));
                    self.out.store(simd, Place { n: self.out.n, part: self.out.part, pixel: first + x, channel: channel + lane }, v);
                }
            }
        }
    }
}

/// Rows and columns of the tiles of a weights' gradient.
const GRADIENT: (usize, usize) = (9, 96);

/// Numbers that the points of tiles take at a time, where two tiles do not take more: what the third-level cache holds. Sums do not depend on it.
const TOGETHER: usize = 2 << 20;

/// As [`is_worth`], of the weights' gradient.
pub(crate) fn is_worth_gradient(n: usize, h: usize, w: usize, inputs: usize, outputs: usize) -> bool {
    is_worth(n, h, w, inputs, outputs) && inputs.min(outputs) >= 64
}

/// dw, as [`Panels`] of outputs g.c and inputs x.c, += what [`super::weight_gradient`] adds for [`super::Kind::Up`].
pub(crate) fn weight_gradient(x: Map, s: &[f32], g: Map, d: &[f32], blur: [f32; 4], dw: &mut [f32]) {
    let (c, k) = (x.c, g.c);
    assert!((g.n, g.h, g.w) == (x.n, 2 * x.h, 2 * x.w) && s.len() == x.n * c && d.len() == g.n * k && dw.len() == 9 * c * k);
    assert!(c.is_multiple_of(PANEL) && k.is_multiple_of(PANEL) && c.min(k) >= 32);
    let tiles: Vec<(Tile, Points)> = tiles(x.h, x.w, GRADIENT).into_iter().map(|tile| (tile, Points::new(Way::Back, tile))).collect();
    let most = tiles.iter().map(|(_, points)| points.count()).max().unwrap_or(0);
    let together = (TOGETHER / (most * (c + k))).clamp(2, tiles.len().max(2));
    let mut inputs = Scratch::new(together * most * c);
    let mut gradients = Scratch::new(together * most * k);
    let mut du = Scratch::zeros(POINTS * c * k);
    let ones = vec![1.0; k];
    let panels = k / PANEL;
    for n in 0..x.n {
        for some in tiles.chunks(together) {
            let (of_inputs, of_gradients) = (inputs.par_chunks_mut(most * c), gradients.par_chunks_mut(most * k));
            some.par_iter().zip(of_inputs).zip(of_gradients).for_each(|((&(tile, points), inputs), gradients)| {
                let mut frame = Scratch::new((2 * tile.h + 1) * (2 * tile.w + 1) * k);
                vectorised(
                    #[inline(always)]
                    || unblurred(g.sample(n), (g.h, g.w, k), &ones, blur, tile, 0..2 * tile.h + 1, &mut frame),
                );
                let gradient = Source {
                    data: &frame,
                    width: 2 * tile.w + 1,
                    c: k,
                    factor: &d[n * k..][..k],
                    rows: sources(Way::Back, points.rows, tile.y, x.h, tile.h),
                    columns: sources(Way::Back, points.columns, tile.x, x.w, tile.w),
                };
                let input = Source {
                    data: x.sample(n),
                    width: x.w,
                    c,
                    factor: &s[n * c..][..c],
                    rows: own(points.rows, tile.y, tile.h),
                    columns: own(points.columns, tile.x, tile.w),
                };
                dispatch(Transform::<true> { source: &input, points, out: inputs });
                dispatch(Transform::<false> { source: &gradient, points, out: gradients });
            });
            let (inputs, gradients, sums) = (&inputs[..], &gradients[..], Shared(du.as_mut_ptr()));
            (0..POINTS * panels).into_par_iter().for_each(|job| {
                let (kind, panel) = (job / panels, job % panels);
                for (i, (_, points)) in some.iter().enumerate() {
                    let places = points.kind(kind / KINDS, kind % KINDS);
                    dispatch(Sum {
                        inputs: &inputs[(i * most + places.start) * c..][..places.len() * c],
                        gradients: &gradients[(i * most + places.start) * k..][..places.len() * k],
                        c,
                        k,
                        panel,
                        count: places.len(),
                        // SAFETY: a part of `du` that is this job's alone.
                        out: unsafe { sums.at(job * c * PANEL) },
                    });
                }
            });
        }
    }
    let (out, du) = (Shared(dw.as_mut_ptr()), &du[..]);
    (0..panels).into_par_iter().for_each(|panel| dispatch(Gather { du, panels, panel, c, out }));
}

/// The lines of a tile that begins at line `first`, three a group and one by one.
fn own(lines: Lines, first: usize, side: usize) -> (Vec<[usize; 4]>, Vec<usize>) {
    let line = |at: usize| if at < side { first + at } else { NONE };
    let even = (0..lines.groups).map(|i| [line(STEP * i), line(STEP * i + 1), line(STEP * i + 2), NONE]).collect();
    (even, (0..lines.odd).map(line).collect())
}

struct Transform<'a, const INPUT: bool> {
    source: &'a Source<'a>,
    points: Points,
    out: &'a mut [f32],
}

impl<const INPUT: bool> WithSimd for Transform<'_, INPUT> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        assert!(self.out.len() >= self.points.count() * self.source.c);
        // SAFETY: room for all points, whose channels are whole panels.
        unsafe { self.source.transform::<S, INPUT>(simd, self.points, self.out.as_mut_ptr()) }
    }
}

/// 25 points' gradients to 9 taps'.
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
        let size = c * PANEL;
        for i in (0..size).step_by(S::F32_LANES) {
            let taps = both::<S, KINDS, 3>(
                simd,
                // SAFETY: a panel has c * 16 numbers, and is one job's alone.
                #[inline(always)]
                |a: usize, b: usize| unsafe { load::<S>(du.as_ptr().add(((KINDS * a + b) * panels + panel) * size + i)) },
                #[inline(always)]
                |m| gather(simd, m),
            );
            for (tap, v) in taps.as_flattened().iter().enumerate() {
                // SAFETY: as above.
                unsafe {
                    let to = out.at((tap * panels + panel) * size + i);
                    store::<S>(to, simd.add_f32s(load::<S>(to), *v));
                }
            }
        }
    }
}
