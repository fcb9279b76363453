// An optimiser's step (src/optim.rs says what the rules are).
#include "sums.hpp"

// rule: 0 SGD, 1 Adam without first moments, 2 Adam, 3 Ranger.
struct Step {
    int rule, first, meets, rectified;
    float keep, rate, beta1, beta2, rest1, rest2, correction, epsilon;

    // What becomes of a number p with gradient g and of its `rows` moments m.
    __device__ __forceinline__ float next(float p, float g, float m[3]) const {
        if (rule == 0)
            return keep * p - rate * g;
        if (rule == 1) {
            m[0] = beta2 * m[0] + rest2 * g * g;
            return keep * p - rate * g / (sqrtf(m[0]) / correction + epsilon);
        }
        if (rule == 2) {
            m[0] = beta1 * m[0] + rest1 * g;
            m[1] = beta2 * m[1] + rest2 * g * g;
            return keep * p - rate * m[0] / (sqrtf(m[1]) / correction + epsilon);
        }
        const float slow = first ? p : m[2];
        m[0] = beta1 * m[0] + rest1 * g;
        m[1] = beta2 * m[1] + rest2 * g * g;
        const float fast = keep * p - rate * m[0] / (rectified ? sqrtf(m[1]) + epsilon : 1.0f);
        m[2] = meets ? slow + 0.5f * (fast - slow) : slow;
        return meets ? m[2] : fast;
    }
};

// shift [rows] = means of g over each row of `span` numbers. Block 256, grid rows.
extern "C" __global__ void optim_centres(const float *__restrict__ g, float *__restrict__ shift, int span) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < span; i += blockDim.x)
        sum += g[(size_t)blockIdx.x * span + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        shift[blockIdx.x] = sum / span;
}

// p [length] and moments [rows][length] after a step; with `look` they stay, and bad[0] becomes one that would be NaN or infinite. shift: by row of
// `span`, or null. A thread a number.
extern "C" __global__ void optim_step(float *__restrict__ p, float *__restrict__ moments, const float *__restrict__ g, const float *__restrict__ shift,
                                      int span, int length, int rows, int look, float *__restrict__ bad, int rule, int first, int meets, int rectified,
                                      float keep, float rate, float beta1, float beta2, float rest1, float rest2, float correction, float epsilon) {
    const Step step = {rule, first, meets, rectified, keep, rate, beta1, beta2, rest1, rest2, correction, epsilon};
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < length; i += gridDim.x * blockDim.x) {
        float m[3];
        for (int r = 0; r < rows; r++)
            m[r] = moments[(size_t)r * length + i];
        const float next = step.next(p[i], g[i] - (shift ? shift[i / span] : 0.0f), m);
        if (look) {
            // Any of them will do.
            if (!(fabsf(next) <= 3.4028235e38f))
                atomicExch(bad, next);
            continue;
        }
        p[i] = next;
        for (int r = 0; r < rows; r++)
            moments[(size_t)r * length + i] = m[r];
    }
}
