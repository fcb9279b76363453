//! The embedding of a picture's patches: one product from the picture to the tokens, and back.

use super::conv::Shared;
use super::dense::{step, Dense, Finish, Rows, Target};
use super::norm::Norm;
use super::scratch::Scratch;
use super::simd::{load, store};
use super::transformer::Scale;
use pulp::Simd;
use rayon::prelude::*;

/// Where patches lie in pictures [n, channels, height, width]; rows and columns beyond the last whole patch belong to none.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    pub n: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub patch: usize,
}

impl Grid {
    fn columns(&self) -> usize {
        self.width / self.patch
    }

    /// Of a picture.
    pub(crate) fn patches(&self) -> usize {
        self.height / self.patch * self.columns()
    }

    /// Numbers of a patch: [channels][patch][patch].
    pub(crate) fn numbers(&self) -> usize {
        self.channels * self.patch * self.patch
    }

    /// Of the pictures.
    fn all(&self) -> usize {
        self.n * self.channels * self.height * self.width
    }

    /// Where in the pictures number `i` of patch `row` of all is; those behind it in the same line of the patch follow it.
    #[inline(always)]
    fn place(&self, row: usize, i: usize) -> usize {
        let (n, at) = (row / self.patches(), row % self.patches());
        let (c, y, x) = (i / (self.patch * self.patch), i / self.patch % self.patch, i % self.patch);
        let (y, x) = (at / self.columns() * self.patch + y, at % self.columns() * self.patch + x);
        ((n * self.channels + c) * self.height + y) * self.width + x
    }
}

pub(crate) struct Embedding {
    /// [d, numbers of a patch]
    pub weights: Dense,
    /// [d]: the token before a picture's patches.
    pub class: Vec<f32>,
    /// [1 + patches, d]
    pub position: Vec<f32>,
    pub norm: Option<Scale>,
    pub epsilon: f32,
}

impl Embedding {
    fn norm(&self) -> Option<Norm<'_>> {
        self.norm.as_ref().map(|s| Norm { gamma: &s.gamma, beta: &s.beta, epsilon: self.epsilon })
    }

    fn product<F: Finish>(&self, pictures: &[f32], grid: Grid, finish: &F) {
        let (count, numbers) = (grid.n * grid.patches(), grid.numbers());
        assert_eq!(pictures.len(), grid.all());
        let step = step(numbers);
        let mut rows = Scratch::new(count * step);
        rows.par_chunks_mut(step).enumerate().with_min_len(16).for_each(|(row, to)| {
            for (line, to) in to[..numbers].chunks_exact_mut(grid.patch).enumerate() {
                to.copy_from_slice(&pictures[grid.place(row, line * grid.patch)..][..grid.patch]);
            }
        });
        self.weights.forward(Rows { data: &rows, step, count }, finish);
    }

    /// The patches' products with the weights alone, [n, patches, d].
    pub(crate) fn convolution(&self, pictures: &[f32], grid: Grid) -> Vec<f32> {
        let (count, d) = (grid.n * grid.patches(), self.class.len());
        let mut out = vec![0.0; count * d];
        self.product(pictures, grid, &Target::new(&mut out, d, count, d));
        out
    }

    /// Tokens [n, 1 + patches, d], and with `keep` what they were before the norm, where there is one.
    pub(crate) fn forward(&self, pictures: &[f32], grid: Grid, keep: bool) -> (Vec<f32>, Option<Scratch>) {
        let (d, tokens) = (self.class.len(), 1 + grid.patches());
        let mut out = vec![0.0; grid.n * tokens * d];
        for sample in out.chunks_exact_mut(tokens * d) {
            sample.iter_mut().zip(self.class.iter().zip(&self.position)).for_each(|(out, (class, position))| *out = class + position);
        }
        let positions = &self.position[..tokens * d];
        self.product(pictures, grid, &Positioned { positions, d, out: Target::new(&mut out, d, grid.n * tokens, d) });
        let Some(norm) = self.norm() else { return (out, None) };
        let mut before = Scratch::new(out.len());
        before.copy_from_slice(&out);
        norm.forward(&before, &mut out);
        (out, keep.then_some(before))
    }

    /// Gradient of the pictures, given that of the tokens.
    pub(crate) fn backward(&self, before: Option<&[f32]>, gradient: &[f32], grid: Grid) -> Vec<f32> {
        let (d, patches) = (self.class.len(), grid.patches());
        assert_eq!(gradient.len(), grid.n * (1 + patches) * d);
        let step = step(d);
        let mut rows = Scratch::new(grid.n * patches * step);
        for (i, rows) in rows.chunks_exact_mut((patches * step).max(1)).enumerate() {
            // The class token comes from no picture.
            let of = (i * (1 + patches) + 1) * d..(i + 1) * (1 + patches) * d;
            match (self.norm(), before) {
                (Some(norm), Some(before)) => {
                    rows.fill(0.0);
                    norm.backward_to(&before[of.clone()], &gradient[of], rows, step);
                }
                _ => rows.chunks_exact_mut(step).zip(gradient[of].chunks_exact(d)).for_each(|(to, g)| to[..d].copy_from_slice(g)),
            }
        }
        let mut out = vec![0.0; grid.all()];
        let pictures = Pictures { grid, out: Shared(out.as_mut_ptr()) };
        self.weights.backward(Rows { data: &rows, step, count: grid.n * patches }, &pictures);
        out
    }
}

