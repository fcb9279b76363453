//! Modulated convolution and its gradients: sums over taps of long rows for kernels of 3, products of matrices for kernels of 1.

use super::gemm::{matmul, Matrix};
use super::scratch::Scratch;
use super::taps::{correlate, outer, Packed, Planes, SLACK};
use super::vector::long_dot;
use crate::kernels::modulated::{Modulated, Sizes};
use rayon::prelude::*;

const EPSILON: f32 = 1e-8;

impl Sizes {
    /// Length of a padded row.
    fn pw(&self) -> usize {
        self.w + 2
    }
    fn padded(&self) -> usize {
        (self.h + 2) * self.pw() + SLACK
    }
}

/// What a backward pass starts from: the arguments, the gradient of the result, and which gradients are wanted (of x, s and w).
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub z: Sizes,
    pub x: &'a [f32],
    pub s: &'a [f32],
    pub w: &'a [f32],
    pub dy: &'a [f32],
    pub need: [bool; 3],
}

/// Of x, s and w.
type Gradients = [Option<Vec<f32>>; 3];

/// Copies planes of h x w, each times its factor, into padded planes with zero borders and slack.
fn pad(src: &[f32], factor: impl Fn(usize) -> f32 + Sync, h: usize, w: usize, dst: &mut [f32]) {
    let pw = w + 2;
    let stride = (h + 2) * pw + SLACK;
    dst.par_chunks_mut(stride).zip(src.par_chunks(h * w)).with_min_len(4).enumerate().for_each(|(i, (d, s))| {
        let f = factor(i);
        d[..pw + 1].fill(0.0);
        for y in 0..h {
            let row = &mut d[(y + 1) * pw + 1..][..pw];
            for (d, s) in row[..w].iter_mut().zip(&s[y * w..][..w]) {
                *d = s * f;
            }
            row[w..].fill(0.0);
        }
        d[(h + 1) * pw + 1..].fill(0.0);
    });
}

impl Modulated {
    /// Sum over the kernel of the squared scaled weight: [o][c].
    fn energy(&self, z: Sizes, w: &[f32]) -> Vec<f32> {
        let s2 = self.scale * self.scale;
        w.chunks(z.k * z.k).map(|k| s2 * k.iter().map(|v| v * v).sum::<f32>()).collect()
    }

    /// [n][o]; ones without demodulation.
    fn norms(&self, z: Sizes, s: &[f32], energy: &[f32]) -> Vec<f32> {
        if !self.demodulate {
            return vec![1.0; z.n * z.o];
        }
        let mut d = Vec::with_capacity(z.n * z.o);
        for s in s.chunks(z.c) {
            let squares: Vec<f32> = s.iter().map(|s| s * s).collect();
            d.extend(energy.chunks(z.c).map(|e| 1.0 / (e.iter().zip(&squares).map(|(e, s)| e * s).sum::<f32>() + EPSILON).sqrt()));
        }
        d
    }

