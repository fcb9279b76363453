// Modulated convolutions 3 x 3 with padding 1 of features [n][c][h][w], and their gradients. (A GPU likes planes here: neighbouring threads
// have neighbouring pixels. They stay on it, so that nobody else sees the layout.)
//
// An up-sampling layer is one of them too: zeros between pixels, the 3 x 3 kernel, and the 4 x 4 blur after it are, for each of the 4 pixels that one
// becomes, a 3 x 3 kernel over the small picture. So it has 4 times as many outputs, `4 o + 2 (row % 2) + column % 2`, which are stored where
// they belong; nothing is blurred in memory. That is 36 products a small pixel where 9 and a blur would do, on tensor cores the cheaper way.
//
// "Effective" weights V [outputs][c][9] are scaled, and of an up-sampling layer these 4 kernels; styles and norms come on top.
#include "sums.hpp"
#include "tensor_cores.hpp"

// ---- weights

// What tap k of the layer's kernel gives to tap e of the kernel of phase a, along one direction: blur[2 e - 1 - a + k].
__device__ __forceinline__ float share_of(const float *blur, int a, int e, int k) {
    const int i = 2 * e - 1 - a + k;
    return i >= 0 && i < 4 ? blur[i] : 0.0f;
}

// V from w [o][c][9]; a thread a number. The blur is turned as it is laid over the picture.
extern "C" __global__ void conv_effective(const float *__restrict__ w, float *__restrict__ v, int o, int c, float scale, int up, float b0, float b1,
                                          float b2, float b3) {
    const float blur[4] = {b0, b1, b2, b3};
    const size_t total = (size_t)o * c * 9 * (up ? 4 : 1);
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        if (!up) {
            v[i] = w[i] * scale;
            continue;
        }
        const int tap = i % 9, ch = i / 9 % c, phase = i / 9 / c % 4;
        const float *from = w + (i / 9 / c / 4 * c + ch) * 9;
        float sum = 0.0f;
        for (int k = 0; k < 9; k++)
            sum += share_of(blur, phase / 2, tap / 3, k / 3) * share_of(blur, phase % 2, tap % 3, k % 3) * from[k];
        v[i] = sum * scale;
    }
}

// Sum over the kernel of the squared scaled weight: [o][c]. A thread a number.
extern "C" __global__ void conv_energy(const float *__restrict__ w, float *__restrict__ e, int length, float scale) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < length; i += gridDim.x * blockDim.x) {
        float sum = 0.0f;
        for (int k = 0; k < 9; k++)
            sum += w[(size_t)i * 9 + k] * w[(size_t)i * 9 + k];
        e[i] = sum * scale * scale;
    }
}

// d[n][o] = 1 / sqrt(sum over c of e s^2 + 1e-8). Grid (o, n), block 128. Styles of a sample are `step` apart.
extern "C" __global__ void conv_norms(const float *__restrict__ e, const float *__restrict__ s, int step, float *__restrict__ d, int o, int c) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < c; i += blockDim.x) {
        const float style = s[(size_t)blockIdx.y * step + i];
        sum += e[(size_t)blockIdx.x * c + i] * style * style;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        d[(size_t)blockIdx.y * o + blockIdx.x] = 1.0f / sqrtf(sum + 1e-8f);
}

// A number of V as a convolution from `ins` to `outs` channels uses it, with style and norm: forward `outs` are V's outputs; `flip` for
// the input's gradient, where they are its inputs, and only norms apply. phases: 4 or 1 outputs share a norm.
__device__ __forceinline__ float weight_at(const float *v, const float *s, int step, const float *d, int sample, int out, int in, int tap, int outs,
                                           int ins, int phases, int flip) {
    if (flip)
        return v[((size_t)in * outs + out) * 9 + 8 - tap] * d[(size_t)sample * (ins / phases) + in / phases];
    return v[((size_t)out * ins + in) * 9 + tap] * s[(size_t)sample * step + in] * d[(size_t)sample * (outs / phases) + out / phases];
}

