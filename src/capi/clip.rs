//! CLIPs: what compares pictures with words; embeddings and scores.

use super::call::{nada_call, Call};
use super::context::nada_context;
use super::error::{guard, value};
use super::handle::{borrow, handle, handles, into_raw, not_null, out, release, Handle};
use super::image::{nada_image, LoadedImage};
use super::log::Opening;
use super::runtime::Runtime;
use super::status::{nada_status, Failure, Result};
use super::values::{bytes, c_string, choose, count32, path, texts};
use crate::adapt::Templates;
use crate::device::Device;
use crate::eval::embed_text_unless;
use crate::kernels::Activation;
use crate::nn::clip::{Clip, ClipResize};
use crate::progress::Cancel;
use candle_core::Tensor;
use std::ffi::{c_char, c_void, CString};
use std::sync::Arc;

/// A CLIP: what compares pictures with words. Never changes once opened.
pub struct nada_clip(());

pub(super) struct LoadedClip {
    runtime: Arc<Runtime>,
    pub clip: Arc<Clip>,
    name: CString,
    warning: CString,
}

impl LoadedClip {
    pub fn new(runtime: Arc<Runtime>, clip: Arc<Clip>) -> Self {
        Self { runtime, name: c_string(&clip.name), warning: c_string(&clip.warnings().join(". ")), clip }
    }
}

impl Handle for nada_clip {
    type Value = LoadedClip;
    const NAME: &'static str = "nada_clip";
}

/// The function between the two layers of a CLIP's MLPs.
#[repr(i32)]
pub enum nada_activation {
    /// What a configuration beside the file says, else QuickGELU.
    NADA_ACTIVATION_OF_FILE = 0,
    /// x * sigmoid(1.702 x), OpenAI's.
    NADA_ACTIVATION_QUICK_GELU = 1,
    /// x * Phi(x), of most that open_clip trained.
    NADA_ACTIVATION_GELU = 2,
    /// GELU with tanh.
    NADA_ACTIVATION_GELU_TANH = 3,
}

/// A [`nada_activation`] as C passes it: any number.
pub type ActivationNumber = i32;

const ACTIVATIONS: [(i32, Option<Activation>); 4] = [
    (nada_activation::NADA_ACTIVATION_OF_FILE as i32, None),
    (nada_activation::NADA_ACTIVATION_QUICK_GELU as i32, Some(Activation::QuickGelu)),
    (nada_activation::NADA_ACTIVATION_GELU as i32, Some(Activation::Gelu)),
    (nada_activation::NADA_ACTIVATION_GELU_TANH as i32, Some(Activation::GeluTanh)),
];

/// How pictures are shrunk to a CLIP's resolution.
#[repr(i32)]
pub enum nada_clip_resize {
    /// Bicubic with a low-pass, what torchvision does today.
    NADA_CLIP_RESIZE_ANTIALIAS = 0,
    /// Bicubic without, what it did in 2021.
    NADA_CLIP_RESIZE_ALIASED = 1,
    /// The mean over areas.
    NADA_CLIP_RESIZE_AREA = 2,
}

/// A [`nada_clip_resize`] as C passes it: any number.
pub type ClipResizeNumber = i32;

pub(super) const CLIP_RESIZES: [(i32, ClipResize); 3] = [
    (nada_clip_resize::NADA_CLIP_RESIZE_ANTIALIAS as i32, ClipResize::Antialias),
    (nada_clip_resize::NADA_CLIP_RESIZE_ALIASED as i32, ClipResize::Aliased),
    (nada_clip_resize::NADA_CLIP_RESIZE_AREA as i32, ClipResize::Area),
];

/// Opens a CLIP on the context's threads: reading large files is worth them.
/// # Safety
/// The pointers are as the functions below ask.
unsafe fn opened(
    context: *const nada_context,
    call: *const nada_call,
    open: impl FnOnce(&Device, &Cancel) -> crate::Result<Clip> + Send,
) -> Result<*mut nada_clip> {
    let runtime = &handle!(context).runtime;
    let (Call { cancel, .. }, opening) = (Call::read(call)?, Opening::begin());
    let clip = runtime.run(|| open(runtime.device(), &cancel))?;
    opening.end("CLIP", &clip.name, format_args!("{} px, embeddings of {} numbers", clip.resolution(), clip.dimension()));
    clip.warnings().iter().for_each(|warning| ::log::warn!(target: "nada", "{warning}"));
    Ok(into_raw(LoadedClip::new(runtime.clone(), Arc::new(clip))))
}

/// Opens a CLIP: a Hugging Face folder (config.json, model.safetensors, and its tokenizer where it has one), or a file: OpenAI's
/// TorchScript archive, or its tensors as safetensors or as a torch zip file. What reads texts is read from there when texts are first
/// embedded. `file` is UTF-8; `call` may be NULL.
/// Threads: any. Owner: the caller frees *clip with nada_clip_free(); it may outlive the context.
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_UNSUPPORTED, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_clip_open(
    context: *const nada_context,
    file: *const c_char,
    call: *const nada_call,
    clip: *mut *mut nada_clip,
) -> nada_status {
    nada_clip_open_as(context, file, nada_activation::NADA_ACTIVATION_OF_FILE as i32, call, clip)
}

