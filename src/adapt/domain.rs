//! What adaptation produces: a delta on a generator, small enough to keep and to share.

use super::{Parameters, Settings};
use crate::checkpoint::{self, Checkpoint, Dtype};
use crate::device::HOST;
use crate::error::{Error, Result};
use crate::files::Destination;
use crate::formats::{missing_feature, THIS_VERSION};
use crate::nn::generator::{to_half, Config, Generator};
use crate::picture::pixels::{self, Layout, Transfer};
use crate::picture::Picture;
use crate::progress::Cancel;
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Names the format in a file's metadata, before its number.
const FORMAT: &str = "nada domain ";
/// The number that is written; lower ones are read too.
const NEWEST: u32 = 2;
/// Of the metadata: the format, the description (JSON), what nobody may overlook (JSON), and the program that wrote the file.
const KEYS: [&str; 4] = ["format", "description", "requires", "written_by"];
/// Style offsets by layer, among [`Domain::deltas`].
const STYLE: &str = "s.";
/// Where a file of format 2 has what is added to weights and styles; in format 1 every key but the thumbnail's is a delta.
const WEIGHTS: &str = "weights.";
const STYLES: &str = "styles.";
/// A picture of what the domain makes, u8 [height, width, 3]; no part of the change.
const THUMBNAIL: &str = "thumbnail";
/// The longest side of a thumbnail, in pixels.
pub const THUMBNAIL_SIDE: usize = 256;

/// How a domain came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Origin {
    /// A generator was adapted to words or pictures.
    #[default]
    Adapted,
    /// Other domains were added up.
    Mixed,
    /// The difference of two generators, made by another program.
    Imported,
    /// An edit of styles, such as a global direction.
    Edit,
    /// What a later version knows, by its name.
    Other(String),
}

impl Origin {
    /// As files name it.
    pub fn name(&self) -> &str {
        match self {
            Origin::Adapted => "adapted",
            Origin::Mixed => "mixed",
            Origin::Imported => "imported",
            Origin::Edit => "edit",
            Origin::Other(name) => name,
        }
    }
}

impl From<String> for Origin {
    fn from(name: String) -> Self {
        let known = [Origin::Adapted, Origin::Mixed, Origin::Imported, Origin::Edit];
        known.into_iter().find(|origin| origin.name() == name).unwrap_or(Origin::Other(name))
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.name().into()
    }
}

/// What is known of a domain beside its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    #[serde(default)]
    pub origin: Origin,
    /// What it leads away from, in words; may be empty.
    #[serde(default)]
    pub source: String,
    /// What it leads to, in words.
    pub target: String,
    /// Names of the CLIPs it was trained with.
    #[serde(default)]
    pub clips: Vec<String>,
    pub parameters: Parameters,
    /// Steps it was trained for.
    #[serde(default)]
    pub step: usize,
    /// [`Generator::fingerprint`] of the generator it belongs to.
    pub fingerprint: String,
    /// The rule that the fingerprint was made by; 1 is [`Generator::fingerprint_of_format_1`].
    #[serde(default = "first")]
    pub fingerprint_version: u32,
    /// The fingerprint of the generator it was made from, where it was made fit for another ([`Domain::for_generator`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_from: Option<String>,
    /// What it was trained with, for people: [`Settings`] as the version that made it knew them. Null where there are none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub settings: Value,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn first() -> u32 {
    1
}

impl Description {
    /// Of a domain that belongs to `generator`. Errors: as [`Generator::fingerprint`].
    pub fn new(origin: Origin, source: &str, target: &str, parameters: Parameters, generator: &Generator) -> Result<Self> {
        Self::new_unless(origin, source, target, parameters, generator, &Cancel::new())
    }

