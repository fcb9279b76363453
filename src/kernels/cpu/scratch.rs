//! Scratch memory that is used again.

use std::cell::RefCell;

/// Scratch that goes back to its thread's pool when dropped. Its contents are whatever was there before.
pub(crate) struct Scratch(Vec<f32>);

/// A pool keeps no more numbers than this, so that one large picture does not hold on to memory for ever.
pub(crate) const KEPT: usize = 8 << 20;

thread_local! {
    static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

impl Scratch {
    pub(crate) fn new(len: usize) -> Self {
        let mut v = POOL.with(|p| {
            let mut p = p.borrow_mut();
            // The smallest that is large enough, else the largest.
            let fits = (0..p.len()).filter(|&i| p[i].capacity() >= len).min_by_key(|&i| p[i].capacity());
            let i = fits.or_else(|| (0..p.len()).max_by_key(|&i| p[i].capacity()));
            i.map(|i| p.swap_remove(i)).unwrap_or_default()
        });
        if v.capacity() < len {
            // What is there is not wanted: nothing is copied.
            drop(v);
            return Self(zeros(len));
        }
        v.resize(len, 0.0);
        Self(v)
    }
}

/// Zeros. Large ones lie in large pages where the system has them: the first touch of each small one costs as much as computing with it.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    let v = vec![0.0f32; len];
    #[cfg(target_os = "linux")]
    if len >= LARGE {
        const PAGE: usize = 4096;
        let begin = (v.as_ptr() as usize).next_multiple_of(PAGE);
        let end = (v.as_ptr() as usize + len * size_of::<f32>()) / PAGE * PAGE;
        // SAFETY: whole pages inside of memory that is ours; the advice changes nothing that a program sees. Where it is refused, all is as before.
        unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_HUGEPAGE) };
    }
    v
}

/// Numbers from which on [`zeros`] asks for large pages.
#[cfg(target_os = "linux")]
const LARGE: usize = 1 << 20;

impl Drop for Scratch {
    fn drop(&mut self) {
        let v = std::mem::take(&mut self.0);
        // A pool that is gone (its thread is ending) just lets the memory go.
        let _ = POOL.try_with(|p| {
            let mut p = p.borrow_mut();
            if p.iter().map(Vec::capacity).sum::<usize>() + v.capacity() <= KEPT {
                p.push(v);
            }
        });
    }
}

impl std::ops::Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl std::ops::DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
