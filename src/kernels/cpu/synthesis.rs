//! A StyleGAN2 synthesis network with skips on the CPU: features channels-last from the constant to the pictures, one pass over them a layer and
//! direction.

use super::conv::{self, Map, Scaled, Styled, Sums, GAIN, PANEL, SLOPE};
use super::scratch::{Scratch, Warm};
use super::simd::vectorised;
use crate::cancel::Cancel;
use crate::kernels::synthesis_network::{Layer, Network, Packed, Role};
use candle_core::Result;
use rayon::prelude::*;
use std::sync::Arc;

const EPSILON: f32 = 1e-8;

/// What a pass is given.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub net: &'a Network,
    /// Pictures.
    pub n: usize,
    /// [n][styles]
    pub styles: &'a [f32],
    /// As the network counts them.
    pub parameters: &'a [&'a [f32]],
    /// One a convolution, [n or 1][pixels] or empty.
    pub noise: &'a [&'a [f32]],
    pub cancel: &'a Cancel,
}

/// What the way back needs of the way there, by layer.
pub(crate) struct Tape {
    kept: Vec<Kept>,
}

enum Kept {
    /// The output, and the demodulation [n][outputs].
    Features { y: Scratch, d: Vec<f32> },
    /// Where there is a clamp, the colours before the sum.
    Colours(Vec<f32>),
}

/// Sees the layers go by, features [n][h][w][c] and colours [n][c][h][w]: as "modconv" before noise and bias, as "layer" what comes out
/// (colours: once the skip is added).
pub(crate) type Seen<'a> = dyn FnMut(&Layer, &str, &[f32]) -> Result<()> + 'a;

