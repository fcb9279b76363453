//! How much memory a call will need beside what is loaded, estimated before it begins from the sizes of its networks, and whether it may
//! begin ([`Need::admit`]).
//!
//! The sums name what the code below holds at its worst moment: what candle's graph keeps for gradients, what a layer works on, copies of
//! trained weights. They are in numbers of 4 bytes until the end. tests/memory.rs compares them with what processes really took.

use crate::adapt::{judge, Domain, Memory, Parameters, Settings, SNAPSHOT_PICTURES};
use crate::error::{Error, Result};
use crate::invert;
use crate::kernels::{is_worth, is_worth_up, GREY_SIDE, PANEL, UP_POINTS, WINOGRAD_POINTS, WINOGRAD_ROOM};
use crate::machine::{self, size, Room};
use crate::nn::clip::{self, VisionConfig};
use crate::nn::generator::{slice, Config, Kind, Layer};
use std::collections::{BTreeMap, BTreeSet};

/// What every call takes, in bytes: tables, small tensors, threads.
const BASE: u64 = 2 << 20;

/// The C library gives blocks of this size, in bytes, back when they are freed. It keeps smaller ones for later, so that a process with
/// small tensors holds what its phases need together rather than what the largest needs.
const GIVEN_BACK: usize = 32 << 20;

/// The most that `of` is of a convolution.
fn largest(config: &Config, of: impl Fn(&Layer) -> usize) -> usize {
    config.of_kind(Kind::Convolution).map(of).max().unwrap_or(0)
}

/// Numbers in a picture as RGB.
fn picture(config: &Config) -> usize {
    config.colours().max(3) * pixels(config)
}

/// Pixels of a picture.
fn pixels(config: &Config) -> usize {
    config.width() * config.height()
}

/// Drawing `n` pictures together without gradients: the features of two layers, each with room for the widest; and the pictures with the smaller
/// ones below them.
fn drawing(config: &Config, n: usize) -> usize {
    2 * n * largest(config, |l| l.to.numbers()) + 3 * n * picture(config)
}

/// Matrices that a convolution's weights become at Winograd's points.
fn matrices(layer: &Layer) -> usize {
    match is_up(layer) {
        true => UP_POINTS,
        false => WINOGRAD_POINTS,
    }
}

/// A convolution's weights at Winograd's points; those of narrow layers hardly count.
fn points(layer: &Layer) -> usize {
    matrices(layer) * layer.from.channels * layer.to.channels
}

/// The weights of all convolutions in the order in which the kernels read them for `n` pictures, for one direction, and their energy. Those of layers
/// that stay the same are kept at Winograd's points.
fn packed(config: &Config, n: usize, frozen: impl Fn(&Layer) -> bool) -> usize {
    let each = |l: &Layer| match is_winograd(l, n) && frozen(l) {
        true => matrices(l) + 1,
        false => 10,
    };
    config.of_kind(Kind::Convolution).map(|l| each(l) * l.from.channels * l.to.channels.next_multiple_of(PANEL)).sum()
}

fn is_up(layer: &Layer) -> bool {
    layer.from.area() != layer.to.area()
}

fn is_winograd(layer: &Layer, n: usize) -> bool {
    let (height, width, inputs, outputs) = (layer.from.height, layer.from.width, layer.from.channels, layer.to.channels);
    match is_up(layer) {
        true => is_worth_up(n, height, width, inputs, outputs),
        false => is_worth(n, height, width, inputs, outputs),
    }
}

/// What one picture's way there keeps for the way back: the output of each layer, and where colours are clamped, theirs.
fn graph(config: &Config) -> usize {
    let colours: usize = config.of_kind(Kind::ToRgb).map(|l| l.to.numbers()).sum();
    let features: usize = config.layers.iter().filter(|l| l.kind != Kind::ToRgb).map(|l| l.to.numbers()).sum();
    features + if config.conv_clamp.is_some() { colours } else { 0 }
}

