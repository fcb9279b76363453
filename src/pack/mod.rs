//! Model packs: folders with a `model.toml` that names a generator, the CLIPs to adapt it with, the words they know and a default recipe.
//!
//! ```toml
//! format = 2                         # of this file; left out for 1
//! name = "starter"
//! description = "..."
//! resolution = 128                   # pixels, as the generator draws; may be left out
//! generator = "generator.safetensors"
//! class = 3                          # the class to draw, for a generator that has classes
//! align = "ffhq"                     # how its pictures of faces are framed; left out for "none"
//! words = "words.json"               # what the CLIPs know; leave it out for CLIPs of natural language
//! held_out = "heldout.safetensors"   # latents and pictures to measure with
//! encoder = "e4e.safetensors"        # from a picture to a latent of the generator: a trainer's file, or its tensors and settings
//! licence = "CC-BY-4.0"
//! attribution = "ATTRIBUTION.md"
//!
//! [[clip]]
//! path = "clip-a"
//! weight = 0.5
//! activation = "quick_gelu"          # quick_gelu, gelu or gelu_tanh, where no configuration beside the file says it
//!
//! [recipe]                           # any of adapt::Settings
//! learning_rate = 0.001
//!
//! [invert]                           # any of invert::Settings
//! steps = 300
//! ```
//! Every path is relative to the folder and stays inside it. A key that is not known here is left out with a warning: a later version may
//! know it. What no reader may overlook stands under `[requires]`: the name of a feature, and the version of the library that has it.

mod check;
mod make;

pub use check::Finding;
pub use make::{remove, NewClip, NewPack};

use crate::adapt::{self, WeightedClip};
use crate::cancel::Cancel;
use crate::device::{Device, HOST};
use crate::error::{Error, Result};
use crate::face::Framing;
use crate::files::read_text;
use crate::formats::{missing_feature, THIS_VERSION};
use crate::invert;
use crate::kernels::Activation;
use crate::nn::clip::Clip;
use crate::nn::encoders::Encoder;
use crate::nn::generator::Generator;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The file that makes a folder a pack.
pub const MANIFEST: &str = "model.toml";

/// The pack that ships with the library.
pub const STARTER: &str = "starter";

/// The variable that adds folders to the search, separated as in `PATH`: packs, or folders of packs.
pub const MODELS_VARIABLE: &str = "NADA_MODELS";

/// The format of a `model.toml` that is written; lower ones are read too. Format 1 had no number, and fingerprints by the first rule.
const NEWEST: u32 = 2;

/// More than this is no manifest, and no list of words.
const MAX_MANIFEST: u64 = 256 << 10;
const MAX_WORDS: u64 = 4 << 20;

/// A CLIP of a pack.
#[derive(Clone, Debug, PartialEq)]
pub struct PackClip {
    pub path: PathBuf,
    /// Share of its losses, above 0.
    pub weight: f32,
    /// Where no configuration beside its file says it.
    pub activation: Option<Activation>,
}

impl PackClip {
    /// Errors: as [`Clip::open_as`].
    pub fn open(&self, device: &Device, cancel: &Cancel) -> Result<Clip> {
        Clip::open_on(&self.path, self.activation, device, cancel)
    }
}

/// A folder with [`MANIFEST`]; every path in it exists and lies inside the folder.
#[derive(Clone, Debug)]
pub struct ModelPack {
    pub name: String,
    pub description: String,
    /// Canonical.
    pub folder: PathBuf,
    pub generator: PathBuf,
    /// The class of a conditional generator.
    pub class: Option<usize>,
    /// How its pictures of faces are framed.
    pub align: Framing,
    /// Side length of the generator's pictures in pixels, where `model.toml` says it; the generator's file knows it in any case.
    pub resolution: Option<usize>,
    pub clips: Vec<PackClip>,
    /// What the CLIPs know; None where they know natural language.
    pub words: Option<Words>,
    /// Prompt templates with one `{}` each; None for the published ones.
    pub templates: Option<Vec<String>>,
    /// Latents and pictures to measure with (see [`crate::eval`]).
    pub held_out: Option<PathBuf>,
    /// From a picture to a latent of the generator (see [`crate::nn::encoders`]).
    pub encoder: Option<PathBuf>,
    pub boundaries: Vec<PathBuf>,
    /// An SPDX expression.
    pub licence: Option<String>,
    /// What to know about the licence, in words.
    pub licence_note: Option<String>,
    /// The file that must travel with the weights.
    pub attribution: Option<PathBuf>,
    /// What [`Generator::fingerprint`] gave when the pack was made.
    pub fingerprint: Option<String>,
    /// The files that the pack was made from.
    pub sources: Vec<PackSource>,
    /// What to tell the user: keys that this version does not know.
    pub warnings: Vec<String>,
    /// What its networks are loaded for.
    device: Device,
    /// Of the `model.toml`.
    format: u32,
    recipe: toml::Table,
    invert: toml::Table,
}