    /// x, s, w -> y
    pub(crate) fn forward(&self, z: Sizes, x: &[f32], s: &[f32], w: &[f32]) -> Vec<f32> {
        let d = self.norms(z, s, &self.energy(z, w));
        if z.k == 1 {
            return self.forward_1x1(z, x, s, w, &d);
        }
        let mut xp = Scratch::new(z.n * z.c * z.padded());
        pad(x, |i| s[i], z.h, z.w, &mut xp);
        let src = Planes { data: &xp, stride: z.padded() };
        let at = |o: usize, c: usize, ky: usize, kx: usize| w[(o * z.c + c) * 9 + ky * 3 + kx] * self.scale;
        let pw = z.pw();
        match self.up {
            None => {
                let off: Vec<usize> = (0..9).map(|t| t / 3 * pw + t % 3).collect();
                let packed = Packed::new(z.o, z.c, 9, |o, c, t| at(o, c, t / 3, t % 3));
                let len = z.h * pw - 2;
                let stride = len + SLACK;
                let mut out = Scratch::new(z.n * z.o * stride);
                correlate(&packed, z.n, src, &off, &mut out, stride, len);
                let mut y = vec![0.0; z.n * z.o * z.h * z.w];
                y.par_chunks_mut(z.h * z.w).zip(out.par_chunks(stride)).with_min_len(4).enumerate().for_each(|(i, (y, out))| {
                    for (y, out) in y.chunks_mut(z.w).zip(out.chunks(pw)) {
                        for (y, v) in y.iter_mut().zip(out) {
                            *y = v * d[i];
                        }
                    }
                });
                y
            }
            Some(fir) => {
                let len = (z.h + 1) * pw - 1;
                let stride = len + SLACK;
                let plane = z.n * z.o * stride;
                let mut phases = Scratch::new(4 * plane);
                for (phase, out) in phases.chunks_mut(plane).enumerate() {
                    // Output row 2y + a takes kernel rows ky = a (from input row y) and, for even a, ky = 2 (from row y - 1).
                    let (a, b) = (phase / 2, phase % 2);
                    let mut taps = vec![];
                    for ky in (a..3).step_by(2) {
                        for kx in (b..3).step_by(2) {
                            taps.push((ky, kx));
                        }
                    }
                    let off: Vec<usize> = taps.iter().map(|&(ky, kx)| (1 - ky / 2) * pw + 1 - kx / 2).collect();
                    let packed = Packed::new(z.o, z.c, taps.len(), |o, c, t| at(o, c, taps[t].0, taps[t].1));
                    correlate(&packed, z.n, src, &off, out, stride, len);
                }
                let mut y = vec![0.0; z.n * z.o * 4 * z.h * z.w];
                let phases = &phases[..];
                y.par_chunks_mut(4 * z.h * z.w).enumerate().for_each(|(i, y)| {
                    let p: [&[f32]; 4] = std::array::from_fn(|f| &phases[f * plane + i * stride..][..stride]);
                    blur_phases(p, z, flipped(fir), d[i], y);
                });
                y
            }
        }
    }

    fn forward_1x1(&self, z: Sizes, x: &[f32], s: &[f32], w: &[f32], d: &[f32]) -> Vec<f32> {
        let area = z.h * z.w;
        let mut y = vec![0.0; z.n * z.o * area];
        y.par_chunks_mut(z.o * area).zip(x.par_chunks(z.c * area)).enumerate().for_each(|(n, (y, x))| {
            let ws = self.modulated_weight(z, n, s, w, d);
            matmul((z.o, area, z.c), y, area, false, 1.0, Matrix::rows(&ws, z.c), Matrix::rows(x, area), true);
        });
        y
    }

    /// d[o] * scale * w[o][c] * s[c] of sample n, for kernels of 1.
    fn modulated_weight(&self, z: Sizes, n: usize, s: &[f32], w: &[f32], d: &[f32]) -> Vec<f32> {
        (0..z.o * z.c).map(|i| d[n * z.o + i / z.c] * self.scale * w[i] * s[n * z.c + i % z.c]).collect()
    }

