//! Progress and cancelling of long calls.

pub use crate::cancel::Cancel;

use crate::picture::Picture;

/// What a progress callback is told after each complete step.
pub struct Progress<'a> {
    /// Steps done, from 1.
    pub step: usize,
    /// Steps at the most; a stop rule may end earlier.
    pub total: usize,
    pub loss: f32,
    /// A picture of the state reached, on steps that have one.
    pub preview: Option<&'a Picture>,
}

/// A progress callback's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    /// The call ends with [`crate::Error::Cancelled`].
    Stop,
}

/// Called on the thread that runs the work.
pub type OnProgress<'a> = dyn FnMut(&Progress) -> Flow + 'a;

/// For callers that want no reports.
pub fn silent(_: &Progress) -> Flow {
    Flow::Continue
}