/// The widest layer on the way back of `n` pictures: the gradients of its output and input; where weights are trained, tiles at Winograd's points
/// and the weights' gradient in both orders; and the pictures' gradient, and that of colours. What is kept from layer to layer keeps
/// the weights at Winograd's points in each of their sizes, each a quarter of the one before.
fn backward(config: &Config, n: usize, weights: bool) -> usize {
    let features = |l: &Layer| n * (l.from.numbers() + l.to.numbers());
    let tiles = |l: &Layer| if weights { WINOGRAD_ROOM.min(3 * features(l)) + points(l) / 2 } else { 0 };
    largest(config, |l| features(l) + tiles(l)) + largest(config, points) * 4 / 3 + 3 * n * picture(config)
}

/// What two of the kernels' threads keep to work on again: tiles at Winograd's points with the products of 64 channels, of an up-sampling as many as
/// a tile of 32 x 32 pixels has, with more than 128 channels of 8 x 32.
fn scratch(config: &Config) -> usize {
    let tile = |l: &Layer| match (is_up(l), l.from.channels) {
        (true, ..=128) => 6084.min(8 * l.from.area()),
        (true, _) => 1716.min(8 * l.from.area()),
        (false, _) => WINOGRAD_POINTS * 96.min(l.from.area().div_ceil(16)),
    };
    2 * largest(config, |l| tile(l) * (l.from.channels + 64))
}

