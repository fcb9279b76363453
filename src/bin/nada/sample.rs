//! `nada sample`: random pictures.

use crate::models::{adapted, before_after, save_folder, DomainArgs, ModelArgs, NoiseArgs, COLUMNS};
use crate::ui::Ui;
use clap::Args;
use nada::memory::Need;
use nada::nn::stylegan2::{Latent, Space};
use nada::picture::Picture;
use nada::{Error, Result};
use serde_json::json;
use std::path::PathBuf;

/// The most pictures of a call: their numbers and the sheet stay in memory.
const MOST: usize = 4096;

/// Draw random pictures, with or without domains
#[derive(Args)]
#[command(after_help = "Examples:
  nada sample -n 24 --seed 7 -o faces.png
  nada sample --domain a-pencil-sketch.nada.safetensors --compare -o before-and-after.png")]
pub struct Sample {
    #[arg(long, short = 'n', value_name = "N", default_value_t = 16, help = "Pictures to draw")]
    count: usize,
    #[arg(long, value_name = "T", default_value_t = 0.8, help = "Truncation; 1 is none, 0 the mean picture")]
    truncation: f32,
    /// Contact sheet [default: sample.png, unless --folder is given]
    #[arg(long, short, value_name = "PNG")]
    output: Option<PathBuf>,
    /// Write each picture to 0001.png, 0002.png, ... of a folder
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Write the latents (w) to a .safetensors or .npy file
    #[arg(long, value_name = "FILE")]
    latents: Option<PathBuf>,
    /// On the sheet, a row without the domains above each row with them
    #[arg(long, requires = "domains")]
    compare: bool,
    #[command(flatten)]
    noise: NoiseArgs,
    #[command(flatten)]
    domains: DomainArgs,
    #[command(flatten)]
    model: ModelArgs,
}

impl Sample {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        if !(1..=MOST).contains(&self.count) {
            return Err(Error::argument("--count", format!("{}; want 1 to {MOST}", self.count)));
        }
        let pack = self.model.pack()?;
        let plain = self.model.generator(pack.as_ref())?;
        let domains = self.domains.load()?;
        let named: Vec<_> = domains.iter().map(|(d, s)| (d, *s)).collect();
        // The pictures lie on the sheet once more; to compare, those without the domains too.
        let copies = if self.compare { 3 } else { 1 };
        Need::drawing(plain.config(), self.count, &named, copies).check()?;
        let generator = adapted(&plain, &domains)?;
        let latent = Latent { space: Space::W, tensor: plain.sample_w(self.count, self.noise.seed, self.truncation)?, noise: None };
        let drawing = self.noise.drawing(1.0);
        let after = drawing.pictures(&generator, &latent)?;
        if let Some(path) = &self.latents {
            latent.save(path)?;
        }
        let files = self.folder.as_ref().map(|folder| save_folder(folder, &after)).transpose()?.unwrap_or_default();
        let sheet = self.output.or_else(|| self.folder.is_none().then(|| PathBuf::from("sample.png")));
        if let Some(path) = &sheet {
            let picture = if self.compare {
                before_after(&drawing.pictures(&plain, &latent)?, &after)?
            } else {
                Picture::contact_sheet(&after, COLUMNS)?
            };
            picture.save_png(path)?;
        }
        let written: Vec<String> = [&sheet, &self.folder, &self.latents].into_iter().flatten().map(|p| p.display().to_string()).collect();
        ui.finish(
            &format!("{} pictures: {}", self.count, written.join(", ")),
            json!({"pictures": self.count, "sheet": sheet, "files": files, "latents": self.latents}),
        )
    }
}