// In the order of the tensor cores' fragments, rounded: packed [n][outs / 16][ins / 8][9][lane][4]; a thread a number. Row r of a fragment is channel
// 2 (r % 8) + r / 8, so that a lane of the result holds neighbouring channels.
extern "C" __global__ void conv_pack(const float *__restrict__ v, const float *__restrict__ s, int step, const float *__restrict__ d,
                                     unsigned *__restrict__ packed, int n, int outs, int ins, int phases, int flip) {
    const size_t total = (size_t)n * outs * ins * 9;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        const int j = i % 4, lane = i / 4 % 32, tap = i / 128 % 9;
        const size_t rest = i / (128 * 9);
        const int chunk = rest % (ins / 8), block = rest / (ins / 8) % (outs / 16), sample = rest / (ins / 8) / (outs / 16);
        const int out = block * 16 + 2 * (lane / 4) + j % 2, in = chunk * 8 + lane % 4 + j / 2 * 4;
        packed[i] = to_tf32(weight_at(v, s, step, d, sample, out, in, tap, outs, ins, phases, flip));
    }
}

// ---- what becomes of sums

// Bias null: the sums are stored as they are. Else noise (or null), bias, leaky ReLU with gain, clamp (infinite for none).
struct Finish {
    const float *bias, *noise, *strength;
    int noise_step; // 0 where one map serves all samples
    float clamp;
    int phases;

    __device__ __forceinline__ float of(float v, int sample, int channel, int pixel) const {
        if (!bias)
            return v;
        v += bias[channel] + (noise ? *strength * noise[(size_t)sample * noise_step + pixel] : 0.0f);
        v *= v > 0.0f ? 1.41421356f : 0.2f * 1.41421356f;
        return fminf(fmaxf(v, -clamp), clamp);
    }
};

// ---- exact, any size

constexpr int PLAIN = 64, PLAIN_K = 16;

// In f32. Block 256, grid (pixels / 64, outs / 64, n). x [n][ins][h][w] -> y [n][outs][h][w], or where phases is 4 [n][outs / 4][2 h][2 w].
extern "C" __global__ void __launch_bounds__(256)
    conv_plain(const float *__restrict__ x, const float *__restrict__ v, const float *__restrict__ s, int step, const float *__restrict__ d,
               float *__restrict__ y, int ins, int outs, int h, int w, int phases, int flip, const float *__restrict__ bias,
               const float *__restrict__ noise, int noise_step, const float *__restrict__ strength, float clamp) {
    __shared__ float a[PLAIN_K][PLAIN + 1], b[PLAIN_K][PLAIN];
    const Finish finish = {bias, noise, strength, noise_step, clamp, phases};
    const int thread = threadIdx.x, sample = blockIdx.z, area = h * w, depth = ins * 9;
    const int o0 = blockIdx.y * PLAIN, p0 = blockIdx.x * PLAIN, mine_o = thread / 16 * 4, mine_p = thread % 16 * 4;
    // The weights' phases belong to inputs where they are flipped, to outputs else.
    const int spread = flip ? 1 : phases;
    float sums[4][4] = {};
    for (int k0 = 0; k0 < depth; k0 += PLAIN_K) {
        for (int i = thread; i < PLAIN_K * PLAIN; i += 256) {
            const int row = i / PLAIN, column = i % PLAIN, k = k0 + row, in = k / 9, tap = k % 9, p = p0 + column;
            const int r = p / w + tap / 3 - 1, q = p % w + tap % 3 - 1;
            const bool inside = k < depth && p < area && r >= 0 && r < h && q >= 0 && q < w;
            b[row][column] = inside ? x[((size_t)sample * ins + in) * area + r * w + q] : 0.0f;
        }
        for (int i = thread; i < PLAIN_K * PLAIN; i += 256) {
            const int row = i % PLAIN_K, column = i / PLAIN_K, k = k0 + row, out = o0 + column;
            a[row][column] = k < depth && out < outs ? weight_at(v, s, step, d, sample, out, k / 9, k % 9, outs, ins, phases, flip) : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < PLAIN_K; k++)
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    sums[i][j] += a[k][mine_o + i] * b[k][mine_p + j];
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            const int out = o0 + mine_o + i, p = p0 + mine_p + j;
            if (out >= outs || p >= area)
                continue;
            const int channel = out / spread, phase = out % spread, side = spread == 4 ? 2 : 1;
            const int pixel = (p / w * side + phase / 2) * (w * side) + p % w * side + phase % 2;
            y[((size_t)sample * (outs / spread) + channel) * area * spread + pixel] = finish.of(sums[i][j], sample, channel, pixel);
        }
}

