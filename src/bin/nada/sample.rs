//! `nada sample`: random pictures.

use crate::models::{adapted, before_after, in_folder, pictures, DomainArgs, ModelArgs, NoiseArgs, Reads, COLUMNS};
use crate::outputs::{ForceArgs, Kind, Outputs};
use crate::ui::{name, names, Ui};
use clap::Args;
use nada::memory::Need;
use nada::nn::generator::{Latent, Space};
use nada::picture::Picture;
use nada::{Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The most pictures of a call: their numbers and the sheet stay in memory.
const MOST: usize = 4096;

/// Draw random pictures, with or without domains
///
/// Pictures of --folder are written as they are drawn. Ctrl-C keeps those, and makes the sheet of them.
#[derive(Args)]
#[command(after_help = "Examples:
  nada sample -n 24 --seed 7 -o faces.png
  nada sample --domain a-pencil-sketch.nada.safetensors --compare -o before-and-after.png")]
pub struct Sample {
    #[arg(long, short = 'n', value_name = "N", default_value_t = 16, help = "Pictures to draw")]
    count: usize,
    #[arg(long, value_name = "T", default_value_t = 0.8, help = "Truncation; 1 is none, 0 the mean picture")]
    truncation: f32,
    /// Contact sheet [default: sample.png, or sample-2.png where that is taken, unless --folder is given]
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
    force: ForceArgs,
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
        let pack = self.model.pack(ui)?;
        let mut outputs = Outputs::new(&self.force);
        let generator = self.model.generator.as_deref();
        Reads { pack: pack.as_ref(), generator, clips: None, domains: Some(&self.domains) }.tell(&mut outputs)?;
        let mut latents = self.latents.as_ref().map(|path| outputs.named("--latents", path, Kind::Latent)).transpose()?;
        let folder = self.folder.as_ref().map(|path| outputs.in_folder("--folder", path, in_folder(self.count), Kind::Picture));
        let mut files = folder.transpose()?.unwrap_or_default();
        let mut sheet = match &self.output {
            Some(path) => Some(outputs.named("--output", path, Kind::Picture)?),
            None if self.folder.is_none() => Some(outputs.made_up(Path::new("sample"), ".png")?),
            None => None,
        };

        let plain = self.model.generator(pack.as_ref(), &ui.cancel)?;
        let domains = self.domains.of(&plain, self.domains.load(&ui.cancel)?)?;
        let named: Vec<_> = domains.iter().map(|(d, s)| (d, *s)).collect();
        // The pictures of 4 channels and their sheet; to compare, those without the domains too.
        let kept = 8 * sheet.is_some() as usize * (1 + self.compare as usize);
        Need::drawing_each(plain.config(), self.count, &named, kept).check()?;
        let generator = adapted(&plain, &domains)?;
        let latent = Latent { space: Space::W, tensor: plain.sample_w(self.count, self.noise.seed, self.truncation)?, noise: None };
        if let Some(file) = &mut latents {
            file.save(ui, |to| latent.save(to))?;
        }
        let drawing = self.noise.drawing(1.0);
        let cancel = ui.cancel.clone();
        // Pictures stay only for the sheet.
        let (mut after, mut done): (Vec<Picture>, usize) = (Vec::new(), 0);
        let mut ended = drawing.each(&generator, &latent, &cancel, &mut |part| {
            for picture in pictures(&part)? {
                if let Some(file) = files.get_mut(done) {
                    file.save(ui, |to| picture.save(to))?;
                }
                after.extend(sheet.is_some().then_some(picture));
                done += 1;
            }
            Ok(())
        });
        let mut before: Vec<Picture> = Vec::new();
        if self.compare && sheet.is_some() && ended.is_ok() {
            ended = drawing.each(&plain, &latent, &cancel, &mut |part| {
                before.extend(pictures(&part)?);
                Ok(())
            });
        }
        match done {
            all if all == self.count && ended.is_err() => {
                ui.warn(format!("stopped after {} of {all} pictures without the domains", before.len()))
            }
            some => stopped_after(&ended, some, self.count, ui),
        }
        files.truncate(done);
        if let Some(sheet) = sheet.as_mut().filter(|_| !after.is_empty()) {
            let picture = match before.len() {
                0 => Picture::contact_sheet(&after, COLUMNS)?,
                n => before_after(&before, &after[..n])?,
            };
            sheet.save(ui, |to| picture.save(to))?;
        }
        ended?;
        let sheet = sheet.map(|s| name(s.path));
        let latents = latents.map(|l| name(l.path));
        let written: Vec<String> = [&sheet, &self.folder.map(name), &latents].into_iter().flatten().cloned().collect();
        ui.finish(
            &format!("{} pictures: {}", self.count, written.join(", ")),
            json!({"pictures": self.count, "sheet": sheet, "files": names(files.iter().map(|f| &f.path)), "latents": latents}),
        )
    }
}

/// Says how many pictures a call that was stopped has drawn.
pub fn stopped_after(ended: &Result<()>, drawn: usize, count: usize, ui: &mut Ui) {
    if matches!(ended, Err(Error::Cancelled)) {
        ui.warn(format!("stopped after {drawn} of {count} pictures; what was asked for is written of those"));
    }
}
