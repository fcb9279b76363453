//! Arguments that name models, domains and pictures, shared by the commands.

use crate::outputs::Outputs;
use crate::ui::Ui;
use clap::{Args, ValueEnum};
use nada::adapt::{Domain, Settings, Templates, WeightedClip};
use nada::nn::clip::Clip;
use nada::nn::stylegan2::Generator;
use nada::pack::{pack_folder, ModelPack, STARTER};
use nada::picture::Picture;
use nada::pipeline::{Drawing, NoiseKind};
use nada::progress::Cancel;
use nada::{invert, Error, Result};
use serde::de::DeserializeOwned;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Columns of a contact sheet.
pub const COLUMNS: usize = 8;

#[derive(Args)]
pub struct PackArgs {
    /// Model pack: a name, or a folder with a model.toml (or that file) [default: starter, or none where its files are given]
    #[arg(long, value_name = "PACK", help_heading = "Model")]
    pub model: Option<OsString>,
}

impl PackArgs {
    /// The pack, unless `files` stand for it and none is named.
    pub fn pack(&self, files: bool) -> Result<Option<ModelPack>> {
        match (&self.model, files) {
            (None, true) => Ok(None),
            (None, false) => ModelPack::find(STARTER).map(Some),
            (Some(name), _) => find_pack(name).map(Some),
        }
    }
}

#[derive(Args)]
pub struct ModelArgs {
    #[command(flatten)]
    pub pack: PackArgs,
    /// Generator file instead of the pack's (StyleGAN2 of rosinality's or NVIDIA's code: .pt, .pkl or .safetensors)
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub generator: Option<PathBuf>,
    /// Class to draw, from 0, where the generator has classes [default: the pack's]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub class: Option<usize>,
}

#[derive(Args)]
pub struct ClipArgs {
    /// CLIP file or folder instead of the pack's, with the weight of its losses; repeatable
    #[arg(long = "clip", value_name = "FILE[:WEIGHT]", help_heading = "Model")]
    pub clips: Vec<OsString>,
}

impl ModelArgs {
    /// The pack, unless a generator is given without one.
    pub fn pack(&self) -> Result<Option<ModelPack>> {
        self.pack.pack(self.generator.is_some())
    }

    pub fn generator(&self, pack: Option<&ModelPack>, cancel: &Cancel) -> Result<Arc<Generator>> {
        let generator = match (&self.generator, pack) {
            (Some(file), _) => Generator::open_unless(file, cancel)?,
            (None, Some(pack)) => pack.load_generator_unless(cancel)?,
            (None, None) => return Err(Error::argument("--generator", "give a file, or a pack with --model")),
        };
        Ok(Arc::new(match self.class {
            Some(class) => generator.with_class(class)?,
            None => generator,
        }))
    }
}

impl ClipArgs {
    pub fn load(&self, pack: Option<&ModelPack>, cancel: &Cancel) -> Result<Vec<WeightedClip>> {
        if self.clips.is_empty() {
            return match pack {
                Some(pack) => pack.load_clips_unless(cancel),
                None => Err(Error::argument("--clip", "none given; without a pack (--model) at least one is needed")),
            };
        }
        let load = |(path, weight): (PathBuf, f32)| Ok(WeightedClip { clip: Arc::new(Clip::open_unless(&path, cancel)?), weight });
        self.files()?.into_iter().map(load).collect()
    }

    /// Paths and weights as given.
    pub fn files(&self) -> Result<Vec<(PathBuf, f32)>> {
        let parse = |text: &OsString| {
            let (path, weight) = with_number(text);
            let weight = weight.unwrap_or(1.0);
            if !(weight.is_finite() && weight > 0.0) {
                return Err(Error::argument("--clip", format!("weight {weight} of {}; want a number above 0", path.display())));
            }
            Ok((path, weight))
        };
        self.clips.iter().map(parse).collect()
    }

