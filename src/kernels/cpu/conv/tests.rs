//! Each convolution and each of its gradients against the definition in f64, at every vector width.

use super::*;
use crate::kernels::cpu::noise;
use crate::kernels::cpu::simd::at_each_level;

const BLUR: [f32; 4] = [0.3, 0.7, 0.8, 0.2];

/// A convolution's inputs, weights [k][c][3][3] and what its sums are multiplied with in the end.
struct Case {
    n: usize,
    h: usize,
    w: usize,
    c: usize,
    k: usize,
    up: bool,
}

impl Case {
    fn sides(&self) -> (usize, usize) {
        if self.up {
            (2 * self.h, 2 * self.w)
        } else {
            (self.h, self.w)
        }
    }

    /// Calls `f` with (input pixel, output pixel, tap, weight of the tap).
    fn terms(&self, mut f: impl FnMut(usize, usize, usize, f64)) {
        let (oh, ow) = self.sides();
        for y in 0..self.h as isize {
            for x in 0..self.w as isize {
                for t in 0..9isize {
                    let (ky, kx) = (t / 3, t % 3);
                    let from = (y as usize) * self.w + x as usize;
                    if !self.up {
                        let (oy, ox) = (y + 1 - ky, x + 1 - kx);
                        if oy >= 0 && ox >= 0 && (oy as usize) < oh && (ox as usize) < ow {
                            f(from, oy as usize * ow + ox as usize, t as usize, 1.0);
                        }
                        continue;
                    }
                    // The transposed convolution's place, and the four by four that the blur spreads it over.
                    let (ty, tx) = (2 * y + ky, 2 * x + kx);
                    for i in 0..4isize {
                        for j in 0..4isize {
                            let (oy, ox) = (ty - 2 + i, tx - 2 + j);
                            if oy >= 0 && ox >= 0 && (oy as usize) < oh && (ox as usize) < ow {
                                let factor = f64::from(BLUR[i as usize]) * f64::from(BLUR[j as usize]);
                                f(from, oy as usize * ow + ox as usize, t as usize, factor);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The largest difference, in units of the root mean square of what is right.
fn error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().all(|v| v.is_finite()), "not all was written");
    let rms = (want.iter().map(|v| v * v).sum::<f64>() / want.len() as f64).sqrt();
    got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max) / rms
}

/// Sums of a few thousand products, each rounded to 2^-24: 1e-5 of their size is twice what was seen. Winograd's F(4, 3) loses ten times as much;
/// F(3, 2), whose points are 0, 1 and -1, nothing.
fn check(case: Case, winograd: bool) {
    let Case { n, h, w, c, k, up: doubles } = case;
    let (oh, ow) = case.sides();
    let (x, wt, s) = (noise(n * h * w * c, 1), noise(k * c * 9, 2), noise(n * c, 3));
    let (d, g) = (noise(n * k, 4), noise(n * oh * ow * k, 5));
    let (mut y, mut dx, mut dw) = (vec![0f64; n * oh * ow * k], vec![0f64; n * h * w * c], vec![0f64; k * c * 9]);
    for b in 0..n {
        case.terms(|from, to, t, factor| {
            for o in 0..k {
                for i in 0..c {
                    let (at, out) = ((b * h * w + from) * c + i, (b * oh * ow + to) * k + o);
                    let weight = f64::from(wt[(o * c + i) * 9 + t]) * factor;
                    let (style, norm) = (f64::from(s[b * c + i]), f64::from(d[b * k + o]));
                    y[out] += f64::from(x[at]) * style * weight * norm;
                    dx[at] += f64::from(g[out]) * norm * weight;
                    dw[(o * c + i) * 9 + t] += f64::from(x[at]) * style * f64::from(g[out]) * norm * factor;
                }
            }
        });
    }
    let mut ds = vec![0f64; n * c];
    for b in 0..n {
        for p in 0..h * w {
            for i in 0..c {
                let at = (b * h * w + p) * c + i;
                ds[b * c + i] += dx[at] * f64::from(x[at]);
                dx[at] *= f64::from(s[b * c + i]);
            }
        }
    }
    let (map, gradient) = (Map::new(&x, n, h, w, c), Map::new(&g, n, oh, ow, k));
    let forward = Panels::new(&wt, k, c, 9);
    let back = Panels::back(&wt, k, c, 9, !doubles);
    let factor = padded(&d, k);
    let style = padded(&s, c);
    let (bias, area, channels) = (vec![], oh * ow, k.next_multiple_of(PANEL));
    let finish = Styled { factor: &factor, bias: &bias, noise: &[], strength: 0.0, area, channels, activate: false, clamp: None };
    let tolerance = if winograd && !doubles { 1e-4 } else { 1e-5 };
    at_each_level(|level| {
        let near = |what: &str, got: &[f32], want: &[f64]| {
            let e = error(got, want);
            assert!(e < tolerance, "{what}, {level}, {n} x {h} x {w}, {c} to {k}, up {doubles}, winograd {winograd}: {e:e}");
        };
        let mut got = vec![f32::NAN; y.len()];
        match (doubles, winograd) {
            (true, true) => WinogradUp::there(&forward, false).run(map, &s, BLUR, &finish, &mut got),
            (true, false) => up(map, &s, &forward, BLUR, &finish, &mut got),
            (false, true) => Winograd::new(&forward, false).correlate(map, &s, &finish, &mut got),
            (false, false) => correlate(map, &s, &forward, &finish, &mut got),
        }
        near("forward", &got, &y);
        let parts = match (doubles, winograd) {
            (true, true) => up_winograd::parts_back(h, w, k),
            (true, false) => up::parts_back(h, w, k),
            (false, true) => winograd::parts(h, w, k, c),
            (false, false) => direct::parts(h, w),
        };
        let mut sums = Sums::new(n, parts, c.next_multiple_of(PANEL));
        let mut got = vec![f32::NAN; dx.len()];
        {
            let finish = Scaled::new(&style, map, &mut sums);
            match (doubles, winograd) {
                (true, true) => WinogradUp::back(&back, true).run(gradient, &d, BLUR, &finish, &mut got),
                (true, false) => up_back(gradient, &d, &back, BLUR, &finish, &mut got),
                (false, true) => Winograd::new(&back, true).correlate(gradient, &d, &finish, &mut got),
                (false, false) => correlate(gradient, &d, &back, &finish, &mut got),
            }
        }
        near("input gradient", &got, &dx);
        near("style gradient", &sums.totals(c), &ds);
        let mut got = vec![0.0; 9 * k.next_multiple_of(PANEL) * c];
        match (doubles, winograd) {
            (true, true) => up_winograd::weight_gradient(map, &s, gradient, &d, BLUR, &mut got),
            (false, true) => winograd::weight_gradient(map, &s, gradient, &d, &mut got),
            (_, false) => weight_gradient(map, &s, gradient, &d, if doubles { Kind::Up(BLUR) } else { Kind::Plain }, &mut got),
        }
        near("weight gradient", &unpacked(&got, k, c, 9, 1.0), &dw);
    });
}

#[test]
fn convolutions_are_their_definition() {
    for up in [false, true] {
        check(Case { n: 1, h: 1, w: 1, c: 1, k: 1, up }, false);
        check(Case { n: 2, h: 4, w: 4, c: 48, k: 32, up }, false);
        check(Case { n: 2, h: 5, w: 7, c: 3, k: 17, up }, false);
        check(Case { n: 1, h: 35, w: 33, c: 13, k: 5, up }, false);
        check(Case { n: 1, h: 34, w: 3, c: 20, k: 144, up }, false);
    }
}

#[test]
fn winograd_is_near_the_definition() {
    check(Case { n: 2, h: 8, w: 8, c: 32, k: 48, up: false }, true);
    check(Case { n: 1, h: 9, w: 15, c: 64, k: 32, up: false }, true);
    check(Case { n: 1, h: 61, w: 10, c: 32, k: 80, up: false }, true);
    check(Case { n: 1, h: 8, w: 8, c: 512, k: 32, up: false }, true);
}

#[test]
fn winograd_up_is_near_the_definition() {
    let case = |n, h, w, c, k| check(Case { n, h, w, c, k, up: true }, true);
    case(2, 8, 8, 32, 48);
    case(1, 9, 15, 64, 32);
    // More than one tile each way, whose sides are no multiples of three.
    case(1, 13, 35, 144, 32);
    case(1, 34, 37, 32, 48);
    case(1, 10, 98, 32, 32);
    case(1, 8, 8, 512, 32);
}

#[test]
fn points_are_products() {
    let (n, h, w, c, colours) = (2, 9, 7, 21, 3);
    let (x, weights, bias) = (noise(n * h * w * c, 1), noise(n * c * PANEL, 2), [0.5, -1.0, 0.25]);
    let mut want = vec![0f64; n * colours * h * w];
    for (i, want) in want.iter_mut().enumerate() {
        let (b, o, p) = (i / (colours * h * w), i / (h * w) % colours, i % (h * w));
        let term = |j: usize| f64::from(x[(b * h * w + p) * c + j]) * f64::from(weights[(b * c + j) * PANEL + o]);
        *want = f64::from(bias[o]) + (0..c).map(term).sum::<f64>();
    }
    at_each_level(|level| {
        let mut got = vec![f32::NAN; want.len()];
        points(Map::new(&x, n, h, w, c), &weights, colours, &bias, &mut got);
        assert!(error(&got, &want) < 1e-5, "{level}");
    });
}

#[test]
fn the_way_out_of_a_layer() {
    let (n, h, w, c, k) = (2, 3, 5, 4, 21);
    let (x, wt, ones, d) = (noise(n * h * w * c, 1), noise(k * c * 9, 2), vec![1.0; n * c], noise(n * k, 3));
    let panels = Panels::new(&wt, k, c, 9);
    let mut sums = vec![0.0; n * h * w * k];
    correlate(Map::new(&x, n, h, w, c), &ones, &panels, &Unchanged, &mut sums);
    let (bias, factor) = (noise(k, 4), padded(&d, k));
    for maps in [0, 1, n] {
        let noise = noise(maps * h * w, 5);
        let (wide, channels) = (padded(&bias, k), k.next_multiple_of(PANEL));
        let finish =
            Styled { factor: &factor, bias: &wide, noise: &noise, strength: 0.5, area: h * w, channels, activate: true, clamp: Some(1.5) };
        at_each_level(|level| {
            let mut got = vec![f32::NAN; sums.len()];
            correlate(Map::new(&x, n, h, w, c), &ones, &panels, &finish, &mut got);
            for (i, (got, sum)) in got.iter().zip(&sums).enumerate() {
                let (b, p, o) = (i / (h * w * k), i / k % (h * w), i % k);
                let added = if maps == 0 { 0.0 } else { 0.5 * noise[if maps == 1 { p } else { b * h * w + p }] };
                let v = sum * d[b * k + o] + added + bias[o];
                let want = (if v > 0.0 { v } else { 0.2 * v } * std::f32::consts::SQRT_2).clamp(-1.5, 1.5);
                // One rounding more or less.
                assert!((got - want).abs() < 1e-5, "{level}: {got} {want}");
            }
        });
    }
}