    /// As [`Description::new`]; `Cancelled` as [`Generator::fingerprint_unless`].
    fn new_unless(
        origin: Origin,
        source: &str,
        target: &str,
        parameters: Parameters,
        generator: &Generator,
        cancel: &Cancel,
    ) -> Result<Self> {
        Ok(Self {
            origin,
            source: source.into(),
            target: target.into(),
            clips: vec![],
            parameters,
            step: 0,
            fingerprint: generator.fingerprint_unless(cancel)?.into(),
            fingerprint_version: 2,
            made_from: None,
            settings: Value::Null,
            other: Map::new(),
        })
    }

    /// Whether the domain belongs to `generator`, by the rule that its fingerprint was made by. Errors: as [`Generator::fingerprint`].
    pub fn fits(&self, generator: &Generator) -> Result<bool> {
        self.fits_unless(generator, &Cancel::new())
    }

    /// As [`Description::fits`]; `Cancelled` as [`Generator::fingerprint_unless`].
    pub fn fits_unless(&self, generator: &Generator, cancel: &Cancel) -> Result<bool> {
        Ok(match self.fingerprint_version {
            1 => self.fingerprint == generator.fingerprint_of_format_1_unless(cancel)?,
            2 => self.fingerprint == generator.fingerprint_unless(cancel)?,
            _ => false,
        })
    }
}

/// `settings` as a description carries them: as they come out of a file again.
pub(super) fn carried(settings: &Settings) -> Result<Value> {
    let text = serde_json::to_string(settings).and_then(|text| serde_json::from_str(&text));
    text.map_err(|e| Error::Internal(format!("settings: {e}")))
}

/// What a file holds beside the domain: its thumbnail, and what this version does not know. Written again with the domain.
#[derive(Clone, Debug, Default)]
struct Extra {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Tensor>,
}

/// A delta on a generator's weights (`full`) or styles (`stylespace`). Immutable; may be shared by threads.
#[derive(Clone, Debug)]
pub struct Domain {
    pub description: Description,
    /// What is added, f32 or f16, by the generator's own keys; style offsets `[channels]` are under `s.<layer>`.
    pub deltas: BTreeMap<String, Tensor>,
    extra: Extra,
}

impl Domain {
    /// How the names of domain files end.
    pub const ENDING: &str = ".nada.safetensors";

    /// `deltas`: f32 or f16, by the generator's own keys; style offsets `[channels]` under `s.<layer>`.
    pub fn new(description: Description, deltas: BTreeMap<String, Tensor>) -> Self {
        Self { description, deltas, extra: Extra::default() }
    }

    /// What leads from `base` to `adapted`, two generators of one shape such as one and somebody else's fine-tuning of it: the difference
    /// of the tensors that are not the same, at strength 1 all of it. Noise maps and the mean of w stay the base's.
    ///
    /// Errors: `Mismatch` where sizes, tensors, blur or learning-rate multiplier are not the same, or nothing differs.
    pub fn between(base: &Generator, adapted: &Generator, source: &str, target: &str) -> Result<Self> {
        Self::between_unless(base, adapted, source, target, &Cancel::new())
    }