/// As nada_clip_open(), of a file whose activation is known: a file in OpenAI's layout does not tell it, and where nothing beside it does,
/// QuickGELU is taken with a warning (nada_clip_warning()). Fails with NADA_INVALID_ARGUMENT where a configuration beside it says another.
/// Threads: any. Owner: the caller frees *clip with nada_clip_free(); it may outlive the context.
/// Fails: as nada_clip_open().
#[no_mangle]
pub unsafe extern "C" fn nada_clip_open_as(
    context: *const nada_context,
    file: *const c_char,
    activation: ActivationNumber,
    call: *const nada_call,
    clip: *mut *mut nada_clip,
) -> nada_status {
    guard(|| {
        out!(clip);
        let activation = choose(activation, "activation", "nada_activation", &ACTIVATIONS)?;
        let path = path(file, "file")?;
        *clip = opened(context, call, |device, cancel| Clip::open_on(&path, activation, device, cancel))?;
        Ok(())
    })
}

/// As nada_clip_open_as(), of the `size` bytes of a file that the program has in memory, which has nothing beside it: OpenAI's archives bring
/// all there is. `name` is what messages and domains call it, NULL for "clip".
/// Threads: any. Owner: `data` and `name` are borrowed for the call, `data` is copied; the caller frees *clip with nada_clip_free().
/// Fails: as nada_clip_open(), and NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_clip_open_memory(
    context: *const nada_context,
    data: *const c_void,
    size: usize,
    name: *const c_char,
    activation: ActivationNumber,
    call: *const nada_call,
    clip: *mut *mut nada_clip,
) -> nada_status {
    guard(|| {
        out!(clip);
        let activation = choose(activation, "activation", "nada_activation", &ACTIVATIONS)?;
        let (bytes, name) = bytes(data, size, name, "clip")?;
        *clip = opened(context, call, |device, cancel| Clip::from_bytes(&name, bytes, activation, device, cancel))?;
        Ok(())
    })
}

/// What to tell a user who takes this CLIP, in sentences: what was taken for granted because no file says it, and fields of its
/// configuration that are not known; "" where there is nothing, and for NULL.
/// Threads: any. Owner: the CLIP; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_clip_warning(clip: *const nada_clip) -> *const c_char {
    value(c"".as_ptr(), || borrow(clip, "clip").map_or(c"".as_ptr(), |c| c.warning.as_ptr()))
}

/// The name that domains made with this CLIP carry: its file's or folder's; "" for NULL.
/// Threads: any. Owner: the CLIP; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_clip_name(clip: *const nada_clip) -> *const c_char {
    value(c"".as_ptr(), || borrow(clip, "clip").map_or(c"".as_ptr(), |c| c.name.as_ptr()))
}

/// The side of the pictures it looks at, in pixels (others are resized); 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_clip_resolution(clip: *const nada_clip) -> u32 {
    value(0, || borrow(clip, "clip").map_or(0, |c| count32(c.clip.resolution())))
}

/// The length of its embeddings; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_clip_dimension(clip: *const nada_clip) -> u32 {
    value(0, || borrow(clip, "clip").map_or(0, |c| count32(c.clip.dimension())))
}

/// The normalised embeddings of texts, a row each.
fn of_texts(c: &LoadedClip, texts: &[String], templates: &Templates, cancel: &Cancel) -> crate::Result<Tensor> {
    let rows = texts.iter().map(|text| embed_text_unless(&c.clip, text, templates, cancel)).collect::<crate::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&rows, 0)?)
}

/// The same of pictures.
fn of_images(c: &LoadedClip, images: &[&LoadedImage], resize: ClipResize, cancel: &Cancel) -> crate::Result<Tensor> {
    let row = |image: &&LoadedImage| c.clip.embed_pictures(&image.to_tensor()?, resize, cancel);
    Ok(Tensor::cat(&images.iter().map(row).collect::<crate::Result<Vec<_>>>()?, 0)?)
}

/// Writes a table where the caller has room for `length` numbers, which must be as many as it has.
/// # Safety
/// `numbers` is NULL or writable for `length` floats.
unsafe fn give(table: &Tensor, numbers: *mut f32) -> Result<()> {
    let values = table.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(crate::Error::from)?;
    std::ptr::copy_nonoverlapping(values.as_ptr(), numbers, values.len());
    Ok(())
}

/// Checked before the work: a table of `rows` by `columns` fills `length` floats.
fn fits(rows: usize, columns: usize, length: usize) -> Result<()> {
    match rows.checked_mul(columns) {
        Some(want) if want == length => Ok(()),
        _ => Err(Failure::argument("length", format_args!("{length} floats, but there are {rows} rows of {columns}"))),
    }
}

