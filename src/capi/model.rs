//! Model packs: folders that bring a generator, CLIPs, the words they know and a recipe.

use super::call::{nada_call, Call};
use super::clip::{nada_clip, LoadedClip};
use super::context::{nada_context, Context};
use super::error::{guard, value};
use super::generator::{extent, nada_generator, LoadedGenerator};
use super::handle::{borrow, handle, into_raw, out, release, Handle};
use super::log::Opening;
use super::runtime::Runtime;
use super::status::{nada_status, Failure, Result};
use super::values::{c_path, c_string, give_text, text};
use crate::adapt::{Templates, WeightedClip};
use crate::error::Error;
use crate::nn::clip::{tidy, warnings, Reader};
use crate::nn::generator::Generator;
use crate::pack::{search_folders, ModelPack, STARTER};
use crate::progress::Cancel;
use once_cell::sync::OnceCell;
use std::ffi::{c_char, CString};
use std::path::PathBuf;
use std::sync::Arc;

/// A model pack. Its generator and CLIPs are read when they are first asked for, and then shared. Never changes otherwise.
pub struct nada_model(());

pub(super) struct LoadedModel {
    runtime: Arc<Runtime>,
    pack: ModelPack,
    name: CString,
    folder: CString,
    description: CString,
    warning: CString,
    generator: OnceCell<Arc<Generator>>,
    clips: OnceCell<Vec<WeightedClip>>,
    readers: OnceCell<Vec<Reader>>,
}

impl Handle for nada_model {
    type Value = LoadedModel;
    const NAME: &'static str = "nada_model";
}

/// Where packs are looked for: the context's folders, then those that the library knows itself.
pub(super) fn folders(context: &Context) -> Vec<PathBuf> {
    context.folders.iter().cloned().chain(search_folders()).collect()
}

impl LoadedModel {
    fn open(context: &Context, name: &str) -> Result<Self> {
        let opening = Opening::begin();
        let pack = ModelPack::find_in(name, &folders(context))?.on(context.runtime.device());
        opening.end("model pack", &pack.name, format_args!("{} CLIPs, in {}", pack.clips.len(), pack.folder.display()));
        pack.warnings.iter().for_each(|warning| ::log::warn!(target: "nada", "{warning}"));
        Ok(Self {
            runtime: context.runtime.clone(),
            name: c_string(&pack.name),
            folder: c_path(&pack.folder),
            description: c_string(&pack.description),
            warning: c_string(&pack.warnings.join("\n")),
            pack,
            generator: OnceCell::new(),
            clips: OnceCell::new(),
            readers: OnceCell::new(),
        })
    }

    pub fn generator(&self, cancel: &Cancel) -> Result<Arc<Generator>> {
        let mut opening = None;
        let generator = self.generator.get_or_try_init(|| -> Result<_> {
            opening = Some(Opening::begin());
            Ok(Arc::new(self.runtime.run(|| self.pack.load_generator_unless(cancel))?))
        })?;
        // Not while it is being made: who reads the log may ask for it.
        if let Some(opening) = opening {
            opening.end("generator", format_args!("of the pack {}", self.pack.name), extent(generator));
        }
        Ok(generator.clone())
    }

    pub fn clips(&self, cancel: &Cancel) -> Result<Vec<WeightedClip>> {
        let mut opening = None;
        let clips = self.clips.get_or_try_init(|| -> Result<_> {
            opening = Some(Opening::begin());
            self.runtime.run(|| self.pack.load_clips_unless(cancel))
        })?;
        if let Some(opening) = opening {
            let sizes: Vec<String> = clips.iter().map(|c| format!("{} of {} px", c.clip.name, c.clip.resolution())).collect();
            opening.end("CLIPs", format_args!("of the pack {}", self.pack.name), sizes.join(", "));
        }
        Ok(clips.clone())
    }

