//! CLIPs.

use super::context::nada_context;
use super::handle::{borrow, handle, into_raw, out, release, Handle};
use super::runtime::Runtime;
use super::status::{guard, nada_status, value};
use super::values::{c_string, choose, count32, path};
use crate::kernels::Activation;
use crate::nn::clip::Clip;
use std::ffi::{c_char, CString};
use std::sync::Arc;

/// A CLIP: what compares pictures with words. Never changes once opened.
pub struct nada_clip(());

pub(super) struct LoadedClip {
    pub clip: Arc<Clip>,
    name: CString,
    warning: CString,
}

impl LoadedClip {
    pub fn new(clip: Arc<Clip>) -> Self {
        Self { name: c_string(&clip.name), warning: c_string(&clip.warnings().join(". ")), clip }
    }
}

impl Handle for nada_clip {
    type Value = LoadedClip;
    const NAME: &'static str = "nada_clip";
}

/// The function between the two layers of a CLIP's MLPs.
#[repr(u32)]
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
pub type ActivationNumber = u32;

const ACTIVATIONS: [(u32, Option<Activation>); 4] = [
    (nada_activation::NADA_ACTIVATION_OF_FILE as u32, None),
    (nada_activation::NADA_ACTIVATION_QUICK_GELU as u32, Some(Activation::QuickGelu)),
    (nada_activation::NADA_ACTIVATION_GELU as u32, Some(Activation::Gelu)),
    (nada_activation::NADA_ACTIVATION_GELU_TANH as u32, Some(Activation::GeluTanh)),
];

/// Opens `clip` on the runtime's threads: reading large files is worth them.
fn open(runtime: &Runtime, path: &std::path::Path, activation: Option<Activation>) -> super::status::Result<LoadedClip> {
    Ok(LoadedClip::new(Arc::new(runtime.load(|cancel| Clip::open_as(path, activation, cancel))?)))
}

/// Opens a CLIP: a Hugging Face folder (config.json, model.safetensors, and its tokenizer where it has one), or a file: OpenAI's
/// TorchScript archive, or its tensors as safetensors or as a torch zip file. `file` is UTF-8.
/// Threads: any. Owner: the caller frees *clip with nada_clip_free(); it may outlive the context.
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_UNSUPPORTED, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_clip_open(context: *const nada_context, file: *const c_char, clip: *mut *mut nada_clip) -> nada_status {
    guard(|| {
        out!(clip);
        *clip = into_raw(open(&handle!(context).runtime, &path(file, "file")?, None)?);
        Ok(())
    })
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
    clip: *mut *mut nada_clip,
) -> nada_status {
    guard(|| {
        out!(clip);
        let activation = choose(activation, "activation", "nada_activation", &ACTIVATIONS)?;
        *clip = into_raw(open(&handle!(context).runtime, &path(file, "file")?, activation)?);
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

/// Frees a CLIP; NULL is allowed. Adaptations made with it keep what they need. Threads: any, once no other thread uses it.
#[no_mangle]
pub unsafe extern "C" fn nada_clip_free(clip: *mut nada_clip) {
    release(clip)
}