/// A file that a pack was made from.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PackSource {
    /// Its name, without the folder.
    pub file: String,
    /// Hexadecimal.
    pub sha256: String,
    pub bytes: u64,
    /// The path in the pack of what was made of it.
    pub path: String,
}

/// The words that a pack's CLIPs were trained on (`words.json`).
#[derive(Clone, Debug, Deserialize)]
pub struct Words {
    /// Words for the pictures that the generator draws unadapted.
    pub source: Vec<String>,
    /// Phrases by the name of what they do to a picture.
    pub filters: BTreeMap<String, Vec<String>>,
    /// Phrases by drawing style.
    #[serde(default)]
    pub styles: BTreeMap<String, Vec<String>>,
    /// What else is said of a picture: hair, clothes, moods.
    #[serde(default)]
    pub attributes: Vec<String>,
    pub templates: Vec<String>,
}

/// What is read first, as the rest may be of another shape in a format that is not known.
#[derive(Deserialize)]
struct Head {
    format: Option<u32>,
    #[serde(default)]
    requires: BTreeMap<String, String>,
}

#[derive(Deserialize, Serialize)]
struct Manifest {
    format: Option<u32>,
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    resolution: Option<usize>,
    generator: String,
    class: Option<usize>,
    align: Option<toml::Value>,
    fingerprint: Option<String>,
    words: Option<String>,
    templates: Option<Vec<String>>,
    held_out: Option<String>,
    encoder: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    boundaries: Vec<String>,
    licence: Option<String>,
    licence_note: Option<String>,
    attribution: Option<String>,
    #[serde(default)]
    clip: Vec<ManifestClip>,
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    recipe: toml::Table,
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    invert: toml::Table,
    #[serde(default)]
    source: Vec<PackSource>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    requires: BTreeMap<String, String>,
}

#[derive(Deserialize, Serialize)]
struct ManifestClip {
    path: String,
    #[serde(default = "one")]
    weight: f32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activation: Option<Activation>,
}

/// What `align` says.
fn framing(value: &toml::Value) -> std::result::Result<Framing, String> {
    let wanted = "want \"ffhq\", \"none\", or five points [x, y] in shares of the square's side: eyes, nose, corners of the mouth";
    let number = |v: &toml::Value| v.as_float().or_else(|| v.as_integer().map(|i| i as f64));
    let point = |v: &toml::Value| v.as_array()?.iter().map(number).collect::<Option<Vec<f64>>>()?.try_into().ok();
    match value {
        toml::Value::String(word) if word == "ffhq" => Ok(Framing::Ffhq),
        toml::Value::String(word) if word == "none" => Ok(Framing::None),
        toml::Value::Array(points) => {
            let points = points.iter().map(point).collect::<Option<Vec<[f64; 2]>>>().and_then(|points| points.try_into().ok());
            Framing::template(points.ok_or_else(|| format!("{value} is no such list; {wanted}"))?)
        }
        other => Err(format!("{other}; {wanted}")),
    }
}

/// The same as `align` has it; None for what is left out.
fn of_framing(framing: &Framing) -> Option<toml::Value> {
    match framing {
        Framing::None => None,
        Framing::Ffhq => Some("ffhq".into()),
        Framing::Template(points) => Some(points.map(|p| p.to_vec()).to_vec().into()),
    }
}

fn one() -> f32 {
    1.0
}

impl ModelPack {
    /// A pack by name in the search folders, or by the path of its folder or of its `model.toml`. A path has a separator (`./mine`).
    ///
    /// Searched in this order: the folders of `NADA_MODELS`; beside the program and beside the shared library that holds this code,
    /// `models` and `share/nada/models` of their prefix; `nada/models` of the user's data folder; the tree this was built from.
    ///
    /// Errors: `NotFound` lists where it looked; `Format` as [`ModelPack::open`].
    pub fn find(name_or_path: &str) -> Result<Self> {
        Self::find_in(name_or_path, &search_folders())
    }

