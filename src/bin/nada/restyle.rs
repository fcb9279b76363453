//! `nada restyle`: a picture in, the same picture in another domain out.

use crate::adapt::{train, Job, EXTENSION};
use crate::models::{invert_recipe, recipe, ClipArgs, DomainArgs, ModelArgs, NoiseArgs};
use crate::picture::square;
use crate::render::open_latent;
use crate::settings::InvertSettings;
use crate::ui::{on_bar, plain, Ui};
use clap::Args;
use nada::adapt::{Concept, Domain};
use nada::gallery::file_name;
use nada::nn::stylegan2::Generator;
use nada::pack::ModelPack;
use nada::picture::Picture;
use nada::pipeline::{self, NoiseKind, Restyled};
use nada::{Error, Result};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Restyle a picture: find its latent, draw it in other domains
///
/// The result is PICTURE-DOMAIN.png in the current folder. With --to the domain is adapted first and kept as TARGET-WITH-DASHES.nada.safetensors,
/// from where the next call takes it.
#[derive(Args)]
#[command(after_help = "Examples:
  nada restyle face.png --to \"a pencil sketch\"
  nada restyle face.png --domain a-pencil-sketch.nada.safetensors:0.8 --domain night.nada.safetensors:0.5 -o out.png
  nada restyle face.png --latent face.latent.safetensors --domain a-pencil-sketch.nada.safetensors")]
pub struct Restyle {
    /// Picture of any size; the middle square is used
    picture: PathBuf,
    /// Words to adapt to first, with the pack's recipe
    #[arg(long, value_name = "WORDS", required_unless_present = "domains")]
    to: Option<String>,
    /// The picture's latent from `nada invert`, which saves finding it again
    #[arg(long, value_name = "FILE")]
    latent: Option<PathBuf>,
    /// Keep the latent that was found
    #[arg(long, value_name = "FILE", conflicts_with = "latent")]
    save_latent: Option<PathBuf>,
    /// The restyled picture [default: ./PICTURE-DOMAIN.png]
    #[arg(long, short, value_name = "PNG")]
    output: Option<PathBuf>,
    /// Contact sheet: the picture, its inversion, the result
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    #[command(flatten)]
    domains: DomainArgs,
    #[command(flatten)]
    noise: NoiseArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    clip: ClipArgs,
    #[command(flatten)]
    settings: InvertSettings,
}

impl Restyle {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        let begin = Instant::now();
        let pack = self.model.pack()?;
        // What is no picture is told before the generator is read.
        Picture::size_of_file(&self.picture)?;
        let mut domains = self.domains.load()?;
        let generator = self.model.generator(pack.as_ref())?;
        let picture = square(&self.picture, generator.config().size, ui)?;
        // Before words are adapted to, too.
        picture.check_visible()?;
        if let Some(words) = &self.to {
            domains.push((self.domain_of(words, &generator, pack.as_ref(), ui)?, 1.0));
        }
        let with_strengths: Vec<(&Domain, f32)> = domains.iter().map(|(d, s)| (d, *s)).collect();
        let mut drawing = self.noise.drawing(1.0);
        if self.noise.noise.is_none() {
            // A latent is searched without noise (or brings its own maps), so that is how it shows its picture.
            drawing.noise = NoiseKind::None;
        }
        let (restyled, latent, psnr) = match &self.latent {
            Some(file) => {
                let latent = open_latent(file, None)?;
                (drawing.picture(&generator.with_domains(&with_strengths)?, &latent)?.with_alpha_of(&picture)?, latent, None)
            }
            None => {
                let inversion = self.settings.over(invert_recipe(pack.as_ref())?)?;
                let clips = if inversion.clip > 0.0 { self.clip.load(pack.as_ref())? } else { Vec::new() };
                let clip = clips.first().map(|c| c.clip.as_ref());
                let bar = ui.bar("inverting", inversion.steps);
                let restyle = pipeline::Restyle { generator: &generator, domains: &with_strengths, inversion: &inversion, clip, drawing };
                let done = restyle.run(&picture, &ui.cancel, &mut on_bar(&bar));
                bar.abandon();
                let Restyled { picture, inversion } = done?;
                (picture, inversion.latent, Some(inversion.psnr))
            }
        };
        if let Some(path) = &self.save_latent {
            latent.save(path)?;
        }
        let output = self.output.clone().unwrap_or_else(|| {
            let stem = self.picture.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            let words = domains.last().map(|(d, _)| file_name(&d.description.target)).unwrap_or_default();
            PathBuf::from(format!("{stem}-{words}.png"))
        });
        restyled.save_png(&output)?;
        if let Some(path) = &self.sheet {
            let inverted = drawing.picture(&generator, &latent)?;
            let row = [picture.square(generator.config().size)?, inverted, restyled.clone()];
            Picture::contact_sheet(&row, 3)?.save_png(path)?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        let quality = psnr.map(|p| format!("; inverted at {p:.1} dB")).unwrap_or_default();
        let mut text = format!("restyled picture: {} ({seconds:.1} s{quality})", output.display());
        if let Some(path) = &self.sheet {
            text += &format!("\nthe picture, its inversion, the result: {}", path.display());
        }
        if let Some(words) = &self.to {
            text += &format!("\ndomain, from which the next picture takes it: {}", domain_file(words).display());
        }
        ui.finish(
            &text,
            json!({"picture": self.picture, "output": output, "sheet": self.sheet, "latent": self.save_latent.or(self.latent),
                   "psnr": plain(&psnr)?, "seconds": seconds}),
        )
    }

    /// The domain of words: the one kept in the current folder where it fits, else a new one.
    fn domain_of(&self, words: &str, generator: &Arc<Generator>, pack: Option<&ModelPack>, ui: &mut Ui) -> Result<Domain> {
        let path = domain_file(words);
        if path.exists() {
            let domain = Domain::open(&path)?;
            if domain.description.target == words && domain.description.fingerprint == generator.fingerprint() {
                return Ok(domain);
            }
            let message = format!("{} is of other words or of another generator; move it away, or name it with --domain", path.display());
            return Err(Error::Mismatch(message));
        }
        self.clip.check_words(pack, words, ui);
        let source = pack.and_then(|p| p.words.as_ref()?.source.first().cloned()).unwrap_or_else(|| "photo".into());
        let clips = self.clip.load(pack)?;
        let templates = self.clip.templates(pack);
        let (source, target) = (Concept::Text(source), Concept::Text(words.to_string()));
        let settings = recipe(pack)?;
        let (made, ended) = train(Job { generator, clips: &clips, source, target, templates: &templates, settings }, ui);
        let made = made?;
        ended?;
        made.domain.save(&path)?;
        Ok(made.domain)
    }
}

fn domain_file(words: &str) -> PathBuf {
    PathBuf::from(format!("{}{EXTENSION}", file_name(words)))
}
