//! Does a pack work?

use super::{ModelPack, PackClip};
use crate::cancel::Cancel;
use crate::checkpoint::{self, Checkpoint};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::clip::ClipResize;
use crate::nn::generator::{as_rgb, Generator, Latent, Noise, Space};
use candle_core::Tensor;
use std::path::Path;

/// One thing that [`ModelPack::check`] looked at.
#[derive(Debug)]
pub struct Finding {
    pub what: String,
    /// What is there, or what is wrong.
    pub outcome: Result<String>,
}

impl ModelPack {
    /// Loads everything the pack names but its held-out pictures: shapes, the generator's fingerprint, one picture, one embedding of a text and of
    /// that picture by each CLIP, all finite, and whether an encoder's rows are the generator's.
    pub fn check(&self) -> Vec<Finding> {
        // Nobody raises the flag.
        self.check_unless(&Cancel::new()).unwrap_or_default()
    }

    /// As [`ModelPack::check`]; `Cancelled` once the flag is raised, which is looked at each 128 KiB that are read.
    pub fn check_unless(&self, cancel: &Cancel) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut note = |what: &str, outcome| findings.push(Finding { what: what.into(), outcome });
        let mut rows = None;
        let picture = match self.load_generator_unless(cancel) {
            Ok(generator) => {
                rows = Some((generator.config().n_latent(), generator.config().style_dim));
                let count: usize = generator.weights().values().map(Tensor::elem_count).sum();
                note("generator", Ok(format!("{} px, {count} numbers", generator.config().describe_size())));
                note("fingerprint", self.check_fingerprint(&generator));
                let drawn = draw(&generator);
                note("picture", drawn.as_ref().map(|t| format!("finite, shape {:?}", t.dims())).map_err(again));
                drawn.ok()
            }
            Err(e) => {
                note("generator", Err(e));
                None
            }
        };
        for clip in &self.clips {
            note(&format!("clip {}", name(&clip.path)), check_clip(clip, picture.as_ref(), &self.device, cancel));
        }
        if self.encoder.is_some() {
            note("encoder", self.check_encoder(rows, cancel));
        }
        for path in &self.boundaries {
            note(&format!("boundary {}", name(path)), check_tensors(path, cancel));
        }
        // What was cut short is no finding.
        cancel.check().map(|()| findings)
    }

    /// `wanted`: rows of W+ of the generator, and numbers of each, where it is known.
    fn check_encoder(&self, wanted: Option<(usize, usize)>, cancel: &Cancel) -> Result<String> {
        let encoder = self.load_encoder_unless(cancel)?.ok_or_else(|| Error::Internal("a pack lost its encoder".into()))?;
        if let Some(wanted) = wanted {
            encoder.check_rows(wanted)?;
        }
        Ok(format!("{} rows of {} numbers", encoder.rows(), encoder.config().style_dim))
    }

    fn check_fingerprint(&self, generator: &Generator) -> Result<String> {
        let have = generator.fingerprint()?;
        match &self.fingerprint {
            None => Ok(format!("{have} (model.toml does not say which it should be)")),
            Some(want) if want == have => Ok(have.into()),
            Some(want) if self.format == 1 && want == generator.fingerprint_of_format_1()? => Ok(want.clone()),
            Some(want) => Err(Error::Mismatch(format!("model.toml says {want}, the generator's is {have}: its file was changed"))),
        }
    }
}

fn again(e: &Error) -> Error {
    Error::NotFinite(e.to_string())
}

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn finite(what: &str, tensor: &Tensor) -> Result<()> {
    match tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|x| x.is_finite()) {
        true => Ok(()),
        false => Err(Error::NotFinite(format!("{what} is not finite"))),
    }
}

/// One picture, [1, colours, height, width].
fn draw(generator: &Generator) -> Result<Tensor> {
    let of_a_class = if generator.has_all_classes() { Some(generator.with_class(0)?) } else { None };
    let generator = of_a_class.as_ref().unwrap_or(generator);
    let latent = Latent { space: Space::W, tensor: generator.sample_w(1, 1, 0.7)?, noise: None };
    let picture = generator.render(&latent, 1.0, Noise::Const)?;
    finite("the picture of the generator", &picture)?;
    Ok(picture)
}

fn check_clip(clip: &PackClip, picture: Option<&Tensor>, device: &Device, cancel: &Cancel) -> Result<String> {
    let clip = clip.open(device, cancel)?;
    finite("the embedding of a text", &clip.embed_texts(&["a photo".into()])?)?;
    if let Some(picture) = picture {
        finite("the embedding of a picture", &clip.encode_image(&clip.preprocess(&as_rgb(picture)?, ClipResize::Antialias)?)?)?;
    }
    Ok(format!("{} px, embeddings of {}", clip.resolution(), clip.dimension()))
}

fn check_tensors(path: &Path, cancel: &Cancel) -> Result<String> {
    let file: Checkpoint = checkpoint::open_unless(path, cancel)?;
    for key in file.keys() {
        file.f32(key, None)?;
    }
    Ok(format!("{} tensors", file.keys().count()))
}
