//! Generators: z -> w by the mapping network, W+ -> pictures by a synthesis network of one of several families.

mod latent;
mod layers;
mod mapping;
mod noise;
pub mod stylegan2;

pub use latent::{Described, Latent, Space};
pub use layers::{Kind, Layer, Plane};
pub use noise::Noise;
pub(crate) use stylegan2::to_half;
pub use stylegan2::{find, Layout, Naming, Place};

use crate::cancel::Cancel;
use crate::checkpoint::{self, Checkpoint};
use crate::device::{Device, HOST};
use crate::error::{Error, Result};
use crate::rng::Rng;
use candle_core::Tensor;
use mapping::Mapping;
use noise::LayerNoise;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Named tensors.
type Weights = BTreeMap<String, Tensor>;

/// The families of synthesis networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    StyleGan2,
}

impl Family {
    /// For the user.
    pub fn name(self) -> &'static str {
        match self {
            Family::StyleGan2 => "StyleGAN2",
        }
    }
}

/// The generator's sizes, read from the tensors themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub family: Family,
    /// Length of z.
    pub z_dim: usize,
    /// Length of w, and of a row of W+.
    pub style_dim: usize,
    /// Layers of the mapping network.
    pub n_mlp: usize,
    /// Learning-rate multiplier of the mapping network.
    pub lr_mlp: f64,
    /// Length of the label that the mapping network takes (the number of classes); 0 for none.
    pub c_dim: usize,
    /// Outputs of the convolutions, ToRGB included, are clamped to +- this.
    pub conv_clamp: Option<f64>,
    /// In the order of drawing.
    pub layers: Vec<Layer>,
}

impl Config {
    /// Names and shapes of the tensors that make pictures.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        match self.family {
            Family::StyleGan2 => stylegan2::keys(self),
        }
    }

    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(move |layer| layer.kind == kind)
    }

    /// The layers that have a style, in the order of [`Generator::styles`].
    pub fn styled(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| layer.row.is_some())
    }

    pub fn layer(&self, name: &str) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.name == name)
    }

    /// The layer that the tensor `key` belongs to; None for those of the mapping network.
    pub fn layer_of(&self, key: &str) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.owns(key))
    }

    /// Rows of W+.
    pub fn n_latent(&self) -> usize {
        self.layers.iter().filter_map(|layer| layer.row).max().map_or(0, |row| row + 1)
    }

    /// The pictures.
    fn picture(&self) -> Plane {
        self.layers.last().map_or(Plane { channels: 0, height: 0, width: 0 }, |layer| layer.to)
    }

    /// Of its pictures, in pixels.
    pub fn width(&self) -> usize {
        self.picture().width
    }

    /// Of its pictures, in pixels.
    pub fn height(&self) -> usize {
        self.picture().height
    }

    /// Channels of its pictures: 1 (grey), 3 (RGB) or 4 (RGB and alpha).
    pub fn colours(&self) -> usize {
        self.picture().channels
    }

    /// The longer side of its pictures, in pixels.
    pub fn size(&self) -> usize {
        self.width().max(self.height())
    }

    /// Sizes, in pixels of the longer side, at which a network with skips has a picture: the sum of the colours up to there.
    pub fn sizes(&self) -> Vec<usize> {
        self.of_kind(Kind::ToRgb).map(Layer::size).collect()
    }

    /// The layers up to the picture of `size` pixels. `InvalidArgument` that calls it `name` where there is none.
    pub fn cut(&self, size: usize, name: &str) -> Result<Self> {
        let sizes = self.sizes();
        if !sizes.contains(&size) {
            let sizes = sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::argument(name, format!("is {size}, and this generator has pictures of {sizes} pixels")));
        }
        let layers = self.layers.iter().filter(|layer| layer.size() <= size).cloned().collect();
        Ok(Self { layers, ..self.clone() })
    }

    /// The side of its pictures, where `what` needs square ones; an `Unsupported` where they are not.
    pub fn side(&self, what: &str) -> Result<usize> {
        match (self.width(), self.height()) {
            (width, height) if width == height => Ok(width),
            (width, height) => {
                let message = format!("needs square pictures, and this generator draws {width} x {height} pixels");
                Err(Error::unsupported(what, message))
            }
        }
    }

    /// 32 x 16, say; 64 for 64 x 64.
    pub fn describe_size(&self) -> String {
        match (self.width(), self.height()) {
            (width, height) if width == height => width.to_string(),
            (width, height) => format!("{width} x {height}"),
        }
    }
}

/// Points that the mapping network takes at a time: at full size some tenths of a second of work on two cores.
const MAPPED_TOGETHER: usize = 4096;

