//! Memory that is used again.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers to work on. They go back to a pool when dropped: small ones to their thread's, large ones, while somebody [keeps](Warm) them, to one for
/// all threads. Their contents are whatever was there before.
pub(crate) struct Scratch {
    /// As long as it ever was.
    all: Vec<f32>,
    len: usize,
}

/// A thread's pool keeps no more numbers than this, so that one large picture does not hold on to memory for ever.
pub(crate) const KEPT: usize = 8 << 20;

/// Numbers from which on memory is large: for these the system is asked for large pages, as the first touch of each small one costs as much as
/// computing with it.
const LARGE: usize = 1 << 20;

thread_local! {
    static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { pool: Vec::new(), keepers: 0 });

struct Shared {
    pool: Vec<Vec<f32>>,
    keepers: usize,
}

fn shared() -> MutexGuard<'static, Shared> {
    // Nothing is half done where a thread could have panicked.
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As long as one lives, large memory is kept for who needs the same again: the layers of a network, the steps of a training. The system clears
/// each page that it gives, which takes a third of a step's time at 1024 px.
pub(crate) struct Warm(());

impl Warm {
    pub(crate) fn new() -> Self {
        shared().keepers += 1;
        Self(())
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        let mut shared = shared();
        shared.keepers -= 1;
        if shared.keepers == 0 {
            let pool = std::mem::take(&mut shared.pool);
            // Giving memory back takes its time; nobody waits for it.
            std::mem::drop(shared);
            std::mem::drop(pool);
        }
    }
}

/// The smallest that is large enough, taken out.
fn fitting(pool: &mut Vec<Vec<f32>>, len: usize, most: usize) -> Option<Vec<f32>> {
    let fits = (0..pool.len()).filter(|&i| (len..=most).contains(&pool[i].len()));
    fits.min_by_key(|&i| pool[i].len()).map(|i| pool.swap_remove(i))
}

impl Scratch {
    pub(crate) fn new(len: usize) -> Self {
        let found = match len >= LARGE {
            // What is much too large is left for who needs it.
            true => fitting(&mut shared().pool, len, 2 * len),
            false => POOL.with(|pool| fitting(&mut pool.borrow_mut(), len, usize::MAX)),
        };
        Self { all: found.unwrap_or_else(|| zeros(len)), len }
    }

    pub(crate) fn zeros(len: usize) -> Self {
        let mut scratch = Self::new(len);
        scratch.fill(0.0);
        scratch
    }
}

/// Zeros, in large pages where they are many and the system has them.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    let v = vec![0.0f32; len];
    #[cfg(target_os = "linux")]
    if len >= LARGE {
        const PAGE: usize = 4096;
        let begin = (v.as_ptr() as usize).next_multiple_of(PAGE);
        let end = (v.as_ptr() as usize + len * size_of::<f32>()) / PAGE * PAGE;
        // SAFETY: whole pages inside of memory that is ours; the advice changes nothing that a program sees. Where it is refused, all is as
        // before.
        unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_HUGEPAGE) };
    }
    v
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let all = std::mem::take(&mut self.all);
        if all.len() >= LARGE {
            let mut shared = shared();
            if shared.keepers > 0 {
                shared.pool.push(all);
            }
            return;
        }
        // A pool that is gone (its thread is ending) just lets the memory go.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.iter().map(Vec::len).sum::<usize>() + all.len() <= KEPT {
                pool.push(all);
            }
        });
    }
}

impl std::ops::Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.all[..self.len]
    }
}

impl std::ops::DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.all[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the memory of `len` numbers lies.
    fn place(len: usize) -> *const f32 {
        Scratch::new(len).as_ptr()
    }

    #[test]
    fn memory_is_used_again_and_given_back() {
        // A size that nobody beside this test uses.
        const LEN: usize = 3 * LARGE + 4711;
        let warm = Warm::new();
        let first = place(LEN);
        assert_eq!(place(LEN - 100), first);
        assert!(shared().pool.iter().any(|v| v.len() == LEN));
        let too_large = Scratch::new(LEN / 2 - 1);
        assert!(too_large.all.len() < LEN && shared().pool.iter().any(|v| v.len() == LEN));
        drop((too_large, warm));
        let shared = shared();
        assert!(shared.keepers > 0 || shared.pool.is_empty());
    }

    #[test]
    fn zeros_are_zeros() {
        let _warm = Warm::new();
        Scratch::new(LARGE).fill(7.0);
        assert!(Scratch::zeros(LARGE).iter().all(|v| *v == 0.0));
        Scratch::new(100).fill(7.0);
        assert!(Scratch::zeros(99).iter().all(|v| *v == 0.0));
    }
}