impl Given<'_> {
    /// What is made of a layer's weights.
    fn packed(&self, layer: &Layer) -> Arc<Packed> {
        match self.net.lean {
            true => Arc::default(),
            false => self.net.packed[layer.weight].clone(),
        }
    }

    /// A layer's style, [n][inputs].
    fn style(&self, layer: &Layer) -> Vec<f32> {
        self.styles.chunks(self.net.styles).flat_map(|s| s[layer.style..][..layer.inputs].iter().copied()).collect()
    }

    /// The demodulation, [n][outputs].
    fn norms(&self, layer: &Layer, s: &[f32]) -> Vec<f32> {
        let packed = self.packed(layer);
        let energy = packed.energy(layer, self.parameters[layer.weight]);
        let of = |s: &[f32]| {
            let squares: Vec<f32> = s.iter().map(|s| s * s).collect();
            let norm = |e: &[f32]| 1.0 / (e.iter().zip(&squares).map(|(e, s)| e * s).sum::<f32>() + EPSILON).sqrt();
            energy.chunks(layer.inputs).map(norm).collect::<Vec<f32>>()
        };
        s.chunks(layer.inputs).flat_map(of).collect()
    }

    /// A ToRGB layer's weights for each picture: [n][colours][inputs], style and scale included.
    fn colour_weights(&self, layer: &Layer, s: &[f32]) -> Vec<f32> {
        let w = self.parameters[layer.weight];
        let of = |s: &[f32]| {
            let row = |w: &[f32]| w.iter().zip(s).map(|(w, s)| w * s * layer.scale()).collect::<Vec<f32>>();
            w.chunks(layer.inputs).flat_map(row).collect::<Vec<f32>>()
        };
        s.chunks(layer.inputs).flat_map(of).collect()
    }

    /// Puts the constant for each picture into `all` [n][h][w][c].
    fn constant(&self, mut all: Scratch) -> Scratch {
        let (c, area) = (self.net.start[0], self.net.start[1] * self.net.start[2]);
        let one = |i: usize| self.parameters[0][i % c * area + i / c];
        all.iter_mut().enumerate().for_each(|(i, v)| *v = one(i % (area * c)));
        all
    }

    /// Numbers of the constant for all pictures.
    fn constants(&self) -> usize {
        self.n * self.net.start.iter().product::<usize>()
    }

    /// The pictures [n][colours][h][w]; with `keep` what the way back needs.
    pub(crate) fn forward(self, keep: bool, mut seen: Option<&mut Seen>) -> Result<(Vec<f32>, Option<Tape>)> {
        let _warm = Warm::new();
        // What nobody goes back through is not worth its memory: two layers' features go to and fro, in memory that the widest have room in.
        let features = |l: &Layer| if l.role == Role::Colours { 0 } else { self.n * l.height * l.width * l.outputs };
        let widest = self.net.layers.iter().map(features).fold(self.constants(), usize::max);
        let room = |len: usize| if keep { Scratch::new(len) } else { Scratch::new(widest).resized(len) };
        let mut spare: Option<Scratch> = None;
        let mut kept = vec![];
        let mut x = self.constant(room(self.constants()));
        let [mut h, mut w] = [self.net.start[1], self.net.start[2]];
        let mut image: Option<(Vec<f32>, usize, usize)> = None;
        for layer in self.net.layers.iter() {
            self.cancel.check()?;
            let s = self.style(layer);
            let map = Map::new(&x, self.n, h, w, layer.inputs);
            match layer.role {
                Role::Convolution { strength, noise } => {
                    let d = self.norms(layer, &s);
                    let len = features(layer);
                    let mut y = spare.take().map_or_else(|| room(len), |spare| spare.resized(len));
                    self.convolution(layer, map, (&s, &d), (strength, noise), &mut y, seen.as_deref_mut())?;
                    (h, w) = (layer.height, layer.width);
                    let before = std::mem::replace(&mut x, y);
                    if keep {
                        match kept.iter_mut().rev().find_map(kept_features) {
                            Some(y) => *y = before,
                            None => drop(before),
                        }
                        kept.push(Kept::Features { y: Scratch::new(0), d });
                    } else {
                        spare = Some(before);
                    }
                }
                Role::Colours => {
                    if let Some(seen) = seen.as_deref_mut() {
                        seen(layer, "modconv", &self.colours(layer, map, &s, &vec![0.0; layer.outputs]))?;
                    }
                    let mut colours = self.colours(layer, map, &s, self.parameters[layer.bias]);
                    if let Some(most) = self.net.clamp {
                        colours.iter_mut().for_each(|v| *v = v.clamp(-most, most));
                        if keep {
                            kept.push(Kept::Colours(colours.clone()));
                        }
                    } else if keep {
                        kept.push(Kept::Colours(vec![]));
                    }
                    if let Some((small, sh, sw)) = image.take() {
                        if (2 * sh, 2 * sw) == (h, w) {
                            enlarge(&small, (sh, sw), self.net.blur, &mut colours);
                        } else {
                            colours.iter_mut().zip(&small).for_each(|(c, s)| *c += s);
                        }
                    }
                    if let Some(seen) = seen.as_deref_mut() {
                        seen(layer, "layer", &colours)?;
                    }
                    image = Some((colours, h, w));
                }
            }
        }
        if let Some(y) = kept.iter_mut().rev().find_map(kept_features) {
            *y = x;
        }
        let (image, ..) = image.ok_or_else(|| candle_core::Error::Msg("a synthesis network without colours".into()))?;
        Ok((image, keep.then_some(Tape { kept })))
    }

    fn convolution(
        &self,
        layer: &Layer,
        x: Map,
        (s, d): (&[f32], &[f32]),
        (strength, noise): (usize, usize),
        y: &mut [f32],
        seen: Option<&mut Seen>,
    ) -> Result<()> {
        let (weights, k) = (self.parameters[layer.weight], layer.outputs);
        let packed = self.packed(layer);
        let scaled: Vec<f32> = d.iter().map(|d| d * layer.scale()).collect();
        let (factor, bias) = (conv::padded(&scaled, k), conv::padded(self.parameters[layer.bias], k));
        let area = layer.height * layer.width;
        let mut finish = Styled {
            factor: &factor,
            bias: &bias,
            noise: self.noise[noise],
            strength: self.parameters[strength][0],
            area,
            channels: k.next_multiple_of(PANEL),
            activate: true,
            clamp: self.net.clamp,
        };
        let (blur, keep) = (self.net.blur, self.net.keeps_points(layer));
        let run = |finish: &Styled, y: &mut [f32]| match (layer.is_winograd(self.n), layer.up) {
            (true, _) => packed.points(layer, weights, keep).run(x, s, blur, finish, y),
            (false, true) => conv::up(x, s, packed.forward(layer, weights), blur, finish, y),
            (false, false) => conv::correlate(x, s, packed.forward(layer, weights), finish, y),
        };
        if let Some(seen) = seen {
            finish.activate = false;
            run(&finish, y);
            seen(layer, "modconv", y)?;
            finish.activate = true;
            run(&finish, y);
            seen(layer, "layer", y)?;
        } else {
            run(&finish, y);
        }
        Ok(())
    }

    /// [n][colours][h][w], before clamp and sum.
    fn colours(&self, layer: &Layer, x: Map, s: &[f32], bias: &[f32]) -> Vec<f32> {
        let rows = self.colour_weights(layer, s);
        let mut weights = vec![0.0; self.n * layer.inputs * PANEL];
        for (weights, rows) in weights.chunks_mut(layer.inputs * PANEL).zip(rows.chunks(layer.outputs * layer.inputs)) {
            for (o, row) in rows.chunks(layer.inputs).enumerate() {
                row.iter().enumerate().for_each(|(i, w)| weights[i * PANEL + o] = *w);
            }
        }
        let mut out = vec![0.0; self.n * layer.outputs * x.area()];
        conv::points(x, &weights, layer.outputs, bias, &mut out);
        out
    }
}

