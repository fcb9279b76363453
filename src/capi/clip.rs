//! CLIPs.

use super::context::nada_context;
use super::handle::{borrow, handle, into_raw, out, release, Handle};
use super::runtime::Runtime;
use super::status::{guard, nada_status, value};
use super::values::{c_string, count32, path};
use crate::nn::clip::Clip;
use std::ffi::{c_char, CString};
use std::sync::Arc;

/// A CLIP: what compares pictures with words. Never changes once opened.
pub struct nada_clip(());

pub(super) struct LoadedClip {
    pub clip: Arc<Clip>,
    name: CString,
}

impl LoadedClip {
    pub fn new(clip: Arc<Clip>) -> Self {
        Self { name: c_string(&clip.name), clip }
    }
}

impl Handle for nada_clip {
    type Value = LoadedClip;
    const NAME: &'static str = "nada_clip";
}

/// Opens `clip` on the runtime's threads: reading large files is worth them.
fn open(runtime: &Runtime, path: &std::path::Path) -> super::status::Result<LoadedClip> {
    Ok(LoadedClip::new(Arc::new(runtime.load(|cancel| Clip::open_unless(path, cancel))?)))
}

/// Opens a CLIP: a Hugging Face folder (config.json, model.safetensors, and its tokenizer where it has one), or a file: OpenAI's
/// TorchScript archive, or its tensors as safetensors or as a torch zip file. `file` is UTF-8.
/// Threads: any. Owner: the caller frees *clip with nada_clip_free(); it may outlive the context.
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_UNSUPPORTED, NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_clip_open(context: *const nada_context, file: *const c_char, clip: *mut *mut nada_clip) -> nada_status {
    guard(|| {
        out!(clip);
        *clip = into_raw(open(&handle!(context).runtime, &path(file, "file")?)?);
        Ok(())
    })
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