    /// As [`ModelPack::find`], in `folders` alone: packs, or folders of packs.
    pub fn find_in(name_or_path: &str, folders: &[PathBuf]) -> Result<Self> {
        let path = Path::new(name_or_path);
        // A name without a separator is a name: what the current folder holds, such as that of downloads, is not what was meant.
        let is_name =
            matches!(path.components().collect::<Vec<_>>()[..], [Component::Normal(_)]) && path.file_name() == Some(path.as_os_str());
        if let Some(folder) = pack_folder(path).filter(|_| !is_name || path.is_file()) {
            return Self::open(folder);
        }
        if is_name {
            for folder in folders.iter().map(|folder| pack_folder(folder).unwrap_or(folder)) {
                let inside = folder.join(name_or_path);
                if inside.join(MANIFEST).is_file() {
                    return Self::open(&inside);
                }
                let itself = folder.file_name().is_some_and(|f| f == name_or_path) && folder.join(MANIFEST).is_file();
                if itself {
                    return Self::open(folder);
                }
            }
            // A pack may be called otherwise than its folder.
            if let Some(pack) = packs_in(folders).into_iter().flatten().find(|pack| pack.name == name_or_path) {
                return Ok(pack);
            }
        }
        let mut message = match is_name && pack_folder(path).is_some() {
            true => format!("the folder {0} in the current one is named by ./{0}", path.display()),
            false => format!("no folder with a {MANIFEST} at {}{}", path.display(), unexpanded(path).unwrap_or_default()),
        };
        if is_name {
            let looked: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
            message += &format!(
                ", and none of that name in {}; name a pack, give its folder, or add a folder of packs to {MODELS_VARIABLE}",
                looked.join(", ")
            );
        }
        Err(Error::NotFound { what: format!("model pack '{name_or_path}'"), message })
    }

    /// Every pack in the search folders, nearest first, each folder once; a broken one as the error that says why.
    pub fn list() -> Vec<Result<Self>> {
        Self::list_in(&search_folders())
    }

    /// As [`ModelPack::list`], in `folders` alone: packs, or folders of packs.
    pub fn list_in(folders: &[PathBuf]) -> Vec<Result<Self>> {
        packs_in(folders)
    }

    /// The pack in `folder`, or of the `model.toml` that it is.
    ///
    /// Errors: `NotFound` where the folder or a file it names is missing; `Format` naming `model.toml` and the key otherwise.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = pack_folder(folder).unwrap_or(folder);
        let file = folder.join(MANIFEST);
        let text = read_text(&file, "a text", MAX_MANIFEST, &Cancel::new())?;
        let folder = folder.canonicalize().map_err(|e| Error::io(folder, e))?;
        self::inside(&folder, MANIFEST).map_err(|message| Error::format(&file, message))?;
        let broken = |e: toml::de::Error| Error::format(&file, e.to_string().trim_end());
        let Head { format, requires } = toml::from_str(&text).map_err(broken)?;
        let unsupported = |message: String| Err(Error::unsupported(file.display().to_string(), message));
        if format.is_some_and(|format| !(1..=NEWEST).contains(&format)) {
            let format = format.unwrap_or_default();
            return unsupported(format!(
                "format is {format}, and {THIS_VERSION} reads up to {NEWEST}: a pack of a later version, which needs it"
            ));
        }
        if let Some(message) = missing_feature(&requires) {
            return unsupported(message);
        }
        let mut warnings = Vec::new();
        let mut warn = |file: &Path, key: String, known: &str| {
            let file = file.display();
            warnings
                .push(format!("{file}: the key '{key}' is not known to {THIS_VERSION} and left out: a slip, or of a later version{known}"));
        };
        let document = toml::Deserializer::parse(&text).map_err(broken)?;
        let manifest: Manifest = serde_ignored::deserialize(document, |path| warn(&file, path.to_string(), "")).map_err(broken)?;
        let bad = |key: &str, message: String| Error::format(&file, format!("{key}: {message}"));
        let inside = |key: &str, path: &str| inside(&folder, path).map_err(|message| bad(key, message));
        let optional = |key: &str, path: Option<String>| path.map(|p| inside(key, &p)).transpose();

