//! What a synthesis network is made of, for the operation and for the devices that compute it.

use super::cpu;
use super::cpu::conv::{is_worth, is_worth_up, Epilogue, Map, Panels, Winograd, WinogradUp};
use candle_core::{Result, Tensor};
use rayon::prelude::*;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// What a layer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    /// A modulated 3x3 convolution with demodulation, noise, bias and activation.
    Convolution {
        /// The parameter that noise is multiplied with.
        strength: usize,
        /// From 0 among the convolutions.
        noise: usize,
    },
    /// ToRGB: a modulated 1x1 convolution without demodulation, whose colours are added to those before, enlarged.
    Colours,
}

/// A layer that has a style. Parameters are counted as in [`Network::parameters`].
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// For those who see it go by.
    pub name: String,
    pub role: Role,
    pub inputs: usize,
    pub outputs: usize,
    /// Of its output.
    pub height: usize,
    pub width: usize,
    /// Doubles the resolution.
    pub up: bool,
    /// Where its style begins among all styles.
    pub style: usize,
    /// [outputs, inputs, k, k]
    pub weight: usize,
    /// [outputs]
    pub bias: usize,
}

impl Layer {
    /// Run-time scale of the weights: 1 / sqrt(fan-in).
    pub(super) fn scale(&self) -> f32 {
        let kernel = if self.role == Role::Colours { 1 } else { 9 };
        1.0 / ((self.inputs * kernel) as f32).sqrt()
    }

    /// Whether `n` pictures go through it by Winograd's products, in either direction.
    pub(super) fn is_winograd(&self, n: usize) -> bool {
        match self.up {
            true => is_worth_up(n, self.height / 2, self.width / 2, self.inputs, self.outputs),
            false => is_worth(n, self.height, self.width, self.inputs, self.outputs),
        }
    }

    pub(super) fn parameters(&self) -> impl Iterator<Item = usize> {
        let strength = match self.role {
            Role::Convolution { strength, .. } => Some(strength),
            Role::Colours => None,
        };
        [Some(self.weight), Some(self.bias), strength].into_iter().flatten()
    }
}

/// What is made of a layer's weights, once for as long as they stay the same.
#[derive(Default)]
pub(crate) struct Packed {
    forward: OnceLock<Panels>,
    back: OnceLock<Panels>,
    /// At Winograd's points, three to four times as large: where weights stay the same for many passes, so that these are transformed once.
    points: OnceLock<AtPoints>,
    points_back: OnceLock<AtPoints>,
    energy: OnceLock<Vec<f32>>,
}

/// A layer's weights at Winograd's points, for one direction.
pub(super) enum AtPoints {
    Plain(Winograd),
    Up(WinogradUp),
}

impl AtPoints {
    fn new(layer: &Layer, panels: &Panels, lasting: bool) -> Self {
        match layer.up {
            true => Self::Up(WinogradUp::there(panels, lasting)),
            false => Self::Plain(Winograd::new(panels, lasting)),
        }
    }

    fn back(layer: &Layer, panels: &Panels, lasting: bool) -> Self {
        match layer.up {
            true => Self::Up(WinogradUp::back(panels, lasting)),
            false => Self::Plain(Winograd::new(panels, lasting)),
        }
    }

    /// The convolution of x times `factor`, or, of weights for the way back, its input gradient.
    pub(super) fn run<E: Epilogue>(&self, x: Map, factor: &[f32], blur: [f32; 4], epilogue: &E, out: &mut [f32]) {
        match self {
            Self::Plain(weights) => weights.correlate(x, factor, epilogue, out),
            Self::Up(weights) => weights.run(x, factor, blur, epilogue, out),
        }
    }
}

/// Weights at Winograd's points, for as long as the layer or for one pass.
pub(super) enum Points<'a> {
    Kept(&'a AtPoints),
    Made(AtPoints),
}

impl Deref for Points<'_> {
    type Target = AtPoints;
    fn deref(&self) -> &AtPoints {
        match self {
            Points::Kept(points) => points,
            Points::Made(points) => points,
        }
    }
}

/// What `cell` holds. Several threads may make it at the same time, of which one is heard: none may wait for another here, as a thread that waits for
/// parts of its own work takes up other work, and may meet this cell again.
fn once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> T) -> &T {
    match cell.get() {
        Some(made) => made,
        None => {
            let made = make();
            cell.get_or_init(|| made)
        }
    }
}

impl Packed {
    /// Makes all that a pass of `n` pictures will ask for.
    fn prepare(&self, layer: &Layer, n: usize, w: &[f32], keep: bool, back: bool) {
        match keep && layer.is_winograd(n) {
            true => drop(self.points(layer, w, true)),
            false => drop(self.forward(layer, w)),
        }
        self.energy(layer, w);
        if back {
            match keep && layer.is_winograd(n) {
                true => drop(self.points_back(layer, w, true)),
                false => drop(self.back(layer, w)),
            }
        }
    }

