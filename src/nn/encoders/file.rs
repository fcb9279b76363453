//! What the files of encoders hold.
//!
//! pSp (Richardson et al. 2021), e4e (Tov et al. 2021) and ReStyle (Alaluf et al. 2021) publish one kind of file:
//! `{state_dict: {encoder.*, decoder.*}, latent_avg, opts}`.

use crate::cancel::Cancel;
use crate::checkpoint::{self, above, Checkpoint};
use crate::error::{Error, Result};
use crate::nn::generator::Generator;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backbone {
    /// IR-SE50, as for face recognition (Deng et al. 2019), with squeeze and excitation.
    IrSe50,
    /// ResNet34.
    ResNet34,
}

/// The sizes of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub backbone: Backbone,
    /// 3 for a picture; 6 where the picture drawn so far stands beside it (ReStyle).
    pub input_channels: usize,
    /// Rows of W+ that it gives, each by a head of its own; 0 where one layer gives a point of W (pSp with `learn_in_w`).
    pub styles: usize,
    pub style_dim: usize,
    /// Heads read three sizes of the feature map (pSp, e4e), not only the last.
    pub pyramid: bool,
    /// Blocks of the backbone.
    pub blocks: usize,
}

/// What an encoder's file holds, every key accounted for.
pub struct EncoderFile {
    pub config: Config,
    /// The encoder's tensors, without what stands before their names in the file.
    pub encoder: Checkpoint,
    /// Their names.
    pub tensors: Vec<String>,
    /// The generator that it was trained with, where the file has it.
    pub decoder: Option<Generator>,
    /// The shape of what is added to every code: [styles, style_dim], [1, style_dim] or `[style_dim]`.
    pub latent_avg: Option<Vec<usize>>,
    /// Its key in the file.
    pub(super) latent_avg_key: String,
    /// The training's settings.
    pub opts: BTreeMap<String, String>,
    /// Keys of tensors that belong to none of these.
    pub other: Vec<String>,
}

/// The only layer behind the backbone of an encoder into W.
const INTO_W: &str = "linear.weight";

/// Keys and shapes.
struct Keys(BTreeMap<String, Vec<usize>>);

impl Keys {
    fn tensor(&mut self, key: String, shape: &[usize]) {
        self.0.insert(key, shape.to_vec());
    }

    fn norm(&mut self, name: &str, channels: usize) {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            self.tensor(format!("{name}.{part}"), &[channels]);
        }
        self.tensor(format!("{name}.num_batches_tracked"), &[]);
    }

    fn layer(&mut self, name: &str, shape: &[usize]) {
        self.tensor(format!("{name}.weight"), shape);
        self.tensor(format!("{name}.bias"), &shape[..1]);
    }
}

impl Config {
    /// Reads the sizes from the tensors' shapes. None where the tensors are not those of such an encoder.
    fn read(file: &Checkpoint) -> Option<Self> {
        let dims = |key: &str| file.shape(key).map(<[usize]>::to_vec);
        let (backbone, stem) = match (dims("input_layer.0.weight"), dims("conv1.weight")) {
            (Some(stem), _) => (Backbone::IrSe50, stem),
            (None, Some(stem)) => (Backbone::ResNet34, stem),
            (None, None) => return None,
        };
        let linear = dims("styles.0.linear.weight").or_else(|| dims(INTO_W))?;
        Some(Config {
            backbone,
            input_channels: *stem.get(1)?,
            // Not the largest number: a key may have any.
            styles: file.count_numbered("styles."),
            style_dim: *linear.first()?,
            pyramid: file.contains("latlayer1.weight"),
            blocks: file.count_numbered("body."),
        })
    }