    /// Gradients of x, s and w, empty where not needed; those of x and s come together.
    pub(crate) fn backward(&self, given: Given, y: &[f32]) -> [Vec<f32>; 3] {
        let Given { z, s, w, dy, need, .. } = given;
        let energy = self.energy(z, w);
        let d = self.norms(z, s, &energy);
        let [dx, mut ds, mut dw] = match z.k {
            1 => self.backward_1x1(given, &d),
            _ => self.backward_3x3(given, &d),
        };
        if self.demodulate && (need[1] || need[2]) {
            // y = d * u with u linear in x, so dL/dd = sum(dy * y) / d; and d = q^(-1/2), so dL/dq = -dL/dd * d^3 / 2.
            let area = y.len() / (z.n * z.o);
            let dq: Vec<f32> =
                y.par_chunks(area).zip(dy.par_chunks(area)).zip(&d).map(|((y, dy), d)| -0.5 * d * d * long_dot(y, dy) as f32).collect();
            if let Some(ds) = &mut ds {
                for n in 0..z.n {
                    for (o, e) in energy.chunks(z.c).enumerate() {
                        let f = 2.0 * dq[n * z.o + o];
                        for c in 0..z.c {
                            ds[n * z.c + c] += f * e[c] * s[n * z.c + c];
                        }
                    }
                }
            }
            if let Some(dw) = &mut dw {
                let kk = z.k * z.k;
                for o in 0..z.o {
                    for c in 0..z.c {
                        let f: f32 = (0..z.n).map(|n| dq[n * z.o + o] * s[n * z.c + c] * s[n * z.c + c]).sum();
                        let at = (o * z.c + c) * kk;
                        for (g, w) in dw[at..at + kk].iter_mut().zip(&w[at..at + kk]) {
                            *g += 2.0 * f * self.scale * self.scale * w;
                        }
                    }
                }
            }
        }
        let wanted = |i: usize, gradient: Option<Vec<f32>>| gradient.filter(|_| need[i]).unwrap_or_default();
        [wanted(0, dx), wanted(1, ds), wanted(2, dw)]
    }

    fn backward_3x3(&self, given: Given, d: &[f32]) -> Gradients {
        let Given { z, x, s, w, dy, need } = given;
        let pw = z.pw();
        let len = z.h * pw - 2;
        let at = |o: usize, c: usize, t: usize| w[(o * z.c + c) * 9 + t] * self.scale;
        // The gradient before the norm, in planes whose taps the input's gradient sums; tap t of the kernel reads at off[t].
        let (g, g_stride, off, packed) = match self.up {
            None => {
                let stride = z.padded();
                let mut g = Scratch::new(z.n * z.o * stride);
                pad(dy, |i| d[i], z.h, z.w, &mut g);
                let off: Vec<usize> = (0..9).map(|t| (2 - t / 3) * pw + 2 - t % 3).collect();
                (g, stride, off, Packed::new(z.c, z.o, 9, |c, o, t| at(o, c, t)))
            }
            Some(fir) => {
                let plane = (z.h + 2) * pw;
                let stride = 4 * plane + SLACK;
                let mut g = Scratch::new(z.n * z.o * stride);
                g.par_chunks_mut(stride).zip(dy.par_chunks(4 * z.h * z.w)).enumerate().for_each(|(i, (g, dy))| {
                    unblur_phases(dy, z, flipped(fir), d[i], g, plane);
                });
                let off: Vec<usize> = (0..9).map(|t| ((t / 3) % 2 * 2 + (t % 3) % 2) * plane + (t / 3) / 2 * pw + (t % 3) / 2).collect();
                (g, stride, off, Packed::new(z.c, z.o, 9, |c, o, t| at(o, c, t)))
            }
        };
        let g_planes = Planes { data: &g, stride: g_stride };
        let (mut dx, mut ds) = (None, None);
        if need[0] || need[1] {
            let stride = len + SLACK;
            let mut out = Scratch::new(z.n * z.c * stride);
            correlate(&packed, z.n, g_planes, &off, &mut out, stride, len);
            let area = z.h * z.w;
            let mut gx = vec![0.0; x.len()];
            let gs: Vec<f32> = gx
                .par_chunks_mut(area)
                .zip(x.par_chunks(area))
                .zip(out.par_chunks(stride))
                .with_min_len(4)
                .enumerate()
                .map(|(i, ((gx, x), out))| {
                    let mut sum = 0.0f64;
                    for ((gx, x), v) in gx.chunks_mut(z.w).zip(x.chunks(z.w)).zip(out.chunks(pw)) {
                        sum += long_dot(x, v);
                        for (gx, v) in gx.iter_mut().zip(v) {
                            *gx = v * s[i];
                        }
                    }
                    sum as f32
                })
                .collect();
            (dx, ds) = (Some(gx), Some(gs));
        }
        let dw = need[2].then(|| {
            let mut xp = Scratch::new(z.n * z.c * z.padded());
            pad(x, |i| s[i], z.h, z.w, &mut xp);
            let mut dw = match self.up {
                None => {
                    let taps: Vec<usize> = (0..9).map(|t| t / 3 * pw + t % 3).collect();
                    let a = Planes { data: &g[pw + 1..], stride: g_stride };
                    outer(z.n, z.o, z.c, a, Planes { data: &xp, stride: z.padded() }, &taps, len)
                }
                Some(_) => {
                    let a = Planes { data: &xp[pw + 1..], stride: z.padded() };
                    let swapped = outer(z.n, z.c, z.o, a, g_planes, &off, len);
                    let mut dw = vec![0.0; swapped.len()];
                    for c in 0..z.c {
                        for o in 0..z.o {
                            dw[(o * z.c + c) * 9..][..9].copy_from_slice(&swapped[(c * z.o + o) * 9..][..9]);
                        }
                    }
                    dw
                }
            };
            dw.iter_mut().for_each(|v| *v *= self.scale);
            dw
        });
        [dx, ds, dw]
    }