/// Parts of a batch as one; at least one part.
fn joined(mut parts: Vec<Tensor>) -> Result<Tensor> {
    Ok(if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(&parts, 0)? })
}

/// How many pictures are drawn at a time, so that a layer of them stays within 64 MiB.
pub(crate) fn slice(config: &Config) -> usize {
    let features = config.layers.iter().filter(|layer| layer.kind != Kind::ToRgb);
    let largest = features.map(|layer| layer.to.numbers() * 4).max().unwrap_or(1);
    ((64 << 20) / largest).clamp(1, 16)
}

/// Pictures of any generator, [n, 1, 3 or 4, h, w], as RGB [n, 3, h, w], in the same range: grey three times; where there is alpha, over white.
/// RGB stays as it is. Differentiable.
pub fn as_rgb(pictures: &Tensor) -> Result<Tensor> {
    match pictures.dims() {
        &[_, 3, _, _] => Ok(pictures.clone()),
        &[n, 1, h, w] => Ok(pictures.broadcast_as((n, 3, h, w))?.contiguous()?),
        &[_, 4, _, _] => {
            let alpha = pictures.narrow(1, 3, 1)?.affine(0.5, 0.5)?.clamp(0f32, 1f32)?;
            let over = pictures.narrow(1, 0, 3)?.broadcast_mul(&alpha)?;
            Ok(over.broadcast_add(&alpha.affine(-1.0, 1.0)?)?)
        }
        dims => Err(Error::argument("pictures", format!("have shape {dims:?}; want [n, 1, 3 or 4, height, width]"))),
    }
}

/// A synthesis network, of a closed set of families: W+ to styles to pictures.
#[derive(Clone)]
enum Synthesis {
    StyleGan2(stylegan2::Synthesis),
}

impl Synthesis {
    /// The same network with other tensors.
    fn with(&self, config: &Config, weights: &Weights, offsets: &Weights) -> Result<Self> {
        match self {
            Synthesis::StyleGan2(s) => Ok(Synthesis::StyleGan2(stylegan2::Synthesis::new(config, s.blur(), weights, offsets, Some(s))?)),
        }
    }

    /// The same, without what its device has made of weights.
    fn afresh(&self) -> Self {
        match self {
            Synthesis::StyleGan2(s) => Synthesis::StyleGan2(s.afresh()),
        }
    }

    /// The same, which keeps nothing that its device makes of weights.
    fn lean(&self) -> Self {
        match self {
            Synthesis::StyleGan2(s) => Synthesis::StyleGan2(s.lean()),
        }
    }

    /// The mapping network that is among a generator's tensors.
    fn mapping(&self, config: &Config, weights: &Weights) -> Result<Mapping> {
        match self {
            Synthesis::StyleGan2(_) => stylegan2::mapping(config, weights),
        }
    }

    /// Puts a mapping network there, in the place of the one that is there.
    fn store_mapping(&self, config: &Config, mapping: &Mapping, weights: &mut Weights) {
        match self {
            Synthesis::StyleGan2(_) => stylegan2::store_mapping(config, mapping, weights),
        }
    }

    fn styles(&self, wplus: &Tensor) -> Result<Vec<Tensor>> {
        match self {
            Synthesis::StyleGan2(s) => s.styles(wplus),
        }
    }

    fn forward(&self, styles: &[Tensor], noise: &mut LayerNoise, cancel: &Cancel) -> Result<Tensor> {
        match self {
            Synthesis::StyleGan2(s) => s.forward(styles, noise, cancel),
        }
    }

    fn traced(&self, styles: &[Tensor], noise: &mut LayerNoise, trace: &mut dyn FnMut(&str, &Tensor)) -> Result<()> {
        match self {
            Synthesis::StyleGan2(s) => s.traced(styles, noise, trace),
        }
    }
}

/// What is not trained and no domain changes; shared by generators that differ in other tensors only.
struct Parts {
    config: Config,
    noise: Vec<Tensor>,
    /// The mean of w that the file brought.
    latent_avg: Option<Tensor>,
}

/// The mean of w of a mapping network whose file brought none: found when it is first asked for.
struct Mean {
    mapping: Mapping,
    label: Option<Tensor>,
    found: OnceLock<Tensor>,
}

impl Mean {
    /// Without the graph of what is trained: as constant as one that a file brings.
    fn new(mapping: &Mapping, label: Option<&Tensor>) -> Arc<Self> {
        Arc::new(Self { mapping: mapping.detached(), label: label.map(Tensor::detach), found: OnceLock::new() })
    }

