//! A StyleGAN2 synthesis network with skips on a GPU: features in planes [n][c][h][w], a kernel a convolution and direction, with everything between
//! two convolutions in it or in one pass over the features.

use super::{arguments, Argument, At, Gpu, Numbers};
use crate::cancel::Cancel;
use crate::kernels::cpu::synthesis::Need;
use crate::kernels::synthesis::{Layer, Network, Role};
use candle_core::{bail, Result};

/// The most colours that kernels take.
const COLOURS: usize = 4;

/// What a pass is given.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub gpu: &'a Gpu,
    pub net: &'a Network,
    /// Pictures.
    pub n: usize,
    /// [n][styles]
    pub styles: Argument,
    /// As the network counts them.
    pub parameters: &'a [Argument],
    /// One a convolution, (numbers, maps): [maps][pixels] with maps n or 1; 0 for none.
    pub noise: &'a [(Argument, usize)],
    pub cancel: &'a Cancel,
}

/// What the way back needs of the way there, by layer.
pub(crate) struct Tape {
    kept: Vec<Kept>,
}

enum Kept {
    /// The output, and the demodulation [n][outputs].
    Features { y: Numbers, d: Numbers },
    /// Where there is a clamp, the colours before the sum.
    Colours(Option<Numbers>),
}

/// Of what [`Need`] names; the others are None, but for the styles, which are zero.
pub(crate) struct Gradients {
    /// [n][styles]
    pub styles: Numbers,
    pub parameters: Vec<Option<Numbers>>,
    pub noise: Vec<Option<Numbers>>,
}

/// A convolution of features, forward or of a gradient.
struct Convolution {
    inputs: usize,
    outputs: usize,
    height: usize,
    width: usize,
    phases: usize,
    flip: bool,
}

/// What becomes of a convolution's sums.
#[derive(Clone, Copy)]
struct Finish {
    bias: Argument,
    noise: Argument,
    noise_step: usize,
    strength: Argument,
    clamp: f32,
}

const UNCHANGED: Finish =
    Finish { bias: Argument::NULL, noise: Argument::NULL, noise_step: 0, strength: Argument::NULL, clamp: f32::INFINITY };

