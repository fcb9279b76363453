//! A transformer block: four products with packed weights ([`Dense`]), and what lies between them done while their rows are read and written.

use super::dense::{each, step, Biased, Dense, Finish, Rows, Target};
use super::norm::Norm;
use super::scratch::Scratch;
use super::simd::load;
use crate::kernels::attention::Attention;
use crate::kernels::Activation;
use pulp::Simd;

/// A linear layer.
pub(crate) struct Layer {
    pub weights: Dense,
    pub bias: Vec<f32>,
}

/// A layer normalisation.
pub(crate) struct Scale {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

pub(crate) struct Block {
    pub norm1: Scale,
    pub qkv: Layer,
    pub out: Layer,
    pub norm2: Scale,
    pub up: Layer,
    pub down: Layer,
    pub attention: Attention,
    pub activation: Activation,
    pub epsilon: f32,
}

/// What the gradient needs again.
pub(crate) struct Kept {
    /// [n, tokens, 3 d]
    qkv: Scratch,
    /// After attention, before the MLP: [n, queries, d].
    middle: Scratch,
    /// Before the activation: [n, queries, hidden].
    hidden: Scratch,
}

impl Block {
    fn norm<'a>(&self, scale: &'a Scale) -> Norm<'a> {
        Norm { gamma: &scale.gamma, beta: &scale.beta, epsilon: self.epsilon }
    }

    fn hidden(&self) -> usize {
        self.up.weights.outputs()
    }

    /// x [n, tokens, d] -> [n, queries, d], and with `keep` what the gradient needs; the size is (n, queries, tokens).
    pub(crate) fn forward(&self, x: &[f32], size: (usize, usize, usize), keep: bool) -> (Vec<f32>, Option<Kept>) {
        let (n, queries, tokens) = size;
        let (rows, asked) = (n * tokens, n * queries);
        let (width, hidden) = (self.attention.width, self.hidden());
        assert_eq!(x.len(), rows * width);
        let (narrow, wide) = (step(width), step(hidden));

        let mut normed = Scratch::new(rows * narrow);
        self.norm(&self.norm1).forward_to(x, &mut normed, narrow);
        let mut qkv = Scratch::new(rows * 3 * width);
        let out = Target::new(&mut qkv, 3 * width, rows, 3 * width);
        self.qkv.weights.forward(Rows { data: &normed, step: narrow, count: rows }, &Biased { bias: &self.qkv.bias, out });

        let mut attended = normed;
        self.attention.forward(&qkv, size, &mut attended, narrow);
        let mut middle = Scratch::new(asked * width);
        let residual = Residual { bias: &self.out.bias, from: x, size, width, out: Target::new(&mut middle, width, asked, width) };
        self.out.weights.forward(Rows { data: &attended, step: narrow, count: asked }, &residual);

        let mut normed = attended;
        self.norm(&self.norm2).forward_to(&middle, &mut normed, narrow);
        let mut activated = Scratch::new(asked * wide);
        let mut before = Scratch::new(if keep { asked * hidden } else { 0 });
        let up = Rows { data: &normed, step: narrow, count: asked };
        let to = Target::new(&mut activated, wide, asked, hidden);
        let kept = keep.then(|| Target::new(&mut before, hidden, asked, hidden));
        let bias = &self.up.bias[..];
        match self.activation {
            Activation::QuickGelu => self.up.weights.forward(up, &Activated { bias, kept, to, f: |x| Activation::QuickGelu.value(x) }),
            Activation::Gelu => self.up.weights.forward(up, &Activated { bias, kept, to, f: |x| Activation::Gelu.value(x) }),
            Activation::GeluTanh => self.up.weights.forward(up, &Activated { bias, kept, to, f: |x| Activation::GeluTanh.value(x) }),
        }

        let mut result = vec![0.0; asked * width];
        let out = Target::new(&mut result, width, asked, width);
        let residual = Residual { bias: &self.down.bias, from: &middle, size: (n, queries, queries), width, out };
        self.down.weights.forward(Rows { data: &activated, step: wide, count: asked }, &residual);
        (result, keep.then_some(Kept { qkv, middle, hidden: before }))
    }

    /// Gradient of x, given that of the result [n, queries, d].
    pub(crate) fn backward(&self, x: &[f32], kept: &Kept, gradient: &[f32], size: (usize, usize, usize)) -> Vec<f32> {
        let (n, queries, tokens) = size;
        let (rows, asked) = (n * tokens, n * queries);
        let (width, hidden) = (self.attention.width, self.hidden());
        assert!(x.len() == rows * width && gradient.len() == asked * width);
        let (narrow, wide) = (step(width), step(hidden));

        let mut middle = Scratch::new(asked * narrow);
        for (to, from) in middle.chunks_exact_mut(narrow).zip(gradient.chunks_exact(width)) {
            to[..width].copy_from_slice(from);
        }
        let mut mlp = Scratch::new(asked * wide);
        let down = Rows { data: &middle, step: narrow, count: asked };
        let (to, at) = (Target::new(&mut mlp, wide, asked, hidden), &kept.hidden[..]);
        match self.activation {
            Activation::QuickGelu => self.down.weights.backward(down, &Sloped { at, hidden, to, f: |x| Activation::QuickGelu.slope(x) }),
            Activation::Gelu => self.down.weights.backward(down, &Sloped { at, hidden, to, f: |x| Activation::Gelu.slope(x) }),
            Activation::GeluTanh => self.down.weights.backward(down, &Sloped { at, hidden, to, f: |x| Activation::GeluTanh.slope(x) }),
        }
        let mut some = Scratch::new(rows * width);
        let product = |weights: &Dense, g: &[f32], step: usize, count: usize, some: &mut [f32]| {
            weights.backward(Rows { data: g, step, count }, &Target::new(some, width, count, width));
        };
        product(&self.up.weights, &mlp, wide, asked, &mut some);
        drop(mlp);
        self.norm(&self.norm2).backward_to(&kept.middle, &some[..asked * width], &mut middle, narrow);

        product(&self.out.weights, &middle, narrow, asked, &mut some);
        let packed = step(3 * width);
        let mut qkv = Scratch::new(rows * packed);
        self.attention.backward(&kept.qkv, &some[..asked * width], size, &mut qkv, packed);
        product(&self.qkv.weights, &qkv, packed, rows, &mut some);

        let mut result = vec![0.0; rows * width];
        // The residual's own gradient reaches only the tokens that asked.
        for (i, from) in middle.chunks_exact(narrow).enumerate() {
            result[(i / queries * tokens + i % queries) * width..][..width].copy_from_slice(&from[..width]);
        }
        self.norm(&self.norm1).backward(x, &some, &mut result);
        result
    }
}

