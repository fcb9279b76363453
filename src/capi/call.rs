//! Calls that may take long: their progress, and what ends them.

use super::cancel::{nada_cancel, token};
use super::error::guard;
use super::handle::{into_raw, release};
use super::image::nada_image;
use super::options::{self, Options};
use super::status::{nada_status, Result};
use crate::picture::Picture;
use crate::progress::{Cancel, Flow};
use std::ffi::c_void;

/// A progress callback's answer.
#[repr(i32)]
pub enum nada_flow {
    /// Go on.
    NADA_CONTINUE = 0,
    /// End the call, which returns NADA_CANCELLED.
    NADA_STOP = 1,
}

/// A [`nada_flow`] as C returns it: any number.
pub type FlowNumber = i32;

/// What a progress callback is told after each complete step. The library fills it; newer libraries may append fields.
#[repr(C)]
pub struct nada_progress {
    /// The size of this struct in the library that fills it.
    pub struct_size: usize,
    /// A picture of the state reached, on steps that have one (snapshots), else NULL. Borrowed: valid until the callback returns.
    pub preview: *const nada_image,
    /// Steps done, from 1.
    pub step: u32,
    /// Steps at the most; a stop rule may end earlier.
    pub total: u32,
    /// The loss of this step.
    pub loss: f32,
    /// Always 0.
    pub reserved: u32,
}

/// Called after each step of a long call, on the thread that made the call; the work waits for it. Returns NADA_CONTINUE or NADA_STOP
/// (any other value stops too). It may call the library, with other adaptations than the one that runs. It must return normally: no
/// exception, no longjmp.
pub type nada_progress_callback = Option<unsafe extern "C" fn(progress: *const nada_progress, user_data: *mut c_void) -> FlowNumber>;

/// What a call that may take long heeds. NULL in its place is for nothing special: no progress, no cancelling.
#[repr(C)]
pub struct nada_call {
    /// sizeof(nada_call) where the program was compiled.
    pub struct_size: usize,
    /// Told after each step of calls that have steps: adapting and inverting. NULL (the default) for nobody.
    pub on_progress: nada_progress_callback,
    /// Passed to on_progress as it is. Default: NULL.
    pub user_data: *mut c_void,
    /// Ends the call with NADA_CANCELLED once it is triggered; NULL (the default) for nothing. It is looked at with each piece of a file that is
    /// read or written and of a tensor that is changed or hashed, and after each layer of a network.
    pub cancel: *const nada_cancel,
}

options::ends_with!(nada_call, cancel: *const nada_cancel);

unsafe impl Options for nada_call {
    const NAME: &'static str = "nada_call";
    const FIRST_SIZE: usize = size_of::<Self>();
    fn defaults(struct_size: usize) -> Self {
        Self { struct_size, on_progress: None, user_data: std::ptr::null_mut(), cancel: std::ptr::null() }
    }
}

/// Fills `call` with the defaults; struct_size is sizeof(nada_call). As all of them are 0, `nada_call call = {sizeof call}` does the same.
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_call_init(call: *mut nada_call, struct_size: usize) -> nada_status {
    guard(|| options::write(call, struct_size, &nada_call::defaults(struct_size)))
}

/// A [`nada_call`], checked; stays on the thread of the call.
pub(super) struct Call {
    pub cancel: Cancel,
    pub callback: Callback,
}

impl Call {
    /// # Safety
    /// `call` is NULL or filled as its documentation asks, and its callback may be called for as long as this lives.
    pub unsafe fn read(call: *const nada_call) -> Result<Self> {
        let call = options::read(call)?;
        let callback = Callback { function: call.on_progress, user_data: call.user_data };
        Ok(Self { cancel: token(call.cancel, "call.cancel")?, callback })
    }
}

/// A callback with its user data; stays on the thread of the call.
pub(super) struct Callback {
    function: nada_progress_callback,
    user_data: *mut c_void,
}

impl Callback {
    pub fn is_none(&self) -> bool {
        self.function.is_none()
    }

    pub fn call(&self, step: usize, total: usize, loss: f32, preview: Option<Picture>) -> Flow {
        let Some(function) = self.function else { return Flow::Continue };
        let preview = preview.map_or(std::ptr::null_mut(), |picture| into_raw::<nada_image>(picture.into()));
        let progress = nada_progress {
            struct_size: size_of::<nada_progress>(),
            preview,
            step: super::values::count32(step),
            total: super::values::count32(total),
            loss,
            reserved: 0,
        };
        let answer = unsafe { function(&progress, self.user_data) };
        unsafe { release(preview) };
        if answer == nada_flow::NADA_CONTINUE as i32 {
            Flow::Continue
        } else {
            Flow::Stop
        }
    }
}
