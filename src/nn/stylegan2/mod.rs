//! StyleGAN2 generator (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN").
//!
//! Tensors are named as in rosinality's PyTorch port, the layout that most trained checkpoints have; NVIDIA's ([`ada_name`]) and BasicSR's are
//! read too.

mod ada;
mod basicsr;
mod export;
mod latent;
mod place;
mod synthesis;

pub use ada::ada_name;
pub(crate) use export::to_half;
pub use export::Layout;
pub use latent::{Described, Latent, Space};
pub use place::{find, Naming, Place};

use crate::checkpoint::{self, above, Checkpoint};
use crate::error::{Error, Result};
use crate::kernels::bias_act;
use crate::progress::Cancel;
use crate::rng::Rng;
use candle_core::{Device, Tensor, D};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use synthesis::{LayerNoise, Synthesis};

/// The generator's sizes, read from the tensors themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Output side length in pixels, a power of two from 32 to 1024.
    pub size: usize,
    pub style_dim: usize,
    /// Layers of the mapping network.
    pub n_mlp: usize,
    /// Learning-rate multiplier of the mapping network.
    pub lr_mlp: f64,
    /// Channels at each resolution, 4 to `size`.
    pub channels: BTreeMap<usize, usize>,
    /// Length of the label that the mapping network takes (the number of classes); 0 for none.
    pub c_dim: usize,
    /// Outputs of the convolutions, ToRGB included, are clamped to +- this.
    pub conv_clamp: Option<f64>,
}

impl Config {
    /// What is wrong with the sizes.
    fn check(&self) -> std::result::Result<(), String> {
        let size = self.size;
        if !(32..=1024).contains(&size) {
            return Err(format!("a generator of {size} px: sizes from 32 to 1024 px are supported"));
        }
        if self.n_mlp == 0 {
            return Err("the mapping network is missing".into());
        }
        if self.style_dim == 0 || self.channels.values().any(|&c| c == 0) {
            return Err("a dimension of 0".into());
        }
        Ok(())
    }

    /// Names and shapes of the tensors that make pictures.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        synthesis::keys(self)
    }

    /// Rows of W+.
    pub fn n_latent(&self) -> usize {
        2 * self.size.ilog2() as usize - 2
    }

    /// 4, 8, ... `size`.
    pub fn resolutions(&self) -> impl Iterator<Item = usize> {
        let size = self.size;
        (2..).map(|i| 1usize << i).take_while(move |&r| r <= size)
    }

    /// Names of the modulated layers in the order of [`Generator::styles`], each with the row of W+ that it reads.
    pub fn layers(&self) -> Vec<(String, usize)> {
        synthesis::layers(self)
    }

    /// Length of a layer's style.
    pub fn style_channels(&self, layer: &str) -> usize {
        synthesis::style_channels(self, layer)
    }
}

/// How many pictures are drawn at a time, so that a layer of them stays within 64 MiB.
pub(crate) fn slice(config: &Config) -> usize {
    let largest = config.channels.iter().map(|(r, c)| r * r * c * 4).max().unwrap_or(1);
    ((64 << 20) / largest).clamp(1, 16)
}