fn some(count: usize, argument: &str) -> Result<()> {
    match count {
        0 => Err(Failure::argument(argument, "is 0, must be at least 1")),
        _ => Ok(()),
    }
}

/// Prompt templates; without any a text stands as it is.
/// # Safety
/// As [`texts`].
unsafe fn prompts(templates: *const *const c_char, count: usize) -> Result<Templates> {
    match texts(templates, count, "templates")? {
        none if none.is_empty() => Ok(Templates(vec!["{}".into()])),
        given => {
            let templates = Templates(given);
            templates.check()?;
            Ok(templates)
        }
    }
}

/// The embeddings of `text_count` texts, each normalised: text_count * nada_clip_dimension() floats, which is `length`, row-major. A text is put
/// into each of the templates, which have one {} each, and the mean is taken; without templates it stands as it is. `templates` and `call`
/// may be NULL.
/// Threads: any. Owner: all is borrowed for the call.
/// Fails: NADA_INVALID_ARGUMENT (also a text that is too long), NADA_UNSUPPORTED (a CLIP that reads no texts), NADA_CANCELLED; where weights
/// are read from the CLIP's file, as nada_clip_open(), and NADA_BAD_FORMAT where it has changed since.
#[no_mangle]
pub unsafe extern "C" fn nada_clip_embed_texts(
    clip: *const nada_clip,
    words: *const *const c_char,
    text_count: usize,
    templates: *const *const c_char,
    template_count: usize,
    call: *const nada_call,
    embeddings: *mut f32,
    length: usize,
) -> nada_status {
    guard(|| {
        let c = handle!(clip);
        not_null!(embeddings);
        some(text_count, "text_count")?;
        fits(text_count, c.clip.dimension(), length)?;
        let (words, templates) = (texts(words, text_count, "words")?, prompts(templates, template_count)?);
        let Call { cancel, .. } = Call::read(call)?;
        give(&c.runtime.run(|| of_texts(c, &words, &templates, &cancel))?, embeddings)
    })
}

/// The embeddings of `image_count` pictures, each normalised: image_count * nada_clip_dimension() floats, which is `length`, row-major. `resize`
/// is how they are shrunk, a nada_clip_resize; what is transparent is white. `call` may be NULL.
/// Threads: any. Owner: all is borrowed for the call. Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_clip_embed_images(
    clip: *const nada_clip,
    images: *const *const nada_image,
    image_count: usize,
    resize: ClipResizeNumber,
    call: *const nada_call,
    embeddings: *mut f32,
    length: usize,
) -> nada_status {
    guard(|| {
        let c = handle!(clip);
        not_null!(embeddings);
        some(image_count, "image_count")?;
        fits(image_count, c.clip.dimension(), length)?;
        let resize = choose(resize, "resize", "nada_clip_resize", &CLIP_RESIZES)?;
        let images: Vec<&LoadedImage> = handles(images, image_count, "images")?;
        let Call { cancel, .. } = Call::read(call)?;
        give(&c.runtime.run(|| of_images(c, &images, resize, &cancel))?, embeddings)
    })
}

/// How well pictures match texts: the cosines of their embeddings, image_count * text_count floats, which is `length`: a row for each picture, a
/// column for each text. The rest as for nada_clip_embed_texts(); pictures are shrunk with a low-pass (NADA_CLIP_RESIZE_ANTIALIAS).
/// Threads: any. Owner: all is borrowed for the call. Fails: as nada_clip_embed_texts().
#[no_mangle]
pub unsafe extern "C" fn nada_clip_score(
    clip: *const nada_clip,
    images: *const *const nada_image,
    image_count: usize,
    words: *const *const c_char,
    text_count: usize,
    templates: *const *const c_char,
    template_count: usize,
    call: *const nada_call,
    cosines: *mut f32,
    length: usize,
) -> nada_status {
    guard(|| {
        let c = handle!(clip);
        not_null!(cosines);
        some(image_count, "image_count")?;
        some(text_count, "text_count")?;
        fits(image_count, text_count, length)?;
        let (words, templates) = (texts(words, text_count, "words")?, prompts(templates, template_count)?);
        let images: Vec<&LoadedImage> = handles(images, image_count, "images")?;
        let Call { cancel, .. } = Call::read(call)?;
        let scores = c.runtime.run(|| {
            let words = of_texts(c, &words, &templates, &cancel)?;
            let pictures = of_images(c, &images, ClipResize::Antialias, &cancel)?;
            Ok(pictures.matmul(&words.t()?)?)
        })?;
        give(&scores, cosines)
    })
}

/// Frees a CLIP; NULL is allowed. Adaptations made with it keep what they need. Threads: any, once no other thread uses it.
#[no_mangle]
pub unsafe extern "C" fn nada_clip_free(clip: *mut nada_clip) {
    release(clip)
}
