//! Vectors of the machine the program runs on, chosen at run time by pulp: AVX-512, AVX2 with FMA, NEON, or plain arrays that the compiler
//! turns into what the target has. The one place that chooses: [`vectorised`] for loops that the compiler vectorises by itself,
//! [`dispatch`] for kernels that name their vectors.

use pulp::{Arch, Scalar256b, Simd, WithSimd};

/// Runs `kernel` with the widest vectors of this machine. Its `with_simd` must be `#[inline(always)]`, as must what that calls, so that it
/// is compiled inside of each entry point.
#[inline(always)]
pub(crate) fn dispatch<K: WithSimd>(kernel: K) -> K::Output {
    #[cfg(test)]
    match LEVEL.load(std::sync::atomic::Ordering::Relaxed) {
        PORTABLE => return kernel.with_simd(Scalar256b),
        #[cfg(target_arch = "x86_64")]
        AVX2 => return Simd::vectorize(pulp::x86::V3::try_new().expect("a machine with AVX2"), kernel),
        _ => (),
    }
    match Arch::new() {
        // Arrays of eight instead of pulp's single numbers.
        Arch::Scalar => kernel.with_simd(Scalar256b),
        arch => arch.dispatch(kernel),
    }
}

/// Runs `f` compiled for the widest vectors of this machine. What `f` calls must be `#[inline(always)]` to take part.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    dispatch(f)
}

/// # Safety
/// A whole vector must be readable at `p`, aligned or not.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(p: *const f32) -> S::f32s {
    p.cast::<S::f32s>().read_unaligned()
}

/// # Safety
/// A whole vector must be writable at `p`, aligned or not.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(p: *mut f32, v: S::f32s) {
    p.cast::<S::f32s>().write_unaligned(v)
}

#[cfg(test)]
static LEVEL: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(WIDEST);
#[cfg(test)]
const WIDEST: u8 = 0;
#[cfg(test)]
const PORTABLE: u8 = 1;
#[cfg(test)]
const AVX2: u8 = 2;

/// Calls `f` with [`dispatch`] bound to each level in turn, for what divides its work among threads. Tests beside it run with other vectors
/// than they would, which must make no difference to them either.
#[cfg(test)]
pub(crate) fn at_each_level(mut f: impl FnMut(&str)) {
    use std::sync::atomic::Ordering::Relaxed;
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            LEVEL.store(WIDEST, Relaxed);
        }
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let _back = Back;
    let mut at = |level: u8, name: &str| {
        LEVEL.store(level, Relaxed);
        f(name);
    };
    at(WIDEST, "widest");
    at(PORTABLE, "portable");
    #[cfg(target_arch = "x86_64")]
    if pulp::x86::V3::try_new().is_some() {
        at(AVX2, "AVX2");
    }
}
