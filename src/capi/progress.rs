//! Progress callbacks.

use super::handle::{into_raw, release};
use super::image::nada_image;
use crate::picture::Picture;
use crate::progress::Flow;
use std::ffi::c_void;

/// A progress callback's answer.
#[repr(u32)]
pub enum nada_flow {
    /// Go on.
    NADA_CONTINUE = 0,
    /// End the call, which returns NADA_CANCELLED.
    NADA_STOP = 1,
}

/// A [`nada_flow`] as C returns it: any number.
pub type FlowNumber = u32;

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

/// A callback with its user data; stays on the thread of the call.
pub(super) struct Callback {
    function: nada_progress_callback,
    user_data: *mut c_void,
}

impl Callback {
    /// # Safety
    /// `function` may be called with `user_data` for as long as this lives.
    pub unsafe fn new(function: nada_progress_callback, user_data: *mut c_void) -> Self {
        Self { function, user_data }
    }

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
        if answer == nada_flow::NADA_CONTINUE as u32 {
            Flow::Continue
        } else {
            Flow::Stop
        }
    }
}