    /// Every tensor of such an encoder with its shape; widths that differ between models are taken from the file.
    fn keys(&self, file: &Checkpoint) -> BTreeMap<String, Vec<usize>> {
        let first = |key: &str| file.shape(key).and_then(|shape| shape.first().copied()).unwrap_or(0);
        let mut keys = Keys(BTreeMap::new());
        let d = self.style_dim;
        let mut features = Vec::with_capacity(self.blocks);
        let mut width = match self.backbone {
            Backbone::IrSe50 => {
                let width = first("input_layer.0.weight");
                keys.tensor("input_layer.0.weight".into(), &[width, self.input_channels, 3, 3]);
                keys.norm("input_layer.1", width);
                keys.tensor("input_layer.2.weight".into(), &[width]);
                width
            }
            Backbone::ResNet34 => {
                let width = first("conv1.weight");
                keys.tensor("conv1.weight".into(), &[width, self.input_channels, 7, 7]);
                keys.norm("bn1", width);
                keys.tensor("relu.weight".into(), &[width]);
                width
            }
        };
        for i in 0..self.blocks {
            let (conv, shortcut) = match self.backbone {
                Backbone::IrSe50 => ("res_layer.1", "shortcut_layer"),
                Backbone::ResNet34 => ("conv1", "downsample"),
            };
            let name = format!("body.{i}");
            let out = first(&format!("{name}.{conv}.weight"));
            match self.backbone {
                Backbone::IrSe50 => {
                    keys.norm(&format!("{name}.res_layer.0"), width);
                    keys.tensor(format!("{name}.res_layer.1.weight"), &[out, width, 3, 3]);
                    keys.tensor(format!("{name}.res_layer.2.weight"), &[out]);
                    keys.tensor(format!("{name}.res_layer.3.weight"), &[out, out, 3, 3]);
                    keys.norm(&format!("{name}.res_layer.4"), out);
                    let squeezed = first(&format!("{name}.res_layer.5.fc1.weight"));
                    keys.tensor(format!("{name}.res_layer.5.fc1.weight"), &[squeezed, out, 1, 1]);
                    keys.tensor(format!("{name}.res_layer.5.fc2.weight"), &[out, squeezed, 1, 1]);
                }
                Backbone::ResNet34 => {
                    keys.tensor(format!("{name}.conv1.weight"), &[out, width, 3, 3]);
                    keys.norm(&format!("{name}.bn1"), out);
                    keys.tensor(format!("{name}.conv2.weight"), &[out, out, 3, 3]);
                    keys.norm(&format!("{name}.bn2"), out);
                }
            }
            if out != width {
                keys.tensor(format!("{name}.{shortcut}.0.weight"), &[out, width, 1, 1]);
                keys.norm(&format!("{name}.{shortcut}.1"), out);
            }
            width = out;
            features.push(out);
            if out == 0 {
                // Its convolution is missing, which is said; of what comes behind it nothing is known.
                break;
            }
        }
        if self.pyramid {
            // The two feature maps before the last, at the ends of the backbone's second and third stage.
            let stages: Vec<usize> = features.windows(2).filter(|w| w[0] != w[1]).map(|w| w[0]).collect();
            let before_last = |n: usize| stages.len().checked_sub(n).map_or(0, |i| stages[i]);
            keys.layer("latlayer1", &[d, before_last(1), 1, 1]);
            keys.layer("latlayer2", &[d, before_last(2), 1, 1]);
        }
        if self.styles == 0 {
            keys.layer("linear", &[d, width]);
        }
        for i in 0..self.styles {
            // Each convolution halves the map; there are as many as lead to one pixel, with an activation after each.
            let convolutions = (0..).step_by(2).take_while(|j| file.contains(&format!("styles.{i}.convs.{j}.weight")));
            for j in convolutions {
                let from = if j == 0 && !self.pyramid { width } else { d };
                keys.layer(&format!("styles.{i}.convs.{j}"), &[d, from, 3, 3]);
            }
            keys.layer(&format!("styles.{i}.linear"), &[d, d]);
        }
        keys.0
    }
}

impl EncoderFile {
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_unless(path, &Cancel::new())
    }

    /// As [`EncoderFile::open`]; `Cancelled` once the flag is raised.
    pub fn open_unless(path: &Path, cancel: &Cancel) -> Result<Self> {
        Self::from_checkpoint(&checkpoint::open_unless(path, cancel)?)
    }

    /// `Format` where the file holds no such encoder, or one of its tensors is missing or has another shape than the rest says.
    pub fn from_checkpoint(file: &Checkpoint) -> Result<Self> {
        let places = file.places(&["encoder"], &["styles.0.linear.weight", INTO_W]).known;
        let found = places.into_iter().find_map(|prefix| Some((Config::read(&file.with_prefix(&prefix))?, prefix)));
        let (config, prefix) = found.ok_or_else(|| {
            let message =
                "no encoder of pSp, e4e or ReStyle: there is no tensor styles.0.linear.weight (or linear.weight, of one into W) with \
                           input_layer.0.weight or conv1.weight beside it, alone or under names such as encoder, state_dict or module";
            Error::format(&file.path, message)
        })?;
        let encoder = file.with_prefix(&prefix);
        let (mut known, mut tensors) = (BTreeSet::new(), Vec::new());
        for (key, shape) in config.keys(&encoder) {
            match encoder.shape(&key) {
                Some(have) if have == shape => {}
                // Files of PyTorch before 0.4.1 lack the counter, which nothing needs.
                None if key.ends_with("num_batches_tracked") => continue,
                Some(have) => {
                    return Err(Error::format(&file.path, format!("tensor '{prefix}{key}' has shape {have:?}, where {shape:?} is needed")))
                }
                None => return Err(Error::format(&file.path, format!("has no tensor '{prefix}{key}', of shape {shape:?}"))),
            }
            known.insert(format!("{prefix}{key}"));
            tensors.push(key);
        }
        // Beside the encoder, wrapped as it is, or where the published code puts it.
        let decoder_places = [prefix.replace("encoder.", "decoder."), "state_dict.decoder.".into(), "decoder.".into()];
        let decoder_prefix = decoder_places.into_iter().find(|p| *p != prefix && file.with_prefix(p).keys().next().is_some());
        let decoder = match decoder_prefix {
            Some(_) => Some(Generator::from_checkpoint(file)?),
            None => None,
        };
        let decoder_prefix = decoder_prefix.unwrap_or_default();
        let is_decoders = |key: &str| decoder.as_ref().is_some_and(|g| key.strip_prefix(&decoder_prefix).is_some_and(|key| g.knows(key)));
        let average = above(&prefix).map(|place| format!("{place}latent_avg")).find(|k| file.contains(k)).unwrap_or("latent_avg".into());
        let other = file.keys().filter(|&key| !(known.contains(key) || key == average || is_decoders(key))).map(String::from).collect();
        let opts = file.metadata.iter().filter_map(|(key, value)| Some((key.strip_prefix("opts.")?.to_string(), value.clone()))).collect();
        Ok(Self {
            config,
            encoder,
            tensors,
            decoder,
            latent_avg: file.shape(&average).map(<[usize]>::to_vec),
            latent_avg_key: average,
            opts,
            other,
        })
    }
}