    /// The pack's templates go with its CLIPs.
    pub fn templates(&self, pack: Option<&ModelPack>) -> Templates {
        pack.filter(|_| self.clips.is_empty()).map(ModelPack::templates).unwrap_or_default()
    }

    /// Warns of words that the pack's CLIPs do not know.
    pub fn check_words(&self, pack: Option<&ModelPack>, text: &str, ui: &mut Ui) {
        let Some(pack) = pack.filter(|_| self.clips.is_empty()) else { return };
        let unknown = pack.unknown_words(text);
        if !unknown.is_empty() {
            ui.warn(format!(
                "the pack '{}' does not know the word{} {}, so \"{text}\" may change little or something else. It knows: {}",
                pack.name,
                if unknown.len() > 1 { "s" } else { "" },
                unknown.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(", "),
                pack.known_phrases().join(", ")
            ));
        }
    }
}

/// The pack's recipe, else the defaults.
pub fn recipe(pack: Option<&ModelPack>) -> Result<Settings> {
    pack.map_or_else(|| Ok(Settings::default()), ModelPack::settings)
}

pub fn invert_recipe(pack: Option<&ModelPack>) -> Result<invert::Settings> {
    pack.map_or_else(|| Ok(invert::Settings::default()), ModelPack::invert_settings)
}

#[derive(Args)]
pub struct DomainArgs {
    /// Domain made by `nada adapt`, with a strength in [0, 1.5] (default 1); several add up
    #[arg(long = "domain", value_name = "FILE[:STRENGTH]")]
    pub domains: Vec<OsString>,
}

impl DomainArgs {
    pub fn load(&self, cancel: &Cancel) -> Result<Vec<(Domain, f32)>> {
        let load = |text: &OsString| {
            let (path, strength) = with_number(text);
            Ok((Domain::open_unless(&path, cancel)?, strength.unwrap_or(1.0)))
        };
        self.domains.iter().map(load).collect()
    }

    pub fn files(&self) -> Vec<PathBuf> {
        self.domains.iter().map(|text| with_number(text).0).collect()
    }
}

/// A generator file, or the generator of a pack's folder or name; with all its classes.
pub fn generator_or_pack(path: &Path, cancel: &Cancel) -> Result<Generator> {
    match path.to_str().filter(|_| !path.is_file() || pack_folder(path).is_some()).map(ModelPack::find) {
        Some(Ok(pack)) => pack.load_all_classes_unless(cancel),
        // What is there as a file, or nowhere, is best described as a file.
        Some(Err(e)) if path.exists() => Err(e),
        _ => Generator::open_unless(path, cancel),
    }
}

/// `generator` with domains added.
pub fn adapted(generator: &Generator, domains: &[(Domain, f32)]) -> Result<Generator> {
    let domains: Vec<(&Domain, f32)> = domains.iter().map(|(d, s)| (d, *s)).collect();
    generator.with_domains(&domains)
}

/// A pack by name or folder, whatever the bytes of its path.
fn find_pack(name: &OsStr) -> Result<ModelPack> {
    match name.to_str() {
        Some(name) => ModelPack::find(name),
        None => ModelPack::open(Path::new(name)),
    }
}

/// `FILE[:NUMBER]`; a file that is called so as a whole wins.
pub fn with_number(text: impl AsRef<OsStr>) -> (PathBuf, Option<f32>) {
    let text = text.as_ref();
    let bytes = text.as_encoded_bytes();
    let colon = bytes.iter().rposition(|b| *b == b':').filter(|_| !Path::new(text).exists());
    let number = colon.and_then(|at| std::str::from_utf8(&bytes[at + 1..]).ok()?.parse().ok());
    match (colon, number) {
        // SAFETY: what stands before an ASCII character is whole.
        (Some(at), Some(number)) => (PathBuf::from(unsafe { OsStr::from_encoded_bytes_unchecked(&bytes[..at]) }), Some(number)),
        _ => (PathBuf::from(text), None),
    }
}

