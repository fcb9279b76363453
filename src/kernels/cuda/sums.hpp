// Sums within a block, the same bits whatever the order in which threads run.
#pragma once

// Sum over the block, in every thread; blockDim.x a multiple of 32, at most 1024, other dimensions 1.
__device__ __forceinline__ float block_sum(float v) {
    __shared__ float warps[32];
    for (int step = 16; step > 0; step /= 2)
        v += __shfl_down_sync(0xffffffffu, v, step);
    __syncthreads(); // the sum before has been read
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = v;
    __syncthreads();
    float sum = 0.0f;
    for (int i = 0; i < (int)blockDim.x / 32; i++)
        sum += warps[i];
    return sum;
}

// Sum over the warp, in every lane.
__device__ __forceinline__ float warp_sum(float v) {
    for (int step = 16; step > 0; step /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

__device__ __forceinline__ float warp_max(float v) {
    for (int step = 16; step > 0; step /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, step));
    return v;
}
