//! Arguments that name models, domains and pictures, shared by the commands.

use crate::outputs::Outputs;
use crate::ui::Ui;
use clap::{Args, ValueEnum};
use nada::adapt::{Domain, Settings, Templates, WeightedClip};
use nada::device;
use nada::nn::clip::{tidy, Activation, Clip, Reader};
use nada::nn::encoders::Encoder;
use nada::nn::generator::Generator;
use nada::pack::{pack_folder, ModelPack, NewClip, PackClip, STARTER};
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
    pub fn pack(&self, files: bool, ui: &mut Ui) -> Result<Option<ModelPack>> {
        let pack = match (&self.model, files) {
            (None, true) => return Ok(None),
            (None, false) => ModelPack::find(STARTER)?,
            (Some(name), _) => find_pack(name)?,
        };
        let pack = pack.on(&device::preferred()?.device);
        pack.warnings.iter().for_each(|warning| ui.warn(warning.clone()));
        Ok(Some(pack))
    }
}

#[derive(Args)]
pub struct ModelArgs {
    #[command(flatten)]
    pub pack: PackArgs,
    /// Generator file instead of the pack's (StyleGAN2 of rosinality's, NVIDIA's or BasicSR's code: .pt, .pkl or .safetensors)
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub generator: Option<PathBuf>,
    /// Class to draw, from 0, where the generator has classes [default: the pack's]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub class: Option<usize>,
}

#[derive(Args)]
pub struct ClipArgs {
    /// CLIP file or folder instead of the pack's, with the weight of its losses; repeatable. A file of open_clip without its configuration
    /// needs its activation said: FILE:gelu or FILE:quick_gelu
    #[arg(long = "clip", value_name = "FILE[:WEIGHT][:ACTIVATION]", help_heading = "Model")]
    pub clips: Vec<OsString>,
}

#[derive(Args)]
pub struct EncoderArgs {
    /// Encoder file instead of the pack's: pSp's, e4e's or ReStyle's (.pt of their trainers, or .safetensors)
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub encoder: Option<PathBuf>,
}

impl EncoderArgs {
    /// What was given, else the pack's with its own generator.
    pub fn path<'a>(&'a self, model: &ModelArgs, pack: Option<&'a ModelPack>) -> Option<&'a Path> {
        let of_pack = pack.filter(|_| model.generator.is_none()).and_then(|pack| pack.encoder.as_deref());
        self.encoder.as_deref().or(of_pack)
    }

    /// For a method that takes one.
    pub fn load(
        &self,
        model: &ModelArgs,
        pack: Option<&ModelPack>,
        settings: &invert::Settings,
        cancel: &Cancel,
    ) -> Result<Option<Encoder>> {
        let path = self.path(model, pack).filter(|_| settings.method != invert::Method::Optimise);
        path.map(|path| Encoder::open_on(path, &device::preferred()?.device, cancel)).transpose()
    }
}

#[derive(Args)]
pub struct TemplateArgs {
    /// Prompt template with one {} for the words, instead of the pack's or the published ones; repeatable. "{}" is the words as they are
    #[arg(long = "template", value_name = "TEMPLATE", help_heading = "Model")]
    pub template: Vec<String>,
}

impl TemplateArgs {
    /// Those that were given, else the pack's with its own CLIPs, else the published ones.
    pub fn of(&self, clip: &ClipArgs, pack: Option<&ModelPack>) -> Result<Templates> {
        if self.template.is_empty() {
            return Ok(pack.filter(|_| clip.clips.is_empty()).map(ModelPack::templates).unwrap_or_default());
        }
        match self.template.iter().find(|t| t.matches("{}").count() != 1) {
            Some(t) => Err(Error::argument("--template", format!("\"{t}\" must have exactly one {{}}, which stands for the words"))),
            None => Ok(Templates(self.template.clone())),
        }
    }
}

impl ModelArgs {
    /// The pack, unless a generator is given without one.
    pub fn pack(&self, ui: &mut Ui) -> Result<Option<ModelPack>> {
        self.pack.pack(self.generator.is_some(), ui)
    }

