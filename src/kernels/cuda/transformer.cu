// What a transformer does between products of matrices: norms, activations, attention. Rows are tokens.
#include "sums.hpp"

// Mean and 1 / sqrt(variance + epsilon) of a row, in two passes: the variance of a large mean would cancel in one.
__device__ __forceinline__ float moments(const float *x, int width, float epsilon, float *mean) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        sum += x[i];
    const float m = block_sum(sum) / width;
    sum = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        sum += (x[i] - m) * (x[i] - m);
    *mean = m;
    return 1.0f / sqrtf(block_sum(sum) / width + epsilon);
}

// Block 128, grid rows.
extern "C" __global__ void norm_forward(const float *__restrict__ x, const float *__restrict__ gamma, const float *__restrict__ beta,
                                        float *__restrict__ y, int rows, int width, float epsilon) {
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const float *from = x + (size_t)row * width;
        float mean;
        const float scale = moments(from, width, epsilon, &mean);
        for (int i = threadIdx.x; i < width; i += blockDim.x)
            y[(size_t)row * width + i] = (from[i] - mean) * scale * gamma[i] + beta[i];
    }
}

// dx (`add` where it holds numbers already) from the gradient g of the normalised rows. Block 128, grid rows.
extern "C" __global__ void norm_backward(const float *__restrict__ x, const float *__restrict__ gamma, const float *__restrict__ g, float *dx, int rows,
                                         int width, float epsilon, int add) {
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const float *from = x + (size_t)row * width, *of = g + (size_t)row * width;
        float mean;
        const float scale = moments(from, width, epsilon, &mean);
        float sum = 0.0f, along = 0.0f;
        for (int i = threadIdx.x; i < width; i += blockDim.x) {
            sum += of[i] * gamma[i];
            along += of[i] * gamma[i] * (from[i] - mean);
        }
        sum = block_sum(sum) / width;
        along = block_sum(along) * scale * scale / width;
        for (int i = threadIdx.x; i < width; i += blockDim.x) {
            float *to = dx + (size_t)row * width + i;
            *to = (of[i] * gamma[i] - sum - (from[i] - mean) * along) * scale + (add ? *to : 0.0f);
        }
    }
}

constexpr float TANH = 1.5957691216f, CUBE = 0.044715f; // twice sqrt(2 / pi): (1 + tanh(y)) / 2 is sigmoid(2 y)

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// which: 0 x sigmoid(1.702 x), 1 GELU with erf, 2 with tanh.
__device__ __forceinline__ float activated(float x, int which) {
    if (which == 0)
        return x * sigmoid(1.702f * x);
    if (which == 1)
        return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    return x * sigmoid(TANH * x * (1.0f + CUBE * x * x));
}

__device__ __forceinline__ float slope(float x, int which) {
    if (which == 0) {
        const float s = sigmoid(1.702f * x);
        return s * (1.0f + 1.702f * x * (1.0f - s));
    }
    if (which == 1)
        return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * expf(-0.5f * x * x) * 0.39894228f;
    const float s = sigmoid(TANH * x * (1.0f + CUBE * x * x));
    return s * (1.0f + x * (1.0f - s) * TANH * (1.0f + 3.0f * CUBE * x * x));
}

// A thread a number.
extern "C" __global__ void activation_forward(const float *__restrict__ x, float *__restrict__ y, int length, int which) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < length; i += gridDim.x * blockDim.x)
        y[i] = activated(x[i], which);
}

// dx = g f'(x); g may be dx.
extern "C" __global__ void activation_backward(const float *__restrict__ x, const float *g, float *dx, int length, int which) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < length; i += gridDim.x * blockDim.x)
        dx[i] = g[i] * slope(x[i], which);
}

// y [rows][width] = bias, plus x where it is not null, of which only the first `queries` of each `tokens` rows are taken. A thread a number.
extern "C" __global__ void rows_of(const float *__restrict__ bias, const float *__restrict__ x, float *__restrict__ y, int rows, int width, int queries,
                                   int tokens) {
    const size_t total = (size_t)rows * width;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        const int row = i / width, column = i % width;
        y[i] = (bias ? bias[column] : 0.0f) + (x ? x[((size_t)(row / queries) * tokens + row % queries) * width + column] : 0.0f);
    }
}