/// A layer's output, where it has features.
fn kept_features(kept: &mut Kept) -> Option<&mut Scratch> {
    match kept {
        Kept::Features { y, .. } => Some(y),
        Kept::Colours(_) => None,
    }
}

/// Which gradients are asked for.
pub(crate) struct Need {
    /// By layer.
    pub styles: Vec<bool>,
    /// By parameter.
    pub parameters: Vec<bool>,
    /// By convolution.
    pub noise: Vec<bool>,
}

/// Of what [`Need`] names; the others are empty, but for the styles, which are zero.
pub(crate) struct Gradients {
    /// [n][styles]
    pub styles: Vec<f32>,
    pub parameters: Vec<Vec<f32>>,
    pub noise: Vec<Vec<f32>>,
    /// Layers that the way back went through, and weights whose gradient was computed, for those who ask what it costs.
    #[cfg(test)]
    pub work: [Vec<String>; 2],
}

/// The way back of a ToRGB layer, on its way to the features that it read.
struct Colours<'a> {
    layer: &'a Layer,
    s: Vec<f32>,
    /// [n][colours][inputs]
    weights: Vec<f32>,
    /// [n][colours][h][w]
    gradient: Vec<f32>,
}

impl Given<'_> {
    /// Gradients from that of the pictures [n][colours][h][w].
    pub(crate) fn backward(self, tape: Tape, need: &Need, gradient: &[f32]) -> Result<Gradients> {
        let Self { net, n, .. } = self;
        let mut found = Gradients {
            styles: vec![0.0; n * net.styles],
            parameters: vec![vec![]; need.parameters.len()],
            noise: vec![vec![]; need.noise.len()],
            #[cfg(test)]
            work: Default::default(),
        };
        let asked = |i: usize, layer: &Layer| {
            let noise = matches!(layer.role, Role::Convolution { noise, .. } if need.noise[noise]);
            need.styles[i] || noise || layer.parameters().any(|p| need.parameters[p])
        };
        let lowest = if need.parameters[0] { Some(0) } else { (0..net.layers.len()).find(|&i| asked(i, &net.layers[i])) };
        let Some(lowest) = lowest else { return Ok(found) };
        // Colours get their gradients on the way back through the features that they are made of.
        let lowest = if matches!(net.layers[lowest].role, Role::Colours) { lowest.saturating_sub(1) } else { lowest };
        let _warm = Warm::new();
        let mut kept = tape.kept;
        let mut of_image = gradient.to_vec();
        let mut colours: Option<Colours> = None;
        let mut of_features: Option<Scratch> = None;
        for (i, layer) in net.layers.iter().enumerate().skip(lowest).rev() {
            self.cancel.check()?;
            #[cfg(test)]
            found.work[0].push(layer.name.clone());
            let s = self.style(layer);
            // Layers above this one are done with.
            kept.truncate(i + 1);
            match layer.role {
                Role::Colours => {
                    let weights = self.colour_weights(layer, &s);
                    let mut gradient = of_image.clone();
                    if let (Some(most), Some(Kept::Colours(y))) = (net.clamp, kept.last()) {
                        gradient.iter_mut().zip(y).for_each(|(g, y)| *g = if y.abs() < most { *g } else { 0.0 });
                    }
                    if need.parameters[layer.bias] {
                        let mut sums = vec![0.0f64; layer.outputs];
                        for (p, plane) in gradient.chunks(layer.height * layer.width).enumerate() {
                            sums[p % layer.outputs] += plane.chunks(64).map(|c| f64::from(c.iter().sum::<f32>())).sum::<f64>();
                        }
                        found.parameters[layer.bias] = sums.into_iter().map(|v| v as f32).collect();
                    }
                    let below = net.layers[..i].iter().rev().find(|l| matches!(l.role, Role::Colours));
                    if let Some(below) = below.filter(|below| below.height != layer.height) {
                        of_image = reduce(&of_image, (below.height, below.width), net.blur);
                    }
                    // The layer that it reads is always the one before.
                    colours = Some(Colours { layer, s, weights, gradient });
                }
                Role::Convolution { strength, noise } => {
                    let (mut before, last) = split(&mut kept, i);
                    let Some(Kept::Features { y, d }) = last else { candle_core::bail!("synthesis: {} was not kept", layer.name) };
                    let (h, w) = (layer.height, layer.width);
                    let back = Activation {
                        y: Map::new(y, n, h, w, layer.outputs),
                        bias: self.parameters[layer.bias],
                        noise: self.noise[noise],
                        strength: self.parameters[strength][0],
                        clamp: net.clamp,
                        of_noise: need.noise[noise] || need.parameters[strength],
                    };
                    let (g, sums) = back.run(of_features.take(), colours.as_ref());
                    if let Some(c) = colours.take() {
                        self.colours_back(&c, &sums, need, &mut found);
                    }
                    let k = layer.outputs;
                    if need.parameters[layer.bias] {
                        let mut total = vec![0.0; k];
                        sums.plain.chunks(k).for_each(|one| total.iter_mut().zip(one).for_each(|(t, v)| *t += v));
                        found.parameters[layer.bias] = total;
                    }
                    if need.parameters[strength] {
                        let noise = self.noise[noise];
                        let maps = noise.chunks(h * w).cycle();
                        let of = |(rows, map): (&[f32], &[f32])| super::vector::long_dot(rows, map);
                        let total: f64 = if noise.is_empty() { 0.0 } else { sums.rows.chunks(h * w).zip(maps).map(of).sum() };
                        found.parameters[strength] = vec![total as f32];
                    }
                    if need.noise[noise] {
                        let mut map = vec![0.0; self.noise[noise].len()];
                        let len = map.len();
                        let strength = self.parameters[strength][0];
                        sums.rows.iter().enumerate().for_each(|(p, row)| map[p % len] += strength * row);
                        found.noise[noise] = map;
                    }
                    // What reaches the demodulation: dL/dd * -d^3.
                    let q: Vec<f32> = sums.product.iter().zip(d.iter()).map(|(v, d)| -v * d * d).collect();
                    let constant;
                    let x = match before.as_mut().and_then(|kept| kept.iter_mut().rev().find_map(kept_features)) {
                        Some(x) => &*x,
                        None => {
                            constant = self.constant(Scratch::new(self.constants()));
                            &constant
                        }
                    };
                    let (xh, xw) = if layer.up { (h / 2, w / 2) } else { (h, w) };
                    let x = Map::new(x, n, xh, xw, layer.inputs);
                    let g = Map::new(&g, n, h, w, k);
                    if need.parameters[layer.weight] {
                        found.parameters[layer.weight] = self.of_weights(layer, x, &s, g, d, &q);
                        #[cfg(test)]
                        found.work[1].push(layer.name.clone());
                    }
                    let goes_on = i > lowest || need.parameters[0];
                    if goes_on || need.styles[i] {
                        let (dx, ds) = self.of_input(layer, x, &s, g, d, &q);
                        if need.styles[i] {
                            put_style(&mut found.styles, net.styles, layer, &ds);
                        }
                        of_features = goes_on.then_some(dx);
                    }
                }
            }
        }
        if let (true, Some(dx)) = (need.parameters[0], of_features) {
            let (c, area) = (net.start[0], net.start[1] * net.start[2]);
            let mut constant = vec![0.0; c * area];
            dx.iter().enumerate().for_each(|(i, v)| constant[i % c * area + i / c % area] += v);
            found.parameters[0] = constant;
        }
        Ok(found)
    }

    fn colours_back(&self, c: &Colours, sums: &ActivationSums, need: &Need, found: &mut Gradients) {
        let (layer, w) = (c.layer, self.parameters[c.layer.weight]);
        let (inputs, scale) = (layer.inputs, layer.scale());
        let each = layer.outputs * inputs;
        let mut ds = vec![0.0; self.n * inputs];
        for (n, products) in sums.colours.chunks(each).enumerate() {
            products.iter().enumerate().for_each(|(j, p)| ds[n * inputs + j % inputs] += scale * w[j] * p);
        }
        let index = self.net.layers.iter().position(|l| std::ptr::eq(l, layer));
        if index.is_some_and(|i| need.styles[i]) {
            put_style(&mut found.styles, self.net.styles, layer, &ds);
        }
        if need.parameters[layer.weight] {
            let mut dw = vec![0.0; each];
            for (n, products) in sums.colours.chunks(each).enumerate() {
                products.iter().enumerate().for_each(|(j, p)| dw[j] += scale * c.s[n * inputs + j % inputs] * p);
            }
            found.parameters[layer.weight] = dw;
            #[cfg(test)]
            found.work[1].push(layer.name.clone());
        }
    }

    /// Gradients of a convolution's input and style.
    fn of_input(&self, layer: &Layer, x: Map, s: &[f32], g: Map, d: &[f32], q: &[f32]) -> (Scratch, Vec<f32>) {
        let (weights, c, k) = (self.parameters[layer.weight], layer.inputs, layer.outputs);
        let packed = self.packed(layer);
        let scaled: Vec<f32> = s.iter().map(|s| s * layer.scale()).collect();
        let factor = conv::padded(&scaled, c);
        let winograd = layer.is_winograd(self.n);
        let parts = match (winograd, layer.up) {
            (true, true) => conv::wino_up_parts_back(x.h, x.w, k),
            (true, false) => conv::wino_parts(x.h, x.w, k, c),
            (false, true) => conv::up_parts_back(x.h, x.w, k),
            (false, false) => conv::parts(x.h, x.w),
        };
        let mut sums = Sums::new(self.n, parts, c.next_multiple_of(PANEL));
        let mut dx = Scratch::new(x.data.len());
        let finish = Scaled::new(&factor, x, &mut sums);
        match (winograd, layer.up) {
            (true, _) => packed.points_back(layer, weights, self.net.keeps_points(layer)).run(g, d, self.net.blur, &finish, &mut dx),
            (false, true) => conv::up_back(g, d, packed.back(layer, weights), self.net.blur, &finish, &mut dx),
            (false, false) => conv::correlate(g, d, packed.back(layer, weights), &finish, &mut dx),
        }
        let energy = packed.energy(layer, weights);
        let mut ds: Vec<f32> = sums.totals(c).iter().map(|v| v * layer.scale()).collect();
        for ((ds, s), q) in ds.chunks_mut(c).zip(s.chunks(c)).zip(q.chunks(k)) {
            let mut through = vec![0.0f32; c];
            for (q, e) in q.iter().zip(energy.chunks(c)) {
                through.iter_mut().zip(e).for_each(|(t, e)| *t += q * e);
            }
            ds.iter_mut().zip(s).zip(through).for_each(|((ds, s), t)| *ds += s * t);
        }
        (dx, ds)
    }

    /// The gradient of a convolution's weights, [outputs][inputs][9].
    fn of_weights(&self, layer: &Layer, x: Map, s: &[f32], g: Map, d: &[f32], q: &[f32]) -> Vec<f32> {
        let (w, c, k) = (self.parameters[layer.weight], layer.inputs, layer.outputs);
        let mut dw = Scratch::zeros(9 * k.next_multiple_of(PANEL) * c);
        match (layer.up, layer.is_winograd(self.n)) {
            (true, true) if conv::is_worth_up_gradient(self.n, x.h, x.w, c, k) => {
                conv::wino_up_weight_gradient(x, s, g, d, self.net.blur, &mut dw)
            }
            (true, _) => conv::weight_gradient(x, s, g, d, conv::Kind::Up(self.net.blur), &mut dw),
            (false, true) => conv::wino_weight_gradient(x, s, g, d, &mut dw),
            (false, false) => conv::weight_gradient(x, s, g, d, conv::Kind::Plain, &mut dw),
        }
        let mut dw = conv::unpacked(&dw, k, c, 9, layer.scale());
        let s2 = layer.scale() * layer.scale();
        dw.par_chunks_mut(c * 9).zip(w.par_chunks(c * 9)).enumerate().for_each(|(o, (dw, w))| {
            for (i, (dw, w)) in dw.chunks_mut(9).zip(w.chunks(9)).enumerate() {
                let through: f32 = (0..self.n).map(|n| q[n * k + o] * s[n * c + i] * s[n * c + i]).sum();
                dw.iter_mut().zip(w).for_each(|(dw, w)| *dw += s2 * through * w);
            }
        });
        dw
    }
}

