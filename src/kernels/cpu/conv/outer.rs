//! Gradients of weights as sums of products over pixels.

use super::up::unblurred;
use super::{framed, Map, Shared, Tile};
use crate::kernels::cpu::micro::{in_flight, outer, Outer, MOST, PANEL};
use crate::kernels::cpu::scratch::Scratch;
use crate::kernels::cpu::simd::{dispatch, vectorised};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// The convolution that the weights are of.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Plain,
    /// [`super::up`], with its blur.
    Up([f32; 4]),
}

/// Pixels whose products are added up at a time.
const RUN: usize = 128;

/// dw, as [`super::Panels`] of outputs g.c and inputs x.c, += the sum over samples and pixels of x times `s` [n][c] and g times `d` [n][k],
/// where g is the gradient of the convolution's sums.
pub(crate) fn weight_gradient(x: Map, s: &[f32], g: Map, d: &[f32], kind: Kind, dw: &mut [f32]) {
    let (c, k) = (x.c, g.c);
    let panels = k.div_ceil(PANEL);
    let times = if matches!(kind, Kind::Up(_)) { 2 } else { 1 };
    assert!(
        (g.n, g.h, g.w) == (x.n, times * x.h, times * x.w)
            && s.len() == x.n * c
            && d.len() == g.n * k
            && dw.len() == 9 * panels * c * PANEL
    );
    // The kernel reads as many channels as it has in flight.
    let mut wider = Scratch::new(if c < MOST { x.data.len() + MOST } else { 0 });
    let data = match c < MOST {
        true => {
            wider[..x.data.len()].copy_from_slice(x.data);
            wider[x.data.len()..].fill(0.0);
            &wider[..]
        }
        false => x.data,
    };
    // Bands of whole rows, so that the pixels of x lie side by side.
    let pixels = if k > 128 { 1024 } else { 4096 };
    let high = (pixels / x.w).clamp(1, x.h);
    let row = |tile: Tile| times * tile.w + if times == 2 { 1 } else { 2 };
    let rows = |tile: Tile| times * tile.h + if times == 2 { 1 } else { 2 };
    let d = super::padded(d, k);
    let mut s = s.to_vec();
    s.resize(s.len() + MOST, 0.0);
    let ones = vec![1.0; k];
    for n in 0..x.n {
        for y in (0..x.h).step_by(high) {
            let tile = Tile { y, x: 0, h: high.min(x.h - y), w: x.w };
            let len = row(tile) * k;
            let mut frame = Scratch::new(rows(tile) * len);
            match kind {
                Kind::Up(blur) => frame.par_chunks_mut(len * 4).enumerate().for_each(|(i, out)| {
                    let some = 4 * i..4 * i + out.len() / len;
                    vectorised(
                        #[inline(always)]
                        || unblurred(g.sample(n), (g.h, g.w, k), &ones, blur, tile, some, out),
                    );
                }),
                Kind::Plain => vectorised(
                    #[inline(always)]
                    || framed(g.sample(n), (g.h, g.w, k), &ones, tile, &mut frame),
                ),
            }
            let (frame, out) = (&frame[..], Shared(dw.as_mut_ptr()));
            (0..9 * panels).into_par_iter().for_each(|job| {
                let (tap, panel) = (job / panels, job % panels);
                // The first pixel's gradient: of a plain convolution the tap before is the pixel behind.
                let (ky, kx) = match kind {
                    Kind::Up(_) => (tap / 3, tap % 3),
                    Kind::Plain => (2 - tap / 3, 2 - tap % 3),
                };
                dispatch(Tap {
                    x: &data[(n * x.area() + y * x.w) * c..],
                    c,
                    tile,
                    frame: &frame[ky * len + kx * k..],
                    row: times * len,
                    step: times * k,
                    first: panel * PANEL,
                    valid: PANEL.min(k - panel * PANEL),
                    s: &s[n * c..],
                    d: &d[(n * panels + panel) * PANEL..][..PANEL],
                    // SAFETY: a part of `dw` that is this job's alone.
                    out: unsafe { out.at(job * c * PANEL) },
                });
            });
        }
    }
}

/// One tap and panel of a band.
struct Tap<'a> {
    /// The band's pixels, and at least [`MOST`] channels behind the last.
    x: &'a [f32],
    c: usize,
    tile: Tile,
    /// The gradients that meet them, from one row and pixel to the next.
    frame: &'a [f32],
    row: usize,
    step: usize,
    first: usize,
    valid: usize,
    s: &'a [f32],
    d: &'a [f32],
    out: *mut f32,
}

impl WithSimd for Tap<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, c, tile, frame, row, step, first, valid, s, d, out } = self;
        let wide = in_flight::<S>();
        let mut packed = [0.0f32; RUN * PANEL];
        let pixels = tile.h * tile.w;
        for from in (0..pixels).step_by(RUN) {
            let run = RUN.min(pixels - from);
            for (i, packed) in packed.chunks_exact_mut(PANEL).enumerate().take(run) {
                let (y, q) = ((from + i) / tile.w, (from + i) % tile.w);
                let at = y * row + q * step + first;
                match valid == PANEL {
                    true => packed.copy_from_slice(&frame[at..][..PANEL]),
                    false => packed[..valid].copy_from_slice(&frame[at..][..valid]),
                }
            }
            for i in (0..c).step_by(wide) {
                let at = i.min(c.saturating_sub(wide));
                let terms = Outer {
                    a: x[from * c + at..].as_ptr(),
                    a_step: c,
                    b: packed.as_ptr(),
                    pixels: run,
                    left: s[at..].as_ptr(),
                    right: d.as_ptr(),
                    // SAFETY: `out` has 16 numbers for each of c.
                    out: unsafe { out.add(at * PANEL) },
                    rows: i - at..wide.min(c - at),
                };
                // SAFETY: `wide` channels from `at` on are inside of a pixel, or c is less and `weight_gradient` has added what is read behind.
                unsafe { outer(simd, terms) };
            }
        }
    }
}
