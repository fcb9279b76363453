//! Making and removing packs.

use super::{of_framing, Manifest, ManifestClip, ModelPack, PackSource, MANIFEST, NEWEST, STARTER};
use crate::cancel::Cancel;
use crate::checkpoint::{self, Checkpoint, Dtype};
use crate::error::{Error, Result};
use crate::face::Framing;
use crate::files::{open_ordinary, read_small, PIECE};
use crate::files::{remove_dead, sync_folder, temporary_folder, write_atomically};
use crate::kernels::Activation;
use crate::nn::clip::{is_common_name, is_described, place, tensors_file, Clip, BESIDE};
use crate::nn::generator::{to_half, Generator, Layout};
use candle_core::DType;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Longer texts beside a CLIP are none of its; a vocabulary has 0.9 MB.
const CLIP_TEXT_MAX: u64 = 8 << 20;

/// A CLIP of a new pack: a file or a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct NewClip {
    pub path: PathBuf,
    /// Of its losses, above 0.
    pub weight: f32,
    /// As for [`Clip::open_as`].
    pub activation: Option<Activation>,
}

impl From<(PathBuf, f32)> for NewClip {
    fn from((path, weight): (PathBuf, f32)) -> Self {
        Self { path, weight, activation: None }
    }
}

/// What a new pack is made from.
#[derive(Clone, Debug, Default)]
pub struct NewPack {
    /// The pack's name, and its folder's.
    pub name: String,
    pub description: String,
    pub generator: PathBuf,
    /// The class to draw, for a conditional generator.
    pub class: Option<usize>,
    pub clips: Vec<NewClip>,
    pub encoder: Option<PathBuf>,
    /// Edit directions: checkpoints, or .npy arrays.
    pub boundaries: Vec<PathBuf>,
    /// SPDX expression.
    pub licence: Option<String>,
    /// How the generator's pictures of faces are framed.
    pub align: Framing,
    /// f16 instead of f32. The generator's numbers are rounded, so it becomes another one, with another fingerprint.
    pub half: bool,
}