/// Layers below `i`, and `i` itself.
fn split(kept: &mut [Kept], i: usize) -> (Option<&mut [Kept]>, Option<&Kept>) {
    match kept.split_at_mut_checked(i) {
        Some((before, [last, ..])) => (Some(before), Some(last)),
        _ => (None, None),
    }
}

fn put_style(styles: &mut [f32], total: usize, layer: &Layer, ds: &[f32]) {
    for (styles, ds) in styles.chunks_mut(total).zip(ds.chunks(layer.inputs)) {
        styles[layer.style..][..layer.inputs].copy_from_slice(ds);
    }
}

/// The way back through a layer's activation.
struct Activation<'a> {
    y: Map<'a>,
    bias: &'a [f32],
    noise: &'a [f32],
    strength: f32,
    clamp: Option<f32>,
    /// Whether sums over channels are wanted.
    of_noise: bool,
}

/// Sums of the gradient g before the activation.
struct ActivationSums {
    /// Over pixels, [n][c].
    plain: Vec<f32>,
    /// Over pixels, of the products with the demodulated sums: [n][c].
    product: Vec<f32>,
    /// Over pixels, of the products of colours' gradients and features: [n][colours][c].
    colours: Vec<f32>,
    /// Over channels, [n][pixels], or empty.
    rows: Vec<f32>,
}