/// What a CLIP takes for one picture: with gradients what its graph keeps and one block's work, without them only that.
fn image_tower(clip: &clip::Config, gradients: bool) -> usize {
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

/// Numbers of the noise maps of one picture.
fn maps(config: &Config) -> usize {
    config.of_kind(Kind::Convolution).map(|l| l.to.area()).sum()
}

/// Embedding the prompts of one text, so many at a time, with the tower that is read for it.
fn texts(clip: &clip::Config, templates: usize) -> usize {
    let t = &clip.text.transformer;
    let tower =
        t.layers * t.width * (4 * t.width + 2 * t.hidden) + (clip.text.vocabulary + clip.text.context + clip.text.embedding) * t.width;
    tower + templates.min(clip::TEXTS_AT_ONCE) * clip.text.context * (7 * t.width + 2 * t.hidden)
}

fn bytes(numbers: usize) -> u64 {
    BASE.saturating_add((numbers as u64).saturating_mul(4))
}

/// Drawing `count` points with domains that change `changed` numbers of the weights, as pictures of 4 channels.
pub fn render(config: &Config, count: usize, changed: usize) -> u64 {
    let handed_out = count.saturating_mul(picture(config) + 4 * pixels(config));
    let at_once = count.min(slice(config));
    // The changed weights, in the kernels' order too, and one more of the largest while they are added up.
    let weights = packed(config, at_once, |_| true) + 2 * changed + changed / 4;
    bytes((weights + drawing(config, at_once) + scratch(config)).saturating_add(handed_out))
}

/// Inverting a picture.
pub fn invert(config: &Config, settings: &invert::Settings, clip: Option<&clip::Config>) -> u64 {
    let maps = maps(config);
    let noise = match settings.optimise_noise {
        // Maps, moments, gradients and the graph of the regulariser.
        true => 24 * maps,
        false => 0,
    };
    let seen = clip.filter(|_| settings.clip_weight > 0.0).map_or(0, |c| image_tower(c, true));
    // The picture, what is wanted, and the averages of both with their gradients.
    bytes(
        2 * packed(config, 1, |_| true) + graph(config) + noise + seen + backward(config, 1, false) + scratch(config) + 8 * picture(config),
    )
}

/// Adapting a generator on so many threads.
pub fn adapt(config: &Config, settings: &Settings, clips: &[&clip::Config], templates: usize, threads: usize) -> u64 {
    // What is trained may end at a smaller picture than what previews show. A size without a picture is refused before anything is drawn.
    let whole = config;
    let cut = whole.cut(settings.train_resolution, "train_resolution").ok();
    let config = cut.as_ref().unwrap_or(whole);
    let trained = match settings.parameters {
        Parameters::Stylespace => 0,
        Parameters::Full => trained_weights(config, settings),
    };
    let towers = |gradients: bool| clips.iter().map(|c| image_tower(c, gradients)).sum::<usize>();
    let n = settings.batch;
    let pictures = n * 2 * picture(config);
    let judged = settings.stop.map_or(0, |rule| {
        let together = judge::together(config);
        let groups = rule.latents.div_ceil(together).min(judge::side_by_side(config, threads));
        groups * (drawing(config, together) + together * towers(false))
    });
    // The graph stays from drawing until the end of the step; beside it one of: the frozen twin at its widest, the CLIPs, the way back
    // with the weights' gradients. Between steps the stop rule looks. Parts of the batch run side by side, each with gradients of its own, or
    // one after the other, whose gradients are added up.
    let low = settings.memory == Memory::Low;
    let parts = settings.parts(n).len();
    let side_by_side = if low { 1 } else { parts.min(threads.max(1)) };
    let at_once = n.div_ceil(parts) * side_by_side;
    let back = backward(config, at_once, trained > 0) + if low { parts.min(2) } else { parts } * trained;
    let phases = [drawing(config, at_once), if low { n } else { at_once } * towers(true), back];
    let small = 4 * n * largest(config, |l| l.to.numbers()) < GIVEN_BACK;
    let beside = if small { phases.iter().sum::<usize>() + judged } else { phases.into_iter().max().unwrap_or(0) };
    // Noise is drawn before a step begins, that of the selection before each of its iterations.
    let maps = if settings.noise { maps(config) } else { 0 };
    let twins = if settings.rules().shared_draws { 1 } else { 2 };
    let drawn = (twins * n).max(settings.auto_layers.map_or(0, |a| a.batch)) * maps;
    let step = if low { 1 } else { n } * graph(config) + pictures + beside + scratch(config);
    // One graph from W+ through all CLIPs, kept until its way back ends.
    let selected = graph(config) + picture(config) + towers(true);
    // Parts of it one after the other, small pictures' on all threads.
    let scored = |batch: usize| {
        let parts = settings.parts(batch).len();
        batch.div_ceil(parts) * judge::side_by_side(config, threads).min(parts)
    };
    let selection = settings.auto_layers.map_or(0, |a| scored(a.batch) * selected + backward(config, scored(a.batch), false));
    // What pictures as a target are compared with.
    let own = drawing(config, slice(config)) + 16 * (picture(config) + towers(false));
    let embedded = clips.iter().map(|c| texts(c, templates)).sum();
    // Each snapshot keeps its change, and so does the one that the stop rule chose.
    let snapshots = match settings.snapshot_every {
        0 => 0,
        every => settings.steps.div_ceil(every),
    };
    // Unadapted pictures of previews are kept too.
    let previewed = if snapshots > 0 { drawing(whole, slice(whole).min(SNAPSHOT_PICTURES)) } else { 0 };
    let plain = if snapshots > 0 { SNAPSHOT_PICTURES * 4 * pixels(whole) } else { 0 };
    let kept = trained * (2 + settings.stop.is_some() as usize) + plain + pool(settings, clips);
    let kept = kept.saturating_add(snapshots.saturating_mul(trained + 8 * 4 * pixels(whole)));
    // The frozen twin's way there and the trained one's both ways, where its weights are its own. Those that a step does not train stay the same:
    // of a selection that is all of them. With a pool the frozen twin's go before the rest of a step.
    let frozen = |l: &Layer| settings.auto_layers.is_some() || !settings.trains(l);
    let twin = if low { 0 } else { packed(config, at_once, |_| true) };
    let packs = match low {
        // Of the layer that is being gone through.
        true => largest(config, |l| 10 * l.from.channels * l.to.channels),
        false if trained > 0 && settings.pooled() > 0 => 2 * packed(config, at_once, frozen),
        false if trained > 0 => twin + 2 * packed(config, at_once, frozen),
        false => 2 * twin,
    };
    // Before a step its unadapted pictures are drawn that the pool lacks, one on each thread.
    let lacking = match settings.pooled() {
        0 => 0,
        most => {
            let at_once = if low { 1 } else { most.min(n).min(threads.max(1)) };
            twin + drawing(config, at_once) + at_once * towers(false) + scratch(config)
        }
    };
    let most = [step, lacking, selection, judged, embedded, own, previewed].into_iter().max().unwrap_or(0);
    bytes(kept.saturating_add(packs + drawn + most))
}

/// What is kept of the pool's pictures: what CLIPs see of them before it is changed at random, or else the embeddings; and small grey versions.
fn pool(settings: &Settings, clips: &[&clip::Config]) -> usize {
    let side = |c: &&clip::Config| match &c.vision {
        VisionConfig::Vit(c) => c.resolution,
        VisionConfig::ResNet(c) => c.resolution,
    };
    let seen: usize = match settings.augment {
        true => clips.iter().map(side).collect::<BTreeSet<_>>().into_iter().map(|r| 3 * r * r).sum(),
        false => clips.iter().map(|c| c.text.embedding).sum(),
    };
    settings.pooled() * (seen + GREY_SIDE * GREY_SIDE)
}

/// Numbers of the weights that settings train.
fn trained_weights(config: &Config, settings: &Settings) -> usize {
    let layers = config.layers.iter().filter(|l| settings.trains(l)).map(|l| l.parameters(config.style_dim)).sum::<usize>();
    let mapping = config.style_dim * (config.z_dim + (config.n_mlp - 1) * config.style_dim);
    layers + if settings.trains_mapping() { mapping } else { 0 }
}

/// What a call needs, and what of it would fit into less.
pub struct Need<'a> {
    what: &'static str,
    bytes: u64,
    /// In so many bytes; the words that end a refusal.
    would_fit: Box<dyn Fn(u64) -> String + 'a>,
}