impl NewPack {
    /// Converts every file to safetensors and writes `model.toml`, in a folder of another name that becomes `folder/NAME` when all is done
    /// and the pack opens. Makes `folder` where it is missing.
    ///
    /// Also removes what killed processes left in `folder`. `cancel` is looked at each 128 KiB that are read and between tensors; what was
    /// written is removed then.
    ///
    /// Errors: `InvalidArgument` for a name that is no folder's name, is `starter`, or is taken; those of reading the files; `Io`;
    /// `Cancelled`.
    pub fn make(&self, folder: &Path, cancel: &Cancel) -> Result<ModelPack> {
        check_name(&self.name)?;
        let target = folder.join(&self.name);
        let taken = || Error::argument("name", format!("{} is there already; take another name, or remove it first", target.display()));
        if target.symlink_metadata().is_ok() {
            return Err(taken());
        }
        if let Some(clip) = self.clips.iter().find(|clip| !(clip.weight.is_finite() && clip.weight > 0.0)) {
            return Err(Error::argument("clip", format!("weight {} of {}; want a number above 0", clip.weight, clip.path.display())));
        }
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        remove_dead(folder);
        let (unfinished, _listed) = temporary_folder(folder)?;
        self.fill(unfinished.path(), cancel)?;
        let pack = ModelPack::open(unfinished.path())?;
        let written = pack.load_generator_unless(cancel)?;
        if pack.fingerprint.as_deref() != Some(written.fingerprint()?) {
            return Err(Error::Internal(format!("{} was not written as it was read", self.generator.display())));
        }
        cancel.check()?;
        // Fails where somebody else has made the folder meanwhile, unless it is empty.
        std::fs::rename(unfinished.path(), &target).map_err(|e| match e.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => taken(),
            _ => Error::io(&target, e),
        })?;
        let _ = unfinished.keep();
        sync_folder(&target);
        ModelPack::open(&target)
    }

    fn fill(&self, folder: &Path, cancel: &Cancel) -> Result<()> {
        let mut sources = Vec::new();
        cancel.check()?;
        let generator = Generator::open_unless(&self.generator, cancel)?;
        if let Some(class) = self.class {
            generator.with_class(class)?;
        }
        let file = "generator.safetensors";
        generator.save(&folder.join(file), Layout::Nada, self.half)?;
        sources.push(source(&self.generator, file, cancel)?);
        let resolution = generator.config().size();
        // Rounded numbers, or offsets that became part of the weights, are another generator.
        let fingerprint = Generator::open_unless(&folder.join(file), cancel)?.fingerprint()?.to_string();
        if !self.half && fingerprint != generator.fingerprint()? {
            return Err(Error::Internal(format!("{} was not written as it was read", self.generator.display())));
        }
        drop(generator);

        let mut clip = Vec::new();
        for new in &self.clips {
            cancel.check()?;
            let (path, activation) = self.clip(new, folder, &mut sources, cancel)?;
            clip.push(ManifestClip { path, weight: new.weight, activation });
        }
        let mut tensors = |path: &Path, kind: &str| {
            let name = free_name(folder, &format!("{kind}-{}", stem(path)), ".safetensors");
            self.tensors(path, &folder.join(&name), cancel)?;
            sources.push(source(path, &name, cancel)?);
            Ok::<_, Error>(name)
        };
        let encoder = self.encoder.as_deref().map(|path| tensors(path, "encoder")).transpose()?;
        let boundaries = self.boundaries.iter().map(|path| tensors(path, "boundary")).collect::<Result<_>>()?;
        let note = "Converted from the files named under [[source]], whose licences hold: for the weights, and for what is made of them";
        let manifest = Manifest {
            format: Some(NEWEST),
            name: self.name.clone(),
            description: self.description.clone(),
            resolution: Some(resolution),
            generator: file.into(),
            class: self.class,
            align: of_framing(&self.align),
            fingerprint: Some(fingerprint),
            clip,
            words: None,
            templates: None,
            held_out: None,
            encoder,
            boundaries,
            licence: self.licence.clone(),
            licence_note: Some(note.into()),
            attribution: None,
            recipe: toml::Table::new(),
            invert: toml::Table::new(),
            source: sources,
            requires: BTreeMap::new(),
        };
        let text = toml::to_string(&manifest).map_err(|e| Error::Internal(format!("{MANIFEST}: {e}")))?;
        write_atomically(&folder.join(MANIFEST), text.as_bytes())
    }

    /// A CLIP gets a folder of its own, named as it was: domains name the CLIPs that they were made with. Also gives its activation where
    /// no configuration says it.
    fn clip(
        &self,
        NewClip { path, activation, .. }: &NewClip,
        folder: &Path,
        sources: &mut Vec<PackSource>,
        cancel: &Cancel,
    ) -> Result<(String, Option<Activation>)> {
        // Says what is wrong with a file that is no CLIP, before anything is written. What a trainer keeps beside the CLIP stays behind.
        let activation = Clip::open_as(path, *activation, cancel)?.activation();
        let name = free_name(folder, &stem(path), "");
        let into = folder.join(&name);
        std::fs::create_dir(&into).map_err(|e| Error::io(&into, e))?;
        let file = tensors_file(path)?;
        let checkpoint = place(&checkpoint::open_unless(&file, cancel)?);
        self.write(&checkpoint, &into.join("model.safetensors"), cancel)?;
        for part in checkpoint.files() {
            sources.push(source(&part, &format!("{name}/model.safetensors"), cancel)?);
        }
        let beside = file.parent().unwrap_or(Path::new(""));
        // Beside an OpenAI file these names may belong to something else.
        let described = is_described(beside, checkpoint.contains("vision_model.embeddings.patch_embedding.weight"));
        for text in BESIDE.into_iter().filter(|text| described && beside.join(text).is_file()) {
            let bytes = read_small(&beside.join(text), "a text of a CLIP's folder", CLIP_TEXT_MAX)?;
            write_atomically(&into.join(text), &bytes)?;
            sources.push(source(&beside.join(text), &format!("{name}/{text}"), cancel)?);
        }
        Ok((name, activation.filter(|_| !described)))
    }

    /// Every tensor of a checkpoint, under its own name; an .npy array as `boundary`.
    fn tensors(&self, path: &Path, into: &Path, cancel: &Cancel) -> Result<()> {
        if checkpoint::is_npy(path)? {
            let tensor = checkpoint::read_npy_unless(path, cancel)?;
            let tensor = if self.half { to_half("boundary", &tensor)? } else { tensor };
            return checkpoint::save_safetensors(into, &BTreeMap::from([("boundary".to_string(), tensor)]), &BTreeMap::new());
        }
        self.write(&checkpoint::open_unless(path, cancel)?, into, cancel)
    }

    /// Floating-point tensors as f32 or f16, others as they are; plain values of a pickle as text.
    fn write(&self, file: &Checkpoint, into: &Path, cancel: &Cancel) -> Result<()> {
        let kept = |key: &str| match (file.dtype(key), self.half) {
            (Some(Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64), false) => DType::F32,
            (Some(Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64), true) => DType::F16,
            (other, _) => other.map_or(DType::F32, Dtype::loaded),
        };
        let planned: Vec<_> = file.keys().map(|key| (key.to_string(), kept(key), file.shape(key).unwrap_or_default().to_vec())).collect();
        let count = planned.len();
        checkpoint::save_safetensors_one_by_one(into, planned, &file.metadata, |key| {
            cancel.check()?;
            match kept(key) {
                DType::F32 => file.f32(key, None),
                DType::F16 => to_half(key, &file.f32(key, None)?),
                _ => file.tensor(key),
            }
        })?;
        // Every key is accounted for.
        let written = checkpoint::open(into)?;
        match file.keys().find(|key| written.shape(key) != file.shape(key)) {
            None if written.keys().count() == count => Ok(()),
            key => Err(Error::Internal(format!("{}: tensor {key:?} was not written as it was read", file.path.display()))),
        }
    }
}