// ---- tensor cores

template <int TO, int TH, int WO, int WR> struct Tile {
    static constexpr int WARPS_O = TO / WO, WARPS_R = TH / WR, THREADS = WARPS_O * WARPS_R * 32;
    static constexpr int ROW = 40, PLANE = (TH + 2) * ROW + 8; // the plane's length is 8 or 24 modulo 32: reads meet no bank twice
    static constexpr int A = TO * 72, STAGE = A + 8 * PLANE;   // words
    static_assert((TH + 2) * ROW % 16 == 0);
};

// Grid (columns / 32 * rows / TH, outs / TO, n). x [n][chunks * 8][h][w] with 4 dividing w, `packed` of conv_pack -> y as above.
template <int TO, int TH, int WO, int WR>
__device__ __forceinline__ void conv(float *shared, const float *__restrict__ x, const unsigned *__restrict__ packed, float *__restrict__ y, int chunks,
                                     int outs, int h, int w, const Finish &finish) {
    using T = Tile<TO, TH, WO, WR>;
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32, g = lane / 4, t = lane % 4;
    const int wo = warp / T::WARPS_R * WO, wr = warp % T::WARPS_R * WR;
    const int across = (w + 31) / 32, x0 = blockIdx.x % across * 32, y0 = blockIdx.x / across * TH, o0 = blockIdx.y * TO, n = blockIdx.z;
    const unsigned *wn = packed + ((size_t)n * (outs / 16) + o0 / 16) * chunks * 1152;
    const float *xn = x + (size_t)n * chunks * 8 * h * w;
    auto load = [&](int chunk) {
        float *a = shared + chunk % 2 * T::STAGE, *b = a + T::A;
        for (int i = thread; i < T::A / 4; i += T::THREADS)
            copy16(a + i * 4, wn + ((size_t)(i / 288) * chunks + chunk) * 1152 + i % 288 * 4, true);
        for (int i = thread; i < 8 * (TH + 2) * 10; i += T::THREADS) {
            const int ch = i / ((TH + 2) * 10), r = i / 10 % (TH + 2), q = i % 10, sy = y0 - 1 + r, sx = x0 - 4 + q * 4;
            const bool inside = sy >= 0 && sy < h && sx >= 0 && sx < w;
            copy16(b + ch * T::PLANE + r * T::ROW + q * 4, inside ? xn + ((size_t)(chunk * 8 + ch) * h + sy) * w + sx : xn, inside);
        }
        copy_commit();
    };
    float d[WO / 16][WR * 4][4] = {};
    load(0);
    for (int chunk = 0; chunk < chunks; chunk++) {
        copy_wait<0>();
        __syncthreads(); // this chunk is here, and the one before has been read
        if (chunk + 1 < chunks)
            load(chunk + 1);
        const float *a = shared + chunk % 2 * T::STAGE + (wo / 16 * 9 * 32 + lane) * 4;
        const float *b = shared + chunk % 2 * T::STAGE + T::A + t * T::PLANE + wr * T::ROW + g + 3;
#pragma unroll
        for (int tap = 0; tap < 9; tap++) {
            unsigned fa[WO / 16][4], fb[WR * 4][2];
#pragma unroll
            for (int i = 0; i < WO / 16; i++) {
                const float4 v = *reinterpret_cast<const float4 *>(a + (i * 9 + tap) * 128);
                fa[i][0] = __float_as_uint(v.x), fa[i][1] = __float_as_uint(v.y), fa[i][2] = __float_as_uint(v.z), fa[i][3] = __float_as_uint(v.w);
            }
#pragma unroll
            for (int j = 0; j < WR * 4; j++)
#pragma unroll
                for (int k = 0; k < 2; k++)
                    fb[j][k] = to_tf32(b[k * 4 * T::PLANE + (j / 4 + tap / 3) * T::ROW + j % 4 * 8 + tap % 3]);
#pragma unroll
            for (int i = 0; i < WO / 16; i++)
#pragma unroll
                for (int j = 0; j < WR * 4; j++)
                    mma_16x8x8(d[i][j], fa[i], fb[j]);
        }
    }
#pragma unroll
    for (int i = 0; i < WO / 16; i++)
#pragma unroll
        for (int j = 0; j < WR * 4; j++) {
            const int row = y0 + wr + j / 4, col = x0 + j % 4 * 8 + 2 * t, ch = o0 + wo + i * 16 + 2 * g;
            if (row >= h || col >= w)
                continue;
            // Channels ch and ch + 1 of columns col and col + 1.
            const float *e = d[i][j];
            if (finish.phases == 4) {
                const int channel = ch / 4, p = (2 * row + ch % 4 / 2) * 2 * w + 2 * col;
                *reinterpret_cast<float4 *>(y + ((size_t)n * (outs / 4) + channel) * 4 * h * w + p) =
                    make_float4(finish.of(e[0], n, channel, p), finish.of(e[2], n, channel, p + 1), finish.of(e[1], n, channel, p + 2),
                                finish.of(e[3], n, channel, p + 3));
            } else {
                const int p = row * w + col;
                float *to = y + ((size_t)n * outs + ch) * h * w + p;
                *reinterpret_cast<float2 *>(to) = make_float2(finish.of(e[0], n, ch, p), finish.of(e[1], n, ch, p + 1));
                *reinterpret_cast<float2 *>(to + (size_t)h * w) = make_float2(finish.of(e[2], n, ch + 1, p), finish.of(e[3], n, ch + 1, p + 1));
            }
        }
}

