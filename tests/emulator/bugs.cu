// Planted bugs, each of which at least one mode of the emulator must show, and a control without.

// The control: reverses within a block.
__global__ void reversed(const float* x, float* y, int n) {
  __shared__ float s[64];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) s[threadIdx.x] = x[i];
  __syncthreads();
  if (i < n) y[i] = s[blockDim.x - 1 - threadIdx.x];
}

template <typename T>
__global__ void shared_overrun(const T* x, T* y, int n) {
  __shared__ T s[64];
  __shared__ T other[64];
  other[threadIdx.x] = 0;
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x + 1] + other[0];
}

__device__ __noinline__ float fetch(const float* s, int i) { return s[i]; }

__global__ void shared_overrun_by_pointer(const float* x, float* y, int n) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = fetch(s, threadIdx.x + 1);
}

// Stays inside the array: only the row's bound is broken.
__global__ void row_overrun(const float* x, float* y, int n) {
  __shared__ float s[2][64];
  s[0][threadIdx.x] = s[1][threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[0][threadIdx.x + 1];
}

__global__ void dynamic_overrun(const float* x, float* y, int n) {
  DYN_SHARED(raw);
  float* s = (float*)raw;
  s[threadIdx.x + 1] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x + 1];
}

__global__ void global_overrun(const float* x, float* y, int n) {
  y[threadIdx.x] = x[threadIdx.x + 1];
}

__global__ void no_syncthreads(const float* x, float* y, int n) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[63 - threadIdx.x];
}

// A shuffle orders no memory.
__global__ void no_syncwarp(const float* x, float* y, int n) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  const int j = __shfl_xor_sync(0xffffffffu, threadIdx.x, 1);
  y[threadIdx.x] = s[j];
}

// The second barrier of the loop is missing.
__global__ void overwritten_too_early(const float* x, float* y, int n) {
  __shared__ float s[64];
  float a = 0;
  for (int r = 0; r < 3; ++r) {
    s[threadIdx.x] = x[threadIdx.x] * (r + 1);
    __syncthreads();
    a += s[63 - threadIdx.x];
  }
  y[threadIdx.x] = a;
}

__global__ void divergent(const float* x, float* y, int n) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  if (threadIdx.x < 40) __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}

__global__ void two_barriers(const float* x, float* y, int n) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[threadIdx.x] = x[threadIdx.x];
}

__global__ void early_return(const float* x, float* y, int n) {
  if (threadIdx.x >= 50) return;
  __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

__global__ void warp_divergent(const float* x, float* y, int n) {
  float v = x[threadIdx.x];
  if (threadIdx.x % 32 < 20) v += __shfl_xor_sync(0xffffffffu, v, 1);
  __syncwarp();
  y[threadIdx.x] = v;
}

__global__ void shuffle_from_returned(const float* x, float* y, int n) {
  if (threadIdx.x >= 50) return;
  float v = x[threadIdx.x];
  for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  y[threadIdx.x] = v;
}

__global__ void not_in_mask(const float* x, float* y, int n) {
  y[threadIdx.x] = __shfl_sync(0x0000ffffu, x[threadIdx.x], 0);
}

__global__ void unwritten(const float* x, float* y, int n) {
  __shared__ float s[64];
  if (threadIdx.x < 60) s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}

__global__ void misaligned(const float* x, float* y, int n) {
  const float4 v = *reinterpret_cast<const float4*>(x + 1);
  y[threadIdx.x] = v.x;
}

__global__ void global_race(const float* x, float* y, int n) {
  y[threadIdx.x / 2] += x[threadIdx.x];
}

// Blocks read what other blocks write.
__global__ void race_of_blocks(const float* x, float* y, int n) {
  const int i = blockIdx.x * 16 + threadIdx.x % 16;
  if (threadIdx.x < 16) y[i] = x[i] + (i >= 16 ? y[i - 16] : 0.0f);
}

__global__ void undefined_shift(const float* x, float* y, int n) {
  y[threadIdx.x] = float(1 << (threadIdx.x + n));
}