// The transpose: dx [n][tokens][width] = g [n][queries][width], and zero for tokens that did not ask. A thread a number.
extern "C" __global__ void rows_back(const float *__restrict__ g, float *__restrict__ dx, int n, int width, int queries, int tokens) {
    const size_t total = (size_t)n * tokens * width;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        const int token = i / width % tokens;
        dx[i] = token < queries ? g[((i / width / tokens) * queries + token) * width + i % width] : 0.0f;
    }
}

// sums [width] of g [rows][width] over the rows. A thread a column.
extern "C" __global__ void column_sums(const float *__restrict__ g, float *__restrict__ sums, int rows, int width) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < width; i += gridDim.x * blockDim.x) {
        float sum = 0.0f;
        for (int row = 0; row < rows; row++)
            sum += g[(size_t)row * width + i];
        sums[i] = sum;
    }
}

// ---- attention: qkv [n][tokens][3 * heads * width]; a warp a row, 4 warps a block

constexpr int WARPS = 4;

// Where token t of head `head` begins; part 0 queries, 1 keys, 2 values.
__device__ __forceinline__ size_t token_at(int n, int tokens, int t, int heads, int width, int part, int head) {
    return (((size_t)n * tokens + t) * 3 + part) * heads * width + head * width;
}

// A row of probabilities softmax(scale q k) into p [tokens] of shared memory; `seen` keys count.
__device__ __forceinline__ void probabilities(const float *qkv, float *p, int n, int tokens, int query, int heads, int width, int head, int seen) {
    const int lane = threadIdx.x % 32;
    const float scale = 1.0f / sqrtf((float)width);
    const float *q = qkv + token_at(n, tokens, query, heads, width, 0, head);
    float most = -INFINITY;
    for (int j = lane; j < tokens; j += 32) {
        const float *k = qkv + token_at(n, tokens, j, heads, width, 1, head);
        float sum = 0.0f;
        for (int i = 0; i < width; i++)
            sum += q[i] * k[i];
        p[j] = j < seen ? sum * scale : -INFINITY;
        most = fmaxf(most, p[j]);
    }
    most = warp_max(most);
    float sum = 0.0f;
    for (int j = lane; j < tokens; j += 32) {
        p[j] = j < seen ? expf(p[j] - most) : 0.0f;
        sum += p[j];
    }
    sum = 1.0f / warp_sum(sum);
    for (int j = lane; j < tokens; j += 32)
        p[j] *= sum;
    __syncwarp();
}

// out [n][queries][heads * width]. Block 128, grid (queries / 4, heads, n), 4 * tokens floats of shared memory.
extern "C" __global__ void attention_forward(const float *__restrict__ qkv, float *__restrict__ out, int queries, int tokens, int heads, int width,
                                             int causal) {
    extern __shared__ float tile[];
    const int lane = threadIdx.x % 32, query = blockIdx.x * WARPS + threadIdx.x / 32, head = blockIdx.y, n = blockIdx.z;
    if (query >= queries)
        return;
    float *p = tile + threadIdx.x / 32 * tokens;
    const int seen = causal ? query + 1 : tokens;
    probabilities(qkv, p, n, tokens, query, heads, width, head, seen);
    for (int i = lane; i < width; i += 32) {
        float sum = 0.0f;
        for (int j = 0; j < seen; j++)
            sum += p[j] * qkv[token_at(n, tokens, j, heads, width, 2, head) + i];
        out[(((size_t)n * queries + query) * heads + head) * width + i] = sum;
    }
}