#define CONV(name, TO, TH, WO, WR, BLOCKS)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(TO / WO *(TH / WR) * 32, BLOCKS)                                                              \
        name(const float *x, const unsigned *packed, float *y, int chunks, int outs, int h, int w, int phases, const float *bias,              \
             const float *noise, int noise_step, const float *strength, float clamp) {                                                         \
        extern __shared__ float tile[];                                                                                                        \
        conv<TO, TH, WO, WR>(tile, x, packed, y, chunks, outs, h, w, Finish{bias, noise, strength, noise_step, clamp, phases});                \
    }
CONV(conv_64x8, 64, 8, 64, 2, 2)
CONV(conv_64x4, 64, 4, 32, 2, 2)
CONV(conv_32x8, 32, 8, 32, 2, 3)
CONV(conv_32x16, 32, 16, 32, 4, 2)

// ---- the weights' gradient: part [n * splits][outs][ins][9] = sums over a share of the pixels of dy[out][p] x[in][p + tap]

constexpr int GRAD = 16, GRAD_P = 32;

// In f32, any size. Block 256, grid (ins / 16, outs / 16, n * splits); a split is a share of the rows.
extern "C" __global__ void __launch_bounds__(256) conv_grad_plain(const float *__restrict__ x, const float *__restrict__ dy, float *__restrict__ part,
                                                                 int ins, int outs, int h, int w, int splits) {
    __shared__ float a[GRAD][GRAD_P + 1], b[GRAD][3][GRAD_P + 3];
    const int thread = threadIdx.x, n = blockIdx.z / splits, split = blockIdx.z % splits, out = thread / GRAD, in = thread % GRAD;
    const int i0 = blockIdx.x * GRAD, o0 = blockIdx.y * GRAD, from = (int)((long long)h * split / splits), to = (int)((long long)h * (split + 1) / splits);
    float sums[9] = {};
    for (int row = from; row < to; row++)
        for (int q0 = 0; q0 < w; q0 += GRAD_P) {
            __syncthreads(); // what is there has been read
            for (int i = thread; i < GRAD * GRAD_P; i += 256) {
                const int o = i / GRAD_P, q = i % GRAD_P;
                a[o][q] = o0 + o < outs && q0 + q < w ? dy[(((size_t)n * outs + o0 + o) * h + row) * w + q0 + q] : 0.0f;
            }
            for (int i = thread; i < GRAD * 3 * (GRAD_P + 2); i += 256) {
                const int c = i / (3 * (GRAD_P + 2)), r = i / (GRAD_P + 2) % 3, q = i % (GRAD_P + 2), sy = row - 1 + r, sx = q0 - 1 + q;
                const bool inside = i0 + c < ins && sy >= 0 && sy < h && sx >= 0 && sx < w;
                b[c][r][q] = inside ? x[(((size_t)n * ins + i0 + c) * h + sy) * w + sx] : 0.0f;
            }
            __syncthreads();
            for (int q = 0; q < GRAD_P; q++)
                for (int tap = 0; tap < 9; tap++)
                    sums[tap] += a[out][q] * b[in][tap / 3][q + tap % 3];
        }
    if (o0 + out < outs && i0 + in < ins)
        for (int tap = 0; tap < 9; tap++)
            part[(((size_t)blockIdx.z * outs + o0 + out) * ins + i0 + in) * 9 + tap] = sums[tap];
}