impl Given<'_> {
    fn style(&self, layer: &Layer) -> Argument {
        self.styles.plus(layer.style)
    }

    fn clamp(&self) -> f32 {
        self.net.clamp.unwrap_or(f32::INFINITY)
    }

    /// (inputs' height, width, outputs of one small pixel).
    fn small(layer: &Layer) -> (usize, usize, usize) {
        match layer.up {
            true => (layer.height / 2, layer.width / 2, 4),
            false => (layer.height, layer.width, 1),
        }
    }

    /// The layer's noise, and how far its maps are apart.
    fn map(&self, index: usize, area: usize) -> (Argument, usize) {
        match self.noise[index] {
            (_, 0) => (Argument::NULL, 0),
            (at, maps) => (at, if maps > 1 { area } else { 0 }),
        }
    }

    /// Effective weights, [outputs times phases][inputs][9].
    fn effective(&self, layer: &Layer) -> Result<Numbers> {
        let (_, _, phases) = Self::small(layer);
        let count = layer.outputs * phases * layer.inputs * 9;
        let v = self.gpu.alloc(count)?;
        let [a, b, c, d] = self.taps();
        let w = self.parameters[layer.weight];
        // SAFETY: the kernel's arguments; v has `count` numbers, w the layer's.
        unsafe {
            self.gpu.each(
                ("conv", "conv_effective"),
                count,
                arguments![w, v.at(), layer.outputs, layer.inputs, layer.scale(), layer.up as i32, a, b, c, d],
            )?
        };
        Ok(v)
    }

    /// The blur as it is laid over a picture.
    fn taps(&self) -> [f32; 4] {
        let [a, b, c, d] = self.net.blur;
        [d, c, b, a]
    }

    fn energy(&self, layer: &Layer) -> Result<Numbers> {
        let count = layer.outputs * layer.inputs;
        let e = self.gpu.alloc(count)?;
        // SAFETY: as above.
        unsafe { self.gpu.each(("conv", "conv_energy"), count, arguments![self.parameters[layer.weight], e.at(), count, layer.scale()])? };
        Ok(e)
    }

    /// The demodulation, [n][outputs].
    fn norms(&self, layer: &Layer) -> Result<Numbers> {
        let (e, d) = (self.energy(layer)?, self.gpu.alloc(self.n * layer.outputs)?);
        let arguments = arguments![e.at(), self.style(layer), self.net.styles, d.at(), layer.outputs, layer.inputs];
        // SAFETY: as above.
        unsafe { self.gpu.launch(("conv", "conv_norms"), [layer.outputs, self.n, 1], 128, 0, arguments)? };
        Ok(d)
    }

    /// A ToRGB layer's weights for each picture: [n][colours][inputs], style and scale included.
    fn colour_weights(&self, layer: &Layer) -> Result<Numbers> {
        let count = self.n * layer.outputs * layer.inputs;
        let to = self.gpu.alloc(count)?;
        let (w, s) = (self.parameters[layer.weight], self.style(layer));
        let arguments = arguments![w, s, self.net.styles, to.at(), self.n, layer.outputs, layer.inputs, layer.scale()];
        // SAFETY: as above.
        unsafe { self.gpu.each(("style", "colour_weights"), count, arguments)? };
        Ok(to)
    }

    /// The constant for each picture, [n][c][h][w].
    fn constant(&self) -> Result<Numbers> {
        let length = self.net.start.iter().product::<usize>();
        let all = self.gpu.alloc(self.n * length)?;
        // SAFETY: as above.
        unsafe { self.gpu.each(("style", "repeated"), self.n * length, arguments![self.parameters[0], all.at(), self.n, length])? };
        Ok(all)
    }

    /// y [n][outputs][h][w] (where an up-sampling layer goes forward [n][outputs / 4][2 h][2 w]) of x [n][inputs][h][w] with effective
    /// weights `v`, styles `s` and norms `d`.
    fn convolve(&self, x: Argument, v: &Numbers, s: Argument, d: &Numbers, how: &Convolution, finish: Finish) -> Result<Numbers> {
        let Convolution { inputs, outputs, height: h, width: w, phases, flip } = *how;
        let y = self.gpu.alloc(self.n * outputs * h * w)?;
        let step = self.net.styles;
        let stored = if flip { 1 } else { phases };
        let Finish { bias, noise, noise_step, strength, clamp } = finish;
        if !self.gpu.tensor_cores() || !inputs.is_multiple_of(8) || !outputs.is_multiple_of(32) || !w.is_multiple_of(4) {
            let grid = [(h * w).div_ceil(64), outputs.div_ceil(64), self.n];
            let arguments = arguments![
                x,
                v.at(),
                s,
                step,
                d.at(),
                y.at(),
                inputs,
                outputs,
                h,
                w,
                phases,
                flip as i32,
                bias,
                noise,
                noise_step,
                strength,
                clamp
            ];
            // SAFETY: the kernel's arguments; x, y, v, s and d have the sizes said above.
            unsafe { self.gpu.launch(("conv", "conv_plain"), grid, 256, 0, arguments)? };
            return Ok(y);
        }
        let count = self.n * outputs * inputs * 9;
        let packed = self.gpu.alloc(count)?;
        // Names and sizes of tiles as measured on an H100.
        let (name, to, th, threads) = match outputs.is_multiple_of(64) {
            true if h >= 64 => ("conv_64x8", 64, 8, 128),
            true => ("conv_64x4", 64, 4, 128),
            false if h >= 1024 => ("conv_32x16", 32, 16, 128),
            false => ("conv_32x8", 32, 8, 128),
        };
        let shared = 2 * 4 * (to * 72 + 8 * ((th + 2) * 40 + 8));
        let grid = [w.div_ceil(32) * h.div_ceil(th), outputs / to, self.n];
        let pack = arguments![v.at(), s, step, d.at(), packed.at(), self.n, outputs, inputs, phases, flip as i32];
        let arguments = arguments![x, packed.at(), y.at(), inputs / 8, outputs, h, w, stored, bias, noise, noise_step, strength, clamp];
        // SAFETY: as above; inputs, outputs and width are what the tiles take.
        unsafe {
            self.gpu.each(("conv", "conv_pack"), count, pack)?;
            self.gpu.launch(("conv", name), grid, threads, shared, arguments)?;
        }
        Ok(y)
    }

    /// The pictures [n][colours][h][w]; with `keep` what the way back needs.
    pub(crate) fn forward(self, keep: bool) -> Result<(Numbers, Option<Tape>)> {
        let Self { gpu, net, n, .. } = self;
        let mut kept: Vec<Kept> = vec![];
        let mut x = self.constant()?;
        let mut image: Option<(Numbers, usize)> = None;
        for layer in &net.layers {
            self.cancel.check()?;
            let (h, w) = (layer.height, layer.width);
            match layer.role {
                Role::Convolution { strength, noise } => {
                    let (small_h, small_w, phases) = Self::small(layer);
                    let (v, d) = (self.effective(layer)?, self.norms(layer)?);
                    let outputs = layer.outputs * phases;
                    let how = Convolution { inputs: layer.inputs, outputs, height: small_h, width: small_w, phases, flip: false };
                    let (noise, noise_step) = self.map(noise, h * w);
                    let (bias, strength) = (self.parameters[layer.bias], self.parameters[strength]);
                    let finish = Finish { bias, noise, noise_step, strength, clamp: self.clamp() };
                    let y = self.convolve(x.at(), &v, self.style(layer), &d, &how, finish)?;
                    let before = std::mem::replace(&mut x, y);
                    if keep {
                        put(&mut kept, before);
                        kept.push(Kept::Features { y: gpu.alloc(0)?, d });
                    }
                }
                Role::Colours => {
                    if layer.outputs > COLOURS {
                        bail!("synthesis on a GPU: {} has {} colours, at most {COLOURS} are possible", layer.name, layer.outputs)
                    }
                    let weights = self.colour_weights(layer)?;
                    let count = n * layer.outputs * h * w;
                    let out = gpu.alloc(count)?;
                    let own = (keep && net.clamp.is_some()).then(|| gpu.alloc(count)).transpose()?;
                    let half = image.as_ref().is_some_and(|(_, small)| 2 * small == h);
                    let before = image.as_ref().map_or(Argument::NULL, |(small, _)| small.at());
                    let [a, b, c, d] = net.blur;
                    let arguments = arguments![
                        x.at(),
                        weights.at(),
                        self.parameters[layer.bias],
                        before,
                        half as i32,
                        own.at(),
                        out.at(),
                        layer.outputs,
                        layer.inputs,
                        h,
                        w,
                        self.clamp(),
                        a,
                        b,
                        c,
                        d
                    ];
                    let shared = 4 * layer.outputs * layer.inputs;
                    // SAFETY: the kernel's arguments, of the sizes that the layer has.
                    unsafe { gpu.launch(("style", "colours_forward"), [(h * w).div_ceil(256), n, 1], 256, shared, arguments)? };
                    if keep {
                        kept.push(Kept::Colours(own));
                    }
                    image = Some((out, h));
                }
            }
        }
        put(&mut kept, x);
        match image {
            Some((image, _)) => Ok((image, keep.then_some(Tape { kept }))),
            None => bail!("a synthesis network without colours"),
        }
    }

    /// Gradients from that of the pictures [n][colours][h][w].
    pub(crate) fn backward(self, tape: Tape, need: &Need, gradient: Argument) -> Result<Gradients> {
        let Self { gpu, net, n, .. } = self;
        let none = |count: usize| (0..count).map(|_| None).collect::<Vec<Option<Numbers>>>();
        let (parameters, noise) = (none(need.parameters.len()), none(need.noise.len()));
        let mut found = Gradients { styles: gpu.zeros(n * net.styles)?, parameters, noise };
        let Some(lowest) = lowest(net, need) else { return Ok(found) };
        let mut kept = tape.kept;
        // What of the picture's gradient comes down to this resolution; None is the picture's own.
        let mut of_image: Option<Numbers> = None;
        let mut colours: Option<ColoursBack> = None;
        let mut above: Option<Above> = None;
        for (i, layer) in net.layers.iter().enumerate().skip(lowest).rev() {
            self.cancel.check()?;
            kept.truncate(i + 1);
            let (h, w) = (layer.height, layer.width);
            match layer.role {
                Role::Colours => {
                    let count = n * layer.outputs * h * w;
                    let from = of_image.as_ref().map_or(gradient, At::at);
                    let own = gpu.alloc(count)?;
                    match (net.clamp, kept.last()) {
                        (Some(clamp), Some(Kept::Colours(Some(y)))) => {
                            // SAFETY: the kernel's arguments, each of `count` numbers.
                            unsafe { gpu.each(("style", "colours_unclamped"), count, arguments![from, y.at(), own.at(), count, clamp])? };
                        }
                        // SAFETY: as above.
                        _ => unsafe { gpu.each(("style", "repeated"), count, arguments![from, own.at(), 1, count])? },
                    }
                    if need.parameters[layer.bias] {
                        let sums = gpu.alloc(layer.outputs)?;
                        let arguments = arguments![own.at(), sums.at(), n, layer.outputs, h * w];
                        // SAFETY: as above.
                        unsafe { gpu.launch(("style", "channel_totals"), [layer.outputs, 1, 1], 256, 0, arguments)? };
                        found.parameters[layer.bias] = Some(sums);
                    }
                    let below = net.layers[..i].iter().rev().find(|l| l.role == Role::Colours);
                    if let Some(below) = below.filter(|below| below.height != h) {
                        let small = gpu.alloc(count / 4)?;
                        let [a, b, c, d] = net.blur;
                        let arguments = arguments![from, small.at(), n * layer.outputs, below.height, below.width, a, b, c, d];
                        // SAFETY: as above; a quarter of the pixels.
                        unsafe { gpu.each(("style", "colours_reduce"), count / 4, arguments)? };
                        of_image = Some(small);
                    }
                    colours = Some(ColoursBack { index: i, weights: self.colour_weights(layer)?, gradient: own });
                }
                Role::Convolution { strength, noise } => {
                    let Some(Kept::Features { y, d }) = kept.pop() else { bail!("synthesis: {} was not kept", layer.name) };
                    let k = layer.outputs;
                    let g = gpu.alloc(n * k * h * w)?;
                    let count = colours.as_ref().map_or(0, |c| net.layers[c.index].outputs);
                    let chunks = (h * w).div_ceil(4096);
                    let part = gpu.alloc(n * k * chunks * (3 + count))?;
                    let (plain, q, direct) = (gpu.alloc(n * k)?, gpu.alloc(n * k)?, gpu.alloc(n * k)?);
                    let of_colours = gpu.alloc(n * k * count)?;
                    let (map, step) = self.map(noise, h * w);
                    let above_style = above.as_ref().map_or(Argument::NULL, |a| self.style(&net.layers[a.index]));
                    let arguments = arguments![
                        y.at(),
                        above.as_ref().map_or(Argument::NULL, |a| a.u.at()),
                        above_style,
                        net.styles,
                        colours.as_ref().map_or(Argument::NULL, |c| c.gradient.at()),
                        colours.as_ref().map_or(Argument::NULL, |c| c.weights.at()),
                        count,
                        self.parameters[layer.bias],
                        map,
                        step,
                        self.parameters[strength],
                        self.clamp(),
                        g.at(),
                        part.at(),
                        n,
                        k,
                        h,
                        w,
                        layer.up as i32
                    ];
                    let sums = arguments![part.at(), d.at(), plain.at(), q.at(), direct.at(), of_colours.at(), n, k, chunks, count];
                    // SAFETY: the kernels' arguments, of the layer's sizes.
                    unsafe {
                        gpu.launch(("style", "activation_back"), [chunks, (n * k).min(65535), 1], 256, 0, arguments)?;
                        gpu.each(("style", "activation_sums"), n * k, sums)?;
                    }
                    if let Some(above) = above.take().filter(|a| need.styles[a.index]) {
                        self.style_gradient(&above, &direct, &mut found)?;
                    }
                    if let Some(c) = colours.take() {
                        self.colours_back(c.index, &of_colours, need, &mut found)?;
                    }
                    if need.parameters[layer.bias] {
                        let total = gpu.alloc(k)?;
                        // SAFETY: as above.
                        unsafe { gpu.each(("style", "sample_totals"), k, arguments![plain.at(), total.at(), n, k])? };
                        found.parameters[layer.bias] = Some(total);
                    }
                    if need.noise[noise] || need.parameters[strength] {
                        let rows = gpu.alloc(n * h * w)?;
                        let up = layer.up as i32;
                        // SAFETY: as above.
                        unsafe { gpu.each(("style", "pixel_totals"), n * h * w, arguments![g.at(), rows.at(), n, k, h, w, up])? };
                        if need.parameters[strength] {
                            let out = gpu.zeros(1)?;
                            if self.noise[noise].1 > 0 {
                                let arguments = arguments![rows.at(), map, step, out.at(), n, h * w];
                                // SAFETY: as above.
                                unsafe { gpu.launch(("style", "strength_gradient"), [1, 1, 1], 256, 0, arguments)? };
                            }
                            found.parameters[strength] = Some(out);
                        }
                        if need.noise[noise] {
                            let maps = self.noise[noise].1;
                            let out = gpu.alloc(maps * h * w)?;
                            let arguments = arguments![rows.at(), self.parameters[strength], out.at(), n, maps, h * w];
                            // SAFETY: as above.
                            unsafe { gpu.each(("style", "noise_gradient"), maps * h * w, arguments)? };
                            found.noise[noise] = Some(out);
                        }
                    }
                    drop(y);
                    let constant;
                    let x = match kept.iter().rev().find_map(features) {
                        Some(x) => x,
                        None => {
                            constant = self.constant()?;
                            &constant
                        }
                    };
                    if need.parameters[layer.weight] {
                        found.parameters[layer.weight] = Some(self.of_weights(layer, x, &g, &d, &q)?);
                    }
                    let goes_on = i > lowest || need.parameters[0];
                    if goes_on || need.styles[i] {
                        let (small_h, small_w, phases) = Self::small(layer);
                        let how =
                            Convolution { inputs: k * phases, outputs: layer.inputs, height: small_h, width: small_w, phases, flip: true };
                        let u = self.convolve(g.at(), &self.effective(layer)?, self.style(layer), &d, &how, UNCHANGED)?;
                        let this = Above { index: i, u, q };
                        if i > lowest {
                            above = Some(this);
                            continue;
                        }
                        let area = small_h * small_w;
                        if need.styles[i] {
                            let direct = gpu.alloc(n * layer.inputs)?;
                            let planes = n * layer.inputs;
                            let arguments = arguments![x.at(), this.u.at(), direct.at(), planes, area];
                            // SAFETY: as above.
                            unsafe { gpu.launch(("style", "plane_products"), [planes.min(65535), 1, 1], 256, 0, arguments)? };
                            self.style_gradient(&this, &direct, &mut found)?;
                        }
                        if need.parameters[0] {
                            let out = gpu.alloc(layer.inputs * area)?;
                            let arguments = arguments![this.u.at(), self.style(layer), net.styles, out.at(), n, layer.inputs, area];
                            // SAFETY: as above.
                            unsafe { gpu.each(("style", "constant_gradient"), layer.inputs * area, arguments)? };
                            found.parameters[0] = Some(out);
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    /// Puts a style's gradient where it belongs: from the input's (`direct`, [n][inputs]) and by way of the norm.
    fn style_gradient(&self, of: &Above, direct: &Numbers, found: &mut Gradients) -> Result<()> {
        let layer = &self.net.layers[of.index];
        let e = self.energy(layer)?;
        let (to, step) = (found.styles.at().plus(layer.style), self.net.styles);
        let arguments = arguments![direct.at(), e.at(), self.style(layer), of.q.at(), to, step, layer.outputs, layer.inputs];
        // SAFETY: the kernel's arguments, of the layer's sizes.
        unsafe { self.gpu.launch(("conv", "conv_style_gradient"), [layer.inputs.div_ceil(256), self.n, 1], 256, 0, arguments) }
    }

    /// Gradients of a ToRGB layer's style and weights from the sums of features times colours' gradients, [n][colours][inputs].
    fn colours_back(&self, index: usize, sums: &Numbers, need: &Need, found: &mut Gradients) -> Result<()> {
        let layer = &self.net.layers[index];
        let dw = self.gpu.alloc(layer.outputs * layer.inputs)?;
        let ds = if need.styles[index] { found.styles.at().plus(layer.style) } else { Argument::NULL };
        let (w, s) = (self.parameters[layer.weight], self.style(layer));
        let arguments = arguments![sums.at(), w, s, self.net.styles, ds, dw.at(), self.n, layer.outputs, layer.inputs, layer.scale()];
        // SAFETY: as above.
        unsafe { self.gpu.each(("style", "colour_gradients"), layer.inputs, arguments)? };
        if need.parameters[layer.weight] {
            found.parameters[layer.weight] = Some(dw);
        }
        Ok(())
    }

    /// The gradient of a convolution's weights, [outputs][inputs][9], from that of its sums `g` as `activation_back` lays it.
    fn of_weights(&self, layer: &Layer, x: &Numbers, g: &Numbers, d: &Numbers, q: &Numbers) -> Result<Numbers> {
        let Self { gpu, n, .. } = *self;
        let (h, w, phases) = Self::small(layer);
        let (inputs, outputs) = (layer.inputs, layer.outputs * phases);
        let cores = gpu.tensor_cores() && inputs.is_multiple_of(32) && outputs.is_multiple_of(32) && w.is_multiple_of(4);
        let side = if cores { 32 } else { 16 };
        let (across, down) = (inputs.div_ceil(side), outputs.div_ceil(side));
        // So many shares of the pixels that a large GPU's cores have work each, but not more than there are rows.
        let splits = (512 / (across * down * n)).clamp(1, h.div_ceil(2).max(1));
        let part = gpu.alloc(n * splits * outputs * inputs * 9)?;
        let arguments = arguments![x.at(), g.at(), part.at(), inputs, outputs, h, w, splits];
        let grid = [across, down, n * splits];
        // SAFETY: the kernels' arguments, of the layer's sizes; the tiles' conditions were looked at.
        match cores {
            true => unsafe { gpu.launch(("conv", "conv_grad_32x32"), grid, 64, 2 * 4 * (32 * 68 + 32 * 164), arguments)? },
            false => unsafe { gpu.launch(("conv", "conv_grad_plain"), grid, 256, 0, arguments)? },
        }
        let count = layer.outputs * inputs;
        let dw = gpu.alloc(count * 9)?;
        let [b0, b1, b2, b3] = self.taps();
        let arguments = arguments![
            part.at(),
            self.parameters[layer.weight],
            self.style(layer),
            self.net.styles,
            d.at(),
            q.at(),
            dw.at(),
            n,
            splits,
            layer.outputs,
            inputs,
            layer.scale(),
            layer.up as i32,
            b0,
            b1,
            b2,
            b3
        ];
        // SAFETY: as above.
        unsafe { gpu.each(("conv", "conv_grad_finish"), count, arguments)? };
        Ok(dw)
    }
}

/// A convolution on the way back, whose style's gradient is not complete yet.
struct Above {
    index: usize,
    /// Its input's gradient, still without the style: [n][inputs][pixels].
    u: Numbers,
    /// What reaches the demodulation: its gradient over -d^-3, [n][outputs].
    q: Numbers,
}

/// The lowest layer that the way back must reach.
fn lowest(net: &Network, need: &Need) -> Option<usize> {
    let asked = |i: usize, layer: &Layer| {
        let noise = matches!(layer.role, Role::Convolution { noise, .. } if need.noise[noise]);
        need.styles[i] || noise || layer.parameters().any(|p| need.parameters[p])
    };
    let lowest = if need.parameters[0] { Some(0) } else { (0..net.layers.len()).find(|&i| asked(i, &net.layers[i])) }?;
    // Colours get their gradients on the way back through the features that they are made of.
    Some(if net.layers[lowest].role == Role::Colours { lowest.saturating_sub(1) } else { lowest })
}

/// The way back of a ToRGB layer, on its way to the features that it read.
struct ColoursBack {
    index: usize,
    /// [n][colours][inputs]
    weights: Numbers,
    /// [n][colours][h][w]
    gradient: Numbers,
}

/// Puts features where the last convolution's are still missing.
fn put(kept: &mut [Kept], features: Numbers) {
    if let Some(y) = kept.iter_mut().rev().find_map(|kept| match kept {
        Kept::Features { y, .. } => Some(y),
        Kept::Colours(_) => None,
    }) {
        *y = features;
    }
}

/// A layer's output, where it has features.
fn features(kept: &Kept) -> Option<&Numbers> {
    match kept {
        Kept::Features { y, .. } => Some(y),
        Kept::Colours(_) => None,
    }
}
