//! Measuring domains: against ground truth on held-out latents, and in CLIP's space.

use crate::adapt::{Domain, Templates, WeightedClip};
use crate::cancel::Cancel;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::kernels::{unit_rows, LEAST_LENGTH};
use crate::memory::Need;
use crate::nn::clip::{tidy, Clip};
use crate::nn::generator::{as_rgb, Generator, Latent, Noise, Space};
use crate::pack::ModelPack;
use crate::pairing;
use crate::picture::Picture;
use candle_core::{DType, Tensor};
use serde::Serialize;

/// Columns of an evaluation's contact sheet.
const SHEET_COLUMNS: usize = 10;

/// Distance and pairing of adapted pictures; all three are [n, 3, height, width] in [0, 1], sample i of the same latent.
///
/// - distance: mean |adapted - truth| over mean |plain - truth|: 0 is the truth, 1 as far from it as the unadapted pictures.
/// - pairing: see [`pairing()`].
///
/// Errors: `InvalidArgument` where the shapes differ or `plain` equals `truth`; `NotFinite`.
pub fn measure(adapted: &Tensor, plain: &Tensor, truth: &Tensor) -> Result<(f32, f32)> {
    Ok((distance(adapted, plain, truth)?, pairing(adapted, plain)?))
}

fn distance(adapted: &Tensor, plain: &Tensor, truth: &Tensor) -> Result<f32> {
    let a = numbers("adapted", adapted)?;
    let p = numbers("plain", alike("plain", plain, adapted)?)?;
    let t = numbers("truth", alike("truth", truth, adapted)?)?;
    let apart = |x: &[f32]| x.iter().zip(&t).map(|(x, t)| f64::from((x - t).abs())).sum::<f64>();
    let from_plain = apart(&p);
    if from_plain == 0.0 {
        return Err(Error::argument("truth", "equals the unadapted pictures, so no distance can be relative to it"));
    }
    Ok((apart(&a) / from_plain) as f32)
}

/// Pictures' numbers, checked.
fn numbers(name: &str, pictures: &Tensor) -> Result<Vec<f32>> {
    pairing::check(name, pictures)?;
    let values = pictures.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    match values.iter().all(|v| v.is_finite()) {
        true => Ok(values),
        false => Err(Error::NotFinite(format!("{name}: the pictures hold NaN or infinity"))),
    }
}

/// `pictures`, which must have the shape of the adapted ones.
fn alike<'a>(name: &str, pictures: &'a Tensor, adapted: &Tensor) -> Result<&'a Tensor> {
    match pictures.dims() == adapted.dims() {
        true => Ok(pictures),
        false => {
            let message = format!("shape {:?}, but the adapted pictures have {:?}", pictures.dims(), adapted.dims());
            Err(Error::argument(name, message))
        }
    }
}

/// The share of adapted pictures whose nearest unadapted one is the one of the same latent: grey (mean of R, G, B), area-averaged to
/// 16 x 16, each set's mean picture removed, cosine.
///
/// Errors: `InvalidArgument` where the shapes differ; `NotFinite`.
pub fn pairing(adapted: &Tensor, plain: &Tensor) -> Result<f32> {
    let a = pairing::named_grey16("adapted", adapted)?;
    let p = pairing::named_grey16("plain", alike("plain", plain, adapted)?)?;
    Ok(pairing::share(&a, &p))
}

/// The mean of a text's normalised embeddings in the templates, normalised: [1, d]. [`tidy`] is applied to the text.
///
/// Errors: `InvalidArgument` for a text that is too long inside the longest template, or a template without one `{}`.
pub fn embed_text(clip: &Clip, text: &str, templates: &Templates) -> Result<Tensor> {
    embed_text_unless(clip, text, templates, &Cancel::new())
}

/// As [`embed_text`]; `Cancelled` once the flag is raised.
pub fn embed_text_unless(clip: &Clip, text: &str, templates: &Templates, cancel: &Cancel) -> Result<Tensor> {
    templates.check()?;
    let text = tidy(text);
    clip.reader().check("text", &text, &templates.0)?;
    Ok(unit_rows(&clip.embed_texts_unless(&templates.of(&text), cancel)?.mean_keepdim(0)?, LEAST_LENGTH)?)
}