    pub fn pack(&self) -> &ModelPack {
        &self.pack
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub fn templates(&self) -> Templates {
        self.pack.templates()
    }

    /// What the CLIPs make of words, without their weights; none where they cannot be read, which is said when they are.
    fn readers(&self, cancel: &Cancel) -> crate::Result<&[Reader]> {
        cancel.check()?;
        let open = || self.pack.clips.iter().map(|c| Reader::open(&c.path, c.activation, cancel)).collect::<crate::Result<Vec<_>>>();
        match self.readers.get_or_try_init(|| self.runtime.run(open)) {
            Ok(readers) => Ok(readers),
            Err(_) => cancel.check().map(|()| Default::default()),
        }
    }

    /// `InvalidArgument` where `text` is too long for a CLIP inside the longest template.
    fn check_length(&self, text: &str, cancel: &Cancel) -> crate::Result<()> {
        let templates = self.templates().0;
        self.readers(cancel)?.iter().try_for_each(|reader| match reader.check("text", &tidy(text), &templates) {
            // That a CLIP reads no texts is said where it is to read some.
            Err(Error::Unsupported { .. }) => Ok(()),
            result => result,
        })
    }

    /// All that there is to tell a user about `text` before the CLIPs are read; empty where all is well.
    fn warning(&self, text: &str, cancel: &Cancel) -> Result<String> {
        let readers = self.readers(cancel)?;
        let too_long = match self.check_length(text, cancel) {
            Err(Error::InvalidArgument { message, .. }) => Some(message),
            Err(Error::Cancelled) => return Err(Error::Cancelled.into()),
            _ => None,
        };
        let unknown = Some(self.unknown(text)).filter(|sentence| !sentence.is_empty());
        let sentences: Vec<String> = too_long.into_iter().chain(unknown).chain(warnings(text, readers.iter())).collect();
        Ok(sentences.join(". "))
    }

    /// What to tell a user about words of `text` that the pack does not know; empty where it knows them all.
    pub fn unknown(&self, text: &str) -> String {
        let unknown = self.pack.unknown_words(&tidy(text));
        if unknown.is_empty() {
            return String::new();
        }
        format!(
            "the model '{}' never learned {}, so they change little; it knows: {}",
            self.pack.name,
            unknown.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(", "),
            self.pack.known_phrases().join(", ")
        )
    }
}

/// Opens a model pack: by its name in the context's folders and those that the library knows itself (NADA_MODELS, the installed and the
/// built-in ones), or by the path of its folder or of its model.toml. NULL is "starter", which comes with the library. UTF-8.
/// Threads: any. Owner: the caller frees *model with nada_model_free(); it may outlive the context.
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT.
#[no_mangle]
pub unsafe extern "C" fn nada_model_open(context: *const nada_context, name: *const c_char, model: *mut *mut nada_model) -> nada_status {
    guard(|| {
        out!(model);
        let name = if name.is_null() { STARTER } else { text(name, "name")? };
        if name.is_empty() {
            return Err(Failure::argument("name", "is empty, must be the name or the folder of a model pack"));
        }
        *model = into_raw(LoadedModel::open(handle!(context), name)?);
        Ok(())
    })
}

unsafe fn string(model: *const nada_model, field: impl FnOnce(&LoadedModel) -> &CString) -> *const c_char {
    value(c"".as_ptr(), || borrow(model, "model").map_or(c"".as_ptr(), |m| field(m).as_ptr()))
}

/// The name of the pack; "" for NULL. Threads: any. Owner: the model; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_model_name(model: *const nada_model) -> *const c_char {
    string(model, |m| &m.name)
}

/// The folder of the pack; "" for NULL. Threads: any. Owner: the model; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_model_folder(model: *const nada_model) -> *const c_char {
    string(model, |m| &m.folder)
}

/// What the pack is, in words; "" for NULL and where it does not say. Threads: any. Owner: the model; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_model_description(model: *const nada_model) -> *const c_char {
    string(model, |m| &m.description)
}

/// What to tell the user of the pack: keys of its model.toml and its list of words that this version does not know, one sentence a line; ""
/// where there are none, and for NULL.
/// Threads: any. Owner: the model; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_model_warning(model: *const nada_model) -> *const c_char {
    string(model, |m| &m.warning)
}

