//! Generators as files: our own, and those that other programs read.

use super::BLUR;
use crate::checkpoint::{save_pickle, save_safetensors_one_by_one, save_torch, Object, Python};
use crate::device::HOST;
use crate::error::{Error, Result};
use crate::files::Destination;
use crate::nn::generator::layers::{Kind, Layer};
use crate::nn::generator::{Config, Generator, Synthesis, Weights};
use candle_core::{DType, Tensor};
use serde::Deserialize;
use std::collections::BTreeMap;

/// How a generator's file is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// safetensors with rosinality's names.
    Nada,
    /// `torch.save({"g_ema": state_dict, "latent_avg": mean of w})`, as rosinality's converter writes it. Pictures that are not square, grey or
    /// with alpha stay so; what reads them is then a program that draws such.
    Rosinality,
    /// The pickle of stylegan2-ada-pytorch.
    AdaPytorch,
}

/// Decay of the running mean of w in training, NVIDIA's default; drawing does not use it.
const W_AVG_BETA: f64 = 0.995;

/// Where a reader of a pickle finds the classes: in the program that it belongs to. NVIDIA's own files carry their text instead.
const MODULE_SOURCE: &str = "\
# The classes are those of the program that loads this file, stylegan2-ada-pytorch.
try:
    from training.networks import *
except ImportError:
    from training.networks_stylegan2 import *
";

