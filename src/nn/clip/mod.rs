//! CLIP: pictures and texts in one space (Radford et al. 2021, "Learning transferable visual models from natural language supervision").

mod config;
mod described;
mod fields;
mod files;
mod pool;
mod preprocess;
mod reader;
mod resnet;
mod text;
mod tokenizer;
mod vit;
mod weights;
mod words;

#[doc(inline)]
pub use crate::kernels::Activation;
pub use config::{Config, ResNetConfig, TextConfig, TransformerConfig, VisionConfig, VitConfig};
pub(crate) use files::{is_common_name, is_described, tensors as tensors_file, BESIDE};
pub use pool::{End, VisionPool};
pub use preprocess::{Interpolation, Preprocessing, Shape};
pub use reader::{warnings, Reader};
pub use tokenizer::Tokenizer;
pub(crate) use weights::place;
pub use words::tidy;

use crate::cancel::Cancel;
use crate::checkpoint::{self, Checkpoint};
use crate::device::{Device, HOST};
use crate::error::{Error, Result};
use crate::kernels::{unit_rows, LEAST_LENGTH};
use candle_core::{DType, Tensor};
use described::Described;
use resnet::ResNet;
use serde::{Deserialize, Serialize};
use std::path::Path;
use text::Text;
use vit::Vit;
use weights::Weights;

/// How a generated picture is shrunk to the CLIP's resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipResize {
    /// Bicubic with a low-pass (a = -0.5), what torchvision does today.
    Antialias,
    /// Bicubic without (a = -0.75), what it did in 2021.
    Aliased,
    /// Mean over areas.
    Area,
}

/// Called with the name and the value of each layer as it is computed.
pub type Trace<'a> = &'a mut dyn FnMut(&str, &Tensor);

enum Vision {
    Vit(Vit),
    ResNet(ResNet),
}

/// A CLIP with frozen weights, in f32. Threads may share it. What reads texts is read from its file when it is first needed.
pub struct Clip {
    /// For domains' descriptions: the folder's or file's name.
    pub name: String,
    config: Config,
    preprocessing: Preprocessing,
    vision: Vision,
    text: Text,
    reader: Reader,
    logit_scale: f32,
    warnings: Vec<String>,
}

/// Texts that go through the text tower at once: enough to keep the threads busy, few enough that activations stay small.
pub(crate) const TEXTS_AT_ONCE: usize = 32;

/// The same of pictures.
const PICTURES_AT_ONCE: usize = 8;