/// The generator of the pack; read on the first call: where that one is cancelled, the next one reads it. `call` may be NULL.
/// Threads: any. Owner: the caller frees *generator with nada_generator_free(); it may outlive the model.
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_model_generator(
    model: *const nada_model,
    call: *const nada_call,
    generator: *mut *mut nada_generator,
) -> nada_status {
    guard(|| {
        out!(generator);
        let model = handle!(model);
        let Call { cancel, .. } = Call::read(call)?;
        *generator = into_raw(LoadedGenerator::new(model.runtime.clone(), model.generator(&cancel)?));
        Ok(())
    })
}

/// Number of CLIPs of the pack, read on the first call: where that one is cancelled, the next one reads them. `call` may be NULL.
/// Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_model_clip_count(model: *const nada_model, call: *const nada_call, count: *mut usize) -> nada_status {
    guard(|| {
        out!(count);
        let model = handle!(model);
        *count = model.clips(&Call::read(call)?.cancel)?.len();
        Ok(())
    })
}

/// CLIP `index` of the pack, and the weight of its losses (`weight` may be NULL, and so may `call`).
/// Threads: any. Owner: the caller frees *clip with nada_clip_free(); it may outlive the model.
/// Fails: as nada_model_clip_count().
#[no_mangle]
pub unsafe extern "C" fn nada_model_clip(
    model: *const nada_model,
    index: usize,
    call: *const nada_call,
    clip: *mut *mut nada_clip,
    weight: *mut f32,
) -> nada_status {
    guard(|| {
        out!(clip);
        let model = handle!(model);
        let clips = model.clips(&Call::read(call)?.cancel)?;
        let found = clips.get(index);
        let found = found.ok_or_else(|| Failure::argument("index", format_args!("{index}, but the model has {} CLIPs", clips.len())))?;
        if !weight.is_null() {
            *weight = found.weight;
        }
        *clip = into_raw(LoadedClip::new(model.runtime.clone(), found.clip.clone()));
        Ok(())
    })
}

/// Says what is wrong with `text` before the CLIPs are read: which words the pack does not know, and which it does (words it never learned
/// change little), words of other languages than a CLIP's, characters that nobody sees, and too many words. Writes NUL-terminated
/// UTF-8 sentences to `warning`, which has room for `size` bytes ("" where all is well, cut at a character where it does not fit), and
/// the bytes that the whole takes to *needed (1 where all is well). `warning` may be NULL when `size` is 0, and `needed` may be NULL.
/// What the pack's CLIPs make of words is read on the first call; `call` may be NULL. An adaptation keeps the sentences too:
/// nada_adaptation_warning().
/// Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_model_check_text(
    model: *const nada_model,
    text: *const c_char,
    call: *const nada_call,
    warning: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> nada_status {
    guard(|| {
        let sentence = handle!(model).warning(super::values::text(text, "text")?, &Call::read(call)?.cancel)?;
        give_text(&c_string(&sentence), warning, size, needed, "warning")
    })
}

/// Whether `text` fits into the pack's CLIPs inside the longest of its prompt templates, before CLIPs or generator are read. The message
/// says how many tokens it has, what the template adds, and how many are too many. `call` may be NULL.
/// Threads: any. Fails: NADA_INVALID_ARGUMENT where it does not fit, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_model_check_length(model: *const nada_model, text: *const c_char, call: *const nada_call) -> nada_status {
    guard(|| Ok(handle!(model).check_length(super::values::text(text, "text")?, &Call::read(call)?.cancel)?))
}

/// The target phrases that the pack's CLIPs know best, such as "a pencil sketch", one a line; "" where they know natural language. Source
/// phrases are not among them. `phrases` has room for `size` bytes; what does not fit is cut, and *needed gets the bytes that the whole
/// takes, as for nada_model_check_text().
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_model_phrases(
    model: *const nada_model,
    phrases: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> nada_status {
    guard(|| give_text(&c_string(&handle!(model).pack.target_phrases().join("\n")), phrases, size, needed, "phrases"))
}

/// Frees a model; NULL is allowed. Generators and CLIPs that were taken from it stay. Threads: any, once no other thread uses it.
#[no_mangle]
pub unsafe extern "C" fn nada_model_free(model: *mut nada_model) {
    release(model)
}
