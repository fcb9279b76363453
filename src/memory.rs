//! How much memory a call will need beside what is loaded, estimated before it begins from the sizes of its networks.
//!
//! The sums name what the code below holds at its worst moment: what candle's graph keeps for gradients, what a layer works on, copies of
//! trained weights. They are in numbers of 4 bytes until the end. tests/memory.rs compares them with what processes really took.

use crate::adapt::{judge, parts, Parameters, Phase, Settings};
use crate::invert;
use crate::kernels::SCRATCH_KEPT;
use crate::nn::clip::{self, VisionConfig};
use crate::nn::stylegan2::Config;

/// What every call takes, in bytes: tables, small tensors, threads.
const BASE: u64 = 2 << 20;

/// The C library gives blocks of this size, in bytes, back when they are freed. It keeps smaller ones for later, so that a process with
/// small tensors holds what its phases need together rather than what the largest needs.
const GIVEN_BACK: usize = 32 << 20;

/// A convolution of the synthesis network: channels and side of what goes in and what comes out.
struct Layer {
    inputs: usize,
    from: usize,
    outputs: usize,
    to: usize,
}

impl Layer {
    fn taken(&self) -> usize {
        self.inputs * self.from * self.from
    }

    fn given(&self) -> usize {
        self.outputs * self.to * self.to
    }

    /// Numbers of the kernel and of the affine layer.
    fn weights(&self, style: usize) -> usize {
        self.inputs * (9 * self.outputs + style)
    }
}

fn layers(config: &Config) -> Vec<Layer> {
    let at = |side: usize| config.channels[&side];
    let mut layers = vec![Layer { inputs: at(4), from: 4, outputs: at(4), to: 4 }];
    for to in config.resolutions().skip(1) {
        layers.push(Layer { inputs: at(to / 2), from: to / 2, outputs: at(to), to });
        layers.push(Layer { inputs: at(to), from: to, outputs: at(to), to });
    }
    layers
}

fn largest(config: &Config, of: impl Fn(&Layer) -> usize) -> usize {
    layers(config).iter().map(of).max().unwrap_or(0)
}

/// Numbers in a picture as the network gives it.
fn picture(config: &Config) -> usize {
    3 * config.size * config.size
}

/// Drawing one picture without gradients, at its widest layer: its input, padded too, the sums, and the output before and after the
/// activation; and the picture with the smaller one below it.
fn drawing(config: &Config) -> usize {
    largest(config, |l| 2 * l.taken() + 2 * l.given()) + 3 * picture(config)
}

/// What the graph of one picture keeps: of each layer the output before and after the activation, of each resolution's picture the parts
/// of its sum.
fn graph(config: &Config) -> usize {
    let pictures: usize = config.resolutions().map(|side| 4 * 3 * side * side).sum();
    layers(config).iter().map(|l| 2 * l.given()).sum::<usize>() + pictures
}

/// The widest layer on the way back: the activation's gradient takes its own, the next and their sum; the convolution's the padded
/// gradient, the sums, those three for its input, and, where weights are trained, the padded input and its products with the gradient.
fn way_back(config: &Config, weights: bool) -> usize {
    largest(config, |l| (4 * l.given()).max(2 * l.given() + (5 + 4 * weights as usize) * l.taken()))
}

/// What the kernels keep to work on again, after drawing `n` pictures at a time.
fn scratch(config: &Config, n: usize) -> usize {
    SCRATCH_KEPT.min(n * largest(config, |l| l.taken() + l.given()))
}

/// What a CLIP takes for one picture: with gradients what its graph keeps and one block's work, without them only that.
fn looking(clip: &clip::Config, gradients: bool) -> usize {
    match &clip.vision {
        VisionConfig::Vit(c) => {
            let (width, hidden) = (c.transformer.width, c.transformer.hidden);
            let tokens = (c.resolution / c.patch).pow(2) + 1;
            let block = tokens * (8 * width + 2 * hidden);
            let kept = c.transformer.layers * tokens * (5 * width + hidden) + 4 * tokens * width;
            6 * 3 * c.resolution * c.resolution + block + if gradients { kept } else { 0 }
        }
        VisionConfig::ResNet(c) => {
            // Each convolution's output, with its bias, and rectified.
            let stem = 4 * c.width * (c.resolution / 2).pow(2);
            let stage = |(i, &count): (usize, &usize)| {
                let area = (c.resolution / (4 << i)).pow(2);
                // The first block of a stage works at the side before it until its pool.
                (count * 6 + 2 * 4) * (c.width << i) * area
            };
            let outputs: usize = stem + c.layers.iter().enumerate().map(stage).sum::<usize>();
            6 * 3 * c.resolution * c.resolution + if gradients { 3 * outputs } else { 4 * stem }
        }
    }
}

