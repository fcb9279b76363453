//! Memory that is used again.

use memmap2::MmapMut;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers to work on. They go back to a pool when dropped: small ones to their thread's, large ones, while somebody [keeps](Warm) them, to one for
/// all threads. Their contents are whatever was there before.
pub(crate) struct Scratch {
    /// As long as it ever was.
    all: Numbers,
    len: usize,
    /// Whether small memory goes back to its thread's pool.
    pooled: bool,
}

/// Where numbers lie.
enum Numbers {
    Small(Vec<f32>),
    /// Pages of their own, so that all that is given back is the system's again: what an allocator has to put between smaller things, it often keeps.
    Large(MmapMut),
}

impl Numbers {
    fn zeros(len: usize) -> Self {
        if len >= LARGE {
            // Where the system has no such pages, the allocator may have some.
            if let Ok(pages) = MmapMut::map_anon(len * size_of::<f32>()) {
                // A wish; where it is refused, all is as before.
                #[cfg(target_os = "linux")]
                let _ = pages.advise(memmap2::Advice::HugePage);
                return Self::Large(pages);
            }
        }
        Self::Small(vec![0.0; len])
    }
}

impl Deref for Numbers {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Self::Small(v) => v,
            // SAFETY: pages are aligned to more than four bytes, theirs are all initialised, and every pattern of bits is an f32.
            Self::Large(pages) => unsafe { std::slice::from_raw_parts(pages.as_ptr().cast(), pages.len() / size_of::<f32>()) },
        }
    }
}

impl DerefMut for Numbers {
    fn deref_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Small(v) => v,
            // SAFETY: as above, and borrowed exclusively.
            Self::Large(pages) => unsafe { std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), pages.len() / size_of::<f32>()) },
        }
    }
}

/// A thread's pool keeps no more numbers than this, so that one large picture does not hold on to memory for ever.
const KEPT: usize = 8 << 20;

/// Numbers from which on memory is large: for these the system is asked for large pages, as the first touch of each small one costs as much as
/// computing with it.
const LARGE: usize = 1 << 20;

thread_local! {
    static POOL: RefCell<Vec<Numbers>> = const { RefCell::new(Vec::new()) };
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { pool: Vec::new(), keepers: 0, in_use: 0, most: 0 });

/// Large memory. It never takes more than what was once in use together, though sizes change: see [`Shared::take`].
struct Shared {
    pool: Vec<Numbers>,
    keepers: usize,
    /// Numbers handed out.
    in_use: usize,
    /// The most that ever were, since somebody keeps them.
    most: usize,
}

impl Shared {
    /// What is there for `len` numbers, a quarter more at most. Where there is nothing, so much is given back to the system that with these
    /// numbers no more is taken than the most that were in use.
    fn take(&mut self, len: usize) -> Option<Numbers> {
        self.most = self.most.max(self.in_use + len);
        if let Some(found) = fitting(&mut self.pool, len, len + len / 4) {
            self.in_use += found.len();
            return Some(found);
        }
        let mut kept: usize = self.pool.iter().map(|numbers| numbers.len()).sum();
        while self.in_use + len + kept > self.most {
            let excess = self.in_use + len + kept - self.most;
            let sizes = || self.pool.iter().map(|numbers| numbers.len()).enumerate();
            let chosen =
                sizes().filter(|&(_, size)| size >= excess).min_by_key(|&(_, size)| size).or(sizes().max_by_key(|&(_, size)| size));
            let Some((i, size)) = chosen else { break };
            self.pool.swap_remove(i);
            kept -= size;
        }
        self.in_use += len;
        None
    }
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
            shared.most = 0;
            // Giving memory back takes its time; nobody waits for it.
            std::mem::drop(shared);
            std::mem::drop(pool);
        }
    }
}

/// The smallest that is large enough, taken out.
fn fitting(pool: &mut Vec<Numbers>, len: usize, most: usize) -> Option<Numbers> {
    let fits = (0..pool.len()).filter(|&i| (len..=most).contains(&pool[i].len()));
    fits.min_by_key(|&i| pool[i].len()).map(|i| pool.swap_remove(i))
}

impl Scratch {
    pub(crate) fn new(len: usize) -> Self {
        Self::found(len).0
    }

    /// And whether it is zeros, as what nobody used before is.
    fn found(len: usize) -> (Self, bool) {
        let found = match len < LARGE {
            true => POOL.with(|pool| fitting(&mut pool.borrow_mut(), len, usize::MAX)),
            false => shared().take(len),
        };
        let fresh = found.is_none();
        (Self { all: found.unwrap_or_else(|| Numbers::zeros(len)), len, pooled: true }, fresh)
    }

    /// Zeros that will live longer than a call: small ones keep nothing larger from those that work.
    pub(crate) fn lasting(len: usize) -> Self {
        match len < LARGE {
            true => Self { all: Numbers::zeros(len), len, pooled: false },
            false => Self::zeros(len),
        }
    }

    pub(crate) fn zeros(len: usize) -> Self {
        let (mut scratch, fresh) = Self::found(len);
        if !fresh {
            scratch.fill(0.0);
        }
        scratch
    }

    /// The same memory for `len` numbers, no more than it was made for.
    pub(crate) fn resized(mut self, len: usize) -> Self {
        assert!(len <= self.all.len(), "scratch of {} numbers has no room for {len}", self.all.len());
        self.len = len;
        self
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let all = std::mem::replace(&mut self.all, Numbers::Small(vec![]));
        if all.len() >= LARGE {
            let mut shared = shared();
            shared.in_use -= all.len();
            if shared.keepers > 0 {
                shared.pool.push(all);
            }
            return;
        }
        if !self.pooled {
            return;
        }
        // A pool that is gone (its thread is ending) just lets the memory go.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.iter().map(|numbers| numbers.len()).sum::<usize>() + all.len() <= KEPT {
                pool.push(all);
            }
        });
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.all[..self.len]
    }
}

impl DerefMut for Scratch {
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
        drop(warm);
        let shared = shared();
        assert!(shared.keepers > 0 || shared.pool.is_empty());
    }

    #[test]
    fn no_more_is_kept_than_was_in_use() {
        let of = |sizes: &[usize]| sizes.iter().map(|len| Numbers::Small(vec![0.0; *len])).collect::<Vec<_>>();
        let left = |shared: &Shared| {
            let mut sizes: Vec<usize> = shared.pool.iter().map(|v| v.len()).collect();
            sizes.sort();
            sizes
        };
        let mut shared = Shared { pool: of(&[10, 40, 30, 200]), keepers: 1, in_use: 20, most: 340 };
        // One that fits.
        assert_eq!(shared.take(33).unwrap().len(), 40);
        assert_eq!(shared.in_use, 60);
        // 300 are there: 40 more are no more than the most.
        assert!(shared.take(40).is_none());
        assert_eq!((left(&shared), shared.in_use), (vec![10, 30, 200], 100));
        // The smallest that is enough goes.
        assert!(shared.take(20).is_none());
        assert_eq!((left(&shared), shared.in_use), (vec![10, 200], 120));
        // More than there ever were: all may have to go.
        assert!(shared.take(400).is_none());
        assert_eq!((left(&shared), shared.most), (vec![], 520));
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