/// Quality: the mean cosine of picture embeddings [n, d] to a text embedding [1, d], both normalised (Gal et al. 2021, section 5).
pub fn quality(pictures: &Tensor, text: &Tensor) -> Result<f32> {
    Ok(pictures.matmul(&text.t()?)?.mean_all()?.to_scalar::<f32>()?)
}

/// Diversity: the mean of 1 - cosine over all pairs of normalised picture embeddings [n, d]; 0 for fewer than two.
pub fn diversity(pictures: &Tensor) -> Result<f32> {
    let n = pictures.dim(0)?;
    if n < 2 {
        return Ok(0.0);
    }
    let cosines = pictures.matmul(&pictures.t()?)?.to_vec2::<f32>()?;
    let sum: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| 1.0 - f64::from(cosines[i][j])).sum();
    Ok((sum / (n * (n - 1) / 2) as f64) as f32)
}

/// A pack's latents and pictures that nothing was tuned on: `w` [n, style_dim], `image` [n, 3, h, w] u8, and `truth.<name>` like it.
pub struct HeldOut {
    file: checkpoint::Checkpoint,
    pub latent: Latent,
    /// [n, 3, h, w] in [0, 1].
    pub plain: Tensor,
}

/// What [`domains`] will need.
///
/// Errors: as those of [`HeldOut::open`].
pub fn need<'a>(pack: &ModelPack, generator: &'a Generator, domains: &[(&Domain, f32)]) -> Result<Need<'a>> {
    HeldOut::open(pack)?.need(generator, domains)
}

impl HeldOut {
    fn need<'a>(&self, generator: &'a Generator, domains: &[(&Domain, f32)]) -> Result<Need<'a>> {
        // Of 3 channels: as drawn, clamped and in [0, 1], as they were and as they should be in both ranges.
        Ok(Need::drawing_each(generator.config(), self.plain.dim(0)?, domains, 3 * 7))
    }

    /// Errors: `Unsupported` where the pack has none; `Format` where the file lacks a tensor, or has not a picture for each latent.
    pub fn open(pack: &ModelPack) -> Result<Self> {
        let Some(path) = &pack.held_out else {
            return Err(Error::unsupported(format!("measuring with the pack '{}'", pack.name), "its model.toml names no held_out file"));
        };
        let file = checkpoint::open(path)?;
        let latent = Latent { space: Space::W, tensor: file.f32("w", None)?, noise: None };
        let plain = unit(&file, "image")?;
        match (latent.tensor.dims(), plain.dims()) {
            (&[latents, _], &[n, 3, height, width]) if latents == n && n * height * width > 0 => Ok(Self { file, latent, plain }),
            (w, image) => {
                let message =
                    format!("its tensors 'w' {w:?} and 'image' {image:?} are not one latent [n, d] for each picture [n, 3, h, w]");
                Err(Error::format(path, message).about("image", "a picture [n, 3, h, w] for each latent [n, d] of 'w'"))
            }
        }
    }

    /// Names of the ground truths.
    pub fn truths(&self) -> Vec<&str> {
        self.file.keys().filter_map(|key| key.strip_prefix("truth.")).collect()
    }

    /// What the pictures become where a word does all it says: [n, 3, h, w] in [0, 1].
    pub fn truth(&self, name: &str) -> Result<Tensor> {
        if !self.truths().contains(&name) {
            return Err(Error::argument("truth", format!("there is no '{name}'; known are {}", self.truths().join(", "))));
        }
        unit(&self.file, &format!("truth.{name}"))
    }
}

/// The ground truth that the pack's words tie to the target; None where there is none. Errors as [`HeldOut::open`].
pub fn known_truth(pack: &ModelPack, target: &str) -> Result<Option<String>> {
    let Some(words) = &pack.words else { return Ok(None) };
    let truths = HeldOut::open(pack)?;
    let mut filters = words.filters.iter().filter(|(_, phrases)| phrases.iter().any(|p| p == target));
    Ok(filters.find(|(name, _)| truths.truths().contains(&name.as_str())).map(|(name, _)| name.clone()))
}