// A warp has 32 outputs x 16 inputs x 9 taps. Grid (ins / TC, outs / TO, n * splits); 4 divides w.
template <int TO, int TC> struct Grad {
    static constexpr int THREADS = TO / 32 * (TC / 16) * 32, WARPS_C = TC / 16;
    static constexpr int DY = 2 * 32 + 4, X = 4 * 40 + 4; // rows of 4 modulo 32: no bank twice
    static constexpr int A = TO * DY, STAGE = A + TC * X; // floats
};
template <int TO, int TC>
__device__ __forceinline__ void grad(float *shared, const float *__restrict__ x, const float *__restrict__ dy, float *__restrict__ part, int c, int o,
                                     int h, int w, int splits) {
    using T = Grad<TO, TC>;
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32, g = lane / 4, t = lane % 4;
    const int wo = warp / T::WARPS_C * 32, wc = warp % T::WARPS_C * 16;
    const int c0 = blockIdx.x * TC, o0 = blockIdx.y * TO, n = blockIdx.z / splits, split = blockIdx.z % splits;
    const int across = (w + 31) / 32, tiles = across * ((h + 1) / 2), from = (int)((long long)tiles * split / splits),
              to = (int)((long long)tiles * (split + 1) / splits);
    auto load = [&](int i) {
        float *a = shared + (i - from) % 2 * T::STAGE, *b = a + T::A;
        const int x0 = i % across * 32, y0 = i / across * 2;
        for (int k = thread; k < TO * 16; k += T::THREADS) {
            const int ch = k / 16, r = k / 8 % 2, q = k % 8, sy = y0 + r, sx = x0 + q * 4;
            const bool inside = sy < h && sx < w;
            copy16(a + ch * T::DY + r * 32 + q * 4, inside ? dy + (((size_t)n * o + o0 + ch) * h + sy) * w + sx : dy, inside);
        }
        for (int k = thread; k < TC * 40; k += T::THREADS) {
            const int ch = k / 40, r = k / 10 % 4, q = k % 10, sy = y0 - 1 + r, sx = x0 - 4 + q * 4;
            const bool inside = sy >= 0 && sy < h && sx >= 0 && sx < w;
            copy16(b + ch * T::X + r * 40 + q * 4, inside ? x + (((size_t)n * c + c0 + ch) * h + sy) * w + sx : x, inside);
        }
        copy_commit();
    };
    float d[9][2][2][4] = {};
    if (from < to)
        load(from);
    for (int i = from; i < to; i++) {
        copy_wait<0>();
        __syncthreads();
        if (i + 1 < to)
            load(i + 1);
        const float *a = shared + (i - from) % 2 * T::STAGE + (wo + g) * T::DY + t;
        const float *b = shared + (i - from) % 2 * T::STAGE + T::A + (wc + g) * T::X + t + 3;
#pragma unroll
        for (int s = 0; s < 8; s++) { // 8 pixels each
            const int r = s / 4, q = s % 4 * 8;
            unsigned fa[2][4];
#pragma unroll
            for (int m = 0; m < 2; m++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    fa[m][j] = to_tf32(a[(m * 16 + j % 2 * 8) * T::DY + r * 32 + q + j / 2 * 4]);
#pragma unroll
            for (int tap = 0; tap < 9; tap++)
#pragma unroll
                for (int k = 0; k < 2; k++) {
                    unsigned fb[2];
#pragma unroll
                    for (int j = 0; j < 2; j++)
                        fb[j] = to_tf32(b[k * 8 * T::X + (r + tap / 3) * 40 + q + tap % 3 + j * 4]);
                    mma_16x8x8(d[tap][0][k], fa[0], fb);
                    mma_16x8x8(d[tap][1][k], fa[1], fb);
                }
        }
    }
#pragma unroll
    for (int tap = 0; tap < 9; tap++)
        for (int m = 0; m < 2; m++)
            for (int k = 0; k < 2; k++)
                for (int e = 0; e < 4; e++) {
                    const int out = o0 + wo + m * 16 + g + e / 2 * 8, in = c0 + wc + k * 8 + 2 * t + e % 2;
                    part[(((size_t)blockIdx.z * o + out) * c + in) * 9 + tap] = d[tap][m][k][e];
                }
}
extern "C" __global__ void __launch_bounds__(64, 4)
    conv_grad_32x32(const float *x, const float *dy, float *part, int ins, int outs, int h, int w, int splits) {
    extern __shared__ float tile[];
    grad<32, 32>(tile, x, dy, part, ins, outs, h, w, splits);
}

// dw [o][c][9] from the parts of all samples: their styles and norms, the way back through conv_effective, and what reaches the weights by
// the norm (q [n][o], its gradient over -norm^-3). A thread an output and input.
extern "C" __global__ void conv_grad_finish(const float *__restrict__ part, const float *__restrict__ w, const float *__restrict__ s, int step,
                                            const float *__restrict__ d, const float *__restrict__ q, float *__restrict__ dw, int n, int splits, int o,
                                            int c, float scale, int up, float b0, float b1, float b2, float b3) {
    const float blur[4] = {b0, b1, b2, b3};
    const int phases = up ? 4 : 1;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < o * c; i += gridDim.x * blockDim.x) {
        const int out = i / c, in = i % c;
        float sums[9] = {}, through = 0.0f;
        for (int sample = 0; sample < n; sample++) {
            const float style = s[(size_t)sample * step + in], norm = d[(size_t)sample * o + out];
            through += q[(size_t)sample * o + out] * style * style;
            for (int phase = 0; phase < phases; phase++)
                for (int tap = 0; tap < 9; tap++) {
                    float sum = 0.0f;
                    for (int split = 0; split < splits; split++)
                        sum += part[((((size_t)sample * splits + split) * o * phases + out * phases + phase) * c + in) * 9 + tap];
                    sum *= style * norm;
                    if (!up)
                        sums[tap] += sum;
                    else
                        for (int k = 0; k < 9; k++)
                            sums[k] += sum * share_of(blur, phase / 2, tap / 3, k / 3) * share_of(blur, phase % 2, tap % 3, k % 3);
                }
        }
        for (int k = 0; k < 9; k++)
            dw[(size_t)i * 9 + k] = sums[k] * scale + scale * scale * through * w[(size_t)i * 9 + k];
    }
}

// ds[n][c] = the style's gradient: scale over the sum of x times the input's gradient (direct [n][c]), and what reaches it by the norm.
// Grid (c / 256, n), into rows that are `step` apart.
extern "C" __global__ void conv_style_gradient(const float *__restrict__ direct, const float *__restrict__ e, const float *__restrict__ s,
                                               const float *__restrict__ q, float *__restrict__ ds, int step, int o, int c) {
    const int in = blockIdx.x * blockDim.x + threadIdx.x, n = blockIdx.y;
    if (in >= c)
        return;
    float through = 0.0f;
    for (int out = 0; out < o; out++)
        through += q[(size_t)n * o + out] * e[(size_t)out * c + in];
    ds[(size_t)n * step + in] = direct[(size_t)n * c + in] + s[(size_t)n * step + in] * through;
}