    /// As [`Domain::between`]; `Cancelled` once the flag is raised, which is looked at with each tensor.
    pub fn between_unless(base: &Generator, adapted: &Generator, source: &str, target: &str, cancel: &Cancel) -> Result<Self> {
        let mismatch = |message: String| Err(Error::Mismatch(message));
        let (from, to) = (base.config(), adapted.config());
        let drawn = |c: &Config| format!("{} x {} px in {} colours", c.width(), c.height(), c.colours());
        if drawn(from) != drawn(to) {
            return mismatch(format!("the base generator draws {}, the adapted one {}", drawn(from), drawn(to)));
        }
        // Whether activations are clamped is the base's business: fine-tuned files of programs without a clamp have lost it.
        let unusual = |g: &Generator| g.unusual().into_iter().filter(|(name, _)| *name != "conv_clamp").collect::<BTreeMap<_, _>>();
        let (theirs, ours) = (unusual(adapted), unusual(base));
        if let Some(name) = ours.keys().chain(theirs.keys()).find(|name| ours.get(*name) != theirs.get(*name)) {
            let value = |of: &BTreeMap<&str, String>| of.get(name).cloned().unwrap_or_else(|| "the usual one".into());
            return mismatch(format!("{name} of the base generator is {}, of the adapted one {}", value(&ours), value(&theirs)));
        }
        if let Some(key) = adapted.weights().keys().find(|key| !base.weights().contains_key(*key)) {
            return mismatch(format!("the adapted generator has {key}, which the base does not have: they are no two of one shape"));
        }
        let mut deltas = BTreeMap::new();
        let mut add = |key: String, delta: Tensor| {
            let most = if delta.elem_count() == 0 { 0.0 } else { delta.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()? };
            if !most.is_finite() {
                return Err(Error::NotFinite(format!("{key} of the generators differs by more than f32 can hold")));
            }
            if most > 0.0 {
                deltas.insert(key, delta);
            }
            Ok(())
        };
        for (key, before) in base.weights() {
            cancel.check()?;
            match adapted.weights().get(key) {
                Some(after) if after.dims() == before.dims() => add(key.clone(), (after - before)?)?,
                Some(after) => {
                    let (theirs, ours) = (after.dims(), before.dims());
                    return mismatch(format!("{key} of the base generator has shape {ours:?}, of the adapted one {theirs:?}"));
                }
                None => {
                    return mismatch(format!(
                        "the base generator has {key}, which the adapted one does not have: they are no two of one shape"
                    ))
                }
            }
        }
        let layers: BTreeSet<_> = base.offsets().keys().chain(adapted.offsets().keys()).collect();
        for layer in layers {
            let delta = match (base.offsets().get(layer), adapted.offsets().get(layer)) {
                (Some(before), Some(after)) => (after - before)?,
                (None, Some(after)) => after.clone(),
                (Some(before), None) => before.neg()?,
                (None, None) => continue,
            };
            add(style_key(layer), delta)?;
        }
        if deltas.is_empty() {
            return mismatch("the two generators have the same numbers: there is nothing to make a domain of".into());
        }
        let weights = deltas.keys().any(|key| !key.starts_with(STYLE));
        let parameters = if weights { Parameters::Full } else { Parameters::Stylespace };
        let description = Description::new_unless(Origin::Imported, source, target, parameters, base, cancel)?;
        Ok(Self::new(description, deltas))
    }

    /// Errors: `Mismatch` where the domain was made from another generator than this.
    pub fn check_fits(&self, generator: &Generator) -> Result<()> {
        self.check_fits_unless(generator, &Cancel::new())
    }

    /// As [`Domain::check_fits`]; `Cancelled` as [`Generator::fingerprint_unless`].
    fn check_fits_unless(&self, generator: &Generator, cancel: &Cancel) -> Result<()> {
        let d = &self.description;
        if d.fits_unless(generator, cancel)? {
            return Ok(());
        }
        let short = |f: &str| f.chars().take(12).collect::<String>();
        let (its, own) = (short(&d.fingerprint), short(generator.fingerprint_unless(cancel)?));
        let rule = if d.fingerprint_version > 2 { format!(", made by a rule that {THIS_VERSION} does not know") } else { String::new() };
        Err(Error::Mismatch(format!(
            "the domain \"{}\" was made from another generator: its fingerprint is {its}{rule}, this generator's is {own}",
            d.target
        )))
    }

    /// The same change as a domain of `generator`, whatever generator it was made from: a relative of it, such as the same one rounded to
    /// f16 or fine-tuned. What it draws there nobody has looked at. Without the thumbnail, which another generator drew. A domain of format 1
    /// that fits gets the present fingerprint.
    ///
    /// Errors: `Mismatch` where the generator does not have the tensors that are changed, in their shapes.
    pub fn for_generator(&self, generator: &Generator) -> Result<Self> {
        self.for_generator_unless(generator, &Cancel::new())
    }

