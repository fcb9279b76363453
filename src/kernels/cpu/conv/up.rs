//! StyleGAN2's up-sampling convolution (Karras et al. 2020, appendix B): transposed, of stride 2, then blurred. In tiles, so that what lies
//! between convolution and blur never reaches memory.

use super::direct::Out;
use super::epilogue::{Epilogue, Place};
use super::panels::Panels;
use super::{framed, over_tiles, tiles, Map, Share, Shared, Tile};
use crate::kernels::cpu::micro::{group, in_flight, Sink, Terms, PANEL};
use crate::kernels::cpu::scratch::Scratch;
use crate::kernels::cpu::simd::{dispatch, load, store, vectorised};
use pulp::{Simd, WithSimd};

/// Side of a tile, in pixels of the small picture.
const SIDE: usize = 32;

/// As [`SIDE`], on the way back: all channels of the large picture are kept at once.
fn side_back(channels: usize) -> (usize, usize) {
    if channels > 128 {
        (16, 16)
    } else {
        (SIDE, SIDE)
    }
}

/// The pieces of a small picture that [`up_back`] sums over one by one.
pub(crate) fn parts_back(h: usize, w: usize, channels: usize) -> usize {
    tiles(h, w, side_back(channels)).len()
}

/// Convolution turns the kernel round: `flipped[k]` multiplies the transposed convolution's row i - 1 + k.
pub(super) fn flipped(taps: [f32; 4]) -> [f32; 4] {
    [taps[3], taps[2], taps[1], taps[0]]
}

/// out [n][2h][2w][panels.outputs] = the transposed convolution of x times `factor` [n][c], stride 2, then the blur with the outer product of `blur`
/// with itself, finished by `epilogue`.
pub(crate) fn up<E: Epilogue>(x: Map, factor: &[f32], panels: &Panels, blur: [f32; 4], epilogue: &E, out: &mut [f32]) {
    assert!(panels.taps == 9 && panels.inputs == x.c && factor.len() == x.n * x.c && out.len() == 4 * x.n * x.area() * panels.outputs);
    let shared = Shared(out.as_mut_ptr());
    over_tiles(x.n, &tiles(x.h, x.w, (SIDE, SIDE)), panels.count(), |Share { n, part, tile, panels: range }| {
        let mut frame = Scratch::new((tile.h + 2) * (tile.w + 2) * x.c);
        let factor = &factor[n * x.c..][..x.c];
        vectorised(
            #[inline(always)]
            || framed(x.sample(n), (x.h, x.w, x.c), factor, tile, &mut frame),
        );
        let wide = 2 * tile.w + 3;
        let mut between = Scratch::new((2 * tile.h + 3) * wide * PANEL);
        let mut row = Scratch::new(wide * PANEL);
        let phases: Vec<Phase> = (0..4).map(|phase| Phase::new(phase, tile, x.c)).collect();
        dispatch(Job {
            frame: &frame,
            between: &mut between,
            row: &mut row,
            phases: &phases,
            tile,
            across: 2 * x.w,
            panels,
            range,
            blur: flipped(blur),
            out: Out { epilogue, out: shared, area: 4 * x.area(), channels: panels.outputs, n, part, channel: 0, pixels: &[] },
        });
    });
}

/// Rows and columns of one parity of a transposed convolution. Row 2m + a takes tap ky = a from input row m and, for even a, ky = 2 from row m - 1.
struct Phase {
    /// Of the weights.
    taps: Vec<usize>,
    /// The same taps' distances in the frame.
    distances: Vec<usize>,
    /// Where pixels begin in the frame, and where their sums go.
    from: Vec<usize>,
    to: Vec<usize>,
}

impl Phase {
    /// Of a tile that stands for rows and columns -1 to 2 side + 1 of the transposed convolution.
    fn new(phase: usize, tile: Tile, c: usize) -> Self {
        let (a, b) = (phase / 2, phase % 2);
        let (row, wide) = ((tile.w + 2) * c, 2 * tile.w + 3);
        let of = |parity: usize| (parity..3).step_by(2);
        // From the frame's row that the last tap of an even row lies in, or the only one of an odd row.
        let distance = |parity: usize, k: usize| if parity == 0 { 1 - k / 2 } else { 0 };
        let each = || of(a).flat_map(move |ky| of(b).map(move |kx| (ky, kx)));
        let places = |side: usize, parity: usize| (0..side + 1 + parity).map(move |i| (i, 2 * i + 1 - parity));
        let pixels = || places(tile.h, a).flat_map(move |y| places(tile.w, b).map(move |x| (y, x)));
        Self {
            taps: each().map(|(ky, kx)| 3 * ky + kx).collect(),
            distances: each().map(|(ky, kx)| distance(a, ky) * row + distance(b, kx) * c).collect(),
            from: pixels().map(|(y, x)| y.0 * row + x.0 * c).collect(),
            to: pixels().map(|(y, x)| (y.1 * wide + x.1) * PANEL).collect(),
        }
    }
}