    pub fn generator(&self, pack: Option<&ModelPack>, cancel: &Cancel) -> Result<Arc<Generator>> {
        let generator = match (&self.generator, pack) {
            (Some(file), _) => Generator::open_on(file, &device::preferred()?.device, cancel)?,
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
    pub fn load(&self, pack: Option<&ModelPack>, ui: &mut Ui) -> Result<Vec<WeightedClip>> {
        let files = self.chosen(pack)?;
        let cancel = &ui.cancel;
        let device = device::preferred()?.device;
        let open = |c: &NewClip| Clip::open_on(&c.path, c.activation, &device, cancel);
        let load = |c: &NewClip| Ok(WeightedClip { clip: Arc::new(open(c)?), weight: c.weight });
        let clips = match pack.filter(|_| files.is_empty()) {
            Some(pack) => pack.load_clips_unless(cancel),
            None => files.iter().map(load).collect::<Result<Vec<_>>>(),
        }?;
        clips.iter().flat_map(|c| c.clip.warnings()).for_each(|warning| ui.warn(warning.clone()));
        Ok(clips)
    }

    /// Paths, weights and activations as given.
    pub fn files(&self) -> Result<Vec<NewClip>> {
        let parse = |text: &OsString| {
            let (text, activation) = with_activation(text);
            let (path, weight) = with_number(text);
            let weight = weight.unwrap_or(1.0);
            if !(weight.is_finite() && weight > 0.0) {
                return Err(Error::argument("--clip", format!("weight {weight} of {}; want a number above 0", path.display())));
            }
            Ok(NewClip { path, weight, activation })
        };
        self.clips.iter().map(parse).collect()
    }

    /// What was given, else the pack's; none where the pack names none.
    fn chosen(&self, pack: Option<&ModelPack>) -> Result<Vec<NewClip>> {
        let of_pack = |c: &PackClip| NewClip { path: c.path.clone(), weight: c.weight, activation: c.activation };
        match pack {
            Some(pack) if self.clips.is_empty() => Ok(pack.clips.iter().map(of_pack).collect()),
            None if self.clips.is_empty() => Err(Error::argument("--clip", "none given; without a pack (--model) at least one is needed")),
            _ => self.files(),
        }
    }

    /// Before anything large is read: warns of words that the CLIPs do not know, and of characters in them that nobody sees. An
    /// `InvalidArgument` where they are too long inside `templates`. Each of `texts` is what the words are called, and the words.
    pub fn check_words(&self, pack: Option<&ModelPack>, texts: &[(&str, &str)], templates: &Templates, ui: &mut Ui) -> Result<()> {
        if texts.is_empty() {
            return Ok(());
        }
        let clips = self.chosen(pack)?;
        let readers = clips.iter().map(|c| Reader::open(&c.path, c.activation, &ui.cancel)).collect::<Result<Vec<_>>>()?;
        for (name, text) in texts {
            self.warn_of_unknown(pack, text, ui);
            nada::nn::clip::warnings(text, &readers).into_iter().for_each(|warning| ui.warn(warning));
            readers.iter().try_for_each(|reader| reader.check(name, &tidy(text), &templates.0))?;
        }
        Ok(())
    }

    fn warn_of_unknown(&self, pack: Option<&ModelPack>, text: &str, ui: &mut Ui) {
        let Some(pack) = pack.filter(|_| self.clips.is_empty()) else { return };
        let unknown = pack.unknown_words(&tidy(text));
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
    /// Domain made by `nada adapt` or `nada domain`, with a strength in [0, 1.5] (default 1); several add up
    #[arg(long = "domain", value_name = "FILE[:STRENGTH]")]
    pub domains: Vec<OsString>,
    /// Take domains that were made from another generator too, where the tensors that they change are there in the same shapes: the same
    /// generator rounded to f16, or one fine-tuned from it
    #[arg(long, requires = "domains")]
    pub any_generator: bool,
}

impl DomainArgs {
    pub fn load(&self, cancel: &Cancel) -> Result<Vec<(Domain, f32)>> {
        let load = |text: &OsString| {
            let (path, strength) = with_number(text);
            Ok((Domain::open_unless(&path, cancel)?, strength.unwrap_or(1.0)))
        };
        self.domains.iter().map(load).collect()
    }

    /// `domains` as they are, or made fit for `generator` where --any-generator is given.
    pub fn of(&self, generator: &Generator, domains: Vec<(Domain, f32)>) -> Result<Vec<(Domain, f32)>> {
        if self.any_generator {
            return domains.into_iter().map(|(domain, strength)| Ok((domain.for_generator(generator)?, strength))).collect();
        }
        for (domain, _) in &domains {
            domain.check_fits(generator).map_err(|e| match e {
                Error::Mismatch(message) => Error::Mismatch(format!("{message}. --any-generator takes it where the shapes fit")),
                e => e,
            })?;
        }
        Ok(domains)
    }

    pub fn files(&self) -> Vec<PathBuf> {
        self.domains.iter().map(|text| with_number(text).0).collect()
    }
}

/// The pack that `path` is the folder, the model.toml or the name of; None where it is a file.
pub fn named_pack(path: &Path) -> Option<Result<ModelPack>> {
    path.to_str().filter(|_| !path.is_file() || pack_folder(path).is_some()).map(ModelPack::find)
}

/// A generator file, or the generator of a pack's folder or name; with all its classes.
pub fn generator_or_pack(path: &Path, cancel: &Cancel) -> Result<Generator> {
    match named_pack(path) {
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

/// What stands behind the last colon, unless a file is called so as a whole.
fn behind_colon(text: &OsStr) -> Option<(&OsStr, &str)> {
    let bytes = text.as_encoded_bytes();
    let at = bytes.iter().rposition(|b| *b == b':').filter(|_| !Path::new(text).exists())?;
    // SAFETY: what stands before an ASCII character is whole.
    Some((unsafe { OsStr::from_encoded_bytes_unchecked(&bytes[..at]) }, std::str::from_utf8(&bytes[at + 1..]).ok()?))
}

/// `TEXT[:ACTIVATION]`; a file that is called so as a whole wins.
fn with_activation(text: &OsStr) -> (&OsStr, Option<Activation>) {
    let known = [Activation::QuickGelu, Activation::Gelu, Activation::GeluTanh];
    let found = behind_colon(text).and_then(|(rest, name)| Some((rest, known.into_iter().find(|a| a.to_string() == name)?)));
    match found {
        Some((rest, activation)) => (rest, Some(activation)),
        None => (text, None),
    }
}

/// `FILE[:NUMBER]`; a file that is called so as a whole wins.
pub fn with_number(text: impl AsRef<OsStr>) -> (PathBuf, Option<f32>) {
    let text = text.as_ref();
    match behind_colon(text).and_then(|(path, number)| Some((path, number.parse().ok()?))) {
        Some((path, number)) => (PathBuf::from(path), Some(number)),
        None => (PathBuf::from(text), None),
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

/// Everything that a call's networks and domains may be read from.
#[derive(Default)]
pub struct Reads<'a> {
    pub pack: Option<&'a ModelPack>,
    pub generator: Option<&'a Path>,
    pub clips: Option<&'a ClipArgs>,
    pub domains: Option<&'a DomainArgs>,
}

impl Reads<'_> {
    /// Results may not go there.
    pub fn tell(self, outputs: &mut Outputs) -> Result<()> {
        outputs.reads_all(self.pack.map(|pack| &pack.folder));
        outputs.reads_all(self.generator);
        outputs.reads_all(self.clips.map(ClipArgs::files).transpose()?.unwrap_or_default().into_iter().map(|clip| clip.path));
        outputs.reads_all(self.domains.map(DomainArgs::files).unwrap_or_default());
        Ok(())
    }
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
    fn activations_after_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("odd:gelu");
        std::fs::write(&odd, b"").unwrap();
        let odd = odd.to_str().unwrap();
        for (text, path, weight, activation) in [
            ("a.pt", "a.pt", 1.0, None),
            ("a.pt:gelu", "a.pt", 1.0, Some(Activation::Gelu)),
            ("a.pt:0.5:quick_gelu", "a.pt", 0.5, Some(Activation::QuickGelu)),
            ("a.pt:0.5", "a.pt", 0.5, None),
            ("a.pt:relu", "a.pt:relu", 1.0, None),
            (odd, odd, 1.0, None),
            (&format!("{odd}:gelu"), odd, 1.0, Some(Activation::Gelu)),
        ] {
            let have = ClipArgs { clips: vec![text.into()] }.files().unwrap();
            assert_eq!(have, [NewClip { path: path.into(), weight, activation }], "{text}");
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
