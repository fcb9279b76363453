//! What the tests of the C ABI share: short ways to call, and a context with the starter, opened once for all tests of a program.

#![allow(dead_code)] // each test program uses a part

use nada::capi::adaptation::*;
use nada::capi::adaptation_options::*;
use nada::capi::call::*;
use nada::capi::cancel::*;
use nada::capi::clip::*;
use nada::capi::context::*;
use nada::capi::domain::*;
use nada::capi::error::*;
use nada::capi::generator::*;
use nada::capi::image::*;
use nada::capi::image_file::*;
use nada::capi::latent::*;
use nada::capi::model::*;
use nada::capi::status::nada_status::*;
use nada::capi::status::*;
use std::ffi::{c_char, CStr, CString};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

/// A file of the project.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

pub fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

pub fn text(pointer: *const c_char) -> String {
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_string()
}

/// The message of the last call that failed.
pub fn last() -> String {
    text(nada_last_error_message())
}

#[track_caller]
pub fn ok(status: nada_status) {
    assert_eq!(status, NADA_OK, "{}", last());
}

/// Status and handle of a call that gives one as its last argument; a failure must leave NULL behind.
macro_rules! opened {
    ($function:ident($($argument:expr),*)) => {{
        let mut handle = std::ptr::dangling_mut();
        let status = $function($($argument,)* &mut handle);
        assert!(status == NADA_OK || handle.is_null(), "a failed call left a pointer");
        (status, handle)
    }};
}

/// The handle of one that succeeds.
macro_rules! made {
    ($function:ident($($argument:expr),*)) => {{
        let (status, handle) = opened!($function($($argument),*));
        ok(status);
        handle
    }};
}

/// A struct filled by a function that takes its size.
pub unsafe fn initialised<T>(init: unsafe extern "C" fn(*mut T, usize) -> nada_status) -> T {
    let mut options = std::mem::zeroed();
    ok(init(&mut options, size_of::<T>()));
    options
}

pub fn call(cancel: *const nada_cancel) -> nada_call {
    nada_call { struct_size: size_of::<nada_call>(), on_progress: None, user_data: null_mut(), cancel }
}

pub fn fingerprint(generator: *const nada_generator) -> String {
    let mut found = null();
    ok(unsafe { nada_generator_fingerprint(generator, null(), &mut found) });
    text(found)
}

/// Handles that are in order. They are never freed: all tests of a program use them, several at once.
pub struct World {
    pub context: *mut nada_context,
    pub model: *mut nada_model,
    pub generator: *mut nada_generator,
    /// The pack's first.
    pub clip: *mut nada_clip,
    /// One point of W.
    pub latent: *mut nada_latent,
    /// A face.
    pub image: *mut nada_image,
}

/// SAFETY: handles may be used by several threads.
unsafe impl Send for World {}
unsafe impl Sync for World {}

/// With two threads.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| unsafe {
        let options = nada_context_options { threads: 2, ..initialised(nada_context_options_init) };
        let context = made!(nada_context_new(&options));
        let model = made!(nada_model_open(context, c_path(&file("models/starter")).as_ptr()));
        let generator = made!(nada_model_generator(model, null()));
        let mut clip = null_mut();
        ok(nada_model_clip(model, 0, null(), &mut clip, null_mut()));
        let latent = made!(nada_generator_sample(generator, 1, 3, 0.7, null()));
        let image = made!(nada_image_open(c_path(&file("tests/data/face.png")).as_ptr(), null()));
        World { context, model, generator, clip, latent, image }
    })
}

impl World {
    /// The pack's recipe towards words it knows.
    pub unsafe fn adaptation(&self) -> nada_adaptation_options {
        let mut options = std::mem::zeroed();
        ok(nada_model_adaptation_options(self.model, &mut options, size_of::<nada_adaptation_options>()));
        options.target_text = c"a pencil sketch".as_ptr();
        options
    }

    /// The same in two large steps, so that they show.
    pub unsafe fn quick(&self) -> nada_adaptation_options {
        let mut options = self.adaptation();
        (options.steps, options.batch, options.stop_latents, options.learning_rate) = (2, 2, 0, 0.02);
        options
    }

    /// What they give; the caller frees it.
    pub unsafe fn domain(&self) -> *mut nada_domain {
        made!(nada_generator_adapt(self.generator, &self.quick(), null()))
    }
}
