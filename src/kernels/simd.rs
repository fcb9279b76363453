//! Vectors of the machine the program runs on, chosen at run time: AVX-512, AVX2 with FMA, or plain arrays that the compiler
//! turns into what the target has. Kernels are written once against [`Simd`] and entered through [`dispatch`].

/// A vector type with the few operations that the kernels need.
///
/// # Safety
/// Implementations use instructions that the caller has checked for; call them only below [`dispatch`].
pub(crate) trait Simd: Copy {
    type V: Copy;
    /// f32 numbers in a vector.
    const N: usize;
    unsafe fn zero() -> Self::V;
    unsafe fn splat(x: f32) -> Self::V;
    /// Unaligned.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Unaligned.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// a * b + c
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Sum of the elements.
    unsafe fn sum(v: Self::V) -> f32;
}

/// 8 numbers, in portable Rust.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type V = [f32; 8];
    const N: usize = 8;
    #[inline(always)]
    unsafe fn zero() -> Self::V {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        p.cast::<[f32; 8]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        p.cast::<[f32; 8]>().write_unaligned(v)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, mut c: Self::V) -> Self::V {
        // Separate rounding: `mul_add` is a library call where the target has no fused instruction.
        for i in 0..8 {
            c[i] += a[i] * b[i];
        }
        c
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        v.iter().sum()
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    impl Simd for Avx2 {
        type V = __m256;
        const N: usize = 8;
        #[inline(always)]
        unsafe fn zero() -> __m256 {
            _mm256_setzero_ps()
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            _mm256_set1_ps(x)
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            _mm256_loadu_ps(p)
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            _mm256_storeu_ps(p, v)
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            _mm256_fmadd_ps(a, b, c)
        }
        #[inline(always)]
        unsafe fn sum(v: __m256) -> f32 {
            let mut a = [0.0f32; 8];
            _mm256_storeu_ps(a.as_mut_ptr(), v);
            a.iter().sum()
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    impl Simd for Avx512 {
        type V = __m512;
        const N: usize = 16;
        #[inline(always)]
        unsafe fn zero() -> __m512 {
            _mm512_setzero_ps()
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            _mm512_set1_ps(x)
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            _mm512_loadu_ps(p)
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            _mm512_storeu_ps(p, v)
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            _mm512_fmadd_ps(a, b, c)
        }
        #[inline(always)]
        unsafe fn sum(v: __m512) -> f32 {
            _mm512_reduce_add_ps(v)
        }
    }
}

/// Work that runs with a chosen vector type. `run` must be `#[inline(always)]`, so that it is compiled inside each entry point.
pub(crate) trait Kernel {
    type Output;
    /// # Safety
    /// Only [`dispatch`] calls it.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// Runs `kernel` with the widest vectors of this machine.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512<K: Kernel>(k: K) -> K::Output {
            k.run::<x86::Avx512>()
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<K: Kernel>(k: K) -> K::Output {
            k.run::<x86::Avx2>()
        }
        if is_x86_feature_detected!("avx512f") {
            return unsafe { avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return unsafe { avx2(kernel) };
        }
    }
    unsafe { kernel.run::<Portable>() }
}

/// Every vector type that this machine has, for tests: runs `check` under each.
#[cfg(test)]
pub(crate) fn each_level<K: Kernel>(mut make: impl FnMut() -> K) -> Vec<K::Output> {
    let mut out = vec![unsafe { make().run::<Portable>() }];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2<K: Kernel>(k: K) -> K::Output {
                k.run::<x86::Avx2>()
            }
            out.push(unsafe { avx2(make()) });
        }
        out.push(dispatch(make()));
    }
    out
}