/// Pixels whose sums are in f32.
const RUN: usize = 256;

impl Activation<'_> {
    /// The gradient before the activation, from that after it: `dy` of the layer above, and what comes from colours.
    fn run(&self, dy: Option<Scratch>, colours: Option<&Colours>) -> (Scratch, ActivationSums) {
        let Map { n, c, .. } = self.y;
        let area = self.y.area();
        let count = colours.map_or(0, |colours| colours.layer.outputs);
        let mut g = dy.unwrap_or_else(|| Scratch::zeros(n * area * c));
        let mut rows = vec![0.0; if self.of_noise { n * area } else { 0 }];
        let width = (2 + count) * c;
        let runs = area.div_ceil(RUN);
        let mut sums = vec![0.0f32; n * runs * width];
        let mut of_rows: Vec<&mut [f32]> = match self.of_noise {
            true => rows.chunks_mut(area).flat_map(|one| one.chunks_mut(RUN)).collect(),
            false => (0..n * runs).map(|_| &mut [][..]).collect(),
        };
        let of_g: Vec<&mut [f32]> = g.chunks_mut(area * c).flat_map(|one| one.chunks_mut(RUN * c)).collect();
        of_g.into_par_iter().zip(of_rows.par_iter_mut()).zip(sums.par_chunks_mut(width)).enumerate().for_each(
            |(job, ((g, rows), sums))| {
                let (n, first) = (job / runs, job % runs * RUN);
                let from = colours
                    .map(|colours| (&colours.gradient[n * count * area..][..count * area], &colours.weights[n * count * c..][..count * c]));
                vectorised(
                    #[inline(always)]
                    || self.pixels(n, first, g, rows, from, sums),
                );
            },
        );
        let mut totals = vec![0.0f64; n * width];
        for (i, one) in sums.chunks(width).enumerate() {
            totals[i / runs * width..][..width].iter_mut().zip(one).for_each(|(total, v)| *total += f64::from(*v));
        }
        let part = |from: usize, to: usize| totals.chunks(width).flat_map(|one| one[from * c..to * c].iter().map(|v| *v as f32)).collect();
        let sums = ActivationSums { plain: part(0, 1), product: part(1, 2), colours: part(2, 2 + count), rows };
        (g, sums)
    }

    #[inline(always)]
    fn pixels(&self, n: usize, first: usize, g: &mut [f32], rows: &mut [f32], colours: Option<(&[f32], &[f32])>, sums: &mut [f32]) {
        let c = self.y.c;
        let area = self.y.area();
        let most = self.clamp.unwrap_or(f32::INFINITY);
        let (plain, rest) = sums.split_at_mut(c);
        let (product, of_colours) = rest.split_at_mut(c);
        for (p, g) in g.chunks_exact_mut(c).enumerate() {
            let pixel = first + p;
            let y = &self.y.data[(n * area + pixel) * c..][..c];
            if let Some((gradient, weights)) = colours {
                for (o, plane) in gradient.chunks_exact(area).enumerate() {
                    let v = plane[pixel];
                    let (weights, sums) = (&weights[o * c..][..c], &mut of_colours[o * c..][..c]);
                    for i in 0..c {
                        g[i] += v * weights[i];
                        sums[i] += v * y[i];
                    }
                }
            }
            let added = match self.noise.len() {
                0 => 0.0,
                one if one == area => self.strength * self.noise[pixel],
                _ => self.strength * self.noise[n * area + pixel],
            };
            let (plain, product, bias) = (&mut plain[..c], &mut product[..c], &self.bias[..c]);
            for i in 0..c {
                // The output has the sign of what went into the activation, and says what that was.
                let slope = if y[i] > 0.0 { GAIN } else { SLOPE * GAIN };
                let back = if y[i] > 0.0 { 1.0 / GAIN } else { 1.0 / (SLOPE * GAIN) };
                let v = if y[i].abs() < most { g[i] * slope } else { 0.0 };
                g[i] = v;
                plain[i] += v;
                product[i] += v * (y[i] * back - bias[i] - added);
            }
            if let Some(row) = rows.get_mut(p) {
                *row = super::vector::sum(g);
            }
        }
    }
}