#[derive(Args)]
pub struct NoiseArgs {
    /// Noise of the synthesis layers: the file's own maps, none, or drawn from --seed. A latent's own maps are used where this is not given
    #[arg(long, value_enum, value_name = "KIND")]
    pub noise: Option<NoiseChoice>,
    #[arg(long, value_name = "SEED", default_value_t = 1, help = "Seed of what is random: latents that are drawn, and --noise random")]
    pub seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum NoiseChoice {
    Const,
    None,
    Random,
}

impl NoiseArgs {
    /// The random stream is the same for every generator that draws the latent.
    pub fn drawing(&self, truncation: f32) -> Drawing {
        let noise = match self.noise {
            None | Some(NoiseChoice::Const) => NoiseKind::Const,
            Some(NoiseChoice::None) => NoiseKind::None,
            Some(NoiseChoice::Random) => NoiseKind::Random { seed: self.seed },
        };
        Drawing { truncation, noise, own_noise: self.noise.is_none() }
    }
}

/// Every picture of a batch.
pub fn pictures(batch: &candle_core::Tensor) -> Result<Vec<Picture>> {
    (0..batch.dim(0)?).map(|i| Picture::from_tensor(batch, i)).collect()
}

/// The names of pictures in a folder: `0001.png`, `0002.png`, ...
pub fn in_folder(count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(|i| format!("{i:04}.png"))
}

/// Everything of a pack that may be read.
pub fn reads_pack(pack: Option<&ModelPack>, outputs: &mut Outputs) {
    outputs.reads_all(pack.map(|pack| &pack.folder));
}

/// Alternating rows of at most [`COLUMNS`] pictures before, and the same pictures after.
pub fn before_after(before: &[Picture], after: &[Picture]) -> Result<Picture> {
    let columns = COLUMNS.min(before.len());
    let mut rows = Vec::new();
    for (b, a) in before.chunks(COLUMNS).zip(after.chunks(COLUMNS)) {
        for row in [b, a] {
            rows.extend_from_slice(row);
            if let Some(first) = row.first().filter(|_| row.len() < columns) {
                // A short last row is filled up, so that the next one starts at the left.
                let blank = Picture::filled(first.width, first.height, [1.0; 4])?;
                rows.extend(std::iter::repeat_n(blank, columns - row.len()));
            }
        }
    }
    Picture::contact_sheet(&rows, columns)
}

/// Parses an option by the name that settings files use.
pub fn by_name<T: DeserializeOwned>(text: &str) -> std::result::Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_string())).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_after_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("odd:1");
        std::fs::write(&odd, b"").unwrap();
        let odd = odd.to_str().unwrap();
        for (text, path, number) in [
            ("a.safetensors", "a.safetensors", None),
            ("a.safetensors:0.5", "a.safetensors", Some(0.5)),
            ("dir:x/a", "dir:x/a", None),
            (odd, odd, None),
            (&format!("{odd}:0.25"), odd, Some(0.25)),
        ] {
            assert_eq!(with_number(text), (PathBuf::from(path), number), "{text}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            let latin = OsStr::from_bytes(b"caf\xe9.safetensors:0.5");
            assert_eq!(with_number(latin), (PathBuf::from(OsStr::from_bytes(b"caf\xe9.safetensors")), Some(0.5)));
        }
    }

    #[test]
    fn rows_before_and_after() {
        let pictures = |v: f32| vec![Picture::filled(2, 2, [v, v, v, 1.0]).unwrap(); COLUMNS + 1];
        let sheet = before_after(&pictures(0.0), &pictures(0.5)).unwrap();
        assert_eq!((sheet.width, sheet.height), (COLUMNS * 4 - 2, 4 * 4 - 2));
        let row = |y: usize| sheet.data[y * sheet.width * 4];
        assert_eq!([row(0), row(4), row(8), row(12)], [0.0, 0.5, 0.0, 0.5]);
    }
}