/// An 8-bit tensor in [0, 1].
fn unit(file: &checkpoint::Checkpoint, key: &str) -> Result<Tensor> {
    Ok((file.f32(key, None)? / 255.0)?)
}

/// Figures of one CLIP.
#[derive(Clone, Debug, Serialize)]
pub struct ClipFigures {
    pub clip: String,
    /// Mean cosine of the adapted pictures to the target text.
    pub quality: f32,
    /// The same of the unadapted ones.
    pub quality_before: f32,
    /// Mean pairwise 1 - cosine of the adapted pictures.
    pub diversity: f32,
    pub diversity_before: f32,
}

/// What a domain reaches on the held-out latents.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub target: String,
    pub pictures: usize,
    /// The ground truth it was compared with.
    pub truth: Option<String>,
    /// None without a ground truth.
    pub distance: Option<f32>,
    pub pairing: f32,
    pub clips: Vec<ClipFigures>,
}

/// A report and its contact sheet: the first pictures unadapted, below them adapted, below them (where there is one) the truth.
pub struct Evaluation {
    pub report: Report,
    pub sheet: Picture,
}

/// Renders the pack's held-out latents (w as stored, no noise) with domains of given strengths, and measures them.
///
/// `target` is the text that quality is measured to, inside `templates`; `truth` names a ground truth of the held-out file.
/// `cancel` is looked at between a few pictures. Errors: as [`HeldOut::open`] and [`Generator::with_domains`]; `InvalidArgument` for an
/// unknown truth, with the known ones; `Cancelled`.
#[allow(clippy::too_many_arguments)]
pub fn domains(
    pack: &ModelPack,
    generator: &Generator,
    clips: &[WeightedClip],
    domains: &[(&Domain, f32)],
    target: &str,
    templates: &Templates,
    truth: Option<&str>,
    cancel: &Cancel,
) -> Result<Evaluation> {
    let held_out = HeldOut::open(pack)?;
    held_out.need(generator, domains)?.check()?;
    let truth_pictures = truth.map(|name| held_out.truth(name)).transpose()?;
    let resize = pack.settings()?.clip_resize;
    let mut parts = vec![];
    generator.with_domains_unless(domains, cancel)?.render_each(&held_out.latent, 1.0, Noise::None, &mut |part| {
        parts.push(as_rgb(&part)?.clamp(-1f32, 1f32)?);
        cancel.check()
    })?;
    let drawn = Tensor::cat(&parts, 0)?;
    let adapted = ((&drawn + 1.0)? / 2.0)?;
    let plain_signed = ((&held_out.plain * 2.0)? - 1.0)?;
    let mut figures = Vec::new();
    for WeightedClip { clip, .. } in clips {
        cancel.check()?;
        let text = embed_text_unless(clip, target, templates, cancel);
        clip.release_texts();
        let text = text?;
        let (before, after) = (clip.embed_pictures(&plain_signed, resize, cancel)?, clip.embed_pictures(&drawn, resize, cancel)?);
        figures.push(ClipFigures {
            clip: clip.name.clone(),
            quality: quality(&after, &text)?,
            quality_before: quality(&before, &text)?,
            diversity: diversity(&after)?,
            diversity_before: diversity(&before)?,
        });
    }
    let report = Report {
        target: target.to_string(),
        pictures: adapted.dim(0)?,
        truth: truth.map(String::from),
        distance: truth_pictures.as_ref().map(|t| distance(&adapted, &held_out.plain, t)).transpose()?,
        pairing: pairing(&adapted, &held_out.plain)?,
        clips: figures,
    };
    let columns = report.pictures.min(SHEET_COLUMNS);
    let mut pictures = Vec::new();
    for row in [Some(plain_signed), Some(drawn), truth_pictures.map(|t| (t * 2.0)? - 1.0).transpose()?].into_iter().flatten() {
        for i in 0..columns {
            pictures.push(Picture::from_tensor(&row, i)?);
        }
    }
    Ok(Evaluation { report, sheet: Picture::contact_sheet(&pictures, columns)? })
}