/// The sums plus a bias and what the layer is added to: the first `queries` of `tokens` rows of each sample.
struct Residual<'a> {
    bias: &'a [f32],
    /// [n, tokens, width]
    from: &'a [f32],
    /// (n, queries, tokens)
    size: (usize, usize, usize),
    width: usize,
    out: Target,
}

impl Finish for Residual<'_> {
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, simd: S, row: usize, column: usize, v: S::f32s) {
        let (_, queries, tokens) = self.size;
        let from = if queries == tokens { row } else { row / queries * tokens + row % queries };
        let x = load::<S>(self.from.as_ptr().add(from * self.width + column));
        let v = simd.add_f32s(v, load::<S>(self.bias.as_ptr().add(column)));
        self.out.store::<S>(row, column, simd.add_f32s(x, v));
    }
}

/// An activation of the sums plus a bias, which are kept too.
struct Activated<'a, F> {
    bias: &'a [f32],
    kept: Option<Target>,
    to: Target,
    f: F,
}

impl<F: Fn(f32) -> f32 + Sync> Finish for Activated<'_, F> {
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, simd: S, row: usize, column: usize, v: S::f32s) {
        let v = simd.add_f32s(v, load::<S>(self.bias.as_ptr().add(column)));
        if let Some(kept) = &self.kept {
            kept.store::<S>(row, column, v);
        }
        self.to.store::<S>(row, column, each::<S>(v, &self.f));
    }
}