        if manifest.name.trim().is_empty() {
            return Err(bad("name", "is empty; want a short name".into()));
        }
        let mut clips = Vec::new();
        for (i, clip) in manifest.clip.iter().enumerate() {
            if !(clip.weight.is_finite() && clip.weight > 0.0) {
                return Err(bad(&format!("clip {} weight", i + 1), format!("{}; want a number above 0", clip.weight)));
            }
            let key = format!("clip {} path", i + 1);
            let path = inside(&key, &clip.path)?;
            links_stay_inside(&folder, &path).map_err(|message| bad(&key, message))?;
            clips.push(PackClip { path, weight: clip.weight, activation: clip.activation });
        }
        let words = match optional("words", manifest.words)? {
            Some(path) => Some(Words::open(&path, &mut |key| warn(&path, key, ""))?),
            None => None,
        };
        let templates = manifest.templates.or_else(|| words.as_ref().map(|w| w.templates.clone()));
        if let Some(t) = templates.iter().flatten().find(|t| t.matches("{}").count() != 1) {
            return Err(bad("templates", format!("'{t}' must have exactly one {{}}")));
        }
        if templates.as_ref().is_some_and(Vec::is_empty) {
            return Err(bad("templates", "is empty; leave it out for the published ones".into()));
        }
        let pack = Self {
            generator: inside("generator", &manifest.generator)?,
            class: manifest.class,
            align: manifest.align.as_ref().map_or(Ok(Framing::None), framing).map_err(|message| bad("align", message))?,
            held_out: optional("held_out", manifest.held_out)?,
            encoder: optional("encoder", manifest.encoder)?,
            boundaries: manifest.boundaries.iter().map(|p| inside("boundaries", p)).collect::<Result<_>>()?,
            attribution: optional("attribution", manifest.attribution)?,
            name: manifest.name,
            description: manifest.description,
            resolution: manifest.resolution,
            clips,
            words,
            templates,
            licence: manifest.licence,
            licence_note: manifest.licence_note,
            fingerprint: manifest.fingerprint,
            sources: manifest.source,
            warnings: Vec::new(),
            format: format.unwrap_or(1),
            recipe: manifest.recipe,
            invert: manifest.invert,
            folder,
            device: HOST.clone(),
        };
        let known = |keys: &[String]| if keys.is_empty() { String::new() } else { format!("; known are {}", keys.join(", ")) };
        for (section, unknown) in [("recipe", pack.checked_settings()?.1), ("invert", pack.checked_invert_settings()?.1)] {
            unknown.iter().for_each(|key| warn(&file, format!("{section}.{}", key.name), &known(&key.known)));
        }
        Ok(Self { warnings, ..pack })
    }

    /// The same pack with its networks on `device`; without it they lie on the host.
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// The pack's recipe over the library's defaults.
    ///
    /// Errors: `Format` naming `model.toml` and the key that has no such value.
    pub fn settings(&self) -> Result<adapt::Settings> {
        Ok(self.checked_settings()?.0)
    }

    /// The pack's settings of inversion over the library's defaults; errors as [`ModelPack::settings`].
    pub fn invert_settings(&self) -> Result<invert::Settings> {
        Ok(self.checked_invert_settings()?.0)
    }

    /// Also the keys that are not known.
    fn checked_settings(&self) -> Result<(adapt::Settings, Vec<UnknownKey>)> {
        let found = self.overlay("recipe", adapt::Settings::default(), &self.recipe)?;
        found.0.check().map_err(|e| Error::format(self.folder.join(MANIFEST), format!("[recipe] {e}")))?;
        Ok(found)
    }

    fn checked_invert_settings(&self) -> Result<(invert::Settings, Vec<UnknownKey>)> {
        let mut table = self.invert.clone();
        // As version 0.1 called them.
        for (old, new) in [("pyramid", "pyramid_weight"), ("clip", "clip_weight")] {
            if let Some(value) = table.remove(old) {
                table.insert(new.into(), value);
            }
        }
        let found = self.overlay("invert", invert::Settings::default(), &table)?;
        found.0.check().map_err(|e| Error::format(self.folder.join(MANIFEST), format!("[invert] {e}")))?;
        Ok(found)
    }

    fn overlay<T: Serialize + DeserializeOwned>(&self, section: &str, base: T, table: &toml::Table) -> Result<(T, Vec<UnknownKey>)> {
        overlay(base, table).map_err(|message| Error::format(self.folder.join(MANIFEST), format!("[{section}] {message}")))
    }

    /// The generator, of the pack's class where it names one.
    ///
    /// Errors: as [`Generator::open`]; `Mismatch` where its size is not the `resolution` that the pack names, or it has no such class.
    pub fn load_generator(&self) -> Result<Generator> {
        self.load_generator_unless(&Cancel::new())
    }

    /// As [`ModelPack::load_generator`]; `Cancelled` once the flag is raised, which is looked at each 128 KiB.
    pub fn load_generator_unless(&self, cancel: &Cancel) -> Result<Generator> {
        let generator = self.load_all_classes_unless(cancel)?;
        let Some(class) = self.class else { return Ok(generator) };
        generator.with_class(class).map_err(|e| Error::Mismatch(format!("{}: {e}", self.folder.join(MANIFEST).display())))
    }

    /// As [`ModelPack::load_generator_unless`], without a class.
    pub fn load_all_classes_unless(&self, cancel: &Cancel) -> Result<Generator> {
        let generator = Generator::open_on(&self.generator, &self.device, cancel)?;
        let size = generator.config().size();
        if let Some(resolution) = self.resolution.filter(|&resolution| resolution != size) {
            return Err(Error::Mismatch(format!(
                "{} draws {size} pixels, but {} says resolution = {resolution}",
                self.generator.display(),
                self.folder.join(MANIFEST).display(),
            )));
        }
        Ok(generator)
    }

    /// Errors: as [`Clip::open`]; `Unsupported` where the pack names none.
    pub fn load_clips(&self) -> Result<Vec<WeightedClip>> {
        self.load_clips_unless(&Cancel::new())
    }

    /// As [`ModelPack::load_clips`]; `Cancelled` once the flag is raised, which is looked at each 128 KiB.
    pub fn load_clips_unless(&self, cancel: &Cancel) -> Result<Vec<WeightedClip>> {
        if self.clips.is_empty() {
            let message = format!("{} names no [[clip]]", self.folder.join(MANIFEST).display());
            return Err(Error::unsupported(format!("adapting with the pack '{}'", self.name), message));
        }
        let load = |c: &PackClip| Ok(WeightedClip { clip: Arc::new(c.open(&self.device, cancel)?), weight: c.weight });
        self.clips.iter().map(load).collect()
    }

    /// The encoder, where the pack names one. Errors: as [`Encoder::open`]; `Cancelled` once the flag is raised.
    pub fn load_encoder_unless(&self, cancel: &Cancel) -> Result<Option<Encoder>> {
        self.encoder.as_deref().map(|path| Encoder::open_on(path, &self.device, cancel)).transpose()
    }

    /// The prompt templates: the pack's, else the published ones.
    pub fn templates(&self) -> adapt::Templates {
        self.templates.clone().map(adapt::Templates).unwrap_or_default()
    }

    /// The words of `text` that the pack's CLIPs never saw, in order, each once; none where the pack lists no words.
    pub fn unknown_words(&self, text: &str) -> Vec<String> {
        self.words.as_ref().map(|words| words.unknown(text)).unwrap_or_default()
    }

    /// The phrases that the pack's CLIPs know best; empty where the pack lists none.
    pub fn known_phrases(&self) -> Vec<&str> {
        self.words.as_ref().map(|words| words.phrases().collect()).unwrap_or_default()
    }

    /// [`ModelPack::known_phrases`] without those for the generator's unadapted pictures.
    pub fn target_phrases(&self) -> Vec<&str> {
        self.words.as_ref().map(|words| words.targets().collect()).unwrap_or_default()
    }
}

