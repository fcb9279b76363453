//! `nada render`: latents into pictures, exactly, for scripts and comparison.

use crate::models::{adapted, pictures, save_folder, DomainArgs, ModelArgs, NoiseArgs, COLUMNS};
use crate::ui::Ui;
use clap::{Args, ValueEnum};
use nada::checkpoint::write_npy;
use nada::nn::stylegan2::{Latent, Space};
use nada::picture::Picture;
use nada::progress::Cancel;
use nada::{Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Draw latents, with or without domains
///
/// Latents are f32 [N, n] for z and w, [N, n_latent, n] for wplus: a .npy file, a .safetensors file with the key z, w or wplus, or what encoders
/// and projectors write (.pt, .npz). Truncation moves every w towards the mean w: mean + T * (w - mean). The array of --out-npy is f32
/// [N, 3, size, size] as the network gives it, nominally in [-1, 1], not clamped.
#[derive(Args)]
#[command(after_help = "Example:
  nada render --generator ffhq.pt --latents w.npy --space w --noise const --truncation 1 --out-npy pictures.npy
  nada render --latents face.latent.safetensors --domain a-pencil-sketch.nada.safetensors:0.7 --sheet sketch.png")]
pub struct Render {
    /// Latents to draw
    #[arg(long, value_name = "FILE")]
    latents: PathBuf,
    /// What the latents are [default: what the file's key or its shape says; 3 dimensions are wplus]
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
    Wplus,
}

impl From<SpaceName> for Space {
    fn from(s: SpaceName) -> Self {
        match s {
            SpaceName::Z => Space::Z,
            SpaceName::W => Space::W,
            SpaceName::Wplus => Space::WPlus,
        }
    }
}

impl Render {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        if self.out_npy.is_none() && self.folder.is_none() && self.sheet.is_none() {
            return Err(Error::argument("--out-npy, --folder or --sheet", "none given; say where the pictures go"));
        }
        let pack = self.model.pack()?;
        let latent = open_latent(&self.latents, self.space, &ui.cancel)?;
        let domains = self.domains.load(&ui.cancel)?;
        let generator = adapted(self.model.generator(pack.as_ref(), &ui.cancel)?.as_ref(), &domains)?;
        let drawn = self.noise.drawing(self.truncation).images(&generator, &latent)?;
        if let Some(path) = &self.out_npy {
            write_npy(path, &drawn)?;
        }
        let mut files = Vec::new();
        if self.folder.is_some() || self.sheet.is_some() {
            let pictures = pictures(&drawn)?;
            if let Some(folder) = &self.folder {
                files = save_folder(folder, &pictures)?;
            }
            if let Some(path) = &self.sheet {
                Picture::contact_sheet(&pictures, COLUMNS)?.save_png(path)?;
            }
        }
        let written: Vec<String> =
            [&self.out_npy, &self.folder, &self.sheet].into_iter().flatten().map(|p| p.display().to_string()).collect();
        ui.finish(
            &format!("{} pictures of {} px: {}", drawn.dim(0)?, generator.config().size, written.join(", ")),
            json!({"pictures": drawn.dim(0)?, "shape": drawn.dims(), "out_npy": self.out_npy, "files": files, "sheet": self.sheet}),
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
