//! Encoders: networks from a picture to W+.
//!
//! | system | backbone's maps | rows | input |
//! |---|---|---|---|
//! | pSp (Richardson et al. 2021) | three, as a pyramid | each by itself | a picture, the labels of its parts, or a sketch |
//! | pSp with `learn_in_w` | the last one's mean | one point of W | the same |
//! | e4e (Tov et al. 2021) | three, as a pyramid | differences from the first | a picture |
//! | ReStyle (Alaluf et al. 2021) over either | the last | as the system below it | a picture, and beside it what is drawn so far |
//!
//! The files are the trainers' own ([`EncoderFile`]). What becomes of a picture before and after the network: [`crate::invert`].

mod backbone;
mod file;
mod heads;

pub use file::{Backbone, Config, EncoderFile};

use crate::cancel::Cancel;
use crate::checkpoint::{self, Checkpoint};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::kernels::Warm;
use crate::nn::generator::Generator;
use candle_core::Tensor;
use heads::Heads;
use std::path::{Path, PathBuf};

/// Is told the name and the value of a layer's output.
pub type Trace<'a> = &'a mut dyn FnMut(&str, &Tensor);

/// Side of the square that the published encoders see, in pixels.
pub const SIDE: usize = 256;

/// How rows of W+ come from heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Each row by itself: GradualStyleEncoder, BackboneEncoder.
    Each,
    /// The first row by itself, the others as differences from it: Encoder4Editing, ProgressiveBackboneEncoder.
    OnFirst,
    /// One row for all: BackboneEncoderUsingLastLayerIntoW.
    IntoW,
}

/// The names in `opts.encoder_type`, as the published code has them.
const HEADS: [(&str, Head); 8] = [
    ("GradualStyleEncoder", Head::Each),
    ("ResNetGradualStyleEncoder", Head::Each),
    ("BackboneEncoder", Head::Each),
    ("ResNetBackboneEncoder", Head::Each),
    ("Encoder4Editing", Head::OnFirst),
    ("ProgressiveBackboneEncoder", Head::OnFirst),
    ("ResNetProgressiveBackboneEncoder", Head::OnFirst),
    ("BackboneEncoderUsingLastLayerIntoW", Head::IntoW),
];

/// What an encoder sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// [n, 3, h, w] in [-1, 1].
    Picture,
    /// [n, 6, h, w]: a picture, and what was drawn of it in the round before (ReStyle).
    Rounds,
    /// [n, count, h, w] of 0 and 1: the label of each pixel's part, below `count`.
    Labels(usize),
    /// [n, 1, h, w] in [0, 1].
    Sketch,
}

impl Input {
    pub fn channels(self) -> usize {
        match self {
            Input::Picture => 3,
            Input::Rounds => 6,
            Input::Labels(count) => count,
            Input::Sketch => 1,
        }
    }

    /// In a sentence: "takes ...".
    pub fn describe(self) -> String {
        match self {
            Input::Picture | Input::Rounds => "a picture".into(),
            Input::Labels(count) => format!("a picture of labels 0 to {}", count.saturating_sub(1)),
            Input::Sketch => "a sketch".into(),
        }
    }
}

/// A network from a picture to W+, with what its file has beside it. It may be used from several threads at once.
pub struct Encoder {
    path: PathBuf,
    config: Config,
    head: Head,
    input: Input,
    /// Rows of W+ that it gives.
    rows: usize,
    backbone: backbone::Backbone,
    heads: Heads,
    decoder: Option<Generator>,
    /// [1, rows, style_dim]
    average: Option<Tensor>,
    /// Whether the average is added to what the network gives; ReStyle's first round always does.
    adds_average: bool,
    device: Device,
}