impl Words {
    /// `unknown` is told the keys that this version does not know.
    fn open(path: &Path, unknown: &mut dyn FnMut(String)) -> Result<Self> {
        let text = read_text(path, "a text", MAX_WORDS, &Cancel::new())?;
        let mut document = serde_json::Deserializer::from_str(&text);
        let words = serde_ignored::deserialize(&mut document, |key| unknown(key.to_string()));
        words.and_then(|words| document.end().map(|()| words)).map_err(|e| Error::format(path, e.to_string()))
    }

    /// Whole phrases: source words, filters, styles.
    pub fn phrases(&self) -> impl Iterator<Item = &str> {
        self.source.iter().map(String::as_str).chain(self.targets())
    }

    /// Whole phrases for what pictures can become: filters, styles; a style that the unadapted pictures have is none.
    fn targets(&self) -> impl Iterator<Item = &str> {
        let all = self.filters.values().flatten().chain(self.styles.values().flatten());
        all.filter(|phrase| !self.source.contains(phrase)).map(String::as_str)
    }

    fn unknown(&self, text: &str) -> Vec<String> {
        let all = self.phrases().chain(self.attributes.iter().chain(&self.templates).map(String::as_str));
        let mut known: BTreeSet<String> = all.flat_map(split).collect();
        known.extend(["a", "an", "the"].map(String::from));
        let mut unknown = Vec::new();
        for word in split(text) {
            if !known.contains(&word) && !unknown.contains(&word) {
                unknown.push(word);
            }
        }
        unknown
    }
}

/// The words of a text, lower-cased, without punctuation.
fn split(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

/// A CLIP's files are found by their names, so each link beside them counts as a path of the manifest.
fn links_stay_inside(folder: &Path, clip: &Path) -> std::result::Result<(), String> {
    let beside = if clip.is_dir() { Some(clip) } else { clip.parent() };
    for entry in beside.into_iter().flat_map(std::fs::read_dir).flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| !t.is_file()) {
            // What leads nowhere cannot be read either.
            if path.canonicalize().is_ok_and(|full| !full.starts_with(folder) || !(full.is_file() || full.is_dir())) {
                return Err(format!("{} leads out of the pack, or is no ordinary file; copy the file into it", path.display()));
            }
        }
    }
    Ok(())
}