impl<'a> Need<'a> {
    /// Of drawing `count` points with `domains`, all handed out as pictures.
    pub fn drawing(config: &'a Config, count: usize, domains: &[(&Domain, f32)]) -> Self {
        let changed = changed(domains);
        Self::of_points(count, move |count| render(config, count, changed))
    }

    /// Of drawing them a few at a time, of which `kept` numbers of each pixel stay: 4 of a picture, 8 of one that is put on a sheet too.
    pub fn drawing_each(config: &'a Config, count: usize, domains: &[(&Domain, f32)], kept: usize) -> Self {
        let changed = changed(domains);
        Self::of_points(count, move |count| {
            let at_once = render(config, count.min(slice(config)), changed);
            at_once.saturating_add((4 * kept as u64 * pixels(config) as u64).saturating_mul(count as u64))
        })
    }

    /// Of drawing `count` points of W: the input, and an activation of the mapping network with its successor and their gains.
    pub fn sampling(config: &'a Config, count: usize) -> Self {
        let of = |count: usize| bytes(count.saturating_mul(2 * config.z_dim + 4 * config.style_dim));
        Self { what: "sampling", ..Self::of_points(count, of) }
    }

    fn of_points(count: usize, of: impl Fn(usize) -> u64 + 'a) -> Self {
        let bytes = of(count);
        let would_fit = move |room: u64| match most(count, |n| of(n) <= room) {
            Some(n) => format!("{n} at a time would need about {}", size(of(n))),
            None => format!("even one would need about {}", size(of(1))),
        };
        Self { what: "rendering", bytes, would_fit: Box::new(would_fit) }
    }

    pub fn inverting(config: &'a Config, settings: &'a invert::Settings, clip: Option<&'a clip::Config>) -> Self {
        let plain = invert::Settings { optimise_noise: false, clip_weight: 0.0, ..settings.clone() };
        let would_fit = move |room: u64| match invert(config, &plain, None) {
            least if least < invert(config, settings, clip) => {
                let verdict = if least <= room { "it" } else { "even then it" };
                format!("without optimised noise and without a CLIP loss {verdict} would need about {}", size(least))
            }
            _ => "a smaller generator would need less".into(),
        };
        Self { what: "inverting", bytes: invert(config, settings, clip), would_fit: Box::new(would_fit) }
    }