impl Generator {
    /// Writes the generator, by a temporary name and a rename. Style offsets are added to the biases that they move; what the file draws is
    /// the same but for the rounding of that sum. The mean of w is written where the generator had none in its file, too.
    ///
    /// `half`: f16 instead of f32, which rounds the numbers and so makes another generator, with another fingerprint; for [`Layout::Nada`] only.
    ///
    /// Errors: `InvalidArgument` for `half` with another layout; `Unsupported` where a number is beyond f16, or the layout has no place for a
    /// generator like this; `Io`; `Cancelled`, as [`Destination::unless`] says.
    pub fn save<'a>(&self, to: impl Into<Destination<'a>>, layout: Layout, half: bool) -> Result<()> {
        self.check_layout(layout, half)?;
        let to = to.into();
        let baked = self.baked()?;
        match layout {
            Layout::Nada => baked.save_nada(to, half),
            Layout::Rosinality => save_torch(to, &baked.rosinality(to)?),
            Layout::AdaPytorch => save_pickle(to, &baked.ada_pytorch(to)?),
        }
    }

    /// What [`Generator::save`] would refuse before it writes anything.
    pub fn check_layout(&self, layout: Layout, half: bool) -> Result<()> {
        let c = self.config();
        if half && layout != Layout::Nada {
            return Err(Error::argument("half", "is for the layout nada alone; other programs read f32"));
        }
        match layout {
            Layout::Nada => Ok(()),
            Layout::Rosinality => {
                let what = "writing the generator for rosinality";
                if self.has_all_classes() {
                    let message = format!("it has {} classes, which rosinality's code does not know; choose one", c.c_dim);
                    return Err(Error::unsupported(what, message));
                }
                if c.z_dim != c.style_dim {
                    let message = format!("its z has {} numbers and its w {}, which rosinality's code does not know", c.z_dim, c.style_dim);
                    return Err(Error::unsupported(what, message));
                }
                Ok(())
            }
            Layout::AdaPytorch => {
                // That code draws what is as high as it is wide, and doubles 4 x 4.
                let what = "writing the generator for stylegan2-ada-pytorch";
                c.side(what)?;
                match self.layers().iter().find(|l| l.kind == Kind::Input && l.to.height != 4) {
                    Some(input) => {
                        let message = format!("it starts at {0} x {0} pixels, where that code starts at 4 x 4", input.to.height);
                        Err(Error::unsupported(what, message))
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// The same generator with its style offsets in its weights: a style is affine(w) + bias + offset.
    fn baked(&self) -> Result<Generator> {
        let mut weights = Weights::new();
        for (layer, offset) in self.offsets() {
            let key = format!("{layer}.conv.modulation.bias");
            let bias = self.weights.get(&key).ok_or_else(|| Error::Internal(format!("generator without {key}")))?;
            weights.insert(key, (bias + offset)?);
        }
        let bare = Self { offsets: Default::default(), ..self.clone() };
        bare.replacing(weights, Weights::new())
    }

    /// Taps of the up-samplings.
    fn blur(&self) -> [f32; 4] {
        match &self.synthesis {
            Synthesis::StyleGan2(s) => s.blur(),
        }
    }

    /// The blur of an up-sampling, [4, 4], times `gain`: its sum is 4 for rosinality's code and 1 for NVIDIA's.
    fn kernel(&self, gain: f32) -> Result<Tensor> {
        let blur = self.blur();
        let outer: Vec<f32> = (0..16).map(|i| blur[i / 4] * blur[i % 4] * gain).collect();
        Ok(Tensor::from_vec(outer, (4, 4), HOST)?)
    }

    /// Every tensor of rosinality's state_dict.
    fn state_dict(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = (*self.weights).clone();
        let kernel = self.kernel(1.0)?;
        for Layer { name, kind, index, from, to, .. } in self.layers() {
            match kind {
                Kind::Convolution if from.height < to.height => tensors.insert(format!("{name}.conv.blur.kernel"), kernel.clone()),
                Kind::ToRgb if *index > 0 => tensors.insert(format!("{name}.upsample.kernel"), kernel.clone()),
                _ => None,
            };
        }
        for (i, map) in self.noise_maps().iter().enumerate() {
            tensors.insert(format!("noises.noise_{i}"), map.clone());
        }
        Ok(tensors)
    }

    fn save_nada(&self, to: Destination, half: bool) -> Result<()> {
        let mut tensors = self.state_dict()?;
        tensors.extend(self.mean(to)?.map(|mean| ("latent_avg".to_string(), mean)));
        let c = self.config();
        let numbers = [("size", c.size().to_string()), ("style_dim", c.style_dim.to_string()), ("n_mlp", c.n_mlp.to_string())];
        let texts = [("format", "stylegan2-rosinality".to_string()), ("lr_mlp", c.lr_mlp.to_string())];
        let clamp = c.conv_clamp.map(|clamp| ("conv_clamp", clamp.to_string()));
        let metadata = numbers.into_iter().chain(texts).chain(clamp).map(|(k, v)| (k.to_string(), v)).collect();
        let dtype = if half { DType::F16 } else { DType::F32 };
        let planned = tensors.iter().map(|(key, tensor)| (key.clone(), dtype, tensor.dims().to_vec())).collect();
        save_safetensors_one_by_one(to, planned, &metadata, |key| match tensors.get(key) {
            Some(tensor) if half => to_half(key, tensor),
            Some(tensor) => Ok(tensor.clone()),
            None => Err(Error::Internal(format!("generator without {key}"))),
        })
    }

    /// The mean of w, unless it depends on a class that is not set.
    fn mean(&self, to: Destination) -> Result<Option<Tensor>> {
        let known = self.parts.latent_avg.is_some() || self.config().c_dim == 0 || self.label.is_some();
        known.then(|| self.mean_w_unless(&to.cancel())).transpose()
    }

    /// The clamp and an unusual learning-rate multiplier are kept for this library: rosinality's code has no place for them.
    fn rosinality(&self, to: Destination) -> Result<Python> {
        let c = self.config();
        if c.c_dim > 0 {
            return self.without_classes_unless(&to.cancel())?.rosinality(to);
        }
        let tensors = self.state_dict()?.into_iter().map(|(key, tensor)| (key, Python::Tensor(tensor)));
        let mut file = vec![("g_ema", Python::ordered(tensors)), ("latent_avg", Python::Tensor(self.mean_w_unless(&to.cancel())?))];
        if c.lr_mlp != DEFAULT_LR_MLP {
            file.push(("lr_mlp", Python::Float(c.lr_mlp)));
        }
        file.extend(c.conv_clamp.map(|clamp| ("conv_clamp", Python::Float(clamp))));
        Ok(Python::dict(file))
    }

    /// The networks of a stylegan2-ada-pytorch file. There is no discriminator to write, and a loader may insist on a module: an empty one
    /// stands in its place.
    fn ada_pytorch(&self, to: Destination) -> Result<Python> {
        let c = self.config();
        let generator = Ada { g: self, w: c.style_dim as i64, mean: self.mean(to)? }.generator()?;
        let empty = Object {
            module: "torch.nn.modules.module",
            name: "Module",
            args: vec![],
            new: true,
            items: vec![],
            state: Some(module_state(vec![], vec![], vec![])),
        };
        Ok(Python::dict([
            ("training_set_kwargs", Python::None),
            ("G", Python::Shared(0, Box::new(generator))),
            ("D", Python::Object(Box::new(empty))),
            ("G_ema", Python::Again(0)),
            ("augment_pipe", Python::None),
        ]))
    }
}

/// rosinality's and NVIDIA's learning-rate multiplier of the mapping network, which files do not name.
pub(super) const DEFAULT_LR_MLP: f64 = 0.01;

/// `tensor` as f16. `Unsupported` where a number would become infinite.
pub(crate) fn to_half(key: &str, tensor: &Tensor) -> Result<Tensor> {
    let largest = if tensor.elem_count() == 0 { 0.0 } else { tensor.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()? };
    if largest > half::f16::MAX.to_f32() {
        return Err(Error::unsupported(format!("tensor '{key}' as f16"), format!("{largest} is more than f16 can hold; keep f32")));
    }
    Ok(tensor.to_dtype(DType::F16)?)
}

type Named = Vec<(&'static str, Python)>;

fn int(n: usize) -> Python {
    Python::Int(n as i64)
}

/// Attributes of a torch.nn.Module, in the set that PyTorch 1.7 had.
fn module_state(parameters: Named, buffers: Named, modules: Vec<(String, Python)>) -> Vec<(String, Python)> {
    let hooks = ["_backward_hooks", "_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks"];
    let mut state: Vec<(String, Python)> = vec![
        ("training".into(), Python::Bool(false)),
        ("_parameters".into(), Python::dict(parameters)),
        ("_buffers".into(), Python::dict(buffers)),
        ("_non_persistent_buffers_set".into(), Python::call("builtins", "set", vec![Python::List(vec![])])),
    ];
    state.extend(hooks.map(|name| (name.to_string(), Python::ordered([]))));
    state.push(("_modules".into(), Python::dict(modules)));
    state
}

/// A module of stylegan2-ada-pytorch.
struct Module {
    class: &'static str,
    parameters: Named,
    buffers: Named,
    modules: Vec<(String, Python)>,
    attributes: Named,
    /// Positional arguments of its constructor, and those by name: kept for programs that build it anew.
    init: (Vec<usize>, Named),
}

impl Module {
    fn python(self) -> Python {
        let mut state = module_state(self.parameters, self.buffers, self.modules);
        state.extend(self.attributes.into_iter().map(|(k, v)| (k.to_string(), v)));
        state.push(("_init_args".into(), Python::Tuple(self.init.0.into_iter().map(int).collect())));
        state.push(("_init_kwargs".into(), Python::dict(self.init.1)));
        let meta = [
            ("type", Python::str("class")),
            ("version", Python::Int(6)),
            ("module_src", Python::str(MODULE_SOURCE)),
            ("class_name", Python::str(self.class)),
            ("state", Python::Dict(state)),
        ];
        Python::call("torch_utils.persistence", "_reconstruct_persistent_obj", vec![Python::dict(meta)])
    }
}

/// The generator's parts under stylegan2-ada-pytorch's names; numbers are f32 throughout, no block is computed in f16.
struct Ada<'a> {
    g: &'a Generator,
    /// Length of w.
    w: i64,
    /// Of w, where it is known.
    mean: Option<Tensor>,
}

impl Ada<'_> {
    /// The tensor that has `key` in rosinality's layout, in another shape.
    fn parameter(&self, key: String, shape: &[usize]) -> Result<Python> {
        let tensor = self.g.weights().get(&key).ok_or_else(|| Error::Internal(format!("generator without {key}")))?;
        Ok(Python::Parameter(tensor.reshape(shape)?))
    }

    fn clamp(&self) -> (&'static str, Python) {
        let clamp = self.g.config().conv_clamp;
        ("conv_clamp", clamp.map_or(Python::None, |c| if c.fract() == 0.0 { Python::Int(c as i64) } else { Python::Float(c) }))
    }

    fn filter(&self) -> Result<(&'static str, Python)> {
        Ok(("resample_filter", Python::Tensor(self.g.kernel(0.25)?)))
    }

    /// A linear layer; `rate` is its learning-rate multiplier.
    fn linear(&self, key: &str, inputs: usize, outputs: usize, activation: &str, rate: Option<f64>, named: Named) -> Result<Python> {
        let module = Module {
            class: "FullyConnectedLayer",
            parameters: vec![
                ("weight", self.parameter(format!("{key}.weight"), &[outputs, inputs])?),
                ("bias", self.parameter(format!("{key}.bias"), &[outputs])?),
            ],
            buffers: vec![],
            modules: vec![],
            attributes: vec![
                ("activation", Python::str(activation)),
                ("weight_gain", Python::Float(rate.unwrap_or(1.0) / (inputs as f64).sqrt())),
                ("bias_gain", rate.map_or(Python::Int(1), Python::Float)),
            ],
            init: (vec![inputs, outputs], named),
        };
        Ok(module.python())
    }

    fn affine(&self, layer: &Layer) -> Result<Vec<(String, Python)>> {
        let key = format!("{}.conv.modulation", layer.name);
        let affine = self.linear(&key, self.w as usize, layer.from.channels, "linear", None, vec![("bias_init", Python::Int(1))])?;
        Ok(vec![("affine".into(), affine)])
    }

    fn convolution(&self, layer: &Layer) -> Result<Python> {
        let (name, side, up) = (&layer.name, layer.to.height, layer.from.height < layer.to.height);
        let (inputs, outputs) = (layer.from.channels, layer.to.channels);
        let mut named = vec![("w_dim", Python::Int(self.w)), ("resolution", int(side))];
        if up {
            // The library normalises filters, so that any multiple will do.
            let blur = self.g.blur();
            let taps = blur.map(|t| Python::Float(f64::from(t)));
            named.extend([
                ("up", Python::Int(2)),
                ("resample_filter", Python::List(if blur == BLUR { [1, 3, 3, 1].map(Python::Int).into() } else { taps.into() })),
            ]);
        }
        named.extend([self.clamp(), ("channels_last", Python::Bool(false))]);
        let noise = self.g.noise_maps().get(layer.index);
        let noise = noise.ok_or_else(|| Error::Internal(format!("generator without noise map {}", layer.index)))?;
        let module = Module {
            class: "SynthesisLayer",
            parameters: vec![
                ("weight", self.parameter(format!("{name}.conv.weight"), &[outputs, inputs, 3, 3])?),
                ("noise_strength", self.parameter(format!("{name}.noise.weight"), &[])?),
                ("bias", self.parameter(format!("{name}.activate.bias"), &[outputs])?),
            ],
            buffers: vec![self.filter()?, ("noise_const", Python::Tensor(noise.reshape((side, side))?))],
            modules: self.affine(layer)?,
            attributes: vec![
                ("resolution", int(side)),
                ("up", Python::Int(if up { 2 } else { 1 })),
                ("use_noise", Python::Bool(true)),
                ("activation", Python::str("lrelu")),
                self.clamp(),
                ("padding", Python::Int(1)),
                ("act_gain", Python::Float(std::f64::consts::SQRT_2)),
            ],
            init: (vec![inputs, outputs], named),
        };
        Ok(module.python())
    }

    fn to_rgb(&self, layer: &Layer) -> Result<Python> {
        let (name, channels, colours) = (&layer.name, layer.from.channels, layer.to.channels);
        let module = Module {
            class: "ToRGBLayer",
            parameters: vec![
                ("weight", self.parameter(format!("{name}.conv.weight"), &[colours, channels, 1, 1])?),
                ("bias", self.parameter(format!("{name}.bias"), &[colours])?),
            ],
            buffers: vec![],
            modules: self.affine(layer)?,
            attributes: vec![self.clamp(), ("weight_gain", Python::Float(1.0 / (channels as f64).sqrt()))],
            init: (vec![channels, colours], vec![("w_dim", Python::Int(self.w)), self.clamp(), ("channels_last", Python::Bool(false))]),
        };
        Ok(module.python())
    }

    /// The block that draws `side` pixels: `layers` of the table.
    fn block(&self, side: usize, layers: &[&Layer]) -> Result<Python> {
        let c = self.g.config();
        let convolutions: Vec<&Layer> = layers.iter().copied().filter(|l| l.kind == Kind::Convolution).collect();
        let (mut parameters, mut modules) = (vec![], vec![]);
        for layer in layers {
            match layer.kind {
                Kind::Input => parameters.push(("const", self.parameter("input.input".into(), &[layer.to.channels, side, side])?)),
                // The first block's only one is conv1, too.
                Kind::Convolution if layer.from.height < side => modules.push(("conv0".to_string(), self.convolution(layer)?)),
                Kind::Convolution => modules.push(("conv1".to_string(), self.convolution(layer)?)),
                Kind::ToRgb => modules.push(("torgb".to_string(), self.to_rgb(layer)?)),
            }
        }
        let below = convolutions.first().filter(|l| l.from.height < side).map_or(0, |l| l.from.channels);
        let channels = convolutions.last().map_or(0, |l| l.to.channels);
        let both: Named = vec![
            ("w_dim", Python::Int(self.w)),
            ("resolution", int(side)),
            ("img_channels", int(c.colours())),
            ("is_last", Python::Bool(side == c.size())),
            ("use_fp16", Python::Bool(false)),
        ];
        let attributes: Named = vec![
            ("in_channels", int(below)),
            ("architecture", Python::str("skip")),
            ("channels_last", Python::Bool(false)),
            ("num_conv", int(convolutions.len())),
            ("num_torgb", Python::Int(1)),
        ];
        let module = Module {
            class: "SynthesisBlock",
            parameters,
            buffers: vec![self.filter()?],
            modules,
            attributes: both.iter().cloned().chain(attributes).collect(),
            init: (vec![below, channels], both.into_iter().chain([self.clamp()]).collect()),
        };
        Ok(module.python())
    }

    /// The argument of a mapping network whose learning-rate multiplier is not the default.
    fn unusual_rate(&self) -> Named {
        let rate = self.g.config().lr_mlp;
        if rate == DEFAULT_LR_MLP {
            vec![]
        } else {
            vec![("lr_multiplier", Python::Float(rate))]
        }
    }

    fn mapping(&self) -> Result<Python> {
        let c = self.g.config();
        let w = c.style_dim;
        let mut modules = vec![];
        if c.c_dim > 0 {
            modules.push(("embed".to_string(), self.linear("embed", c.c_dim, w, "linear", None, vec![])?));
        }
        for i in 0..c.n_mlp {
            // The first layer takes z and the embedded label.
            let inputs = match i {
                0 => c.z_dim + if c.c_dim > 0 { w } else { 0 },
                _ => w,
            };
            let named = vec![("activation", Python::str("lrelu")), ("lr_multiplier", Python::Float(c.lr_mlp))];
            modules.push((format!("fc{i}"), self.linear(&format!("style.{}", i + 1), inputs, w, "lrelu", Some(c.lr_mlp), named)?));
        }
        let sizes: Named = vec![
            ("z_dim", int(c.z_dim)),
            ("c_dim", int(c.c_dim)),
            ("w_dim", Python::Int(self.w)),
            ("num_ws", int(c.n_latent())),
            ("num_layers", int(c.n_mlp)),
        ];
        let named = sizes.iter().cloned().chain(self.unusual_rate()).collect();
        // A generator with classes whose file had no mean: zeros, as before its training.
        let mean = self.mean.clone().map_or_else(|| Tensor::zeros(w, DType::F32, HOST), Ok)?;
        let module = Module {
            class: "MappingNetwork",
            parameters: vec![],
            buffers: vec![("w_avg", Python::Tensor(mean))],
            modules,
            attributes: sizes.into_iter().chain([("w_avg_beta", Python::Float(W_AVG_BETA))]).collect(),
            init: (vec![], named),
        };
        Ok(module.python())
    }

    fn generator(&self) -> Result<Python> {
        let c = self.g.config();
        let sides: Vec<usize> = c.of_kind(Kind::ToRgb).map(|layer| layer.to.height).collect();
        let blocks = sides.iter().map(|&side| {
            let layers: Vec<&Layer> = c.layers.iter().filter(|l| l.to.height == side).collect();
            Ok((format!("b{side}"), self.block(side, &layers)?))
        });
        let (base, most) = channel_rule(c);
        let rule: Named = vec![("channel_base", int(base)), ("channel_max", int(most)), ("num_fp16_res", Python::Int(0)), self.clamp()];
        let image: Named = vec![("img_resolution", int(c.size())), ("img_channels", int(c.colours()))];
        let w: Named = vec![("w_dim", Python::Int(self.w))];
        let join = |parts: &[&Named]| parts.iter().flat_map(|p| p.iter().cloned()).collect::<Named>();
        let synthesis = Module {
            class: "SynthesisNetwork",
            parameters: vec![],
            buffers: vec![],
            modules: blocks.collect::<Result<_>>()?,
            attributes: join(&[
                &w,
                &image,
                &vec![
                    ("img_resolution_log2", Python::Int(c.size().ilog2().into())),
                    ("block_resolutions", Python::List(sides.iter().copied().map(int).collect())),
                    ("num_ws", int(c.n_latent())),
                ],
            ]),
            init: (vec![], join(&[&w, &image, &rule])),
        };
        let z: Named = vec![("z_dim", int(c.z_dim)), ("c_dim", int(c.c_dim))];
        let mapping = easy_dict([("num_layers", int(c.n_mlp))].into_iter().chain(self.unusual_rate()).collect());
        let module = Module {
            class: "Generator",
            parameters: vec![],
            buffers: vec![],
            modules: vec![("synthesis".into(), synthesis.python()), ("mapping".into(), self.mapping()?)],
            attributes: join(&[&z, &w, &image, &vec![("num_ws", int(c.n_latent()))]]),
            init: (vec![], join(&[&z, &w, &image, &vec![("mapping_kwargs", mapping), ("synthesis_kwargs", easy_dict(rule))]])),
        };
        Ok(module.python())
    }
}

fn easy_dict(items: Named) -> Python {
    let items = items.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    Python::Object(Box::new(Object { module: "dnnlib.util", name: "EasyDict", args: vec![], new: true, items, state: None }))
}

/// NVIDIA's rule for channels, min(base / side, most), with the numbers that come nearest. A file does not depend on it: only programs that
/// build the network anew from the arguments of its constructor do, and they need channels that follow the rule.
fn channel_rule(c: &Config) -> (usize, usize) {
    let features = || c.layers.iter().filter(|l| l.kind != Kind::ToRgb).map(|l| l.to);
    // Side and channels of each resolution.
    let channels: BTreeMap<usize, usize> = features().map(|to| (to.height, to.channels)).collect();
    let most = channels.values().copied().max().unwrap_or(1);
    let fits = |base: usize| channels.iter().filter(|(&side, &n)| (base / side).min(most) == n).count();
    let bases = channels.iter().map(|(side, n)| side * n);
    (bases.max_by_key(|&base| (fits(base), base)).unwrap_or(most), most)
}