/// `path` inside `folder` (canonical), or what is wrong with it.
fn inside(folder: &Path, path: &str) -> std::result::Result<PathBuf, String> {
    let plain = Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if path.is_empty() || !plain {
        return Err(format!("'{path}' must be a path inside the pack, without '..' and not absolute"));
    }
    let full = folder.join(path).canonicalize().map_err(|e| format!("'{path}': {e}"))?;
    // A link may lead out where the words of the path do not.
    if !full.starts_with(folder) {
        return Err(format!("'{path}' leads out of the pack to {}; copy the file into it", full.display()));
    }
    if !(full.is_file() || full.is_dir()) {
        return Err(format!("'{path}' is neither an ordinary file nor a folder"));
    }
    Ok(full)
}

/// A key of a table that is none of the settings.
#[derive(Debug, PartialEq)]
pub(crate) struct UnknownKey {
    /// Dotted.
    name: String,
    /// The keys that may stand there; empty where that depends on the value.
    known: Vec<String>,
}

/// `base` with the keys of `table` replaced, tables merged, and the keys that are not known. The error names the key whose value does not
/// fit, and what would be right.
pub(crate) fn overlay<T: Serialize + DeserializeOwned>(base: T, table: &toml::Table) -> std::result::Result<(T, Vec<UnknownKey>), String> {
    let mut whole = serde_json::to_value(base).map_err(|e| e.to_string())?;
    let (mut path, mut unknown) = (Vec::new(), Vec::new());
    merge::<T>(&mut whole, &mut path, table, &mut unknown)?;
    let inside = |name: String, unknown: &mut Vec<UnknownKey>| unknown.push(UnknownKey { name, known: vec![] });
    // Tables where the base has none.
    let made = serde_ignored::deserialize(whole, |path| inside(path.to_string().replace(".?", ""), &mut unknown));
    Ok((made.map_err(|e| e.to_string())?, unknown))
}

/// Puts `table` at `path` of `whole`, key by key, so that the key whose value does not fit `T` is known.
fn merge<T: DeserializeOwned>(
    whole: &mut Value,
    path: &mut Vec<String>,
    table: &toml::Table,
    unknown: &mut Vec<UnknownKey>,
) -> std::result::Result<(), String> {
    for (key, value) in table {
        path.push(key.clone());
        let name = path.join(".");
        let parent = path[..path.len() - 1].iter().try_fold(&mut *whole, |v, k| v.get_mut(k));
        let Some(Value::Object(parent)) = parent else {
            return Err(format!("{name}: not a table"));
        };
        match (value, parent.get(key)) {
            (_, None) => unknown.push(UnknownKey { name, known: parent.keys().cloned().collect() }),
            (toml::Value::Table(table), Some(Value::Object(_))) => merge::<T>(whole, path, table, unknown)?,
            _ => {
                let value = serde_json::to_value(value).map_err(|e| format!("{name}: {e}"))?;
                parent.insert(key.clone(), value);
                T::deserialize(&*whole).map_err(|e| format!("{name}: {e}"))?;
            }
        }
        path.pop();
    }
    Ok(())
}

fn packs_in(folders: &[PathBuf]) -> Vec<Result<ModelPack>> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for folder in folders.iter().map(|folder| pack_folder(folder).unwrap_or(folder)) {
        let mut candidates = vec![folder.to_path_buf()];
        if let Ok(entries) = std::fs::read_dir(folder) {
            // Hidden folders are packs that are being made.
            let shown = entries.flatten().filter(|e| !e.file_name().as_encoded_bytes().starts_with(b"."));
            let mut children: Vec<PathBuf> = shown.map(|e| e.path()).collect();
            children.sort();
            candidates.extend(children);
        }
        for candidate in candidates.iter().filter(|c| c.join(MANIFEST).is_file()) {
            if candidate.canonicalize().is_ok_and(|c| seen.insert(c)) {
                found.push(ModelPack::open(candidate));
            }
        }
    }
    found
}

