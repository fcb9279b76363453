//! `nada render`: latents into pictures, exactly, for scripts and comparison.

use crate::models::{adapted, in_folder, pictures, DomainArgs, ModelArgs, NoiseArgs, Reads, COLUMNS};
use crate::outputs::{ForceArgs, Kind, Outputs};
use crate::sample::stopped_after;
use crate::ui::{name, names, Ui};
use candle_core::Tensor;
use clap::{Args, ValueEnum};
use nada::checkpoint::write_npy;
use nada::memory::Need;
use nada::nn::generator::{Latent, Space};
use nada::picture::Picture;
use nada::progress::Cancel;
use nada::{Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Draw latents, with or without domains
///
/// Latents are f32 [N, n] for z and w, [N, n_latent, n] for w_plus: a .npy file, a .safetensors file with the key z, w or w_plus, or what
/// encoders and projectors write (.pt, .npz). Truncation moves every w towards the mean w: mean + T * (w - mean). The array of --out-npy is f32
/// [N, colours, height, width] as the network gives it, nominally in [-1, 1], not clamped; 3 colours, or 1 of a generator that draws grey, or 4
/// with alpha.
#[derive(Args)]
#[command(after_help = "Example:
  nada render --generator ffhq.pt --latents w.npy --space w --noise const --truncation 1 --out-npy pictures.npy
  nada render --latents face.latent.safetensors --domain a-pencil-sketch.nada.safetensors:0.7 --sheet sketch.png")]
pub struct Render {
    /// Latents to draw
    #[arg(long, value_name = "FILE")]
    latents: PathBuf,
    /// What the latents are [default: what the file's key or its shape says; 3 dimensions are w_plus]
    #[arg(long, value_enum)]
    space: Option<SpaceName>,
    #[arg(long, value_name = "T", default_value_t = 1.0, help = "Truncation; 1 is none")]
    truncation: f32,
    /// Write the pictures as a numpy array
    #[arg(long, value_name = "NPY")]
    out_npy: Option<PathBuf>,
    /// Write the pictures to 0001.png, 0002.png, ... of a folder
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Write the pictures as one contact sheet
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    noise: NoiseArgs,
    #[command(flatten)]
    domains: DomainArgs,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum SpaceName {
    Z,
    W,
    #[value(name = "w_plus", alias = "wplus")]
    WPlus,
}

impl From<SpaceName> for Space {
    fn from(s: SpaceName) -> Self {
        match s {
            SpaceName::Z => Space::Z,
            SpaceName::W => Space::W,
            SpaceName::WPlus => Space::WPlus,
        }
    }
}

impl Render {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        if self.out_npy.is_none() && self.folder.is_none() && self.sheet.is_none() {
            return Err(Error::argument("--out-npy, --folder or --sheet", "none given; say where the pictures go"));
        }
        let pack = self.model.pack(ui)?;
        let mut outputs = Outputs::new(&self.force);
        outputs.reads(&self.latents);
        let generator = self.model.generator.as_deref();
        Reads { pack: pack.as_ref(), generator, clips: None, domains: Some(&self.domains) }.tell(&mut outputs)?;
        let mut array = self.out_npy.as_ref().map(|path| outputs.named("--out-npy", path, Kind::Npy)).transpose()?;
        let mut sheet = self.sheet.as_ref().map(|path| outputs.named("--sheet", path, Kind::Picture)).transpose()?;
        let latent = open_latent(&self.latents, self.space, &ui.cancel)?;
        let count = latent.tensor.dim(0)?;
        let folder = self.folder.as_ref().map(|path| outputs.in_folder("--folder", path, in_folder(count), Kind::Picture));
        let mut files = folder.transpose()?.unwrap_or_default();
        let domains = self.domains.load(&ui.cancel)?;
        let generator = self.model.generator(pack.as_ref(), &ui.cancel)?;
        let domains = self.domains.of(&generator, domains)?;
        let named: Vec<_> = domains.iter().map(|(d, s)| (d, *s)).collect();
        // The array's parts and the array; the pictures of 4 channels and their sheet.
        let kept = 2 * generator.config().colours() * array.is_some() as usize + 8 * sheet.is_some() as usize;
        Need::drawing_each(generator.config(), count, &named, kept).check()?;
        let generator = adapted(&generator, &domains)?;

        let (mut parts, mut drawn): (Vec<Tensor>, Vec<Picture>) = (Vec::new(), Vec::new());
        let mut done = 0;
        let cancel = ui.cancel.clone();
        let ended = self.noise.drawing(self.truncation).each(&generator, &latent, &cancel, &mut |part| {
            if sheet.is_some() || !files.is_empty() {
                for (i, picture) in pictures(&part)?.into_iter().enumerate() {
                    if let Some(file) = files.get_mut(done + i) {
                        file.save(ui, |to| picture.save(to))?;
                    }
                    drawn.extend(sheet.is_some().then_some(picture));
                }
            }
            done += part.dim(0)?;
            parts.extend(array.is_some().then_some(part));
            Ok(())
        });
        stopped_after(&ended, done, count, ui);
        files.truncate(done);
        let config = generator.config();
        if let Some(file) = array.as_mut().filter(|_| done > 0) {
            let all = Tensor::cat(&parts, 0)?;
            file.save(ui, |to| write_npy(to, &all))?;
        }
        if let Some(sheet) = sheet.as_mut().filter(|_| done > 0) {
            let picture = Picture::contact_sheet(&drawn, COLUMNS)?;
            sheet.save(ui, |to| picture.save(to))?;
        }
        ended?;
        let (array, sheet) = (array.map(|a| name(a.path)), sheet.map(|s| name(s.path)));
        let written: Vec<String> = [&array, &self.folder.map(name), &sheet].into_iter().flatten().cloned().collect();
        ui.finish(
            &format!("{done} pictures of {} px: {}", config.describe_size(), written.join(", ")),
            json!({"pictures": done, "shape": [done, config.colours(), config.height(), config.width()], "out_npy": array, "files": names(files.iter().map(|f| &f.path)), "sheet": sheet}),
        )
    }
}

/// Latents of the space given, else of the one that the file shows.
pub fn open_latent(path: &Path, space: Option<SpaceName>, cancel: &Cancel) -> Result<Latent> {
    Latent::read(path, space.map(Space::from), cancel).map_err(|e| match e {
        Error::InvalidArgument { argument, message } if argument == "space" => Error::argument("--space", message),
        e => e,
    })
}