impl Encoder {
    /// Reads an encoder, and the generator that it was trained with where the file has it.
    ///
    /// Errors: as [`EncoderFile::open`]; `Format` where the heads do not fit the generator, `latent_avg` has another shape, or is needed and
    /// missing; `Unsupported` for another kind of encoder, and for one whose file does not say its kind ([`Encoder::from_checkpoint_as`]).
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_unless(path, &Cancel::new())
    }

    /// As [`Encoder::open`]; `Cancelled` once the flag is raised.
    pub fn open_unless(path: &Path, cancel: &Cancel) -> Result<Self> {
        Self::from_checkpoint(&checkpoint::open_unless(path, cancel)?)
    }

    /// As [`Encoder::open_unless`], with its networks on `device`.
    pub fn open_on(path: &Path, device: &Device, cancel: &Cancel) -> Result<Self> {
        Self::from_checkpoint(&checkpoint::open_unless(path, cancel)?.on(device))
    }

    pub fn from_checkpoint(file: &Checkpoint) -> Result<Self> {
        Self::from_checkpoint_as(file, None)
    }

    /// `head` wins over what the file says: bare tensors say nothing, and those of pSp and e4e have the same names.
    pub fn from_checkpoint_as(file: &Checkpoint, head: Option<Head>) -> Result<Self> {
        let found = EncoderFile::from_checkpoint(file)?;
        let broken = |message: String| Error::format(&file.path, message);
        let config = found.config;
        let head = match head {
            Some(head) => head,
            None => head_of(file, &found.opts, &config)?,
        };
        if (head == Head::IntoW) != (config.styles == 0) {
            let heads = if config.styles == 0 { "none".to_string() } else { config.styles.to_string() };
            return Err(broken(format!(
                "has {heads} of the heads styles.0, styles.1, ...: not those of the kind of encoder that it says it is"
            )));
        }
        // Counting ended at a gap.
        let heads = found.other.iter().filter(|key| key.contains("styles.") && key.ends_with(".linear.weight"));
        if let Some(key) = heads.min_by_key(|key| (key.len(), *key)) {
            return Err(broken(format!("has the head '{key}', but no styles.{}.linear.weight before it", config.styles)));
        }
        if let Some(key) = found.tensors.iter().find(|key| found.encoder.shape(key).is_some_and(|shape| shape.contains(&0))) {
            let shape = found.encoder.shape(key).unwrap_or_default();
            return Err(broken(format!("tensor '{}' has shape {shape:?}: no number is in it", found.encoder.full(key))));
        }
        if config.blocks == 0 {
            return Err(broken(format!("has no blocks: want tensors '{}' and so on", found.encoder.full("body.0"))));
        }
        let opt = |name: &str| found.opts.get(name).map(String::as_str);
        let number = |name: &str| opt(name).and_then(|text| text.parse::<usize>().ok());
        let input = input_of(&config, number("label_nc")).ok_or_else(|| {
            broken(format!("takes {} channels, and opts.label_nc = {}", config.input_channels, opt("label_nc").unwrap_or("none")))
        })?;
        let rows = match (&found.decoder, config.styles) {
            (Some(decoder), 0) => decoder.config().n_latent(),
            (None, 0) => rows_for(number("output_size").or(number("stylegan_size")).unwrap_or(1024)),
            (_, styles) => styles,
        };
        if let Some(decoder) = &found.decoder {
            let c = decoder.config();
            if (c.n_latent(), c.style_dim) != (rows, config.style_dim) {
                return Err(broken(format!(
                    "its encoder gives {rows} rows of {} numbers, where the generator beside it takes {} of {}",
                    config.style_dim,
                    c.n_latent(),
                    c.style_dim
                )));
            }
        }
        let average = match &found.latent_avg {
            Some(shape) => Some(average(file, &found.latent_avg_key, shape, rows, config.style_dim)?),
            None => None,
        };
        // Bare tensors with an average were saved with what belongs to them.
        let adds_average = opt("start_from_latent_avg").map_or(found.opts.is_empty() && average.is_some(), |text| text == "true");
        let average = match (average, &found.decoder) {
            (Some(average), _) => Some(average),
            // The trainer of e4e leaves it out where it can be made again: the mean of many w.
            (None, Some(decoder)) if adds_average && head == Head::OnFirst && input == Input::Picture => {
                Some(decoder.broadcast(&decoder.mean_w_unless(file.cancel())?.unsqueeze(0)?)?)
            }
            (None, _) if input == Input::Rounds => {
                return Err(broken("has no latent_avg, which the first round of a ReStyle encoder starts from".into())
                    .about("latent_avg", "a tensor"))
            }
            (None, _) if adds_average => {
                return Err(broken("has no latent_avg, and opts.start_from_latent_avg says that it is added".into())
                    .about("latent_avg", "a tensor"))
            }
            (None, _) => None,
        };
        let cancel = file.cancel();
        let backbone = backbone::Backbone::new(&found.encoder, &config, cancel)?;
        let heads = Heads::new(&found.encoder, &config, head, &backbone, cancel)?;
        let device = file.device().clone();
        Ok(Self {
            path: file.path.clone(),
            config,
            head,
            input,
            rows,
            backbone,
            heads,
            decoder: found.decoder,
            average,
            adds_average,
            device,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn head(&self) -> Head {
        self.head
    }

    pub fn input(&self) -> Input {
        self.input
    }

    /// `Mismatch` where its rows are not those that a generator takes: (rows of W+, numbers of each).
    pub fn check_rows(&self, wanted: (usize, usize)) -> Result<()> {
        let have = (self.rows, self.config.style_dim);
        if have == wanted {
            return Ok(());
        }
        Err(Error::Mismatch(format!(
            "the encoder {} gives {} rows of {} numbers, where the generator takes {} of {}: it was trained for another one",
            self.path.display(),
            have.0,
            have.1,
            wanted.0,
            wanted.1
        )))
    }

    /// Rows of W+ that it gives.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Where its networks compute.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The generator that it was trained with.
    pub fn decoder(&self) -> Option<&Generator> {
        self.decoder.as_ref()
    }

    /// What ReStyle's first round starts from, and others add where the trainer says so: [1, rows, style_dim].
    pub fn average(&self) -> Option<&Tensor> {
        self.average.as_ref()
    }

    /// What the network gives: input [n, c, h, w] as [`Encoder::input`] says, 256 x 256 for the published ones -> [n, rows, style_dim].
    ///
    /// Errors: `InvalidArgument` for another shape, `Mismatch` for a size that the heads do not take.
    pub fn encode(&self, input: &Tensor) -> Result<Tensor> {
        self.run(input, usize::MAX, &Cancel::new(), None)
    }

    /// As [`Encoder::encode`]; `Cancelled` once the flag is raised, which is looked at before each block.
    pub fn encode_unless(&self, input: &Tensor, cancel: &Cancel) -> Result<Tensor> {
        self.run(input, usize::MAX, cancel, None)
    }

    /// As [`Encoder::encode`]; `trace` is told what each block gives, as `body.0` and so on.
    pub fn encode_traced(&self, input: &Tensor, trace: Trace) -> Result<Tensor> {
        self.run(input, usize::MAX, &Cancel::new(), Some(trace))
    }

    /// As [`Encoder::encode`] at a stage of e4e's training: only the rows from 1 to `stage` differ from the first. Others have no stages.
    pub fn encode_at_stage(&self, input: &Tensor, stage: usize) -> Result<Tensor> {
        self.run(input, stage, &Cancel::new(), None)
    }

    /// The codes of one pass: [`Encoder::encode_unless`] plus the average where the trainer says so.
    pub fn codes(&self, input: &Tensor, cancel: &Cancel) -> Result<Tensor> {
        let codes = self.encode_unless(input, cancel)?;
        Ok(match self.average.as_ref().filter(|_| self.adds_average) {
            Some(average) => codes.broadcast_add(average)?,
            None => codes,
        })
    }

    fn run(&self, input: &Tensor, stage: usize, cancel: &Cancel, mut trace: Option<Trace>) -> Result<Tensor> {
        let channels = self.input.channels();
        match input.dims() {
            &[n, c, h, w] if c == channels && n * h * w > 0 => {}
            dims => {
                let message = format!("has shape {dims:?}, where this encoder takes [n, {channels}, {SIDE}, {SIDE}]");
                return Err(Error::argument("input", message));
            }
        }
        let _warm = Warm::new();
        let maps = self.backbone.forward(&input.to_device(&self.device)?, self.heads.maps(), cancel, &mut trace)?;
        let codes = self.heads.forward(&maps, stage, cancel)?;
        Ok(match self.head {
            Head::IntoW => codes.repeat((1, self.rows, 1))?,
            _ => codes,
        })
    }
}

/// Rows of W+ of a generator of that size.
fn rows_for(size: usize) -> usize {
    (2 * size.max(4).ilog2() as usize).saturating_sub(2)
}

fn head_of(file: &Checkpoint, opts: &std::collections::BTreeMap<String, String>, config: &Config) -> Result<Head> {
    let unsupported = |message: String| Err(Error::unsupported(file.path.display().to_string(), message));
    if config.styles == 0 {
        return Ok(Head::IntoW);
    }
    match opts.get("encoder_type") {
        Some(name) => match HEADS.iter().find(|(known, _)| known == name) {
            Some((_, head)) => Ok(*head),
            None => {
                let known: Vec<&str> = HEADS.iter().map(|(name, _)| *name).collect();
                unsupported(format!("opts.encoder_type is {name}, and known are {}", known.join(", ")))
            }
        },
        // Only e4e's trainer calls it so.
        None if opts.contains_key("stylegan_size") => Ok(Head::OnFirst),
        None if !opts.is_empty() => Ok(Head::Each),
        None => {
            unsupported("does not say whether it is pSp's or e4e's, whose tensors have the same names: opts.encoder_type is missing".into())
        }
    }
}

/// None where channels and labels do not fit.
fn input_of(config: &Config, labels: Option<usize>) -> Option<Input> {
    let input = match (config.input_channels, labels.unwrap_or(0)) {
        (3, 0) => Input::Picture,
        (6, 0) => Input::Rounds,
        (1, 0 | 1) => Input::Sketch,
        (channels, 0) => Input::Labels(channels),
        (_, labels) => Input::Labels(labels),
    };
    (input.channels() == config.input_channels && config.input_channels > 0).then_some(input)
}

/// [1, rows, d] of [rows, d], [1, d] or [d].
fn average(file: &Checkpoint, key: &str, shape: &[usize], rows: usize, d: usize) -> Result<Tensor> {
    let have = match *shape {
        [r, n] if n == d && (r == rows || r == 1) => r,
        [n] if n == d => 1,
        _ => {
            let message = format!("tensor '{key}' has shape {shape:?}, where [{rows}, {d}], [1, {d}] or [{d}] is needed");
            return Err(Error::format(&file.path, message));
        }
    };
    let average = file.f32(key, Some(shape))?.reshape((1, have, d))?;
    Ok(if have == rows { average } else { average.repeat((1, rows, 1))? })
}