    /// As [`Domain::for_generator`]; `Cancelled` once the flag is raised, which is looked at with each tensor.
    pub fn for_generator_unless(&self, generator: &Generator, cancel: &Cancel) -> Result<Self> {
        let fits = self.description.fits_unless(generator, cancel)?;
        let mut moved = self.clone();
        let description = &mut moved.description;
        let before = std::mem::replace(&mut description.fingerprint, generator.fingerprint_unless(cancel)?.into());
        description.fingerprint_version = 2;
        if fits {
            return Ok(moved);
        }
        description.made_from.get_or_insert(before);
        moved.extra.tensors.remove(THUMBNAIL);
        // Every key is there in its shape.
        generator.with_domains_unless(&[(&moved, 0.0)], cancel)?;
        Ok(moved)
    }

    /// With deltas of f16, which take half the room and keep 11 bits of each number.
    ///
    /// Errors: `Unsupported` where a number is beyond f16.
    pub fn to_half(&self) -> Result<Self> {
        self.to_half_unless(&Cancel::new())
    }

    /// As [`Domain::to_half`]; `Cancelled` once the flag is raised, which is looked at with each tensor.
    pub fn to_half_unless(&self, cancel: &Cancel) -> Result<Self> {
        let half = |(key, delta): (&String, &Tensor)| {
            cancel.check()?;
            let delta = if delta.dtype() == DType::F16 { delta.clone() } else { to_half(key, delta)? };
            Ok((key.clone(), delta))
        };
        let deltas = self.deltas.iter().map(half).collect::<Result<_>>()?;
        Ok(Self { deltas, ..self.clone() })
    }

