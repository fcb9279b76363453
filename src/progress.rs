//! Progress and cancelling of long calls.

use crate::error::{Error, Result};
use crate::picture::Picture;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// A flag that any thread may raise and that long calls look at once a step. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst)
    }
    pub fn reset(&self) {
        self.0.store(false, Ordering::SeqCst)
    }
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
    /// `Err(Error::Cancelled)` once the flag is raised.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }
}

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
    /// The call ends with [`Error::Cancelled`].
    Stop,
}

/// Called on the thread that runs the work.
pub type OnProgress<'a> = dyn FnMut(&Progress) -> Flow + 'a;

/// For callers that want no reports.
pub fn silent(_: &Progress) -> Flow {
    Flow::Continue
}
