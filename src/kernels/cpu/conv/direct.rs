//! Convolutions as sums of products over taps, each pixel's channels read where they lie.

use super::epilogue::{Epilogue, Place};
use super::panels::Panels;
use super::{framed, over_tiles, tiles, Map, Share, Shared, Tile};
use crate::kernels::cpu::micro::{group, in_flight, Sink, Terms, PANEL};
use crate::kernels::cpu::scratch::Scratch;
use crate::kernels::cpu::simd::{dispatch, store};
use pulp::{Scalar, Simd, WithSimd};
use rayon::prelude::*;

/// Side of the tiles that a picture is cut into.
const SIDE: usize = 32;

/// The pieces of a picture that [`correlate`] sums over one by one.
pub(crate) fn parts(h: usize, w: usize) -> usize {
    tiles(h, w, (SIDE, SIDE)).len()
}

/// Stores finished sums of one panel in features [n][pixels][channels].
pub(super) struct Out<'a, E> {
    pub epilogue: &'a E,
    pub out: Shared,
    /// Pixels of a picture.
    pub area: usize,
    /// Of the output.
    pub channels: usize,
    pub n: usize,
    pub part: usize,
    /// The panel's first channel.
    pub channel: usize,
    /// The pixels of a group.
    pub pixels: &'a [usize],
}

impl<E: Epilogue> Out<'_, E> {
    /// # Safety
    /// `place` must be one of the output, whose memory is this job's alone.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd>(&self, simd: S, place: Place, v: S::f32s) {
        let to = (place.n * self.area + place.pixel) * self.channels;
        if place.channel + S::F32_LANES <= self.channels {
            let v = self.epilogue.finish(simd, place, v);
            store::<S>(self.out.at(to + place.channel), v);
            return;
        }
        // The end of the last panel, a number at a time.
        let mut lanes = [0.0; PANEL];
        store::<S>(lanes.as_mut_ptr(), v);
        for (i, v) in lanes.into_iter().enumerate().take(self.channels.saturating_sub(place.channel)) {
            let channel = place.channel + i;
            *self.out.at(to + channel) = self.epilogue.finish(Scalar::new(), Place { channel, ..place }, v);
        }
    }
}

impl<E: Epilogue> Sink for Out<'_, E> {
    #[inline(always)]
    unsafe fn put<S: Simd>(&mut self, simd: S, row: usize, lane: usize, v: S::f32s) {
        let place = Place { n: self.n, part: self.part, pixel: self.pixels[row], channel: self.channel + lane };
        self.store(simd, place, v);
    }
}

/// Panels of a tile whose pixels have been read.
pub(super) struct Job<'a, E> {
    pub frame: &'a [f32],
    pub taps: &'a [usize],
    /// Of the tile's pixels: where they begin in the frame, and their number in the picture.
    pub from: &'a [usize],
    pub pixels: &'a [usize],
    pub panels: &'a Panels,
    pub range: std::ops::Range<usize>,
    pub out: Out<'a, E>,
}

impl<E: Epilogue> WithSimd for Job<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { frame, taps, from, pixels, panels, range, mut out } = self;
        for panel in range {
            out.channel = panel * PANEL;
            let b = panels.panel(0, panel).as_ptr();
            let terms = Terms { a: frame.as_ptr(), taps, b, b_tap: panels.tap_step(), channels: panels.inputs };
            for (from, pixels) in from.chunks(in_flight::<S>()).zip(pixels.chunks(in_flight::<S>())) {
                out.pixels = pixels;
                // SAFETY: `correlate` made frame, taps and pixels of one tile, and gave each job panels or a tile of its own.
                unsafe { group(simd, terms, from, &mut out) };
            }
        }
    }
}

/// out [n][h][w][panels.outputs] = the 3x3 convolution, padding 1, of x times `factor` [n][c], finished by `epilogue`; its parts are as
/// many as [`parts`] says.
pub(crate) fn correlate<E: Epilogue>(x: Map, factor: &[f32], panels: &Panels, epilogue: &E, out: &mut [f32]) {
    strided::<E, 1>(x, factor, panels, epilogue, out);
}

/// As [`correlate`], of every second row and column: out [n][h / 2][w / 2][panels.outputs], halves rounded up.
pub(crate) fn correlate_halving<E: Epilogue>(x: Map, factor: &[f32], panels: &Panels, epilogue: &E, out: &mut [f32]) {
    strided::<E, 2>(x, factor, panels, epilogue, out);
}