/// The sums times the activation's slope.
struct Sloped<'a, F> {
    /// Where the slope is taken, [rows, hidden].
    at: &'a [f32],
    hidden: usize,
    to: Target,
    f: F,
}

impl<F: Fn(f32) -> f32 + Sync> Finish for Sloped<'_, F> {
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, simd: S, row: usize, column: usize, v: S::f32s) {
        let at = load::<S>(self.at.as_ptr().add(row * self.hidden + column));
        self.to.store::<S>(row, column, simd.mul_f32s(v, each::<S>(at, &self.f)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::noise;
    use crate::kernels::cpu::simd::at_each_level;

    fn wide(v: &[f32]) -> Vec<f64> {
        v.iter().map(|v| f64::from(*v)).collect()
    }

    type Pair = (Vec<f32>, Vec<f32>);

    struct Case {
        width: usize,
        heads: usize,
        hidden: usize,
        causal: bool,
        activation: Activation,
    }

    const EPSILON: f32 = 1e-5;

    impl Case {
        /// Weights [outputs, inputs] and bias of the products, in their order; then scale and shift of the norms.
        fn parts(&self) -> ([Pair; 4], [Pair; 2]) {
            let (d, h) = (self.width, self.hidden);
            let layer = |outputs: usize, inputs: usize, seed: u64| {
                let scale = 1.0 / (inputs as f32).sqrt();
                (noise(outputs * inputs, seed).iter().map(|w| w * scale).collect(), noise(outputs, seed + 10))
            };
            let norm = |seed| (noise(d, seed), noise(d, seed + 10));
            ([layer(3 * d, d, 1), layer(d, d, 2), layer(h, d, 3), layer(d, h, 4)], [norm(5), norm(6)])
        }

        fn block(&self) -> Block {
            let (layers, norms) = self.parts();
            let [qkv, out, up, down] = layers.map(|(w, bias)| {
                let inputs = w.len() / bias.len();
                Layer { weights: Dense::new(&w, bias.len(), inputs), bias }
            });
            let [norm1, norm2] = norms.map(|(gamma, beta)| Scale { gamma, beta });
            let attention = Attention { heads: self.heads, width: self.width, causal: self.causal };
            Block { norm1, qkv, out, norm2, up, down, attention, activation: self.activation, epsilon: EPSILON }
        }

        /// The definition for one sample's x [tokens, width].
        fn plain(&self, x: &[f64]) -> Vec<f64> {
            let ([qkv, out, up, down], [norm1, norm2]) = self.parts();
            let (d, tokens) = (self.width, x.len() / self.width);
            let dense = |x: &[f64], (w, bias): &Pair| -> Vec<f64> {
                let inputs = w.len() / bias.len();
                let row = |x: &[f64]| {
                    let sum = |(w, b): (&[f32], &f32)| f64::from(*b) + w.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
                    w.chunks(inputs).zip(bias).map(sum).collect::<Vec<_>>()
                };
                x.chunks(inputs).flat_map(row).collect()
            };
            let norm = |x: &[f64], (gamma, beta): &Pair| -> Vec<f64> {
                let row = |x: &[f64]| {
                    let mean = x.iter().sum::<f64>() / d as f64;
                    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d as f64;
                    let scale = 1.0 / (variance + f64::from(EPSILON)).sqrt();
                    (0..d).map(|i| (x[i] - mean) * scale * f64::from(gamma[i]) + f64::from(beta[i])).collect::<Vec<_>>()
                };
                x.chunks(d).flat_map(row).collect()
            };
            let add = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>();
            let packed = dense(&norm(x, &norm1), &qkv);
            let each = d / self.heads;
            let mut attended = vec![0.0; tokens * d];
            for head in 0..self.heads {
                let at = |part: usize, t: usize, i: usize| packed[t * 3 * d + part * d + head * each + i];
                for q in 0..tokens {
                    let seen = if self.causal { q + 1 } else { tokens };
                    let along = |t: usize| (0..each).map(|i| at(0, q, i) * at(1, t, i)).sum::<f64>() / (each as f64).sqrt();
                    let p: Vec<f64> = (0..seen).map(|t| along(t).exp()).collect();
                    let sum: f64 = p.iter().sum();
                    for i in 0..each {
                        attended[q * d + head * each + i] = (0..seen).map(|t| p[t] * at(2, t, i)).sum::<f64>() / sum;
                    }
                }
            }
            let middle = add(x, &dense(&attended, &out));
            let activated: Vec<f64> = dense(&norm(&middle, &norm2), &up).into_iter().map(|x| self.activated(x)).collect();
            add(&middle, &dense(&activated, &down))
        }

        fn activated(&self, x: f64) -> f64 {
            match self.activation {
                Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
                Activation::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
                // Phi by Simpson's rule from 0 in 100 steps.
                Activation::Gelu => {
                    let step = x / 100.0;
                    let density = |t: f64| (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
                    let weight = |i: usize| if i == 0 || i == 100 { 1.0 } else { [2.0, 4.0][i % 2] };
                    x * (0.5 + step / 3.0 * (0..=100).map(|i| weight(i) * density(i as f64 * step)).sum::<f64>())
                }
            }
        }
    }

    /// A block and its gradient against the definition in f64 at every vector width; the gradient at some places, as differences of the
    /// definition over 2e-5, which are exact to 1e-8.
    #[test]
    fn blocks_are_their_definition() {
        use Activation::{Gelu, GeluTanh, QuickGelu};
        let case = |width, heads, hidden, causal, activation| Case { width, heads, hidden, causal, activation };
        for (n, queries, tokens, case) in [
            (2, 50, 50, case(64, 4, 256, false, QuickGelu)),
            (1, 1, 197, case(96, 6, 64, false, Gelu)),
            (3, 7, 7, case(20, 5, 36, true, GeluTanh)),
            (2, 3, 7, case(12, 3, 600, true, Gelu)),
        ] {
            let (block, size) = (case.block(), (n, queries, tokens));
            let (per, asked) = (tokens * case.width, queries * case.width);
            let (x, g) = (noise(n * per, 7), noise(n * asked, 8));
            let plain = |i: usize, x: &[f64]| -> Vec<f64> {
                let y = case.plain(x);
                y[..asked].iter().zip(&g[i * asked..]).map(|(y, g)| y * f64::from(*g)).collect()
            };
            let want: Vec<f64> = x.chunks(per).flat_map(|x| case.plain(&wide(x))[..asked].to_vec()).collect();
            let places: Vec<usize> = (0..12).map(|i| (i * 7919 + 5) % (n * per)).collect();
            let slope = |place: usize| {
                let (i, at) = (place / per, place % per);
                let moved = |by: f64| {
                    let mut x = wide(&x[i * per..][..per]);
                    x[at] += by;
                    plain(i, &x).iter().sum::<f64>()
                };
                (moved(1e-5) - moved(-1e-5)) / 2e-5
            };
            let slopes: Vec<f64> = places.iter().map(|&p| slope(p)).collect();
            at_each_level(|level| {
                let near = |what: &str, got: f32, want: f64, most: f64| {
                    assert!((f64::from(got) - want).abs() < most, "{what}, {level}, {size:?}, width {}: {got} is not {want}", case.width);
                };
                let (y, kept) = block.forward(&x, size, true);
                // Numbers of size 1 to 10 that went through four products: 2^-24 of them, some hundred times.
                y.iter().zip(&want).for_each(|(y, want)| near("y", *y, *want, 5e-5));
                assert_eq!(y, block.forward(&x, size, false).0);
                let dx = block.backward(&x, &kept.unwrap(), &g, size);
                places.iter().zip(&slopes).for_each(|(p, want)| near("dx", dx[*p], *want, 2e-4));
            });
        }
    }
}
