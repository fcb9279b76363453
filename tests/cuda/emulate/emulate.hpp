// Enough of CUDA's device language to compile a .cu file as host C++ and run it, one block at a time, on the calling thread.
//
// Every CUDA thread is a fiber that runs until it waits at a barrier or for its warp, so kernels with shared memory, __syncthreads and
// shuffles behave as on a GPU. The order in which threads run is a seed's choice: a result that depends on it lacks a barrier.
// Tensor cores and asynchronous copies have a host's meaning beside each instruction (src/kernels/cuda/tensor_cores.hpp). Not emulated: clusters, textures,
// printf, memory ordering between blocks, timing.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
using std::memcpy;
using std::memset;

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __restrict__ __restrict
// In a function thread_local means static too. One block at a time runs here, so this is the block's; that the variables share one segment
// lets the emulator fill them with NaN before each block. `extern __shared__ float name[]` is defined by emulate.cpp, which lists the names.
#define __shared__ thread_local

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulate {
    extern uint3 thread, block;
    extern dim3 block_dim, grid_dim;
    void sync_block();
    // Waits for the lanes of `mask`.
    void sync_warp(unsigned mask);
    // Every lane of `mask` leaves 8 bytes and reads those of lane `source(lane)`.
    uint64_t exchange(unsigned mask, uint64_t value, int source);
    unsigned ballot(unsigned mask, bool value);
    // Every lane of the warp leaves `bytes`, at most 64, and gets those of all 32, one behind the other.
    void gather(const void *mine, size_t bytes, void *all);
    int lane();

    template <class T> T shuffle(unsigned mask, T value, int source) {
        static_assert(sizeof(T) <= 8);
        uint64_t bits = 0;
        std::memcpy(&bits, &value, sizeof(T));
        bits = exchange(mask, bits, source);
        std::memcpy(&value, &bits, sizeof(T));
        return value;
    }

    using Kernel = void (*)(void **arguments);
    // Makes a kernel known under its name.
    struct Register {
        Register(const char *name, Kernel kernel);
    };
    template <auto F> struct Call;
    template <class... A, void (*F)(A...)> struct Call<F> {
        template <size_t... I> static void with(void **p, std::index_sequence<I...>) { F(*static_cast<A *>(p[I])...); }
        static void run(void **p) { with(p, std::index_sequence_for<A...>{}); }
    };
}

#define threadIdx (emulate::thread)
#define blockIdx (emulate::block)
#define blockDim (emulate::block_dim)
#define gridDim (emulate::grid_dim)
#define warpSize 32

inline void __syncthreads() { emulate::sync_block(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulate::sync_warp(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline unsigned __activemask() { return 0xffffffffu; }
inline unsigned __ballot_sync(unsigned mask, int value) { return emulate::ballot(mask, value != 0); }
inline int __any_sync(unsigned mask, int value) { return emulate::ballot(mask, value != 0) != 0; }
inline int __all_sync(unsigned mask, int value) { return emulate::ballot(mask, value == 0) == 0; }
template <class T> T __shfl_sync(unsigned mask, T v, int source, int width = 32) {
    return emulate::shuffle(mask, v, (emulate::lane() & ~(width - 1)) | (source & (width - 1)));
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned step, int width = 32) {
    const int lane = emulate::lane(), to = lane % width + (int)step;
    return emulate::shuffle(mask, v, to < width ? lane + (int)step : lane);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned step, int width = 32) {
    const int lane = emulate::lane(), to = lane % width - (int)step;
    return emulate::shuffle(mask, v, to >= 0 ? lane - (int)step : lane);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32) {
    const int lane = emulate::lane(), to = lane ^ bits;
    return emulate::shuffle(mask, v, to / width == lane / width ? to : lane);
}

// Atomic for the race detector's sake: blocks and threads take turns anyway.
template <class T, class F> T emulate_atomic(T *at, F change) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    T old, next;
    __atomic_load(at, &old, __ATOMIC_RELAXED);
    do
        next = change(old);
    while (!__atomic_compare_exchange(at, &old, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}
template <class T> T atomicAdd(T *at, T v) { return emulate_atomic(at, [=](T o) { return o + v; }); }
template <class T> T atomicMax(T *at, T v) { return emulate_atomic(at, [=](T o) { return o > v ? o : v; }); }
template <class T> T atomicMin(T *at, T v) { return emulate_atomic(at, [=](T o) { return o < v ? o : v; }); }
template <class T> T atomicExch(T *at, T v) { return emulate_atomic(at, [=](T) { return v; }); }
template <class T> T atomicCAS(T *at, T was, T v) { return emulate_atomic(at, [=](T o) { return o == was ? v : o; }); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __ldg(const float *p) { return *p; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline float __int_as_float(int v) { float f; std::memcpy(&f, &v, 4); return f; }
inline int __float_as_int(float v) { int f; std::memcpy(&f, &v, 4); return f; }
inline float __uint_as_float(unsigned v) { float f; std::memcpy(&f, &v, 4); return f; }
inline unsigned __float_as_uint(float v) { unsigned f; std::memcpy(&f, &v, 4); return f; }
using std::isfinite;
using std::isnan;