    fn backward_1x1(&self, given: Given, d: &[f32]) -> Gradients {
        let Given { z, x, s, w, dy, need } = given;
        let area = z.h * z.w;
        let mut dx = if need[0] { vec![0.0; x.len()] } else { vec![] };
        let mut ds = vec![0.0; z.n * z.c];
        let mut dw = vec![0.0; w.len()];
        let mut product = vec![0.0; z.o * z.c];
        for n in 0..z.n {
            let (x, dy) = (&x[n * z.c * area..][..z.c * area], &dy[n * z.o * area..][..z.o * area]);
            if need[0] {
                let ws = self.modulated_weight(z, n, s, w, d);
                let dx = &mut dx[n * z.c * area..][..z.c * area];
                matmul((z.c, area, z.o), dx, area, false, 1.0, Matrix::rows(&ws, z.c).transposed(), Matrix::rows(dy, area), true);
            }
            if need[1] || need[2] {
                let x = Matrix::rows(x, area).transposed();
                matmul((z.o, z.c, area), &mut product, z.c, false, 1.0, Matrix::rows(dy, area), x, true);
                for o in 0..z.o {
                    for c in 0..z.c {
                        let p = product[o * z.c + c] * d[n * z.o + o] * self.scale;
                        dw[o * z.c + c] += p * s[n * z.c + c];
                        ds[n * z.c + c] += p * w[o * z.c + c];
                    }
                }
            }
        }
        [need[0].then_some(dx), need[1].then_some(ds), need[2].then_some(dw)]
    }
}

/// Convolution turns the kernel round.
fn flipped(fir: [f32; 4]) -> [f32; 4] {
    [fir[3], fir[2], fir[1], fir[0]]
}