/// Embedding the prompts of one text, so many at a time.
fn reading(clip: &clip::Config, templates: usize) -> usize {
    let t = &clip.text.transformer;
    templates.min(clip::TEXTS_AT_ONCE) * clip.text.context * (7 * t.width + 2 * t.hidden)
}

fn bytes(numbers: usize) -> u64 {
    BASE + 4 * numbers as u64
}

/// Drawing `count` points with domains that change `changed` numbers of the weights, as pictures of 4 channels.
pub fn render(config: &Config, count: usize, changed: usize) -> u64 {
    let at_once = count.min(crate::nn::stylegan2::slice(config));
    // The changed weights, and one more of the largest while they are added up.
    bytes(
        changed
            + changed / 4
            + at_once * drawing(config)
            + scratch(config, at_once)
            + count * (picture(config) + 4 * config.size * config.size),
    )
}

/// Inverting a picture.
pub fn invert(config: &Config, settings: &invert::Settings, clip: Option<&clip::Config>) -> u64 {
    let maps: usize = layers(config).iter().map(|l| l.to * l.to).sum();
    let noise = match settings.optimise_noise {
        // With its own noise a layer's graph keeps a sum more; maps, moments, gradients and the graph of the regulariser.
        true => graph(config) / 2 + 24 * maps,
        false => 0,
    };
    let seen = clip.filter(|_| settings.clip > 0.0).map_or(0, |c| looking(c, true));
    // The picture, what is wanted, and the averages of both with their gradients.
    bytes(graph(config) + noise + seen + way_back(config, false) + scratch(config, 1) + 8 * picture(config))
}

/// Adapting a generator on so many threads.
pub fn adapt(config: &Config, settings: &Settings, clips: &[&clip::Config], templates: usize, threads: usize) -> u64 {
    let trained = match settings.parameters {
        Parameters::Stylespace => 0,
        Parameters::Full => trained_weights(config, settings.phase),
    };
    let eyes = |gradients: bool| clips.iter().map(|c| looking(c, gradients)).sum::<usize>();
    let n = settings.batch;
    let pictures = n * 2 * picture(config);
    let judged = if settings.stop.is_some() { judge::TOGETHER * (drawing(config) + eyes(false)) } else { 0 };
    // The graph stays from drawing until the end of the step; beside it one of: the frozen twin at its widest, the CLIPs, the way back
    // with the weights' gradients, the optimiser's next state. Between steps the stop rule looks. Parts of the batch run side by side,
    // each with gradients of its own.
    let parts = parts::ranges(settings.mode, n).len();
    let side_by_side = parts.min(threads.max(1));
    let at_once = n.div_ceil(parts) * side_by_side;
    let back = at_once * way_back(config, trained > 0) + (parts + side_by_side) * trained;
    let phases = [at_once * drawing(config), at_once * eyes(true), back, 4 * trained];
    let small = 4 * n * largest(config, Layer::given) < GIVEN_BACK;
    let beside = if small { phases.iter().sum::<usize>() + judged } else { phases.into_iter().max().unwrap_or(0) };
    let step = n * graph(config) + pictures + beside + scratch(config, n);
    let selection =
        settings.auto_layers.map_or(0, |a| a.batch * (graph(config) + picture(config) + eyes(true).max(way_back(config, false))));
    let embedded = clips.iter().map(|c| reading(c, templates)).sum();
    // Each snapshot keeps its change, and so does the one that the stop rule chose.
    let snapshots = match settings.snapshot_every {
        0 => 0,
        every => settings.steps.div_ceil(every),
    };
    let kept = trained * (2 + snapshots + settings.stop.is_some() as usize) + snapshots * 8 * 4 * config.size * config.size;
    bytes(kept + step.max(selection).max(judged).max(embedded))
}

fn trained_weights(config: &Config, phase: Phase) -> usize {
    let all: Vec<usize> = layers(config).iter().map(|l| l.weights(config.style_dim)).collect();
    match phase {
        Phase::Convolutions => all.iter().sum(),
        Phase::All => all.iter().sum::<usize>() + config.n_mlp * config.style_dim * config.style_dim,
        Phase::Texture => all[0] + all.iter().skip(3).take(8).sum::<usize>(),
        Phase::Shape => all.iter().take(3).sum(),
        Phase::ShapeExpanded => all.iter().take(4).sum(),
        Phase::NoFine => all.iter().take(11).sum(),
    }
}