// Gradients of queries, into dqkv; and of each head p and ds [n][heads][queries][tokens], which the others are made of. As above.
extern "C" __global__ void attention_back_queries(const float *__restrict__ qkv, const float *__restrict__ g, float *__restrict__ dqkv,
                                                  float *__restrict__ kept_p, float *__restrict__ kept_ds, int queries, int tokens, int heads, int width,
                                                  int causal) {
    extern __shared__ float tile[];
    const int lane = threadIdx.x % 32, query = blockIdx.x * WARPS + threadIdx.x / 32, head = blockIdx.y, n = blockIdx.z;
    if (query >= queries)
        return;
    float *p = tile + threadIdx.x / 32 * 2 * tokens, *ds = p + tokens;
    const int seen = causal ? query + 1 : tokens;
    probabilities(qkv, p, n, tokens, query, heads, width, head, seen);
    const float *of = g + (((size_t)n * queries + query) * heads + head) * width;
    float along = 0.0f;
    for (int j = lane; j < tokens; j += 32) {
        const float *v = qkv + token_at(n, tokens, j, heads, width, 2, head);
        float sum = 0.0f;
        for (int i = 0; i < width; i++)
            sum += of[i] * v[i];
        ds[j] = sum;
        along += p[j] * sum;
    }
    along = warp_sum(along);
    const float scale = 1.0f / sqrtf((float)width);
    const size_t row = (((size_t)n * heads + head) * queries + query) * tokens;
    for (int j = lane; j < tokens; j += 32) {
        ds[j] = (ds[j] - along) * p[j] * scale;
        kept_p[row + j] = p[j];
        kept_ds[row + j] = ds[j];
    }
    __syncwarp();
    for (int i = lane; i < width; i += 32) {
        float sum = 0.0f;
        for (int j = 0; j < seen; j++)
            sum += ds[j] * qkv[token_at(n, tokens, j, heads, width, 1, head) + i];
        dqkv[token_at(n, tokens, query, heads, width, 0, head) + i] = sum;
    }
}

// Gradients of keys and values of each token, and zero for the queries of tokens that did not ask. Block 128, grid (tokens / 4, heads, n).
extern "C" __global__ void attention_back_tokens(const float *__restrict__ qkv, const float *__restrict__ g, float *__restrict__ dqkv,
                                                 const float *__restrict__ p, const float *__restrict__ ds, int queries, int tokens, int heads,
                                                 int width) {
    const int lane = threadIdx.x % 32, token = blockIdx.x * WARPS + threadIdx.x / 32, head = blockIdx.y, n = blockIdx.z;
    if (token >= tokens)
        return;
    const size_t from = ((size_t)n * heads + head) * queries * tokens + token;
    for (int i = lane; i < width; i += 32) {
        float dk = 0.0f, dv = 0.0f;
        for (int q = 0; q < queries; q++) {
            dk += ds[from + (size_t)q * tokens] * qkv[token_at(n, tokens, q, heads, width, 0, head) + i];
            dv += p[from + (size_t)q * tokens] * g[(((size_t)n * queries + q) * heads + head) * width + i];
        }
        dqkv[token_at(n, tokens, token, heads, width, 1, head) + i] = dk;
        dqkv[token_at(n, tokens, token, heads, width, 2, head) + i] = dv;
        if (token >= queries)
            dqkv[token_at(n, tokens, token, heads, width, 0, head) + i] = 0.0f;
    }
}

// ---- tokens of pictures

// Pictures [n][c][h][w] to tokens [n][rows * columns][c][patch][patch], or `back`. A thread a number of the tokens, or back of the pictures.
extern "C" __global__ void patches(const float *__restrict__ from, float *__restrict__ to, int n, int c, int h, int w, int patch, int back) {
    const int rows = h / patch, columns = w / patch;
    const size_t total = back ? (size_t)n * c * h * w : (size_t)n * rows * columns * c * patch * patch;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        if (back) {
            const int x = i % w, y = i / w % h, ch = i / ((size_t)w * h) % c, sample = i / ((size_t)w * h * c);
            const bool inside = y < rows * patch && x < columns * patch;
            const size_t token = ((size_t)sample * rows + y / patch) * columns + x / patch;
            to[i] = inside ? from[(token * c + ch) * patch * patch + y % patch * patch + x % patch] : 0.0f;
        } else {
            const int x = i % patch, y = i / patch % patch, ch = i / (patch * patch) % c;
            const size_t token = i / ((size_t)patch * patch * c);
            const int column = token % columns, row = token / columns % rows, sample = token / ((size_t)columns * rows);
            to[i] = from[(((size_t)sample * c + ch) * h + row * patch + y) * w + column * patch + x];
        }
    }
}

// y [n][tokens + 1][width] = class, then x [n][tokens][width], plus position. A thread a number.
extern "C" __global__ void embedded(const float *__restrict__ x, const float *__restrict__ first, const float *__restrict__ position,
                                    float *__restrict__ y, int n, int tokens, int width) {
    const size_t row = (size_t)(tokens + 1) * width, total = n * row;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        const size_t at = i % row;
        y[i] = (at < (size_t)width ? first[at] : x[i / row * tokens * width + at - width]) + position[at];
    }
}
