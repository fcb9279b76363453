// Tensor cores and asynchronous copies by single instructions, each with the same meaning on the host, so that kernels that use them can be tested
// there. Chips below 8.0 have neither: code for them traps, and src/kernels/cuda/mod.rs never sends them here.
#pragma once

// Rounds to the 10 bits of mantissa that the tensor cores multiply (to nearest, ties away from zero).
__device__ __forceinline__ unsigned to_tf32(float v) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
    return bits;
#elif defined(__CUDA_ARCH__)
    return (__float_as_uint(v) + 0x1000u) & 0xffffe000u;
#else
    unsigned bits;
    memcpy(&bits, &v, 4);
#if defined(EMULATE_EXACT) // what is left is the kernels' own arithmetic, as exact as any
    return bits;
#endif
    return (bits + 0x1000u) & 0xffffe000u;
#endif
}

// d[16][8] += a[16][8] b[8][8] of a warp. With g = lane / 4 and t = lane % 4 a lane holds a at (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4),
// b at (t, g), (t + 4, g), and d at (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).
__device__ __forceinline__ void mma_16x8x8(float d[4], const unsigned a[4], const unsigned b[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif defined(__CUDACC__)
    asm volatile("trap;");
#else
    const unsigned mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    unsigned all[32][6];
    emulate::gather(mine, sizeof(mine), all);
    const int g = emulate::lane() / 4, t = emulate::lane() % 4;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 8; k++) {
            const int row = g + i / 2 * 8, col = 2 * t + i % 2;
            float x, y;
            memcpy(&x, &all[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2], 4);
            memcpy(&y, &all[col * 4 + k % 4][4 + k / 4], 4);
            d[i] += x * y;
        }
#endif
}

// 16 bytes from global to shared memory, or zeros; they are there after `copy_wait` and a barrier.
__device__ __forceinline__ void copy16(void *to, const void *from, bool valid) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(valid ? 16 : 0));
#elif defined(__CUDACC__)
    asm volatile("trap;");
#else
    if (valid)
        memcpy(to, from, 16);
    else
        memset(to, 0, 16);
#endif
}
__device__ __forceinline__ void copy_commit() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;");
#endif
}
// All but the last N groups that were committed are there.
template <int N> __device__ __forceinline__ void copy_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(N));
#endif
}