    /// `keep`: for those who come later, and then without keeping what they are made of.
    pub(super) fn points(&self, layer: &Layer, w: &[f32], keep: bool) -> Points<'_> {
        match keep {
            true => Points::Kept(once(&self.points, || AtPoints::new(layer, &Panels::new(w, layer.outputs, layer.inputs, 9), true))),
            false => Points::Made(AtPoints::new(layer, self.forward(layer, w), false)),
        }
    }

    /// As [`Packed::points`], of the input gradient.
    pub(super) fn points_back(&self, layer: &Layer, w: &[f32], keep: bool) -> Points<'_> {
        let made = || Panels::back(w, layer.outputs, layer.inputs, 9, !layer.up);
        match keep {
            true => Points::Kept(once(&self.points_back, || AtPoints::back(layer, &made(), true))),
            false => Points::Made(AtPoints::back(layer, self.back(layer, w), false)),
        }
    }

    pub(super) fn forward(&self, layer: &Layer, w: &[f32]) -> &Panels {
        once(&self.forward, || Panels::new(w, layer.outputs, layer.inputs, 9))
    }

    pub(super) fn back(&self, layer: &Layer, w: &[f32]) -> &Panels {
        once(&self.back, || Panels::back(w, layer.outputs, layer.inputs, 9, !layer.up))
    }

    /// Sum over the kernel of the squared scaled weight: [outputs][inputs].
    pub(super) fn energy(&self, layer: &Layer, w: &[f32]) -> &[f32] {
        let s2 = layer.scale() * layer.scale();
        once::<Vec<f32>>(&self.energy, || w.par_chunks(9).map(|k| s2 * k.iter().map(|v| v * v).sum::<f32>()).collect())
    }
}

/// A synthesis network. What its device makes of weights (another order of them) is kept as long as it lives: one that is made of variables
/// must be made anew after they have changed.
#[derive(Clone)]
pub(crate) struct Network {
    /// Of the constant that the first layer reads: channels, height, width.
    pub start: [usize; 3],
    /// In the order of drawing; each ToRGB reads the convolution before it.
    pub layers: Vec<Layer>,
    /// The constant [1, c, h, w], then those that layers name.
    pub parameters: Vec<Tensor>,
    /// Numbers of all styles.
    pub styles: usize,
    /// Taps of the blur of up-samplings; their sum is 2, to make up for the zeros between.
    pub blur: [f32; 4],
    /// Features and colours are clamped to +- this.
    pub clamp: Option<f32>,
    /// By parameter; those of layers that the network before had too are its own.
    pub(super) packed: Vec<Arc<Packed>>,
    /// Whether what a device makes of weights is dropped after each use.
    pub(super) lean: bool,
}

impl Network {
    /// `before`: another network of the same layers; what is the same tensor there is not packed again.
    pub(crate) fn new(
        start: [usize; 3],
        layers: Vec<Layer>,
        parameters: Vec<Tensor>,
        blur: [f32; 4],
        clamp: Option<f32>,
        before: Option<&Network>,
    ) -> Self {
        let styles = layers.last().map_or(0, |layer| layer.style + layer.inputs);
        let old =
            |i: usize, t: &Tensor| before.filter(|b| b.parameters.get(i).is_some_and(|p| p.id() == t.id())).map(|b| b.packed[i].clone());
        // What is trained changes where it lies.
        let packed = parameters.iter().enumerate().map(|(i, t)| old(i, t).filter(|_| !t.track_op()).unwrap_or_default()).collect();
        Self { start, layers, parameters, styles, blur, clamp, packed, lean: before.is_some_and(|b| b.lean) }
    }

    /// The same, without what its device has made of weights; what it makes goes when it goes.
    pub(crate) fn afresh(&self) -> Self {
        let packed = self.parameters.iter().map(|_| Arc::default()).collect();
        Self { packed, ..self.clone() }
    }

    /// The same, which keeps nothing that its device makes of weights, nor will those that come after it.
    pub(crate) fn lean(&self) -> Self {
        Self { lean: true, ..self.afresh() }
    }

    /// Makes what passes of `n` pictures will ask for, with `back` what their ways back will: passes that begin at the same time would each make it.
    /// A GPU has nothing to make.
    pub(crate) fn prepare(&self, n: usize, back: bool) -> Result<()> {
        if !self.parameters[0].device().is_cpu() {
            return Ok(());
        }
        for layer in self.layers.iter().filter(|layer| layer.role != Role::Colours && !self.lean) {
            let weight = self.parameters[layer.weight].contiguous()?;
            let (storage, layout) = weight.storage_and_layout();
            self.packed[layer.weight].prepare(layer, n, cpu::on_host(&storage, layout, "synthesis")?, self.keeps_points(layer), back);
        }
        Ok(())
    }

    /// Whether a layer's weights are kept at Winograd's points: those that are trained change after each step.
    pub(super) fn keeps_points(&self, layer: &Layer) -> bool {
        !self.lean && !self.parameters[layer.weight].track_op()
    }

    pub(super) fn convolutions(&self) -> usize {
        self.layers.iter().filter(|layer| layer.role != Role::Colours).count()
    }
}