impl Clip {
    /// A folder of Hugging Face (config.json, model.safetensors or its index and parts or pytorch_model.bin, and vocab.json, merges.txt,
    /// preprocessor_config.json where they are) or of open_clip (open_clip_config.json, open_clip_model.safetensors or
    /// open_clip_pytorch_model.bin); or one file with tensors, with these beside it, or OpenAI's (TorchScript or state_dict). A file in
    /// OpenAI's layout without open_clip_config.json beside it is taken for OpenAI's own: QuickGELU, heads of 64.
    ///
    /// What a configuration says is honoured, changes no number, or is refused by its name; [`Clip::warnings`] names what is not known.
    /// Errors: `NotFound`; `Format` with file and key where something is missing or has another shape than the rest says; `Unsupported`
    /// with what the CLIP has that is not supported. Of the weights that read texts only keys and shapes are looked at here.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_unless(path, &Cancel::new())
    }

    /// As [`Clip::open`]; `Cancelled` once the flag is raised, which is looked at each 128 KiB.
    pub fn open_unless(path: &Path, cancel: &Cancel) -> Result<Self> {
        Self::open_as(path, None, cancel)
    }

    /// As [`Clip::open_unless`], of a file whose activation the caller knows: nothing in a file in OpenAI's layout tells it.
    /// `InvalidArgument` where a configuration beside the file says another.
    pub fn open_as(path: &Path, activation: Option<Activation>, cancel: &Cancel) -> Result<Self> {
        Self::open_on(path, activation, HOST, cancel)
    }

    /// As [`Clip::open_as`], for a device.
    pub fn open_on(path: &Path, activation: Option<Activation>, device: &Device, cancel: &Cancel) -> Result<Self> {
        Self::load(path, &checkpoint::open_unless(&files::tensors(path)?, cancel)?.on(device), activation, true)
    }

    /// As [`Clip::open`], of a file that is open already, with what stands beside it.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        Self::load(&checkpoint.path, checkpoint, None, false)
    }

    /// As [`Clip::open_as`], of a file in memory, which has nothing beside it: what a configuration would say is known of OpenAI's files alone.
    pub fn from_bytes(name: &Path, bytes: Vec<u8>, activation: Option<Activation>, device: &Device, cancel: &Cancel) -> Result<Self> {
        Self::load_beside(name, &checkpoint::open_bytes_unless(name, bytes, cancel)?.on(device), activation, None, false)
    }

    /// The CLIP's tensors in a file, without what trainers put before their names and beside them.
    pub fn place(file: &Checkpoint) -> Checkpoint {
        place(file)
    }

    /// `path` is what the user named: the file, or its folder. `again`: what [`place`] finds in `checkpoint` is all that it shows of its file.
    fn load(path: &Path, checkpoint: &Checkpoint, activation: Option<Activation>, again: bool) -> Result<Self> {
        Self::load_beside(path, checkpoint, activation, checkpoint.path.parent(), again)
    }

    /// `beside`: the folder in which there may be more files of the CLIP. `again`: the tensors can be read from their file when they are needed.
    fn load_beside(
        path: &Path,
        checkpoint: &Checkpoint,
        activation: Option<Activation>,
        beside: Option<&Path>,
        again: bool,
    ) -> Result<Self> {
        let folder = checkpoint.path.parent().unwrap_or(Path::new(""));
        let checkpoint = &place(checkpoint);
        let weights = Weights::new(checkpoint)?;
        let name = named(path, folder);
        let mut described = beside.map_or(Ok(None), |folder| files::config(folder, weights.layout()))?;
        let config = Config::read(&weights, described.as_ref(), activation.unwrap_or(Activation::QuickGelu))?;
        if let (Some(file), Some(wanted)) = (&described, activation.filter(|wanted| config.activation() != Some(*wanted))) {
            let said = config.activation().map_or("another for each tower".into(), |said| said.to_string());
            return Err(Error::argument("activation", format!("{wanted}, but {} says {said}", file.path.display())));
        }
        let (vision, resolution) = match &config.vision {
            VisionConfig::Vit(c) => (Vision::Vit(Vit::new(&weights, c)?), c.resolution),
            VisionConfig::ResNet(c) => (Vision::ResNet(ResNet::new(&weights, c)?), c.resolution),
        };
        let text = Text::new(&weights, &config.text, again.then_some(checkpoint))?;
        let (preprocessing, warning) = files::preprocessing(folder, weights.layout(), described.as_mut(), resolution)?;
        let guesses = activation.is_none() && !weights.is_openais_own();
        let reader = Reader::new(
            name.clone(),
            folder,
            described.as_ref(),
            guesses,
            [config.text.context, config.text.vocabulary],
            checkpoint.cancel(),
        )?;
        let warnings = reader.warnings().iter().cloned().chain(warning).collect();
        // open_clip's nonscalar_logit_scale has one number in a row.
        let scale = checkpoint.shape("logit_scale").filter(|shape| **shape == [1]).unwrap_or_default();
        let logit_scale = checkpoint.f32("logit_scale", Some(scale))?.flatten_all()?.to_vec1::<f32>()?[0].exp();
        Ok(Self { name, config, preprocessing, vision, text, reader, logit_scale, warnings })
    }

    /// As [`Reader::warnings`], of the preprocessing's configuration too.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The function in the MLPs of both towers; None where each has its own.
    pub fn activation(&self) -> Option<Activation> {
        self.config.activation()
    }

    /// What it makes of words before its network sees them.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Input side length in pixels.
    pub fn resolution(&self) -> usize {
        match &self.config.vision {
            VisionConfig::Vit(c) => c.resolution,
            VisionConfig::ResNet(c) => c.resolution,
        }
    }

    /// Length of an embedding.
    pub fn dimension(&self) -> usize {
        self.config.text.embedding
    }

    /// What cosines are multiplied by to become logits (100 for OpenAI's).
    pub fn logit_scale(&self) -> f32 {
        self.logit_scale
    }

    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Where it computes; pictures and tokens from elsewhere are brought there.
    pub fn device(&self) -> &Device {
        self.text.device()
    }

    /// Picture [n, 3, h, w] nominally in [-1, 1] -> CLIP input [n, 3, r, r]: (x + 1) / 2, resize of the short side, centre crop, normalise.
    /// Differentiable.
    pub fn preprocess(&self, image: &Tensor, resize: ClipResize) -> Result<Tensor> {
        self.preprocessing.tensor(&image.to_device(self.device())?, resize)
    }

    /// The two halves of [`Clip::preprocess`]: picture [n, 3, h, w] -> [n, 3, r, r] with values as they were. Differentiable.
    pub fn resize(&self, image: &Tensor, resize: ClipResize) -> Result<Tensor> {
        self.preprocessing.resize(&image.to_device(self.device())?, resize)
    }

    /// [n, 3, r, r] nominally in [-1, 1] -> CLIP input. Differentiable.
    pub fn normalise(&self, image: &Tensor) -> Result<Tensor> {
        self.preprocessing.normalise(image)
    }

    /// A picture of 8-bit RGB, rows without padding -> CLIP input [1, 3, r, r], as the published preprocessing does it.
    pub fn preprocess_rgb8(&self, pixels: &[u8], width: usize, height: usize) -> Result<Tensor> {
        Ok(self.preprocessing.rgb8(pixels, width, height)?.to_device(self.device())?)
    }

    /// CLIP input [n, 3, r, r] -> features [n, d], not normalised. Differentiable in the input; weights are frozen.
    pub fn encode_image(&self, input: &Tensor) -> Result<Tensor> {
        self.image_features(input, None)
    }

    /// [`Clip::encode_image`] that shows each layer to `trace`: `vit.conv1`, `vit.ln_pre`, `vit.block.<i>` [n, t, width], `vit.ln_post`; or
    /// `rn.avgpool`, `rn.layer<1 to 4>`, `rn.attnpool`.
    pub fn encode_image_traced(&self, input: &Tensor, trace: Trace) -> Result<Tensor> {
        self.image_features(input, Some(trace))
    }

    /// Normalised embeddings [n, d] of pictures [n, 3, h, w], nominally in [-1, 1]; a few at a time, so that memory does not grow with their
    /// number. `Cancelled` once the flag is raised, which is looked at between those.
    pub fn embed_pictures(&self, pictures: &Tensor, resize: ClipResize, cancel: &Cancel) -> Result<Tensor> {
        let count = pictures.dim(0)?;
        if count == 0 {
            return Err(Error::argument("pictures", "there are none"));
        }
        let mut parts = Vec::new();
        for from in (0..count).step_by(PICTURES_AT_ONCE) {
            cancel.check()?;
            let some = pictures.narrow(0, from, PICTURES_AT_ONCE.min(count - from))?;
            parts.push(self.encode_image(&self.preprocess(&some, resize)?)?);
        }
        Ok(unit_rows(&Tensor::cat(&parts, 0)?, LEAST_LENGTH)?)
    }

    fn image_features(&self, input: &Tensor, trace: Option<Trace>) -> Result<Tensor> {
        let r = self.resolution();
        if input.dims().len() != 4 || input.dims()[0] == 0 || input.dims()[1..] != [3, r, r] {
            return Err(Error::argument("input", format!("shape {:?} is not [n, 3, {r}, {r}]", input.dims())));
        }
        match &self.vision {
            Vision::Vit(vit) => vit.forward(input, trace),
            Vision::ResNet(resnet) => resnet.forward(input, trace),
        }
    }

    /// Lets go of the weights that read texts, two fifths of a ViT-B/32's; they are read from the file again when they are needed. Nothing
    /// happens to a CLIP that was opened from memory.
    pub fn release_texts(&self) {
        self.text.release();
    }

    /// Token ids [n, up to context] u32 -> features [n, d], not normalised. Errors: as those of opening the file, from which the weights are
    /// read where they are not there ([`Clip::release_texts`]); `Format` where it has changed.
    pub fn encode_tokens(&self, tokens: &Tensor) -> Result<Tensor> {
        self.text.tower(&Cancel::new())?.forward(tokens, None)
    }

    /// [`Clip::encode_tokens`] that shows each layer to `trace`: `text.block.<i>` [n, t, width].
    pub fn encode_tokens_traced(&self, tokens: &Tensor, trace: Trace) -> Result<Tensor> {
        self.text.tower(&Cancel::new())?.forward(tokens, Some(trace))
    }

    /// As [`Reader::tokenizer`].
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.reader.tokenizer()
    }

    /// Normalised embeddings [texts, d], of the texts as they are: see [`tidy`] for those of users. A text too long is an `InvalidArgument` that
    /// quotes it with its token count and the limit.
    pub fn embed_texts(&self, texts: &[String]) -> Result<Tensor> {
        self.embed_texts_unless(texts, &Cancel::new())
    }

    /// As [`Clip::embed_texts`]; `Cancelled` once the flag is raised, which is looked at between a few texts.
    pub fn embed_texts_unless(&self, texts: &[String], cancel: &Cancel) -> Result<Tensor> {
        if texts.is_empty() {
            return Err(Error::argument("texts", "there are none"));
        }
        let tokenizer = self.tokenizer()?;
        let context = self.config.text.context;
        let rows = texts.iter().map(|text| tokenizer.tokenize(text, context, false)).collect::<Result<Vec<_>>>()?;
        // A batch is as long as the longest of its texts: those of one length go together.
        let lengths = self.text.lengths(&rows)?;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&i| lengths[i]);
        let tower = self.text.tower(cancel)?;
        let mut parts = Vec::new();
        for some in order.chunks(TEXTS_AT_ONCE) {
            cancel.check()?;
            let ids: Vec<u32> = some.iter().flat_map(|&i| &rows[i]).copied().collect();
            parts.push(tower.forward(&Tensor::from_vec(ids, (some.len(), context), HOST)?, None)?);
        }
        let mut places = vec![0u32; order.len()];
        order.iter().enumerate().for_each(|(place, &i)| places[i] = place as u32);
        let features = Tensor::cat(&parts, 0)?.to_dtype(DType::F32)?;
        let features = features.index_select(&Tensor::from_vec(places, order.len(), features.device())?, 0)?;
        Ok(unit_rows(&features, LEAST_LENGTH)?)
    }
}

/// The name of a CLIP: its file's, or its folder's where that says more.
fn named(path: &Path, folder: &Path) -> String {
    let common = path.file_name().is_some_and(|name| files::is_common_name(&name.to_string_lossy()));
    let named = if path.is_dir() || !common { path } else { folder };
    named.file_name().map_or_else(|| named.display().to_string(), |name| name.to_string_lossy().into_owned())
}