/// Adds pictures of h x w, enlarged to twice the size, to `out`: zeros between the pixels, then the blur's taps along both directions.
fn enlarge(small: &[f32], (h, w): (usize, usize), k: [f32; 4], out: &mut [f32]) {
    out.par_chunks_mut(2 * w).enumerate().for_each(|(i, out)| {
        let (plane, y) = (i / (2 * h), i % (2 * h));
        let small = &small[plane * h * w..][..h * w];
        let m = y / 2;
        // Rows m - 1 and m, or m and m + 1.
        let (first, a, b) = if y % 2 == 0 { (m.checked_sub(1), k[3], k[1]) } else { (Some(m), k[2], k[0]) };
        let second = if y % 2 == 0 { Some(m) } else { Some(m + 1).filter(|r| *r < h) };
        let row = |r: Option<usize>| r.map(|r| &small[r * w..][..w]);
        let (first, second) = (row(first), row(second));
        let at = |x: usize| first.map_or(0.0, |r| a * r[x]) + second.map_or(0.0, |r| b * r[x]);
        let mut before = 0.0;
        let mut here = at(0);
        for x in 0..w {
            let next = if x + 1 < w { at(x + 1) } else { 0.0 };
            out[2 * x] += k[3] * before + k[1] * here;
            out[2 * x + 1] += k[2] * here + k[0] * next;
            (before, here) = (here, next);
        }
    });
}