    /// As [`adapt`].
    pub fn adapting(config: &'a Config, settings: &'a Settings, clips: Vec<&'a clip::Config>, templates: usize, threads: usize) -> Self {
        let of = move |change: &dyn Fn(&mut Settings)| {
            let mut changed = settings.clone();
            change(&mut changed);
            adapt(config, &changed, &clips, templates, threads)
        };
        let bytes = of(&|_| ());
        let would_fit = move |room: u64| {
            // What changes nothing that is trained comes first.
            let low = |s: &mut Settings| s.memory = Memory::Low;
            let least = |s: &mut Settings| (s.pool, s.memory) = (0, Memory::Low);
            if settings.memory == Memory::Fast && of(&low) <= room {
                return format!("with memory = low it would need about {}", size(of(&low)));
            }
            let with = match (settings.memory, settings.pooled() > 0) {
                (Memory::Low, true) => "without a pool of latents",
                (_, true) => "with memory = low and without a pool of latents",
                (_, false) => "with memory = low",
            };
            if of(&least) < bytes && of(&least) <= room {
                return format!("{with} it would need about {}", size(of(&least)));
            }
            let of = |batch: usize, snapshot_every: usize| {
                of(&|s| {
                    least(s);
                    (s.batch, s.snapshot_every) = (batch, snapshot_every);
                })
            };
            let every = settings.snapshot_every;
            if let Some(batch) = most(settings.batch, |n| of(n, every) <= room) {
                return format!("{with} a batch of {batch} would need about {}", size(of(batch, every)));
            }
            let without = if every > 0 { " without snapshots" } else { "" };
            match most(settings.batch + 1, |n| of(n, 0) <= room) {
                Some(batch) => format!("{with} a batch of {batch}{without} would need about {}", size(of(batch, 0))),
                None => format!("even {with} a batch of 1{without} would need about {}", size(of(1, 0))),
            }
        };
        Self { what: "adapting", bytes, would_fit: Box::new(would_fit) }
    }

    /// Bytes, by estimate.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As [`Need::admit`], where the caller has no limit of its own.
    pub fn check(&self) -> Result<()> {
        self.admit(0, "")
    }

    /// `OutOfMemory` where the need is above `limit` bytes (0: none was set), which `limit_name` names, or above what the machine has left,
    /// for which [`machine::LIMIT_VARIABLE`] may speak. The message says the need, the smaller of the limits and what would fit.
    pub fn admit(&self, limit: u64, limit_name: &str) -> Result<()> {
        let own = (limit > 0).then(|| Room { bytes: limit, says: format!("{limit_name} is {}", size(limit)) });
        match own.into_iter().chain(machine::limit()?).min_by_key(|room| room.bytes) {
            Some(Room { bytes, says }) if self.bytes > bytes => {
                let (need, would_fit) = (size(self.bytes), (self.would_fit)(bytes));
                Err(Error::OutOfMemory(format!("{} would need about {need}, and {says}; {would_fit}", self.what)))
            }
            _ => Ok(()),
        }
    }
}

/// Numbers of the weights that domains change; those that change one tensor share its copy.
fn changed(domains: &[(&Domain, f32)]) -> usize {
    let changes = domains.iter().flat_map(|(d, _)| &d.deltas);
    let changed: BTreeMap<&String, usize> = changes.map(|(key, delta)| (key, delta.elem_count())).collect();
    changed.values().sum()
}

