//! `nada invert`: the latent of a picture.

use crate::models::{invert_recipe, pictures, ClipArgs, ModelArgs};
use crate::picture::square;
use crate::settings::InvertSettings;
use crate::ui::{on_bar, plain, Ui};
use clap::Args;
use nada::invert::{self, Inversion};
use nada::nn::clip::Clip;
use nada::nn::stylegan2::{Generator, Noise};
use nada::picture::Picture;
use nada::{Error, Result};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

/// Find the latent that draws a picture
///
/// The latent goes to PICTURE.latent.safetensors beside the picture; render, restyle and sheets take it from there.
#[derive(Args)]
#[command(after_help = "Example:
  nada invert face.png --sheet face-and-inversion.png")]
pub struct Invert {
    /// Pictures of any size; the middle square is used
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// File of the latent (.safetensors or .npy), for one picture
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Contact sheet: each picture, and what its latent draws
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    clip: ClipArgs,
    #[command(flatten)]
    settings: InvertSettings,
}

impl Invert {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        if self.output.is_some() && self.pictures.len() > 1 {
            return Err(Error::argument("--output", format!("names one file for {} pictures; leave it out", self.pictures.len())));
        }
        let pack = self.model.pack()?;
        let settings = self.settings.over(invert_recipe(pack.as_ref())?)?;
        let generator = self.model.generator(pack.as_ref())?;
        let clips = if settings.clip > 0.0 { self.clip.load(pack.as_ref())? } else { Vec::new() };
        let clip = clips.first().map(|c| c.clip.as_ref());
        let (mut text, mut values, mut rows) = (String::new(), Vec::new(), Vec::new());
        for file in &self.pictures {
            let begin = Instant::now();
            let target = square(file, generator.config().size, ui)?;
            let found = run(&generator, &target, clip, &settings, ui)?;
            let output = self.output.clone().unwrap_or_else(|| file.with_extension("latent.safetensors"));
            found.latent.save(&output)?;
            rows.push(target.square(generator.config().size)?);
            rows.extend(pictures(&generator.render(&found.latent, 1.0, Noise::Const)?)?);
            let seconds = begin.elapsed().as_secs_f64();
            text += &format!("{}: {:.1} dB in {} steps, {seconds:.1} s\n", output.display(), found.psnr, found.steps);
            values.push(json!({
                "picture": file, "latent": output, "psnr": plain(&found.psnr)?, "loss": plain(&found.loss)?, "steps": found.steps, "seconds": seconds
            }));
        }
        if let Some(path) = &self.sheet {
            Picture::contact_sheet(&rows, 2)?.save_png(path)?;
        }
        ui.finish(&text, json!({"inversions": values, "settings": plain(&settings)?, "sheet": self.sheet}))
    }
}

/// Inverts with a progress bar.
pub fn run(generator: &Generator, target: &Picture, clip: Option<&Clip>, settings: &invert::Settings, ui: &Ui) -> Result<Inversion> {
    let bar = ui.bar("inverting", settings.steps);
    let found = invert::invert(generator, target, clip, settings, &ui.cancel, &mut on_bar(&bar));
    bar.abandon();
    found
}