/// The transpose of [`enlarge`]: gradients of pictures of twice h x w to those of h x w.
fn reduce(large: &[f32], (h, w): (usize, usize), k: [f32; 4]) -> Vec<f32> {
    let mut out = vec![0.0; large.len() / 4];
    out.par_chunks_mut(w).enumerate().for_each(|(i, out)| {
        let (plane, m) = (i / h, i % h);
        let large = &large[plane * 4 * h * w..][..4 * h * w];
        // Rows 2m - 1 to 2m + 2.
        let taps = [k[0], k[1], k[2], k[3]];
        let mut sums = vec![0.0f32; 2 * w + 3];
        for (t, tap) in taps.iter().enumerate() {
            let Some(r) = (2 * m + t).checked_sub(1).filter(|r| *r < 2 * h) else { continue };
            sums[1..=2 * w].iter_mut().zip(&large[r * 2 * w..][..2 * w]).for_each(|(sum, v)| *sum += tap * v);
        }
        for (x, out) in out.iter_mut().enumerate() {
            // Columns 2x - 1 to 2x + 2.
            *out = (0..4).map(|t| taps[t] * sums[2 * x + t]).sum();
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::HOST;
    use crate::rng::Rng;
    use candle_core::Tensor;

    const CHANNELS: usize = 8;

    /// 4 px to 8 px, each with a ToRGB; parameters by layer: weight, bias, and the noise's strength.
    fn network() -> Network {
        let mut rng = Rng::new(4);
        let mut parameters = vec![rng.normals(&[1, CHANNELS, 4, 4], HOST).unwrap()];
        let mut layers = vec![];
        for (i, (name, colours, side, up)) in
            [("a", false, 4, false), ("a rgb", true, 4, false), ("b", false, 8, true), ("c", false, 8, false), ("c rgb", true, 8, false)]
                .into_iter()
                .enumerate()
        {
            let (outputs, kernel) = if colours { (3, 1) } else { (CHANNELS, 3) };
            let mut put = |shape: &[usize]| {
                parameters.push(rng.normals(shape, HOST).unwrap());
                parameters.len() - 1
            };
            let (weight, bias) = (put(&[outputs, CHANNELS, kernel, kernel]), put(&[outputs]));
            let noise = layers.iter().filter(|l: &&Layer| l.role != Role::Colours).count();
            let role = if colours { Role::Colours } else { Role::Convolution { strength: put(&[1]), noise } };
            let style = i * CHANNELS;
            layers.push(Layer { name: name.into(), role, inputs: CHANNELS, outputs, height: side, width: side, up, style, weight, bias });
        }
        Network::new([CHANNELS, 4, 4], layers, parameters, [0.25, 0.75, 0.75, 0.25], None, None)
    }

    /// Layers that the way back goes through and weights that get a gradient, where these parameters (by what `of` says of a layer) and the
    /// styles of these layers are asked for.
    fn work(of: &dyn Fn(&Layer) -> Vec<usize>, styles: &[&str], constant: bool) -> [Vec<String>; 2] {
        let net = network();
        let numbers: Vec<Vec<f32>> = net.parameters.iter().map(|t: &Tensor| t.flatten_all().unwrap().to_vec1().unwrap()).collect();
        let parameters: Vec<&[f32]> = numbers.iter().map(|v| &v[..]).collect();
        let asked: Vec<usize> = net.layers.iter().flat_map(of).collect();
        let need = Need {
            styles: net.layers.iter().map(|l| styles.contains(&l.name.as_str())).collect(),
            parameters: (0..parameters.len()).map(|p| asked.contains(&p) || constant && p == 0).collect(),
            noise: vec![false; 3],
        };
        let n = 2;
        let style = vec![1.0; n * net.styles];
        let given = Given { net: &net, n, styles: &style, parameters: &parameters, noise: &[&[], &[], &[]], cancel: &Cancel::new() };
        let (picture, tape) = given.forward(true, None).unwrap();
        let found = given.backward(tape.unwrap(), &need, &vec![1.0; picture.len()]).unwrap();
        // What is asked for is there, and nothing else.
        for (p, gradient) in found.parameters.iter().enumerate() {
            assert_eq!(gradient.len(), if need.parameters[p] { parameters[p].len() } else { 0 }, "parameter {p}");
        }
        for (layer, asked) in net.layers.iter().zip(&need.styles) {
            let moved = found.styles.chunks(net.styles).any(|s| s[layer.style..][..layer.inputs].iter().any(|v| *v != 0.0));
            assert_eq!(moved, *asked, "style of {}", layer.name);
        }
        found.work
    }

    const ALL: [&str; 5] = ["a", "a rgb", "b", "c", "c rgb"];

    #[test]
    fn styles_need_no_gradient_of_weights() {
        let [layers, weights] = work(&|_| vec![], &ALL, false);
        assert_eq!((layers.len(), weights), (5, vec![]));
    }

    #[test]
    fn weights_get_a_gradient_where_they_are_asked_for_and_nothing_is_gone_through_below() {
        let of = |name: &'static str| move |l: &Layer| -> Vec<usize> { l.parameters().filter(|_| l.name == name).collect() };
        for (name, through) in [("c rgb", vec!["c rgb", "c"]), ("c", vec!["c rgb", "c"]), ("b", vec!["c rgb", "c", "b"])] {
            assert_eq!(work(&of(name), &[], false), [through, vec![name]].map(|v| v.into_iter().map(String::from).collect::<Vec<_>>()));
        }
        // A bias and a strength alone.
        let small = |l: &Layer| l.parameters().filter(|p| l.name == "b" && *p != l.weight).collect();
        assert_eq!(work(&small, &[], false)[1], [] as [String; 0]);
        // The constant is below everything.
        assert_eq!(work(&|_| vec![], &[], true)[0].len(), 5);
        assert_eq!(work(&|_| vec![], &["a"], false)[0].len(), 5);
        assert_eq!(work(&|_| vec![], &[], false)[0].len(), 0);
    }
}