/// Noise of the synthesis layers.
pub enum Noise<'a> {
    /// The checkpoint's own maps.
    Const,
    None,
    Random(&'a mut Rng),
    /// One map a layer: [n or 1, 1, h, w].
    Given(&'a [Tensor]),
}

/// What makes the pictures; shared by generators that differ in other tensors only.
struct Parts {
    config: Config,
    blur: [f32; 4],
    noise: Vec<Tensor>,
    latent_avg: Option<Tensor>,
}

/// What a file holds, in our layout.
struct Loaded {
    config: Config,
    blur: [f32; 4],
    noise: Vec<Tensor>,
    latent_avg: Option<Tensor>,
    weights: BTreeMap<String, Tensor>,
}

/// A generator: immutable, cheap to clone, and safe to use from several threads at once.
#[derive(Clone)]
pub struct Generator {
    parts: Arc<Parts>,
    weights: Arc<BTreeMap<String, Tensor>>,
    /// Added to the styles, by layer.
    offsets: Arc<BTreeMap<String, Tensor>>,
    synthesis: Synthesis,
    /// What [`Generator::map`] takes for the label: [1, c_dim].
    label: Option<Tensor>,
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
        Self::from_checkpoint(&checkpoint::open_unless(path, cancel)?)
    }

    /// As [`Generator::open`].
    pub fn from_checkpoint(file: &Checkpoint) -> Result<Self> {
        let place = find(file)?;
        let network = file.with_prefix(&place.prefix);
        let loaded = match place.naming {
            Naming::Nvidia => ada::load(&network)?,
            Naming::Rosinality => Self::load(file, &place.prefix, &network)?,
            Naming::BasicSr => Self::load(file, &place.prefix, &network.renamed(basicsr::name))?,
        };
        let Loaded { config, blur, noise, latent_avg, weights } = loaded;
        Self::assemble(Arc::new(Parts { config, blur, noise, latent_avg }), weights, BTreeMap::new(), None)
    }

    /// Rosinality's layout: `file`, which stands at `prefix` of `root`.
    fn load(root: &Checkpoint, prefix: &str, file: &Checkpoint) -> Result<Loaded> {
        // Beside the generator or beside what it is in.
        let latent_avg = above(prefix).chain([prefix]).map(|place| format!("{place}latent_avg")).find(|k| root.contains(k));
        let config = synthesis::config(file)?;
        // Some tools store the mean once a layer: [n_latent, style_dim], all rows the same.
        let latent_avg = match latent_avg.map(|k| (root.shape(&k).map(<[usize]>::len), k)) {
            Some((Some(2), k)) => Some(root.f32(&k, Some(&[config.n_latent(), config.style_dim]))?.mean(0)?),
            Some((_, k)) => Some(root.f32(&k, Some(&[config.style_dim]))?),
            None => None,
        };
        let mut weights = BTreeMap::new();
        for (key, shape) in synthesis::keys(&config) {
            let tensor = file.f32(&key, Some(&shape))?;
            weights.insert(key, tensor);
        }
        Ok(Loaded { blur: synthesis::blur(file)?, noise: synthesis::noise_maps(file, &config)?, latent_avg, config, weights })
    }

    fn assemble(
        parts: Arc<Parts>,
        weights: BTreeMap<String, Tensor>,
        offsets: BTreeMap<String, Tensor>,
        label: Option<Tensor>,
    ) -> Result<Self> {
        let synthesis = Synthesis::new(&parts.config, parts.blur, &weights, &offsets)?;
        Ok(Self { parts, weights: Arc::new(weights), offsets: Arc::new(offsets), synthesis, label, fingerprints: Arc::default() })
    }

    /// The same generator with its label set: [c_dim], for most generators one 1 and zeros (see [`Generator::with_class`]). From then on
    /// it is used like one without labels.
    pub fn with_label(&self, label: &Tensor) -> Result<Self> {
        let c_dim = self.config().c_dim;
        if c_dim == 0 || label.dims() != [c_dim] {
            let takes = if c_dim == 0 { "takes no label".into() } else { format!("takes [{c_dim}]") };
            return Err(Error::argument("label", format!("has shape {:?}, this generator {takes}", label.dims())));
        }
        Ok(Self { label: Some(label.unsqueeze(0)?), ..self.clone() })
    }

    /// The same generator for class `class`, from 0 to `c_dim` - 1.
    pub fn with_class(&self, class: usize) -> Result<Self> {
        let c_dim = self.config().c_dim;
        if class >= c_dim {
            let has = if c_dim == 0 { "has no classes".into() } else { format!("has classes 0 to {}", c_dim - 1) };
            return Err(Error::argument("class", format!("is {class}, this generator {has}")));
        }
        let label: Vec<f32> = (0..c_dim).map(|i| if i == class { 1.0 } else { 0.0 }).collect();
        self.with_label(&Tensor::from_vec(label, c_dim, &Device::Cpu)?)
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
        let config = self.config();
        if config.c_dim == 0 {
            return Ok(self.clone());
        }
        let embedded = pixel_norm(&self.embed(self.label.as_ref().ok_or_else(|| self.no_class())?)?)?;
        let mut weights = (*self.weights).clone();
        let both = &self.weights["style.1.weight"];
        let d = config.style_dim;
        // A layer computes x * weight * lr_mlp / sqrt(inputs) + bias * lr_mlp, and has half as many inputs from now on.
        let half = 0.5f64.sqrt();
        let constant = embedded.matmul(&both.narrow(1, d, d)?.t()?)?.affine(half / (d as f64).sqrt(), 0.0)?.squeeze(0)?;
        weights.insert("style.1.weight".into(), both.narrow(1, 0, d)?.affine(half, 0.0)?.contiguous()?);
        weights.insert("style.1.bias".into(), (&self.weights["style.1.bias"] + constant)?);
        weights.retain(|key, _| !key.starts_with("embed."));
        let latent_avg = Some(self.mean_w()?);
        let parts =
            Parts { config: Config { c_dim: 0, ..config.clone() }, blur: self.parts.blur, noise: self.parts.noise.clone(), latent_avg };
        Self::assemble(Arc::new(parts), weights, (*self.offsets).clone(), None)
    }

    /// Labels [n, c_dim] as vectors that stand beside z, [n, style_dim], before they are normalised.
    fn embed(&self, labels: &Tensor) -> Result<Tensor> {
        let scaled = labels.affine(1.0 / (self.config().c_dim as f64).sqrt(), 0.0)?;
        Ok(scaled.matmul(&self.weights["embed.weight"].t()?)?.broadcast_add(&self.weights["embed.bias"])?)
    }

    fn no_class(&self) -> Error {
        Error::argument("class", format!("is not chosen, and this generator has classes 0 to {}", self.config().c_dim.saturating_sub(1)))
    }

    pub fn config(&self) -> &Config {
        &self.parts.config
    }

    /// The tensors that make pictures, in rosinality's layout.
    pub fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.weights
    }

    /// What is added to the styles, [channels] by layer name.
    pub fn offsets(&self) -> &BTreeMap<String, Tensor> {
        &self.offsets
    }

    /// The checkpoint's noise maps, [1, 1, h, w], one a layer.
    pub fn noise_maps(&self) -> &[Tensor] {
        &self.parts.noise
    }

    /// This generator with some tensors and style offsets replaced; everything else is shared. Keys and shapes must be its own.
    pub fn replacing(&self, weights: BTreeMap<String, Tensor>, offsets: BTreeMap<String, Tensor>) -> Result<Self> {
        let config = self.config();
        let mut all = (*self.weights).clone();
        for (key, tensor) in weights {
            match all.get_mut(&key) {
                Some(old) if old.dims() == tensor.dims() => *old = tensor,
                Some(old) => {
                    return Err(Error::Mismatch(format!("{key} has shape {:?}, the generator's has {:?}", tensor.dims(), old.dims())))
                }
                None => return Err(Error::Mismatch(format!("the generator has no tensor {key}"))),
            }
        }
        let layers = config.layers();
        let mut all_offsets = (*self.offsets).clone();
        for (layer, offset) in offsets {
            if !layers.iter().any(|(name, _)| *name == layer) {
                return Err(Error::Mismatch(format!("the generator has no layer {layer}")));
            }
            let channels = config.style_channels(&layer);
            if offset.dims() != [channels] {
                return Err(Error::Mismatch(format!("the style offset of {layer} has shape {:?}, it must be [{channels}]", offset.dims())));
            }
            all_offsets.insert(layer, offset);
        }
        Self::assemble(self.parts.clone(), all, all_offsets, self.label.clone())
    }

    /// sha256 (hex) over keys, shapes and numbers of every tensor that makes pictures, and over [`Generator::unusual`]; noise maps and the
    /// mean of w are left out, as tools add and drop them. Computed once, a tensor at a time.
    ///
    /// Errors: `Internal` where a tensor cannot be read as f32.
    pub fn fingerprint(&self) -> Result<&str> {
        Ok(&self.fingerprints()?.now)
    }

    /// The fingerprint that domains of format 1 have: blur, clamp and learning-rate multiplier were no part of it. The same as
    /// [`Generator::fingerprint`] where nothing is [unusual](Generator::unusual). Errors as there.
    pub fn fingerprint_of_format_1(&self) -> Result<&str> {
        Ok(&self.fingerprints()?.format_1)
    }

    fn fingerprints(&self) -> Result<&Fingerprints> {
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

    /// What a generator computes with beside its tensors, by name, where it is not what StyleGAN2 was published with: `blur` (the taps, in
    /// units of 2^-16), `conv_clamp`, `lr_mlp`. Numbers as f32, so that a format that rounds them makes no other generator of it.
    pub fn unusual(&self) -> Vec<(&'static str, String)> {
        let taps = |blur: [f32; 4]| blur.map(|tap| (f64::from(tap) * 65536.0).round() as i64);
        let config = self.config();
        let blur = taps(self.parts.blur);
        let mut unusual = Vec::new();
        if blur != taps(synthesis::BLUR) {
            unusual.push(("blur", format!("{blur:?}")));
        }
        if let Some(clamp) = config.conv_clamp {
            unusual.push(("conv_clamp", (clamp as f32).to_string()));
        }
        if config.lr_mlp as f32 != export::DEFAULT_LR_MLP as f32 {
            unusual.push(("lr_mlp", (config.lr_mlp as f32).to_string()));
        }
        unusual
    }

    /// The mapping network: z [n, style_dim] -> w [n, style_dim]. Differentiable. A generator with classes needs one to be set
    /// ([`Generator::with_class`]).
    pub fn map(&self, z: &Tensor) -> Result<Tensor> {
        self.map_traced(z, &mut |_, _| ())
    }

    /// As [`Generator::map`]; `trace` sees every module's output as `map.style.<i>`, 0 being the pixel norm, and `map.embed`.
    pub fn map_traced(&self, z: &Tensor, trace: &mut dyn FnMut(&str, &Tensor)) -> Result<Tensor> {
        self.map_labels_traced(z, self.label.as_ref(), trace)
    }

    /// As [`Generator::map`], with a label for each z: [n, c_dim], or [1, c_dim] for all.
    pub fn map_labels(&self, z: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.map_labels_traced(z, Some(labels), &mut |_, _| ())
    }

    /// As [`Generator::map_labels`] and [`Generator::map_traced`].
    pub fn map_labels_traced(&self, z: &Tensor, labels: Option<&Tensor>, trace: &mut dyn FnMut(&str, &Tensor)) -> Result<Tensor> {
        let config = self.config();
        self.check_latent("z", z, 2)?;
        let n = z.dim(0)?;
        let mut x = pixel_norm(z)?;
        trace("map.style.0", &x);
        if config.c_dim > 0 {
            let labels = labels.ok_or_else(|| self.no_class())?;
            if !matches!(labels.dims(), &[m, c] if (m == 1 || m == n) && c == config.c_dim) {
                let want = format!("[{n} or 1, {}]", config.c_dim);
                return Err(Error::argument("labels", format!("have shape {:?}, this generator takes {want}", labels.dims())));
            }
            let y = self.embed(labels)?;
            trace("map.embed", &y);
            x = Tensor::cat(&[x, pixel_norm(&y)?.broadcast_as((n, config.style_dim))?.contiguous()?], 1)?;
        } else if labels.is_some() {
            return Err(Error::argument("labels", "this generator takes none"));
        }
        let still = Tensor::zeros(1, candle_core::DType::F32, x.device())?;
        for i in 1..=config.n_mlp {
            let weight = &self.weights[&format!("style.{i}.weight")];
            let scale = config.lr_mlp / (weight.dim(1)? as f64).sqrt();
            let bias = self.weights[&format!("style.{i}.bias")].affine(config.lr_mlp, 0.0)?;
            let y = x.affine(scale, 0.0)?.matmul(&weight.t()?)?;
            let (n, d) = y.dims2()?;
            x = bias_act(&y.reshape((n, d, 1, 1))?, &bias, &still, None)?.reshape((n, d))?;
            trace(&format!("map.style.{i}"), &x);
        }
        Ok(x)
    }

    /// The mean of w, [style_dim]: the checkpoint's, else that of 4096 latents of a fixed seed.
    pub fn mean_w(&self) -> Result<Tensor> {
        match &self.parts.latent_avg {
            Some(mean) => Ok(mean.clone()),
            None => Ok(self.map(&Rng::stream(0, 2).normals(&[4096, self.config().style_dim], &Device::Cpu)?)?.mean(0)?),
        }
    }

    /// `n` latents of a seed, truncated: W [n, style_dim].
    pub fn sample_w(&self, n: usize, seed: u64, truncation: f32) -> Result<Tensor> {
        if n == 0 {
            return Err(Error::argument("count", "must be at least 1"));
        }
        let z = Rng::new(seed).normals(&[n, self.config().style_dim], &Device::Cpu)?;
        self.truncate(&self.map(&z)?, truncation)
    }

    /// mean + truncation * (w - mean), for w [.., style_dim] (Karras et al. 2019, "A Style-Based Generator Architecture", section B).
    pub fn truncate(&self, w: &Tensor, truncation: f32) -> Result<Tensor> {
        if !truncation.is_finite() {
            return Err(Error::argument("truncation", "must be a number"));
        }
        if truncation == 1.0 {
            return Ok(w.clone());
        }
        let mean = self.mean_w()?;
        Ok(w.broadcast_sub(&mean)?.affine(truncation as f64, 0.0)?.broadcast_add(&mean)?)
    }

    fn check_latent(&self, name: &str, t: &Tensor, rank: usize) -> Result<()> {
        let c = self.config();
        let dims = t.dims();
        let ok = dims.len() == rank && dims[0] > 0 && dims[rank - 1] == c.style_dim && (rank == 2 || dims[1] == c.n_latent());
        if ok {
            return Ok(());
        }
        let want = if rank == 2 { format!("[n, {}]", c.style_dim) } else { format!("[n, {}, {}]", c.n_latent(), c.style_dim) };
        Err(Error::argument(name, format!("has shape {dims:?}, this generator takes {want}")))
    }

    /// Any latent -> W+ [n, n_latent, style_dim], truncated towards the mean.
    pub fn wplus(&self, latent: &Latent, truncation: f32) -> Result<Tensor> {
        let t = &latent.tensor;
        let wplus = match latent.space {
            Space::Z => {
                let w = self.map(t)?;
                return self.broadcast(&self.truncate(&w, truncation)?);
            }
            Space::W => self.broadcast(t)?,
            Space::WPlus => {
                self.check_latent("W+ latent", t, 3)?;
                t.clone()
            }
        };
        self.truncate(&wplus, truncation)
    }

    /// w [n, style_dim] -> W+ with the same row everywhere.
    pub fn broadcast(&self, w: &Tensor) -> Result<Tensor> {
        self.check_latent("w latent", w, 2)?;
        Ok(w.unsqueeze(1)?.repeat((1, self.config().n_latent(), 1))?)
    }

    /// Style mixing (Karras et al. 2019, section 3.1): the first `crossover` rows of W+ `a`, the others of `b`.
    pub fn mix(&self, a: &Tensor, b: &Tensor, crossover: usize) -> Result<Tensor> {
        self.check_latent("a", a, 3)?;
        self.check_latent("b", b, 3)?;
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
        self.check_latent("a", a, 3)?;
        self.check_latent("b", b, 3)?;
        if a.dims() != b.dims() {
            return Err(Error::argument("b", format!("has shape {:?}, but a has {:?}: they must be equal", b.dims(), a.dims())));
        }
        Ok((a.affine(1.0 - amount, 0.0)? + b.affine(amount, 0.0)?)?)
    }

    /// W+ [n, n_latent, style_dim] -> S: one style [n, channels] a layer, in the order of [`Config::layers`], offsets included.
    pub fn styles(&self, wplus: &Tensor) -> Result<Vec<Tensor>> {
        self.check_latent("W+ latent", wplus, 3)?;
        self.synthesis.styles(wplus)
    }

    /// S -> picture [n, 3, size, size]. Differentiable.
    pub fn synthesize_styles(&self, styles: &[Tensor], noise: Noise) -> Result<Tensor> {
        let layers = self.config().layers();
        let n = styles.first().and_then(|s| s.dims().first().copied()).unwrap_or(0);
        let fits = styles.len() == layers.len()
            && n > 0
            && styles.iter().zip(&layers).all(|(s, (l, _))| s.dims() == [n, self.config().style_channels(l)]);
        if !fits {
            return Err(Error::argument("styles", format!("must be {} tensors, each [n, channels of its layer]", layers.len())));
        }
        self.synthesis.forward(styles, &mut LayerNoise::new(noise, &self.parts.noise), &mut |_, _| ())
    }

    /// W+ [n, n_latent, style_dim] -> picture [n, 3, size, size], nominally in [-1, 1], not clamped. Differentiable.
    pub fn synthesize(&self, wplus: &Tensor, noise: Noise) -> Result<Tensor> {
        self.synthesize_traced(wplus, noise, &mut |_, _| ())
    }

    /// As [`Generator::synthesize`]; `trace` sees every layer: `s.<layer>` the style, `modconv.<layer>` the modulated convolution
    /// before noise and bias, `layer.<layer>` the output (ToRGB: after the skip is added).
    pub fn synthesize_traced(&self, wplus: &Tensor, noise: Noise, trace: &mut dyn FnMut(&str, &Tensor)) -> Result<Tensor> {
        let styles = self.styles(wplus)?;
        for ((name, _), s) in self.config().layers().iter().zip(&styles) {
            trace(&format!("s.{name}"), s);
        }
        self.synthesis.forward(&styles, &mut LayerNoise::new(noise, &self.parts.noise), trace)
    }

    /// Renders a latent: with its own noise maps where it has them, else with `noise`; a few pictures at a time, so that memory stays
    /// bounded. [n, 3, size, size].
    pub fn render(&self, latent: &Latent, truncation: f32, noise: Noise) -> Result<Tensor> {
        let mut out = vec![];
        self.render_each(latent, truncation, noise, &mut |part| {
            out.push(part);
            Ok(())
        })?;
        Ok(if out.len() == 1 { out.remove(0) } else { Tensor::cat(&out, 0)? })
    }

    /// As [`Generator::render`], with each few pictures [m, 3, size, size] given to `on_part` when they are drawn; an error of it ends the
    /// call.
    pub fn render_each(&self, latent: &Latent, truncation: f32, noise: Noise, on_part: &mut dyn FnMut(Tensor) -> Result<()>) -> Result<()> {
        let wplus = self.wplus(latent, truncation)?;
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
            on_part(self.synthesize(&part, noise)?)?;
        }
        Ok(())
    }
}

/// x / sqrt(mean(x^2)) for each row of [n, d].
fn pixel_norm(x: &Tensor) -> Result<Tensor> {
    let norm = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-8)?.sqrt()?.recip()?;
    Ok(x.broadcast_mul(&norm)?)
}