/// The largest number below `above` that fits, None where not even 1 does. A larger number needs more, nearly always: what is given fits.
fn most(above: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    if above < 2 || !fits(1) {
        return None;
    }
    let (mut good, mut bad) = (1, above);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        match fits(middle) {
            true => good = middle,
            false => bad = middle,
        }
    }
    Some(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::AutoLayers;
    use crate::pack::ModelPack;
    use std::path::Path;

    /// Noise of one iteration is there at a time.
    #[test]
    fn selection_needs_no_more_for_more_iterations() {
        let pack = ModelPack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/models/starter")).unwrap();
        let config = pack.load_generator().unwrap().config().clone();
        let of = |iterations: usize| {
            let settings = Settings { auto_layers: Some(AutoLayers { k: 2, iterations, batch: 8 }), ..Settings::default() };
            adapt(&config, &settings, &[], 1, 2)
        };
        assert_eq!(of(1), of(1000));
    }

    /// A pool counts by its latents, and is left out where there is not enough even with less memory for the rest.
    #[test]
    fn a_pool_is_counted() {
        let pack = ModelPack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/models/starter")).unwrap();
        let (generator, clips) = (pack.load_generator().unwrap(), pack.load_clips().unwrap());
        let (config, sizes) = (generator.config(), clips.iter().map(|c| c.clip.config()).collect::<Vec<_>>());
        let side = clips[0].clip.resolution() as u64;
        let of =
            |pool: usize, augment: bool| adapt(config, &Settings { pool, augment, snapshot_every: 0, ..Settings::default() }, &sizes, 1, 2);
        // Whether there is one at all changes what is kept of the frozen twin, too.
        assert_eq!(of(2000, true) - of(1000, true), 4 * 1000 * (3 * side * side + 256));
        assert_eq!(of(2000, false) - of(1000, false), 4 * 1000 * (clips[0].clip.dimension() as u64 + 256));
        let settings = Settings { pool: 4000, augment: true, snapshot_every: 0, ..Settings::default() };
        let need = Need::adapting(config, &settings, sizes.clone(), 1, 2);
        let low = |pool| adapt(config, &Settings { pool, memory: Memory::Low, ..settings.clone() }, &sizes, 1, 2);
        for (room, bytes, advice) in [
            (low(4000), low(4000), "; with memory = low it would need"),
            (low(0), low(0), "with memory = low and without a pool of latents it would need"),
        ] {
            let refusal = need.admit(room + 1, "memory_limit").unwrap_err().to_string();
            assert!(refusal.ends_with(&format!("{advice} about {}", size(bytes))), "{refusal}");
        }
        let settings = Settings { memory: Memory::Low, ..settings.clone() };
        let refusal = Need::adapting(config, &settings, sizes.clone(), 1, 2).admit(low(0) + 1, "memory_limit").unwrap_err().to_string();
        assert!(refusal.ends_with(&format!("; without a pool of latents it would need about {}", size(low(0)))), "{refusal}");
    }

    /// A host may allow more than the machine has.
    #[test]
    fn the_smaller_limit_counts() {
        let need = |bytes: u64| Need { what: "drawing", bytes, would_fit: Box::new(|_| "less".into()) };
        let refusal = |bytes: u64, limit: u64| need(bytes).admit(limit, "memory_limit").map_err(|e| e.to_string()).err();
        let refused = refusal(2000, 1000).unwrap();
        assert!(refused.contains("need about 2000 bytes") && refused.contains("memory_limit is 1000 bytes"), "{refused}");
        assert_eq!(refusal(2000, 3000), None);
        if let (Some(room), Err(_)) = (machine::room(), std::env::var(machine::LIMIT_VARIABLE)) {
            for limit in [0, u64::MAX] {
                let refused = refusal(room.bytes.saturating_mul(2).max(1 << 50), limit).unwrap();
                assert!(refused.contains("a tenth is kept free"), "{refused}");
            }
        }
    }

    #[test]
    fn the_most_that_fits() {
        for above in [2, 3, 8, 100] {
            for least_bad in 2..=above {
                assert_eq!(most(above, |n| n < least_bad), Some(least_bad - 1), "{above} {least_bad}");
            }
        }
        assert_eq!(most(5, |_| false), None);
        assert_eq!(most(1, |_| true), None);
    }
}