    /// Reads a file that [`Domain::save`] wrote, in this version or an earlier one, or in a later one that requires nothing new of its
    /// readers: what this version does not know is kept, and written again. Errors name the file and what is wrong with it; `Unsupported`
    /// the version that could read it.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_unless(path, &Cancel::new())
    }

    /// As [`Domain::open`]; `Cancelled` once the flag is raised, which is looked at each 128 KiB.
    pub fn open_unless(path: &Path, cancel: &Cancel) -> Result<Self> {
        Self::from_checkpoint(&checkpoint::open_unless(path, cancel)?)
    }

    /// As [`Domain::open`], of a file that is open already.
    pub fn from_checkpoint(file: &Checkpoint) -> Result<Self> {
        let (description, keys) = contents(file)?;
        let mut extra = Extra::default();
        let unknown = file.metadata.iter().filter(|(key, _)| !KEYS.contains(&key.as_str()));
        extra.metadata.extend(unknown.map(|(key, text)| (key.clone(), text.clone())));
        let changes: BTreeSet<&str> = keys.values().copied().collect();
        for key in file.keys().filter(|key| !changes.contains(key)) {
            extra.tensors.insert(key.into(), file.tensor(key)?);
        }
        let mut deltas = BTreeMap::new();
        for (name, key) in keys {
            let delta = file.f32(key, None)?;
            deltas.insert(name, if file.dtype(key) == Some(Dtype::F16) { delta.to_dtype(DType::F16)? } else { delta });
        }
        Ok(Self { description, deltas, extra })
    }

    /// What a file says of its domain, without reading the numbers; errors as [`Domain::open`].
    pub fn describe(path: &Path) -> Result<Description> {
        Ok(contents(&checkpoint::open(path)?)?.0)
    }

    /// The thumbnail in a domain's file; None where it has none.
    pub fn thumbnail(path: &Path) -> Result<Option<Picture>> {
        let file = checkpoint::open(path)?;
        let Some(shape) = file.shape(THUMBNAIL).map(<[usize]>::to_vec) else { return Ok(None) };
        let (&[height, width, 3], Some(Dtype::U8)) = (&shape[..], file.dtype(THUMBNAIL)) else {
            return Err(Error::format(path, format!("tensor '{THUMBNAIL}' has shape {shape:?}; want bytes [height, width, 3]")));
        };
        if width.max(height) > THUMBNAIL_SIDE {
            let message = format!("tensor '{THUMBNAIL}' is {width} x {height} pixels; at most {THUMBNAIL_SIDE} a side are right");
            return Err(Error::format(path, message));
        }
        let bytes = file.tensor(THUMBNAIL)?.flatten_all()?.to_vec1::<u8>()?;
        Ok(Some(pixels::read(&bytes, &thumbnail_layout(width, height))?))
    }

    /// Writes a safetensors file of format 2, by a temporary name and a rename. Deltas are written as they are, f32 or f16; so is what was
    /// in the file that the domain was opened from and is not known to this version. `Cancelled` as [`Destination::unless`] says.
    pub fn save<'a>(&self, to: impl Into<Destination<'a>>) -> Result<()> {
        let (tensors, metadata) = self.contents(None)?;
        checkpoint::save_safetensors(to, &tensors, &metadata)
    }

    /// As [`Domain::save`], under the first of `paths` (in one folder) that is free, which is returned; with a picture of what the domain
    /// makes, shrunk to [`THUMBNAIL_SIDE`]. `Cancelled`, without a file, once the flag is raised, which is looked at with each piece.
    pub fn save_as_new(&self, paths: impl Iterator<Item = PathBuf>, thumbnail: Option<&Picture>, cancel: &Cancel) -> Result<PathBuf> {
        let (tensors, metadata) = self.contents(thumbnail)?;
        checkpoint::save_safetensors_as_new(paths, &tensors, &metadata, cancel)
    }

    /// The tensors and the metadata of a file.
    fn contents(&self, thumbnail: Option<&Picture>) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>)> {
        let description = serde_json::to_string(&self.description).map_err(|e| Error::Internal(e.to_string()))?;
        let mut metadata = self.extra.metadata.clone();
        let own = [("format", format!("{FORMAT}{NEWEST}")), ("description", description), ("written_by", THIS_VERSION.into())];
        metadata.extend(own.map(|(key, text)| (key.to_string(), text)));
        let mut tensors = self.extra.tensors.clone();
        tensors.extend(self.deltas.iter().map(|(key, delta)| {
            let name = key.strip_prefix(STYLE).map_or_else(|| format!("{WEIGHTS}{key}"), |layer| format!("{STYLES}{layer}"));
            (name, delta.clone())
        }));
        if let Some(picture) = thumbnail {
            let scale = (THUMBNAIL_SIDE as f64 / picture.width.max(picture.height) as f64).min(1.0);
            let side = |length: usize| ((length as f64 * scale).round() as usize).max(1);
            let small = picture.resized(side(picture.width), side(picture.height))?;
            let mut bytes = vec![0; small.width * small.height * 3];
            pixels::write(&small, &mut bytes, &thumbnail_layout(small.width, small.height))?;
            tensors.insert(THUMBNAIL.into(), Tensor::from_vec(bytes, (small.height, small.width, 3), HOST)?);
        }
        Ok((tensors, metadata))
    }
}

fn thumbnail_layout(width: usize, height: usize) -> Layout {
    Layout::packed(width, height, pixels::Format::Rgb8, Transfer::Srgb)
}

