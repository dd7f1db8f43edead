// The kernels of cupy.py, in CUDA C++. CuPy compiles this file once for each dtype, with
//
//     STORED     the type of the arrays: double, float, __half or __nv_bfloat16
//     COMPUTED   the type that everything is computed in: double for double, float for the others
//
// Elements are read as STORED, computed as COMPUTED and rounded once, where they are written.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// --- one element after another -------------------------------------------------------------------

#define ELEMENTWISE(name, y)                                                                     \
    extern "C" __global__ void name(const STORED* from, STORED* to, long long count) {           \
        const long long step = (long long)gridDim.x * blockDim.x;                                \
        for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count;          \
             i += step) {                                                                        \
            const COMPUTED x = COMPUTED(from[i]);                                                \
            to[i] = STORED(y);                                                                   \
        }                                                                                        \
    }

#define ONE COMPUTED(1)
#define HALF COMPUTED(0.5)
#define ROOT_OF_HALF COMPUTED(0.70710678118654752440)        // sqrt(1/2)
#define ROOT_OF_2_BY_PI COMPUTED(0.79788456080286535588)     // sqrt(2/pi)

ELEMENTWISE(erf_of, erf(x))
ELEMENTWISE(gelu_erf, HALF * x * (ONE + erf(x * ROOT_OF_HALF)))
ELEMENTWISE(gelu_tanh,
            HALF * x * (ONE + tanh(ROOT_OF_2_BY_PI * (x + COMPUTED(0.044715) * (x * x * x)))))
// exp of a number that is never positive, so it cannot overflow.
ELEMENTWISE(silu, x * (x < 0 ? exp(-fabs(x)) : ONE) / (ONE + exp(-fabs(x))))

// --- one row after another -----------------------------------------------------------------------
//
// blockDim.x threads share a row; blockDim.y rows share a block. A row has one warp (and a block
// several rows), or several warps (and the block to itself).

#define WARP 32

struct Sum {
    __device__ COMPUTED operator()(COMPUTED a, COMPUTED b) const { return a + b; }
};

struct Largest {  // a NaN may be passed over: the sum of exp has it
    __device__ COMPUTED operator()(COMPUTED a, COMPUTED b) const { return a > b ? a : b; }
};

template <typename Join>
__device__ COMPUTED joined_in_warp(COMPUTED x, int lanes, Join join) {
    for (int apart = lanes / 2; apart > 0; apart /= 2) {
        x = join(x, __shfl_xor_sync(0xffffffffu, x, apart));
    }
    return x;
}

// Join what the threads of a row hold. Every thread gets the same bits, run after run.
template <typename Join>
__device__ COMPUTED joined_in_row(COMPUTED x, Join join) {
    x = joined_in_warp(x, WARP, join);
    const int warps = blockDim.x / WARP;  // 1, 2, 4, ..., 32
    if (warps == 1) {
        return x;
    }
    __shared__ COMPUTED of_warp[WARP];
    if (threadIdx.x % WARP == 0) {
        of_warp[threadIdx.x / WARP] = x;
    }
    __syncthreads();
    x = joined_in_warp(of_warp[threadIdx.x % warps], warps, join);
    __syncthreads();  // before the next join writes
    return x;
}

#define ROW ((long long)blockIdx.x * blockDim.y + threadIdx.y)
#define EACH_OF_ROW(i) for (long long i = threadIdx.x; i < width; i += blockDim.x)

extern "C" __global__ void layer_norm(const STORED* from, const STORED* weight,
                                      const STORED* bias, STORED* to, long long rows,
                                      long long width, double eps) {
    if (ROW >= rows) {
        return;  // the whole warp
    }
    from += ROW * width;
    to += ROW * width;
    COMPUTED sum = 0;
    EACH_OF_ROW(i) { sum += COMPUTED(from[i]); }
    const COMPUTED mean = joined_in_row(sum, Sum()) / COMPUTED(width);
    COMPUTED squares = 0;
    EACH_OF_ROW(i) {
        const COMPUTED centred = COMPUTED(from[i]) - mean;
        squares += centred * centred;
    }
    const COMPUTED variance = joined_in_row(squares, Sum()) / COMPUTED(width);
    const COMPUTED deviation = sqrt(variance + COMPUTED(eps));
    EACH_OF_ROW(i) {
        const COMPUTED normal = (COMPUTED(from[i]) - mean) / deviation;
        to[i] = STORED(normal * COMPUTED(weight[i]) + COMPUTED(bias[i]));
    }
}

template <typename Scores>
__device__ COMPUTED largest_of_row(Scores score, long long width) {
    COMPUTED largest = score(threadIdx.x < width ? threadIdx.x : 0);
    EACH_OF_ROW(i) { largest = Largest()(largest, score(i)); }
    return joined_in_row(largest, Largest());
}

template <typename Scores>
__device__ COMPUTED sum_of_exp(Scores score, long long width, COMPUTED largest) {
    COMPUTED sum = 0;
    EACH_OF_ROW(i) { sum += exp(score(i) - largest); }
    return joined_in_row(sum, Sum());
}

struct PlainScores {
    const STORED* from;
    __device__ COMPUTED operator()(long long i) const { return COMPUTED(from[i]); }
};

extern "C" __global__ void softmax(const STORED* from, STORED* to, long long rows,
                                   long long width) {
    if (ROW >= rows) {
        return;
    }
    const PlainScores score = {from + ROW * width};
    const COMPUTED largest = largest_of_row(score, width);
    const COMPUTED sum = sum_of_exp(score, width, largest);
    EACH_OF_ROW(i) { to[ROW * width + i] = STORED(exp(score(i) - largest) / sum); }
}

extern "C" __global__ void log_softmax(const STORED* from, STORED* to, long long rows,
                                       long long width) {
    if (ROW >= rows) {
        return;
    }
    const PlainScores score = {from + ROW * width};
    const COMPUTED largest = largest_of_row(score, width);
    const COMPUTED log_of_sum = log(sum_of_exp(score, width, largest));
    EACH_OF_ROW(i) { to[ROW * width + i] = STORED(score(i) - largest - log_of_sum); }
}

// --- the scores of attention (B, H, S, T) made its weights, where they lie ------------------------

struct MaskedScores {
    const STORED* scores;
    const bool* mask;
    long long over_keys;  // 0 where the mask is broadcast along the keys
    COMPUTED lowest;
    __device__ COMPUTED operator()(long long i) const {
        return mask[i * over_keys] ? COMPUTED(scores[i]) : lowest;
    }
};

// The mask, read through its strides; the softmax; the head mask, where its pointer is not null.
// What is written over was read before the sums were joined, and after that by the thread alone
// that writes.
extern "C" __global__ void attention_weights(
    STORED* scores, const STORED* head_mask, const bool* mask, long long over_batch,
    long long over_heads, long long over_queries, long long over_keys, long long rows,
    long long heads, long long queries, long long width, double lowest) {
    if (ROW >= rows) {
        return;
    }
    const long long query = ROW % queries, head = ROW / queries % heads,
                    batch = ROW / queries / heads;
    const MaskedScores score = {
        scores + ROW * width,
        mask + batch * over_batch + head * over_heads + query * over_queries,
        over_keys,
        COMPUTED(lowest),
    };
    const COMPUTED largest = largest_of_row(score, width);
    const COMPUTED sum = sum_of_exp(score, width, largest);
    const COMPUTED kept = head_mask ? COMPUTED(head_mask[head]) : ONE;
    EACH_OF_ROW(i) { scores[ROW * width + i] = STORED(exp(score(i) - largest) / sum * kept); }
}