struct Job<'a, E> {
    frame: &'a [f32],
    /// [2 tile.h + 3][2 tile.w + 3][16]
    between: &'a mut [f32],
    row: &'a mut [f32],
    phases: &'a [Phase],
    tile: Tile,
    /// Width of the output.
    across: usize,
    panels: &'a Panels,
    range: std::ops::Range<usize>,
    blur: [f32; 4],
    out: Out<'a, E>,
}

struct Between<'a> {
    to: *mut f32,
    places: &'a [usize],
    add: bool,
}

impl Sink for Between<'_> {
    #[inline(always)]
    unsafe fn put<S: Simd>(&mut self, simd: S, row: usize, lane: usize, v: S::f32s) {
        let to = self.to.add(self.places[row] + lane);
        let v = if self.add { simd.add_f32s(v, load::<S>(to)) } else { v };
        store::<S>(to, v);
    }
}

impl<E: Epilogue> WithSimd for Job<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { frame, between, row, phases, tile, across, panels, range, blur, mut out } = self;
        let wide = (2 * tile.w + 3) * PANEL;
        for panel in range {
            out.channel = panel * PANEL;
            for phase in phases {
                for (i, (tap, distance)) in phase.taps.iter().zip(&phase.distances).enumerate() {
                    let b = panels.panel(*tap, panel).as_ptr();
                    let terms = Terms { a: frame.as_ptr(), taps: std::slice::from_ref(distance), b, b_tap: 0, channels: panels.inputs };
                    for (from, to) in phase.from.chunks(in_flight::<S>()).zip(phase.to.chunks(in_flight::<S>())) {
                        // SAFETY: `Phase` is of this tile, as frame and between are.
                        unsafe { group(simd, terms, from, &mut Between { to: between.as_mut_ptr(), places: to, add: i > 0 }) };
                    }
                }
            }
            let g: [S::f32s; 4] = blur.map(|v| simd.splat_f32s(v));
            for y in 0..2 * tile.h {
                // SAFETY: rows y to y + 3 are of the tile's 2 h + 3, columns likewise; the pixels are this job's alone.
                unsafe {
                    for i in (0..wide).step_by(S::F32_LANES) {
                        let v = four(
                            simd,
                            g,
                            #[inline(always)]
                            |k| load::<S>(between.as_ptr().add((y + k) * wide + i)),
                        );
                        store::<S>(row.as_mut_ptr().add(i), v);
                    }
                    for x in 0..2 * tile.w {
                        for lane in (0..PANEL).step_by(S::F32_LANES) {
                            let v = four(
                                simd,
                                g,
                                #[inline(always)]
                                |k| load::<S>(row.as_ptr().add((x + k) * PANEL + lane)),
                            );
                            let pixel = (2 * tile.y + y) * across + 2 * tile.x + x;
                            out.store(simd, Place { n: out.n, part: out.part, pixel, channel: out.channel + lane }, v);
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn four<S: Simd>(simd: S, g: [S::f32s; 4], at: impl Fn(usize) -> S::f32s) -> S::f32s {
    let sum = simd.mul_add_e_f32s(g[1], at(1), simd.mul_f32s(g[0], at(0)));
    simd.mul_add_e_f32s(g[3], at(3), simd.mul_add_e_f32s(g[2], at(2), sum))
}

/// The blur's transpose: what the gradient g [2h][2w][k] of a sample, times `factor` [k], is of the transposed convolution's rows and
/// columns 2 tile.y to 2 (tile.y + tile.h): [2 tile.h + 1][2 tile.w + 1][k]. `rows`: which of them.
#[inline(always)]
pub(super) fn unblurred(
    g: &[f32],
    (h, w, k): (usize, usize, usize),
    factor: &[f32],
    blur: [f32; 4],
    tile: Tile,
    rows: std::ops::Range<usize>,
    out: &mut [f32],
) {
    // dT[t] = sum over i of f[i] * dy[t + 1 - i], so that from row t - 2 on the taps stand the other way round.
    let f = flipped(blur);
    let taps = [f[3], f[2], f[1], f[0]];
    let wide = 2 * tile.w + 1;
    // Columns 2 x - 2 to 2 (x + width) + 1, of which those outside are zero.
    let mut sums = Scratch::new((wide + 3) * k);
    let (first, last) = ((2 * tile.x).max(2) - 2, (2 * (tile.x + tile.w) + 2).min(w));
    let left = (first + 2 - 2 * tile.x) * k;
    let len = (last - first) * k;
    sums[..left].fill(0.0);
    sums[left + len..].fill(0.0);
    let zeros = Scratch::zeros(len);
    for (r, out) in rows.zip(out.chunks_mut(wide * k)) {
        let t = 2 * tile.y + r;
        let sums = &mut sums[..];
        let row = |i: usize| match (t + i).checked_sub(2).filter(|y| *y < h) {
            Some(y) => &g[(y * w + first) * k..][..len],
            None => &zeros[..],
        };
        let [a, b, c, d]: [&[f32]; 4] = [row(0), row(1), row(2), row(3)];
        for (i, sum) in sums[left..left + len].iter_mut().enumerate() {
            *sum = taps[0] * a[i] + taps[1] * b[i] + taps[2] * c[i] + taps[3] * d[i];
        }
        for (x, out) in out.chunks_exact_mut(k).enumerate() {
            let [a, b, c, d]: [&[f32]; 4] = std::array::from_fn(|i| &sums[(x + i) * k..][..k]);
            let at = |i: usize| factor[i] * (taps[0] * a[i] + taps[1] * b[i] + taps[2] * c[i] + taps[3] * d[i]);
            let whole = k / PANEL * PANEL;
            for i in (0..whole).step_by(PANEL) {
                // In numbers of its own, which the compiler knows to be nobody else's: otherwise it takes them one at a time.
                let (f, a, b, c, d) = (&factor[i..][..PANEL], &a[i..][..PANEL], &b[i..][..PANEL], &c[i..][..PANEL], &d[i..][..PANEL]);
                let mut sums = [0.0f32; PANEL];
                for (lane, sum) in sums.iter_mut().enumerate() {
                    *sum = f[lane] * (taps[0] * a[lane] + taps[1] * b[lane] + taps[2] * c[lane] + taps[3] * d[lane]);
                }
                out[i..i + PANEL].copy_from_slice(&sums);
            }
            for (i, out) in out.iter_mut().enumerate().skip(whole) {
                *out = at(i);
            }
        }
    }
}

/// out [n][h][w][panels.outputs] = the gradient of [`up`]'s input, from that of its sums g [n][2h][2w][k] times `factor` [n][k], finished
/// by `epilogue`, whose parts are as many as [`parts_back`] says. `panels` are [`Panels::back`], not turned.
pub(crate) fn up_back<E: Epilogue>(g: Map, factor: &[f32], panels: &Panels, blur: [f32; 4], epilogue: &E, out: &mut [f32]) {
    let (h, w, k) = (g.h / 2, g.w / 2, g.c);
    assert!(panels.taps == 9 && panels.inputs == k && factor.len() == g.n * k && out.len() == g.n * h * w * panels.outputs);
    let shared = Shared(out.as_mut_ptr());
    over_tiles(g.n, &tiles(h, w, side_back(k)), panels.count(), |Share { n, part, tile, panels: range }| {
        let row = (2 * tile.w + 1) * k;
        let mut frame = Scratch::new((2 * tile.h + 1) * row);
        let factor = &factor[n * k..][..k];
        vectorised(
            #[inline(always)]
            || unblurred(g.sample(n), (g.h, g.w, k), factor, blur, tile, 0..2 * tile.h + 1, &mut frame),
        );
        let each = || (0..tile.h).flat_map(|r| (0..tile.w).map(move |q| (r, q)));
        let from: Vec<usize> = each().map(|(r, q)| 2 * r * row + 2 * q * k).collect();
        let pixels: Vec<usize> = each().map(|(r, q)| (tile.y + r) * w + tile.x + q).collect();
        let taps: Vec<usize> = (0..9).map(|t| t / 3 * row + t % 3 * k).collect();
        dispatch(super::direct::Job {
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