/// The transposed convolution's result T, (2h + 1) x (2w + 1), is given as planes by the parity of row and column, rows of w + 2;
/// blurs it with one zero around and writes 2h x 2w, times `factor`. `g[k]` multiplies T[i - 1 + k].
fn blur_phases(p: [&[f32]; 4], z: Sizes, g: [f32; 4], factor: f32, y: &mut [f32]) {
    let pw = z.pw();
    let zeros = vec![0.0; pw];
    let mut even = [vec![0.0; pw], vec![0.0; pw]];
    let mut odd = [vec![0.0; pw], vec![0.0; pw]];
    let g_v = g.map(|v| v * factor);
    for r in 0..z.h {
        for b in 0..2 {
            // Rows 2r - 1, 2r, 2r + 1, 2r + 2, 2r + 3 of T at columns of parity b; what lies outside is zero.
            let row = |a: usize, y: usize| &p[a * 2 + b][y * pw..][..pw];
            let above = if r == 0 { &zeros[..] } else { row(1, r - 1) };
            let (e0, o0) = (row(0, r), row(1, r));
            let e1 = row(0, r + 1);
            let below = if r + 1 < z.h { row(1, r + 1) } else { &zeros[..] };
            for x in 0..=z.w {
                even[b][x] = g_v[0] * above[x] + g_v[1] * e0[x] + g_v[2] * o0[x] + g_v[3] * e1[x];
                odd[b][x] = g_v[0] * e0[x] + g_v[1] * o0[x] + g_v[2] * e1[x] + g_v[3] * below[x];
            }
            if b == 1 {
                // T has no column 2w + 1.
                even[1][z.w] = 0.0;
                odd[1][z.w] = 0.0;
            }
        }
        for (half, rows) in [&even, &odd].into_iter().enumerate() {
            let (e, o) = (&rows[0][..z.w + 1], &rows[1][..z.w + 1]);
            let out = &mut y[(2 * r + half) * 2 * z.w..][..2 * z.w];
            out[0] = g[1] * e[0] + g[2] * o[0] + g[3] * e[1];
            out[1] = g[0] * e[0] + g[1] * o[0] + g[2] * e[1] + g[3] * o[1];
            for (x, pair) in out.chunks_exact_mut(2).enumerate().skip(1) {
                pair[0] = g[0] * o[x - 1] + g[1] * e[x] + g[2] * o[x] + g[3] * e[x + 1];
                pair[1] = g[0] * e[x] + g[1] * o[x] + g[2] * e[x + 1] + g[3] * o[x + 1];
            }
        }
    }
}

/// The transpose of [`blur_phases`]: from the gradient of the result to that of the planes, with zeros wherever T has nothing.
fn unblur_phases(dy: &[f32], z: Sizes, g: [f32; 4], factor: f32, out: &mut [f32], plane: usize) {
    let pw = z.pw();
    let (h, w) = (z.h, z.w);
    out.fill(0.0);
    let g_v = g.map(|v| v * factor);
    let zeros = vec![0.0; 2 * w];
    let mut rows = [vec![0.0; 2 * w], vec![0.0; 2 * w]];
    // One zero on each side stands for the columns outside.
    let (mut e, mut o) = (vec![0.0; w + 2], vec![0.0; w + 2]);
    for r in 0..=h {
        let row = |i: isize| if i < 0 || i >= 2 * h as isize { &zeros[..] } else { &dy[i as usize * 2 * w..][..2 * w] };
        let i = 2 * r as isize;
        let (b, c, d, f, a) = (row(i - 2), row(i - 1), row(i), row(i + 1), row(i + 2));
        for x in 0..2 * w {
            // dT[c] = sum over k of g[k] * dy[c + 1 - k], for rows c = 2r and 2r + 1.
            rows[0][x] = g_v[0] * f[x] + g_v[1] * d[x] + g_v[2] * c[x] + g_v[3] * b[x];
            rows[1][x] = g_v[0] * a[x] + g_v[1] * f[x] + g_v[2] * d[x] + g_v[3] * c[x];
        }
        for (half, row) in rows.iter().enumerate() {
            if half == 1 && r == h {
                continue; // T has no row 2h + 1.
            }
            for (x, pair) in row.chunks_exact(2).enumerate() {
                e[x + 1] = pair[0];
                o[x + 1] = pair[1];
            }
            let (left, right) = out[half * 2 * plane..].split_at_mut(plane);
            let (left, right) = (&mut left[r * pw..][..w + 1], &mut right[r * pw..][..w]);
            for (x, v) in left.iter_mut().enumerate() {
                *v = g[0] * o[x + 1] + g[1] * e[x + 1] + g[2] * o[x] + g[3] * e[x];
            }
            for (x, v) in right.iter_mut().enumerate() {
                *v = g[0] * e[x + 2] + g[1] * o[x + 1] + g[2] * e[x + 1] + g[3] * o[x];
            }
        }
    }
}