fn strided<E: Epilogue, const STRIDE: usize>(x: Map, factor: &[f32], panels: &Panels, epilogue: &E, out: &mut [f32]) {
    let (h, w) = (x.h.div_ceil(STRIDE), x.w.div_ceil(STRIDE));
    assert!(panels.taps == 9 && panels.inputs == x.c && factor.len() == x.n * x.c && out.len() == x.n * h * w * panels.outputs);
    let shared = Shared(out.as_mut_ptr());
    // The same number of input pixels a tile, whatever the stride.
    over_tiles(x.n, &tiles(h, w, (SIDE / STRIDE, SIDE / STRIDE)), panels.count(), |Share { n, part, tile, panels: range }| {
        let read = Tile { y: tile.y * STRIDE, x: tile.x * STRIDE, h: (tile.h - 1) * STRIDE + 1, w: (tile.w - 1) * STRIDE + 1 };
        let row = (read.w + 2) * x.c;
        let mut frame = Scratch::new((read.h + 2) * row);
        let factor = &factor[n * x.c..][..x.c];
        crate::kernels::cpu::simd::vectorised(
            #[inline(always)]
            || framed(x.sample(n), (x.h, x.w, x.c), factor, read, &mut frame),
        );
        let each = || (0..tile.h).flat_map(|r| (0..tile.w).map(move |q| (r, q)));
        let from: Vec<usize> = each().map(|(r, q)| (r * row + q * x.c) * STRIDE).collect();
        let pixels: Vec<usize> = each().map(|(r, q)| (tile.y + r) * w + tile.x + q).collect();
        let taps: Vec<usize> = (0..9).map(|t| t / 3 * row + t % 3 * x.c).collect();
        dispatch(Job {
            frame: &frame,
            taps: &taps,
            from: &from,
            pixels: &pixels,
            panels,
            range,
            out: Out { epilogue, out: shared, area: h * w, channels: panels.outputs, n, part, channel: 0, pixels: &[] },
        });
    });
}

/// Pixels that [`points`] does at a time.
const POINTS: usize = 1024;

/// out [n][outputs][pixels] = the products of each pixel's channels with weights [n][c][16], of which the first `outputs` <= 16 columns are taken,
/// plus `bias` [outputs]: what turns features into colours.
pub(crate) fn points(x: Map, weights: &[f32], outputs: usize, bias: &[f32], out: &mut [f32]) {
    let area = x.area();
    assert!(weights.len() == x.n * x.c * PANEL && bias.len() == outputs && outputs <= PANEL && out.len() == x.n * outputs * area);
    let shared = Shared(out.as_mut_ptr());
    let chunks = area.div_ceil(POINTS);
    (0..x.n * chunks).into_par_iter().for_each(|job| {
        let (n, first) = (job / chunks, job % chunks * POINTS);
        let pixels = first..(first + POINTS).min(area);
        dispatch(Points {
            x: x.sample(n),
            c: x.c,
            weights: &weights[n * x.c * PANEL..][..x.c * PANEL],
            pixels,
            bias,
            out: shared,
            at: n * outputs * area,
            area,
        });
    });
}

struct Points<'a> {
    x: &'a [f32],
    c: usize,
    weights: &'a [f32],
    pixels: std::ops::Range<usize>,
    bias: &'a [f32],
    out: Shared,
    at: usize,
    area: usize,
}

/// Keeps the sums of a group.
struct Kept([f32; crate::kernels::cpu::micro::MOST * PANEL]);

impl Sink for Kept {
    #[inline(always)]
    unsafe fn put<S: Simd>(&mut self, _: S, row: usize, lane: usize, v: S::f32s) {
        store::<S>(self.0.as_mut_ptr().add(row * PANEL + lane), v);
    }
}

impl WithSimd for Points<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let terms = Terms { a: self.x.as_ptr(), taps: &[0], b: self.weights.as_ptr(), b_tap: 0, channels: self.c };
        let mut kept = Kept([0.0; crate::kernels::cpu::micro::MOST * PANEL]);
        let mut from = [0; crate::kernels::cpu::micro::MOST];
        for first in self.pixels.clone().step_by(in_flight::<S>()) {
            let count = in_flight::<S>().min(self.pixels.end - first);
            (0..count).for_each(|r| from[r] = (first + r) * self.c);
            // SAFETY: the pixels are of this picture, and this job's alone.
            unsafe {
                group(simd, terms, &from[..count], &mut kept);
                for (o, bias) in self.bias.iter().enumerate() {
                    for r in 0..count {
                        *self.out.at(self.at + o * self.area + first + r) = kept.0[r * PANEL + o] + bias;
                    }
                }
            }
        }
    }
}