/// The folder of a pack that `path` names: itself, or where the `model.toml` lies that it is.
pub fn pack_folder(path: &Path) -> Option<&Path> {
    if path.join(MANIFEST).is_file() {
        return Some(path);
    }
    let folder = path.parent().filter(|_| path.file_name().is_some_and(|name| name == MANIFEST) && path.is_file())?;
    Some(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// The entries of `NADA_MODELS`. Empty ones are none, as `$NADA_MODELS:/more` makes them.
fn named_folders() -> Vec<PathBuf> {
    let list = std::env::var_os(MODELS_VARIABLE).unwrap_or_default();
    std::env::split_paths(&list).filter(|p| !p.as_os_str().is_empty()).collect()
}

/// A sentence for each entry of `NADA_MODELS` that leads to no packs: a typing error, a disk that is not mounted. The search goes on without
/// it, so whoever looks for packs should show these.
pub fn search_warnings() -> Vec<String> {
    let wrong = |entry: &PathBuf| leads_nowhere(entry).map(|what| format!("{MODELS_VARIABLE} names {}, which {what}", entry.display()));
    named_folders().iter().filter_map(wrong).collect()
}

/// What a path is that should be a pack, or a folder of packs, behind "PATH, which "; None where it may be one.
pub fn leads_nowhere(path: &Path) -> Option<String> {
    const WANTED: &str = "want a folder with a model.toml, or a folder of such folders";
    if pack_folder(path).is_some() {
        return None;
    }
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none().then(|| "is an empty folder: is its disk mounted?".to_string()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some(format!("does not exist{}", unexpanded(path).unwrap_or_default())),
        Err(_) if path.is_file() => Some(format!("is a file; {WANTED}")),
        Err(e) => Some(format!("cannot be read: {e}")),
    }
}

/// How to write a path that begins with a `~`, which only the shell knows, and only outside quotes.
pub(crate) fn unexpanded(path: &Path) -> Option<String> {
    let rest = path.strip_prefix("~").ok()?;
    let home = Path::new("$HOME").join(rest);
    Some(format!(": a '~' in quotes stays as it is; write \"{}\"", home.display().to_string().trim_end_matches('/')))
}

/// Where packs are looked for, first to last; not all exist.
pub fn search_folders() -> Vec<PathBuf> {
    let mut folders = named_folders();
    for file in [std::env::current_exe().ok(), this_library()].into_iter().flatten() {
        let file = file.canonicalize().unwrap_or(file);
        folders.extend(beside(&file));
    }
    folders.extend(user_folder());
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    if cfg!(debug_assertions) || tree.is_dir() {
        folders.push(tree);
    }
    let mut seen = BTreeSet::new();
    folders.retain(|f| seen.insert(f.clone()));
    folders
}

/// Where the user's own models and domains are: `$XDG_DATA_HOME/nada`, by default `~/.local/share/nada`; None for a user without a home.
pub(crate) fn data_folder() -> Option<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    data.or_else(|| Some(std::env::home_dir()?.join(".local/share"))).map(|data| data.join("nada"))
}

/// The user's own models: `models` of `data_folder`.
pub fn user_folder() -> Option<PathBuf> {
    data_folder().map(|data| data.join("models"))
}

/// The folders of packs that belong to a program or library file: `models` beside it, and `share/nada/models` of its prefix, from
/// `prefix/bin`, `prefix/lib` or `prefix/lib/<triplet>`.
fn beside(file: &Path) -> Vec<PathBuf> {
    let up = |n: usize| file.ancestors().nth(n);
    let shared = [2, 3].into_iter().filter_map(up).map(|prefix| prefix.join("share/nada/models"));
    shared.chain(up(1).map(|folder| folder.join("models"))).collect()
}

/// The file that this code was loaded from: the shared library, or the program it is linked into.
fn this_library() -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: any address may be asked for, and `info` is valid to write.
    let known = unsafe { libc::dladdr(this_library as *const libc::c_void, &mut info) } != 0;
    if !known || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr gave a C string that lives as long as the object that holds this code.
    let name = unsafe { std::ffi::CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let find = |file: &str| beside(Path::new(file));
        assert!(find("/opt/nada/bin/nada").contains(&PathBuf::from("/opt/nada/share/nada/models")));
        assert!(find("/usr/lib/libnada.so").contains(&PathBuf::from("/usr/share/nada/models")));
        assert!(find("/usr/lib/x86_64-linux-gnu/libnada.so").contains(&PathBuf::from("/usr/share/nada/models")));
        assert!(find("/home/me/nada").contains(&PathBuf::from("/home/me/models")));
        assert!(find("nada").len() <= 3);
    }

    #[test]
    fn this_code_is_in_the_test_program() {
        let have = this_library().and_then(|p| p.canonicalize().ok());
        assert_eq!(have, std::env::current_exe().and_then(|p| p.canonicalize()).ok());
    }

    #[test]
    fn names_and_paths() {
        let root = tempfile::tempdir().unwrap();
        let models = root.path().join("models");
        let make = |folder: &str, name: &str| {
            let folder = models.join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("g.safetensors"), b"").unwrap();
            let text = format!("name = '{name}'\nresolution = 64\ngenerator = 'g.safetensors'\n");
            std::fs::write(folder.join(MANIFEST), text).unwrap();
            folder
        };
        let (a, b) = (make("a", "first"), make("b", "second"));
        let folders = [root.path().join("missing"), models.clone()];
        assert_eq!(ModelPack::find_in("a", &folders).unwrap().folder, a.canonicalize().unwrap());
        assert_eq!(ModelPack::find_in("second", &folders).unwrap().folder, b.canonicalize().unwrap());
        // A folder of the list may be a pack itself.
        assert_eq!(ModelPack::find_in("b", std::slice::from_ref(&b)).unwrap().name, "second");
        assert_eq!(ModelPack::find_in(b.to_str().unwrap(), &[]).unwrap().name, "second");
        assert_eq!(packs_in(&[models.clone(), b.clone()]).len(), 2);
        let e = ModelPack::find_in("third", &folders).unwrap_err();
        assert!(matches!(e, Error::NotFound { .. }), "{e}");
        for word in ["third", "missing", models.to_str().unwrap(), MODELS_VARIABLE] {
            assert!(e.to_string().contains(word), "{e} lacks {word}");
        }
        let e = ModelPack::find_in("~/models/a", &folders).unwrap_err();
        assert!(e.to_string().contains("\"$HOME/models/a\""), "{e}");
        // Not a name: the search folders are not joined with it.
        assert!(ModelPack::find_in("../models/a", &folders).is_err());
        assert!(ModelPack::find_in("", &folders).is_err());
    }

    #[test]
    fn what_only_the_shell_knows() {
        let told = unexpanded(Path::new("~/my/models")).unwrap();
        assert!(told.contains("'~' in quotes") && told.ends_with("write \"$HOME/my/models\""), "{told}");
        assert!(unexpanded(Path::new("~")).unwrap().ends_with("\"$HOME\""));
        for plain in ["/home/me", "models/~", "~me/models"] {
            assert_eq!(unexpanded(Path::new(plain)), None, "{plain}");
        }
    }

    #[test]
    fn overlays_replace_only_what_is_named() {
        let all = |text: &str| overlay(adapt::Settings::default(), &text.parse::<toml::Table>().unwrap());
        let parse = |text: &str| all(text).map(|(settings, _)| settings);
        assert_eq!(parse("").unwrap(), adapt::Settings::default());
        let s = parse("batch = 4\nlearning_rate = 1\nparameters = 'stylespace'\n[losses]\nin_domain = 0.5\n[stop]\nlatents = 16\nevery = 5\npairing = 0.9").unwrap();
        let d = adapt::Settings::default();
        assert_eq!((s.batch, s.learning_rate, s.parameters), (4, 1.0, adapt::Parameters::Stylespace));
        assert_eq!((s.losses.in_domain, s.losses.direction, s.steps), (0.5, d.losses.direction, d.steps));
        assert_eq!(s.stop.map(|s| s.latents), Some(16));
        for (text, words) in [
            ("batch = 'four'", ["batch: ", "four"]),
            ("batch = -1", ["batch: ", "-1"]),
            ("losses = 3", ["losses: ", "LossWeights"]),
            ("mode = 'slow'", ["mode: ", "reference"]),
            ("[stop]\nlatents = 'all'", ["stop: ", "all"]),
        ] {
            let e = parse(text).unwrap_err();
            assert!(words.iter().all(|w| e.contains(w)), "{text}: {e}");
        }
        let without = parse("auto_layers = { iterations = 2 }").unwrap().check().unwrap_err().to_string();
        assert!(without.starts_with("auto_layers.k: is 0"), "{without}");
        let layers = parse("auto_layers = { k = 18 }").unwrap().auto_layers.unwrap();
        assert_eq!((layers.k, layers.iterations, layers.batch), (18, 1, 8));
    }

    /// A later version may know them.
    #[test]
    fn unknown_settings_are_left_out_and_named() {
        for (text, name, known) in [
            ("bacth = 4", "bacth", Some("batch")),
            ("[losses]\nindomain = 1", "losses.indomain", Some("in_domain")),
            ("[losses.future]\nx = 1", "losses.future", Some("in_domain")),
            ("[stop]\nlatent = 1", "stop.latent", None),
        ] {
            let table = format!("steps = 7\n{text}").parse::<toml::Table>().unwrap();
            let (settings, unknown) = overlay(adapt::Settings::default(), &table).unwrap();
            assert_eq!(settings.steps, 7);
            let [key] = &unknown[..] else { panic!("{text}: {unknown:?}") };
            assert_eq!(key.name, name);
            assert!(known.is_none_or(|known| key.known.iter().any(|k| k == known)), "{text}: {key:?}");
        }
    }
}