    fn get(&self, config: &Config, cancel: &Cancel) -> Result<Tensor> {
        if let Some(mean) = self.found.get() {
            return Ok(mean.clone());
        }
        Mapping::check_labels(config, 1, self.label.as_ref())?;
        let z = Rng::stream(0, 2).normals(&[4096, config.z_dim], self.mapping.device())?;
        let mean = self.mapping.forward_unless(&z, self.label.as_ref(), cancel)?.mean(0)?;
        Ok(self.found.get_or_init(|| mean).clone())
    }
}

/// A generator: immutable, cheap to clone, and safe to use from several threads at once.
#[derive(Clone)]
pub struct Generator {
    parts: Arc<Parts>,
    weights: Arc<Weights>,
    /// Added to the styles, by layer.
    offsets: Arc<Weights>,
    mapping: Arc<Mapping>,
    synthesis: Synthesis,
    /// What [`Generator::map`] takes for the label: [1, c_dim].
    label: Option<Tensor>,
    mean: Arc<Mean>,
    fingerprints: Arc<OnceLock<Fingerprints>>,
}

/// sha256 in hexadecimal.
struct Fingerprints {
    now: String,
    /// By the rule of format 1.
    format_1: String,
}

impl Generator {
    /// Opens any supported file with a generator in rosinality's, NVIDIA's or BasicSR's layout, alone or where trainers keep it ([`find`]):
    /// of several the mean over the training, such as `g_ema`. Errors name file and key.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_unless(path, &Cancel::new())
    }

    /// As [`Generator::open`]; `Cancelled` once the flag is raised, which is looked at each 128 KiB.
    pub fn open_unless(path: &Path, cancel: &Cancel) -> Result<Self> {
        Self::open_on(path, HOST, cancel)
    }

    /// As [`Generator::open_unless`], for a device.
    pub fn open_on(path: &Path, device: &Device, cancel: &Cancel) -> Result<Self> {
        Self::from_checkpoint(&checkpoint::open_unless(path, cancel)?.on(device))
    }

    /// Where it computes. What it is given from elsewhere is brought there; what it gives lies there.
    pub fn device(&self) -> &Device {
        self.mapping.device()
    }

    /// As [`Generator::open`].
    pub fn from_checkpoint(file: &Checkpoint) -> Result<Self> {
        let place = find(file)?;
        let stylegan2::Loaded { config, blur, noise, latent_avg, weights } = stylegan2::load(file, &place)?;
        let offsets = Weights::new();
        let synthesis = Synthesis::StyleGan2(stylegan2::Synthesis::new(&config, blur, &weights, &offsets, None)?);
        Self::assemble(Parts { config, noise, latent_avg }, synthesis, weights, offsets)
    }

    /// Of no class.
    fn assemble(parts: Parts, synthesis: Synthesis, weights: Weights, offsets: Weights) -> Result<Self> {
        let mapping = synthesis.mapping(&parts.config, &weights)?;
        Ok(Self {
            mean: Mean::new(&mapping, None),
            parts: Arc::new(parts),
            weights: Arc::new(weights),
            offsets: Arc::new(offsets),
            mapping: Arc::new(mapping),
            synthesis,
            label: None,
            fingerprints: Arc::default(),
        })
    }

    /// The same generator with its label set: `[c_dim]`, for most generators one 1 and zeros (see [`Generator::with_class`]). From then on
    /// it is used like one without labels.
    pub fn with_label(&self, label: &Tensor) -> Result<Self> {
        let c_dim = self.config().c_dim;
        if c_dim == 0 || label.dims() != [c_dim] {
            let takes = if c_dim == 0 { "takes no label".into() } else { format!("takes [{c_dim}]") };
            return Err(Error::argument("label", format!("has shape {:?}, this generator {takes}", label.dims())));
        }
        let label = label.to_device(self.device())?.unsqueeze(0)?;
        Ok(Self { mean: Mean::new(&self.mapping, Some(&label)), label: Some(label), ..self.clone() })
    }

    /// The same generator for class `class`, from 0 to `c_dim` - 1.
    pub fn with_class(&self, class: usize) -> Result<Self> {
        let c_dim = self.config().c_dim;
        if class >= c_dim {
            let has = if c_dim == 0 { "has no classes".into() } else { format!("has classes 0 to {}", c_dim - 1) };
            return Err(Error::argument("class", format!("is {class}, this generator {has}")));
        }
        let label: Vec<f32> = (0..c_dim).map(|i| if i == class { 1.0 } else { 0.0 }).collect();
        self.with_label(&Tensor::from_vec(label, c_dim, self.device())?)
    }

    /// Whether it has classes and none is chosen, so that it maps no z.
    pub fn has_all_classes(&self) -> bool {
        self.config().c_dim > 0 && self.label.is_none()
    }

    /// The generator of its class alone, without labels: the label's part of the first mapping layer is the same for every z, so it goes into
    /// that layer's bias. Draws the same pictures but for rounding, and is another generator to domains. One without classes stays as it is.
    ///
    /// Errors: `InvalidArgument` where no class is set.
    pub fn without_classes(&self) -> Result<Self> {
        self.without_classes_unless(&Cancel::new())
    }

    /// As [`Generator::without_classes`]; `Cancelled` once the flag is raised, which is looked at after each layer of the mapping network, where
    /// the mean of w is to be found.
    pub fn without_classes_unless(&self, cancel: &Cancel) -> Result<Self> {
        let config = self.config();
        if config.c_dim == 0 {
            return Ok(self.clone());
        }
        Mapping::check_labels(config, 1, self.label.as_ref())?;
        let mapping = match &self.label {
            Some(label) => self.mapping.of_label(config, label)?,
            None => (*self.mapping).clone(),
        };
        let mut weights = (*self.weights).clone();
        self.synthesis.store_mapping(config, &mapping, &mut weights);
        let config = Config { c_dim: 0, ..config.clone() };
        let synthesis = self.synthesis.with(&config, &weights, &self.offsets)?;
        let parts = Parts { config, noise: self.parts.noise.clone(), latent_avg: Some(self.mean_w_unless(cancel)?) };
        Self::assemble(parts, synthesis, weights, (*self.offsets).clone())
    }

    pub fn config(&self) -> &Config {
        &self.parts.config
    }

    /// The table of layers, in the order of drawing.
    pub fn layers(&self) -> &[Layer] {
        &self.config().layers
    }

    /// The tensors that make pictures. Those of a layer have its name before a dot; the others are the mapping network's.
    pub fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.weights
    }

    /// What is added to the styles, `[channels]` by layer name.
    pub fn offsets(&self) -> &BTreeMap<String, Tensor> {
        &self.offsets
    }

    /// Whether a file that holds this generator in the layout of its family may have a tensor `key` for it.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.weights.contains_key(key)
            || match self.config().family {
                Family::StyleGan2 => stylegan2::is_known(self.config(), key),
            }
    }

    /// The checkpoint's noise maps, [1, 1, h, w], one a layer that noise is added to.
    pub fn noise_maps(&self) -> &[Tensor] {
        &self.parts.noise
    }

    /// This generator with some tensors and style offsets replaced; everything else is shared. Keys and shapes must be its own.
    pub fn replacing(&self, weights: BTreeMap<String, Tensor>, offsets: BTreeMap<String, Tensor>) -> Result<Self> {
        let config = self.config();
        let mut all = (*self.weights).clone();
        let maps_anew = weights.keys().any(|key| config.layer_of(key).is_none());
        for (key, tensor) in weights {
            match all.get_mut(&key) {
                Some(old) if old.dims() == tensor.dims() => *old = tensor,
                Some(old) => {
                    return Err(Error::Mismatch(format!("{key} has shape {:?}, the generator's has {:?}", tensor.dims(), old.dims())))
                }
                None => return Err(Error::Mismatch(format!("the generator has no tensor {key}"))),
            }
        }
        let mut all_offsets = (*self.offsets).clone();
        for (name, offset) in offsets {
            let Some(layer) = config.layer(&name).filter(|layer| layer.row.is_some()) else {
                return Err(Error::Mismatch(format!("the generator has no layer {name}")));
            };
            let channels = layer.style_channels();
            if offset.dims() != [channels] {
                return Err(Error::Mismatch(format!("the style offset of {name} has shape {:?}, it must be [{channels}]", offset.dims())));
            }
            all_offsets.insert(name, offset);
        }
        let (mapping, mean) = match maps_anew {
            false => (self.mapping.clone(), self.mean.clone()),
            true => {
                let mapping = self.synthesis.mapping(config, &all)?;
                let mean = Mean::new(&mapping, self.label.as_ref());
                (Arc::new(mapping), mean)
            }
        };
        Ok(Self {
            parts: self.parts.clone(),
            synthesis: self.synthesis.with(config, &all, &all_offsets)?,
            weights: Arc::new(all),
            offsets: Arc::new(all_offsets),
            mapping,
            label: self.label.clone(),
            mean,
            fingerprints: Arc::default(),
        })
    }

    /// The generator up to its picture of `size` pixels ([`Config::sizes`]), which it then draws: what is above is left out, W+ has fewer rows,
    /// and everything else is shared. Another generator to domains.
    ///
    /// Errors: `InvalidArgument` that calls the size `name` where it has no such picture.
    pub fn cut(&self, size: usize, name: &str) -> Result<Self> {
        let config = self.config().cut(size, name)?;
        let keeps = |layer: &str| config.layer(layer).is_some();
        let stays = |key: &str| self.config().layer_of(key).is_none_or(|layer| keeps(&layer.name));
        let weights: Weights = self.weights.iter().filter(|(key, _)| stays(key)).map(|(key, t)| (key.clone(), t.clone())).collect();
        let offsets: Weights = self.offsets.iter().filter(|(layer, _)| keeps(layer)).map(|(layer, t)| (layer.clone(), t.clone())).collect();
        let noise = self.parts.noise.iter().take(config.of_kind(Kind::Convolution).count()).cloned().collect();
        Ok(Self {
            synthesis: self.synthesis.with(&config, &weights, &offsets)?,
            parts: Arc::new(Parts { config, noise, latent_avg: self.parts.latent_avg.clone() }),
            weights: Arc::new(weights),
            offsets: Arc::new(offsets),
            fingerprints: Arc::default(),
            ..self.clone()
        })
    }

    /// Makes what drawing `n` pictures together will ask for: calls that begin at the same time would each make it.
    pub(crate) fn prepare(&self, n: usize, back: bool) -> Result<()> {
        match &self.synthesis {
            Synthesis::StyleGan2(s) => s.prepare(n, back),
        }
    }

    /// The same generator, without what its device has made of weights: what it makes goes when it goes.
    pub(crate) fn afresh(&self) -> Self {
        Self { synthesis: self.synthesis.afresh(), ..self.clone() }
    }

    /// The same generator, which keeps nothing that its device makes of weights: less memory, and somewhat slower. So are those made of it.
    pub(crate) fn lean(&self) -> Self {
        Self { synthesis: self.synthesis.lean(), ..self.clone() }
    }

    /// sha256 (hex) over keys, shapes and numbers of every tensor that makes pictures, and over [`Generator::unusual`]; noise maps and the
    /// mean of w are left out, as tools add and drop them. Computed once, a tensor at a time.
    ///
    /// Errors: `Internal` where a tensor cannot be read as f32.
    pub fn fingerprint(&self) -> Result<&str> {
        self.fingerprint_unless(&Cancel::new())
    }

    /// As [`Generator::fingerprint`]; `Cancelled` once the flag is raised, which is looked at with each piece of a tensor.
    pub fn fingerprint_unless(&self, cancel: &Cancel) -> Result<&str> {
        Ok(&self.fingerprints(cancel)?.now)
    }

    /// The fingerprint that domains of format 1 have: blur, clamp and learning-rate multiplier were no part of it. The same as
    /// [`Generator::fingerprint`] where nothing is [unusual](Generator::unusual). Errors as there.
    pub fn fingerprint_of_format_1(&self) -> Result<&str> {
        self.fingerprint_of_format_1_unless(&Cancel::new())
    }

    /// As [`Generator::fingerprint_of_format_1`] and [`Generator::fingerprint_unless`].
    pub fn fingerprint_of_format_1_unless(&self, cancel: &Cancel) -> Result<&str> {
        Ok(&self.fingerprints(cancel)?.format_1)
    }

    fn fingerprints(&self, cancel: &Cancel) -> Result<&Fingerprints> {
        if let Some(known) = self.fingerprints.get() {
            return Ok(known);
        }
        let hex = |hash: Sha256| hash.finalize().iter().map(|b| format!("{b:02x}")).collect::<String>();
        let mut hash = Sha256::new();
        for (key, tensor) in self.weights.iter().chain(self.offsets.iter()) {
            hash.update(key.as_bytes());
            hash.update(format!("{:?}", tensor.dims()).as_bytes());
            let numbers = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
            let numbers = numbers.map_err(|e| Error::Internal(format!("the fingerprint of a generator: {key} cannot be read: {e}")))?;
            for chunk in numbers.chunks(4096) {
                cancel.check()?;
                let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
                hash.update(&bytes);
            }
        }
        let format_1 = hex(hash.clone());
        for (name, value) in self.unusual() {
            hash.update(format!("\n{name} = {value}"));
        }
        Ok(self.fingerprints.get_or_init(|| Fingerprints { now: hex(hash), format_1 }))
    }

    /// What a generator computes with beside its tensors, by name, where it is not what its family was published with: `blur` (the taps, in
    /// units of 2^-16), `conv_clamp`, `lr_mlp`. Numbers as f32, so that a format that rounds them makes no other generator of it.
    pub fn unusual(&self) -> Vec<(&'static str, String)> {
        match &self.synthesis {
            Synthesis::StyleGan2(s) => stylegan2::unusual(self.config(), s.blur()),
        }
    }

    /// The mapping network: z [n, z_dim] -> w [n, style_dim]. Differentiable. A generator with classes needs one to be set
    /// ([`Generator::with_class`]).
    pub fn map(&self, z: &Tensor) -> Result<Tensor> {
        self.map_traced(z, &mut |_, _| ())
    }

    /// As [`Generator::map`]; `trace` sees every module's output as `map.<i>`, 0 being the normalised z, and `map.embed`.
    pub fn map_traced(&self, z: &Tensor, trace: &mut dyn FnMut(&str, &Tensor)) -> Result<Tensor> {
        self.map_labels_traced(z, self.label.as_ref(), trace)
    }

    /// As [`Generator::map`], with a label for each z: [n, c_dim], or [1, c_dim] for all.
    pub fn map_labels(&self, z: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.map_labels_traced(z, Some(labels), &mut |_, _| ())
    }

    /// As [`Generator::map_labels`] and [`Generator::map_traced`].
    pub fn map_labels_traced(&self, z: &Tensor, labels: Option<&Tensor>, trace: &mut dyn FnMut(&str, &Tensor)) -> Result<Tensor> {
        self.check_latent("z", z, Space::Z)?;
        Mapping::check_labels(self.config(), z.dim(0)?, labels)?;
        self.mapping.forward(z, labels, trace)
    }

    /// The mean of w, `[style_dim]`: the checkpoint's, else that of 4096 latents of a fixed seed, which is found once, for all generators
    /// that share the mapping network, and carries no graph.
    pub fn mean_w(&self) -> Result<Tensor> {
        self.mean_w_unless(&Cancel::new())
    }

    /// As [`Generator::mean_w`]; `Cancelled` once the flag is raised, which is looked at after each layer of the mapping network.
    pub fn mean_w_unless(&self, cancel: &Cancel) -> Result<Tensor> {
        match &self.parts.latent_avg {
            Some(mean) => Ok(mean.clone()),
            None => self.mean.get(self.config(), cancel),
        }
    }

    /// `n` latents of a seed, truncated: W [n, style_dim].
    pub fn sample_w(&self, n: usize, seed: u64, truncation: f32) -> Result<Tensor> {
        self.sample_w_unless(n, seed, truncation, &Cancel::new())
    }

    /// As [`Generator::sample_w`]; `Cancelled` once the flag is raised, which is looked at after each layer of the mapping network, for some
    /// thousand points at a time.
    pub fn sample_w_unless(&self, n: usize, seed: u64, truncation: f32, cancel: &Cancel) -> Result<Tensor> {
        if n == 0 {
            return Err(Error::argument("count", "must be at least 1"));
        }
        let mut rng = Rng::new(seed);
        let mut parts = vec![];
        for from in (0..n).step_by(MAPPED_TOGETHER) {
            cancel.check()?;
            // The next numbers of one stream: those that a single draw would give.
            let z = rng.normals(&[MAPPED_TOGETHER.min(n - from), self.config().z_dim], self.device())?;
            parts.push(self.map_unless(&z, cancel)?);
        }
        self.truncate_unless(&joined(parts)?, truncation, cancel)
    }

    /// As [`Generator::map`], some thousand points at a time; `Cancelled` once the flag is raised, which is looked at after each layer.
    pub fn map_unless(&self, z: &Tensor, cancel: &Cancel) -> Result<Tensor> {
        self.check_latent("z", z, Space::Z)?;
        let n = z.dim(0)?;
        Mapping::check_labels(self.config(), n, self.label.as_ref())?;
        let part = |from: usize| -> Result<Tensor> {
            let z = if n <= MAPPED_TOGETHER { z.clone() } else { z.narrow(0, from, MAPPED_TOGETHER.min(n - from))? };
            self.mapping.forward_unless(&z, self.label.as_ref(), cancel)
        };
        joined((0..n).step_by(MAPPED_TOGETHER).map(part).collect::<Result<_>>()?)
    }

    /// mean + truncation * (w - mean), for w [.., style_dim] (Karras et al. 2019, "A Style-Based Generator Architecture", section B).
    pub fn truncate(&self, w: &Tensor, truncation: f32) -> Result<Tensor> {
        self.truncate_unless(w, truncation, &Cancel::new())
    }

    /// As [`Generator::truncate`] and [`Generator::mean_w_unless`].
    pub fn truncate_unless(&self, w: &Tensor, truncation: f32, cancel: &Cancel) -> Result<Tensor> {
        if !truncation.is_finite() {
            return Err(Error::argument("truncation", "must be a number"));
        }
        if truncation == 1.0 {
            return Ok(w.clone());
        }
        let mean = self.mean_w_unless(cancel)?;
        Ok(w.broadcast_sub(&mean)?.affine(truncation as f64, 0.0)?.broadcast_add(&mean)?)
    }

    fn check_latent(&self, name: &str, t: &Tensor, space: Space) -> Result<()> {
        let c = self.config();
        let (want, shape): (&[usize], _) = match space {
            Space::Z => (&[c.z_dim], format!("[n, {}]", c.z_dim)),
            Space::W => (&[c.style_dim], format!("[n, {}]", c.style_dim)),
            Space::WPlus => (&[c.n_latent(), c.style_dim], format!("[n, {}, {}]", c.n_latent(), c.style_dim)),
        };
        match t.dims() {
            [n, rest @ ..] if *n > 0 && rest == want => Ok(()),
            dims => Err(Error::argument(name, format!("has shape {dims:?}, this generator takes {shape}"))),
        }
    }

    /// Any latent -> W+ [n, n_latent, style_dim], truncated towards the mean.
    pub fn wplus(&self, latent: &Latent, truncation: f32) -> Result<Tensor> {
        self.wplus_unless(latent, truncation, &Cancel::new())
    }

    /// As [`Generator::wplus`]; `Cancelled` once the flag is raised, which is looked at after each layer of the mapping network.
    pub fn wplus_unless(&self, latent: &Latent, truncation: f32, cancel: &Cancel) -> Result<Tensor> {
        let t = &latent.tensor.to_device(self.device())?;
        let wplus = match latent.space {
            Space::Z => {
                let w = self.map_unless(t, cancel)?;
                return self.broadcast(&self.truncate_unless(&w, truncation, cancel)?);
            }
            Space::W => self.broadcast(t)?,
            Space::WPlus => {
                self.check_latent("W+ latent", t, Space::WPlus)?;
                t.clone()
            }
        };
        self.truncate_unless(&wplus, truncation, cancel)
    }

    /// w [n, style_dim] -> W+ with the same row everywhere.
    pub fn broadcast(&self, w: &Tensor) -> Result<Tensor> {
        self.check_latent("w latent", w, Space::W)?;
        Ok(w.unsqueeze(1)?.repeat((1, self.config().n_latent(), 1))?)
    }

    /// Style mixing (Karras et al. 2019, section 3.1): the first `crossover` rows of W+ `a`, the others of `b`.
    pub fn mix(&self, a: &Tensor, b: &Tensor, crossover: usize) -> Result<Tensor> {
        self.check_latent("a", a, Space::WPlus)?;
        self.check_latent("b", b, Space::WPlus)?;
        let rows = self.config().n_latent();
        if a.dims() != b.dims() || crossover > rows {
            return Err(Error::argument(
                "crossover",
                format!("is {crossover} of {rows} rows, for shapes {:?} and {:?}, which must be equal", a.dims(), b.dims()),
            ));
        }
        Ok(match crossover {
            0 => b.clone(),
            c if c == rows => a.clone(),
            c => Tensor::cat(&[a.narrow(1, 0, c)?, b.narrow(1, c, rows - c)?], 1)?,
        })
    }

    /// (1 - amount) * a + amount * b of two W+ of one shape.
    pub fn interpolate(&self, a: &Tensor, b: &Tensor, amount: f64) -> Result<Tensor> {
        self.check_latent("a", a, Space::WPlus)?;
        self.check_latent("b", b, Space::WPlus)?;
        if a.dims() != b.dims() {
            return Err(Error::argument("b", format!("has shape {:?}, but a has {:?}: they must be equal", b.dims(), a.dims())));
        }
        Ok((a.affine(1.0 - amount, 0.0)? + b.affine(amount, 0.0)?)?)
    }

    /// W+ [n, n_latent, style_dim] -> S: one style [n, channels] a layer, in the order of [`Config::styled`], offsets included.
    pub fn styles(&self, wplus: &Tensor) -> Result<Vec<Tensor>> {
        self.check_latent("W+ latent", wplus, Space::WPlus)?;
        self.synthesis.styles(wplus)
    }

    /// S -> picture [n, colours, height, width]. Differentiable.
    pub fn synthesize_styles(&self, styles: &[Tensor], noise: Noise) -> Result<Tensor> {
        let layers: Vec<&Layer> = self.config().styled().collect();
        let n = styles.first().and_then(|s| s.dims().first().copied()).unwrap_or(0);
        let fits = styles.len() == layers.len() && n > 0 && styles.iter().zip(&layers).all(|(s, l)| s.dims() == [n, l.style_channels()]);
        if !fits {
            return Err(Error::argument("styles", format!("must be {} tensors, each [n, channels of its layer]", layers.len())));
        }
        self.synthesis.forward(styles, &mut LayerNoise::new(noise, &self.parts.noise), &Cancel::new())
    }

    /// W+ [n, n_latent, style_dim] -> picture [n, colours, height, width], nominally in [-1, 1], not clamped. Differentiable.
    pub fn synthesize(&self, wplus: &Tensor, noise: Noise) -> Result<Tensor> {
        self.synthesize_unless(wplus, noise, &Cancel::new())
    }

    /// The picture as [`Generator::synthesize`] draws it, untracked; `trace` sees every layer: `s.<layer>` the style, `modconv.<layer>` the
    /// modulated convolution before noise and bias, `layer.<layer>` the output (ToRGB: after the skip is added).
    pub fn synthesize_traced(&self, wplus: &Tensor, noise: Noise, trace: &mut dyn FnMut(&str, &Tensor)) -> Result<Tensor> {
        let styles = self.styles(wplus)?;
        for (layer, s) in self.config().styled().zip(&styles) {
            trace(&format!("s.{}", layer.name), s);
        }
        let mut picture = None;
        let last = self.config().layers.last().map(|layer| format!("layer.{}", layer.name)).unwrap_or_default();
        let trace = &mut |name: &str, x: &Tensor| {
            trace(name, x);
            if name == last {
                picture = Some(x.clone());
            }
        };
        self.synthesis.traced(&styles, &mut LayerNoise::new(noise, &self.parts.noise), trace)?;
        picture.ok_or_else(|| Error::Internal("a generator without ToRGB".into()))
    }

    /// As [`Generator::synthesize`]; `Cancelled` once the flag is raised, which is looked at after each layer, in a backward pass too.
    pub fn synthesize_unless(&self, wplus: &Tensor, noise: Noise, cancel: &Cancel) -> Result<Tensor> {
        self.synthesis.forward(&self.styles(wplus)?, &mut LayerNoise::new(noise, &self.parts.noise), cancel)
    }

    /// Renders a latent: with its own noise maps where it has them, else with `noise`; a few pictures at a time, so that memory stays
    /// bounded. [n, colours, height, width].
    pub fn render(&self, latent: &Latent, truncation: f32, noise: Noise) -> Result<Tensor> {
        self.render_unless(latent, truncation, noise, &Cancel::new())
    }

    /// As [`Generator::render`]; `Cancelled` once the flag is raised, which is looked at after each layer.
    pub fn render_unless(&self, latent: &Latent, truncation: f32, noise: Noise, cancel: &Cancel) -> Result<Tensor> {
        let mut out = vec![];
        self.render_each_unless(latent, truncation, noise, cancel, &mut |part| {
            out.push(part);
            Ok(())
        })?;
        joined(out)
    }

    /// As [`Generator::render`], with each few pictures [m, colours, height, width] given to `on_part` when they are drawn; an error of it ends the
    /// call.
    pub fn render_each(&self, latent: &Latent, truncation: f32, noise: Noise, on_part: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
        self.render_each_unless(latent, truncation, noise, &Cancel::new(), on_part)
    }

    /// As [`Generator::render_each`]; `Cancelled` once the flag is raised, which is looked at after each layer.
    pub fn render_each_unless(
        &self,
        latent: &Latent,
        truncation: f32,
        noise: Noise,
        cancel: &Cancel,
        on_part: &mut dyn FnMut(Tensor) -> Result<()>,
    ) -> Result<()> {
        let wplus = self.wplus_unless(latent, truncation, cancel)?;
        let n = wplus.dim(0)?;
        let slice = slice(self.config());
        let mut noise = match &latent.noise {
            Some(maps) => Noise::Given(maps),
            None => noise,
        };
        for from in (0..n).step_by(slice) {
            let count = slice.min(n - from);
            let part = wplus.narrow(0, from, count)?;
            let cut: Vec<Tensor>;
            let noise = match &mut noise {
                Noise::Const => Noise::Const,
                Noise::None => Noise::None,
                Noise::Random(rng) => Noise::Random(rng),
                Noise::Given(maps) => {
                    let cut_map = |m: &Tensor| if m.dims().first() == Some(&n) && n > 1 { m.narrow(0, from, count) } else { Ok(m.clone()) };
                    cut = maps.iter().map(cut_map).collect::<candle_core::Result<_>>()?;
                    Noise::Given(&cut)
                }
            };
            on_part(self.synthesize_unless(&part, noise, cancel)?)?;
        }
        Ok(())
    }
}