/// Removes the pack `folder/NAME`; a link to a pack, but not what it leads to. Whatever its `model.toml` says: a broken pack can be removed.
///
/// Errors: `InvalidArgument` for the starter and for names that are no folder's name; `NotFound` where there is no folder with a
/// `model.toml`; `Io`.
pub fn remove(folder: &Path, name: &str) -> Result<PathBuf> {
    check_name(name)?;
    let path = folder.join(name);
    if !path.join(MANIFEST).is_file() {
        let what = format!("model pack '{name}'");
        return Err(Error::NotFound { what, message: format!("{} is no folder with a {MANIFEST}", path.display()) });
    }
    if ModelPack::open(&path).is_ok_and(|pack| pack.name == STARTER) {
        return Err(Error::argument("name", format!("{} is the starter, which is not removed", path.display())));
    }
    let io = |e| Error::io(&path, e);
    if path.symlink_metadata().map_err(io)?.is_symlink() {
        std::fs::remove_file(&path).map_err(io)?;
    } else {
        // Out of the way in one step: a removal that is interrupted leaves no half of a pack to be found.
        remove_dead(folder);
        let (aside, _listed) = temporary_folder(folder)?;
        std::fs::rename(&path, aside.path().join("pack")).map_err(io)?;
        aside.close().map_err(io)?;
    }
    sync_folder(&path);
    Ok(path)
}

/// Only what can be a folder of its own in the folder of packs.
fn check_name(name: &str) -> Result<()> {
    let fits = !name.is_empty() && name.len() <= 100 && name.chars().all(|c| c.is_alphanumeric() || "-_. +".contains(c));
    if !fits || name.starts_with(['.', ' ', '-']) || name.ends_with(' ') {
        let message = format!("'{name}' cannot be a pack's name; want letters, digits, '-', '_', '.', '+', such as my-faces");
        return Err(Error::argument("name", message));
    }
    if name == STARTER {
        return Err(Error::argument("name", format!("'{STARTER}' is the pack that comes with the library")));
    }
    Ok(())
}

/// `stem` with `ending`, or with a number between where that is taken.
fn free_name(folder: &Path, stem: &str, ending: &str) -> String {
    let names = std::iter::once(format!("{stem}{ending}")).chain((2..).map(|n| format!("{stem}-{n}{ending}")));
    names.into_iter().find(|name| !folder.join(name).exists()).unwrap_or_else(|| stem.to_string())
}

/// A file's name without folder and ending, in letters that are safe in paths.
fn stem(path: &Path) -> String {
    // model.safetensors is called as its folder is.
    let common = path.file_name().is_some_and(|name| is_common_name(&name.to_string_lossy()));
    let named = if common { path.parent().unwrap_or(path) } else { path };
    let named = named.canonicalize().unwrap_or_else(|_| named.to_path_buf());
    let stem = if named.is_dir() { named.file_name() } else { named.file_stem() };
    let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let stem: String = stem.unwrap_or_default().to_string_lossy().chars().map(safe).collect();
    let stem = stem.trim_start_matches('.');
    if stem.is_empty() {
        "file".into()
    } else {
        stem.into()
    }
}

/// Name, length and SHA-256 of a file.
fn source(file: &Path, path: &str, cancel: &Cancel) -> Result<PackSource> {
    let (mut input, _) = open_ordinary(file, "a file")?;
    let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0u64, vec![0; PIECE]);
    loop {
        cancel.check()?;
        match input.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => {
                hash.update(&piece[..n]);
                bytes += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(file, e)),
        }
    }
    let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(PackSource { file: name, sha256, bytes, path: path.into() })
}