/// What a file says of its domain, and where its deltas are: a key of the file by one of [`Domain::deltas`].
fn contents(file: &Checkpoint) -> Result<(Description, BTreeMap<String, &str>)> {
    let path = &file.path;
    let text = |key: &str| file.metadata.get(key).map(String::as_str);
    let unsupported = |message: String| Err(Error::unsupported(path.display().to_string(), message));
    let number = match text("format").map(|format| (format, format.strip_prefix(FORMAT).and_then(|n| n.parse::<u32>().ok()))) {
        Some((_, Some(number))) if (1..=NEWEST).contains(&number) => number,
        Some((format, _)) if format.starts_with(FORMAT) => {
            let by = text("written_by").map_or_else(|| "a later version".into(), |by| format!("{by} or later"));
            return unsupported(format!(
                "is a {format:?}, which {by} reads; this is {THIS_VERSION}, which reads up to \"{FORMAT}{NEWEST}\""
            ));
        }
        _ => {
            let made = "`nada adapt` and `nada domain` make domains";
            return Err(Error::format(path, format!("is not a domain: its metadata has no format \"{FORMAT}{NEWEST}\". {made}")));
        }
    };
    if let Some(requires) = text("requires") {
        let requires = serde_json::from_str(requires);
        let requires =
            requires.map_err(|e| Error::format(path, format!("what it requires, in the metadata, is no table of versions: {e}")))?;
        if let Some(message) = missing_feature(&requires) {
            return unsupported(message);
        }
    }
    let keys: BTreeMap<String, &str> = match number {
        1 => file.keys().filter(|key| *key != THUMBNAIL).map(|key| (key.to_string(), key)).collect(),
        _ => {
            let weights = |key: &str| key.strip_prefix(WEIGHTS).map(String::from);
            let styles = |key: &str| key.strip_prefix(STYLES).map(style_key);
            file.keys().filter_map(|key| Some((weights(key).or_else(|| styles(key))?, key))).collect()
        }
    };
    if keys.is_empty() {
        let wanted = if number == 1 { String::new() } else { format!(" under {WEIGHTS} or {STYLES}, where a change would be") };
        return Err(Error::format(path, format!("has no tensors{wanted}")));
    }
    let description = text("description").ok_or_else(|| Error::format(path, "the metadata has no description"))?;
    let description = serde_json::from_str(description);
    Ok((description.map_err(|e| Error::format(path, format!("the description in the metadata: {e}")))?, keys))
}

impl Generator {
    /// This generator with domains added: every tensor plus the sum of strength * delta. Shares every unchanged tensor.
    ///
    /// Errors: `Mismatch` where a domain was made from another generator (see [`Domain::for_generator`]); `InvalidArgument` for a strength
    /// outside [0, 1.5].
    pub fn with_domains(&self, domains: &[(&Domain, f32)]) -> Result<Generator> {
        self.with_domains_unless(domains, &Cancel::new())
    }

    /// As [`Generator::with_domains`]; `Cancelled` once the flag is raised, which is looked at with each tensor.
    pub fn with_domains_unless(&self, domains: &[(&Domain, f32)], cancel: &Cancel) -> Result<Generator> {
        let (mut weights, mut offsets) = (BTreeMap::<String, Tensor>::new(), BTreeMap::<String, Tensor>::new());
        for (domain, strength) in domains {
            let d = &domain.description;
            if !(0.0..=1.5).contains(strength) {
                return Err(Error::argument("strength", format!("is {strength}, it must be in [0, 1.5]")));
            }
            domain.check_fits_unless(self, cancel)?;
            for (key, delta) in &domain.deltas {
                cancel.check()?;
                let scaled = delta.to_device(self.device())?.to_dtype(DType::F32)?.affine(*strength as f64, 0.0)?;
                let (map, name, start) = match key.strip_prefix(STYLE) {
                    Some(layer) => (&mut offsets, layer, self.offsets().get(layer)),
                    None => {
                        let start = self.weights().get(key);
                        (
                            &mut weights,
                            key.as_str(),
                            Some(start.ok_or_else(|| {
                                Error::Mismatch(format!("the domain \"{}\" changes {key}, which the generator does not have", d.target))
                            })?),
                        )
                    }
                };
                let so_far = map.get(name).or(start);
                if let Some(t) = so_far.filter(|t| t.dims() != delta.dims()) {
                    return Err(Error::Mismatch(format!(
                        "the domain \"{}\": {key} has shape {:?}, the generator's has {:?}",
                        d.target,
                        delta.dims(),
                        t.dims()
                    )));
                }
                let sum = so_far.map_or(Ok(scaled.clone()), |t| t + scaled)?;
                map.insert(name.to_string(), sum);
            }
        }
        self.replacing(weights, offsets)
    }
}

/// The key of a layer's style offset in a domain.
pub(super) fn style_key(layer: &str) -> String {
    format!("{STYLE}{layer}")
}