/// The sums plus the token's position, behind each picture's class token.
struct Positioned<'a> {
    /// [1 + patches, d]
    positions: &'a [f32],
    d: usize,
    out: Target,
}

impl Finish for Positioned<'_> {
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, simd: S, row: usize, column: usize, v: S::f32s) {
        let patches = self.positions.len() / self.d - 1;
        let token = 1 + row % patches;
        let position = load::<S>(self.positions.as_ptr().add(token * self.d + column));
        self.out.store::<S>(row / patches * (1 + patches) + token, column, simd.add_f32s(v, position));
    }
}

/// The sums where the patch's numbers lie in pictures.
struct Pictures {
    grid: Grid,
    out: Shared,
}

impl Finish for Pictures {
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, _: S, row: usize, column: usize, v: S::f32s) {
        if column % self.grid.patch + S::F32_LANES <= self.grid.patch {
            return store::<S>(self.out.at(self.grid.place(row, column)), v);
        }
        let mut lanes = [0.0; super::micro::PANEL];
        store::<S>(lanes.as_mut_ptr(), v);
        for (i, v) in lanes[..S::F32_LANES].iter().enumerate() {
            *self.out.at(self.grid.place(row, column + i)) = *v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::noise;
    use crate::kernels::cpu::simd::at_each_level;

    /// Without a norm: the strided convolution and its gradient in f64, for pictures with a rest beside the patches. With one: as the norm's
    /// own operation after that.
    #[test]
    fn embedding_is_its_definition() {
        for (n, height, width, patch, d) in [(2, 70, 64, 32, 64), (1, 64, 48, 16, 20), (3, 45, 31, 14, 96), (2, 9, 7, 3, 7)] {
            let grid = Grid { n, channels: 3, height, width, patch };
            let (patches, numbers) = (grid.patches(), grid.numbers());
            let tokens = 1 + patches;
            let w: Vec<f32> = noise(d * numbers, 1).iter().map(|w| w / (numbers as f32).sqrt()).collect();
            let (class, position) = (noise(d, 2), noise(tokens * d, 3));
            let (x, g) = (noise(n * 3 * height * width, 4), noise(n * tokens * d, 5));
            let (mut y, mut dx) = (vec![0f64; n * tokens * d], vec![0f64; x.len()]);
            for i in 0..n {
                for t in 0..tokens {
                    for o in 0..d {
                        let at = (i * tokens + t) * d + o;
                        y[at] = f64::from(position[t * d + o]);
                        if t == 0 {
                            y[at] += f64::from(class[o]);
                            continue;
                        }
                        let (row, column) = ((t - 1) / (width / patch), (t - 1) % (width / patch));
                        for c in 0..3 {
                            for p in 0..patch * patch {
                                let pixel = (row * patch + p / patch) * width + column * patch + p % patch;
                                let (from, w) = ((i * 3 + c) * height * width + pixel, f64::from(w[o * numbers + c * patch * patch + p]));
                                y[at] += f64::from(x[from]) * w;
                                dx[from] += f64::from(g[at]) * w;
                            }
                        }
                    }
                }
            }
            let embedding = |norm| Embedding {
                weights: Dense::new(&w, d, numbers),
                class: class.clone(),
                position: position.clone(),
                norm,
                epsilon: 1e-5,
            };
            let plain = embedding(None);
            let scale = || Scale { gamma: noise(d, 6), beta: noise(d, 7) };
            let normed = embedding(Some(scale()));
            at_each_level(|level| {
                // Sums of size 1 of up to 3072 products.
                let near = |what: &str, got: &[f32], want: &[f64]| {
                    assert_eq!(got.len(), want.len());
                    let worst = got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                    assert!(worst < 2e-5, "{what}, {level}, {height} x {width} by {patch}: {worst:e}");
                };
                let (got, before) = plain.forward(&x, grid, true);
                assert!(before.is_none());
                near("y", &got, &y);
                near("dx", &plain.backward(None, &g, grid), &dx);
                let (out, before) = normed.forward(&x, grid, true);
                let before = before.unwrap();
                assert_eq!(before[..], got[..]);
                let Scale { gamma, beta } = scale();
                let norm = Norm { gamma: &gamma, beta: &beta, epsilon: 1e-5 };
                let (mut want, mut inner) = (vec![0.0; out.len()], vec![0.0; out.len()]);
                norm.forward(&got, &mut want);
                assert_eq!(out, want);
                norm.backward(&got, &g, &mut inner);
                assert_eq!(normed.backward(Some(&before), &g, grid), plain.backward(None, &inner, grid));
            });
        }
    }
}
