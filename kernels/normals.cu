// Random numbers, normally distributed: the start blocks of the iterations.
//
//   x_{2p}, x_{2p+1} = (-2 log u)^1/2 (cos, sin)(2 pi v),    u in (0, 1], v in [0, 1)
//
// u and v are the outputs 2 (drawn + p) and 2 (drawn + p) + 1 of SplitMix64, which is a function of
// seed and counter alone: the same seed gives the same numbers on every device, up to the rounding
// of log, cos and sin.
//
// x (size), double. One thread for a pair. No shared memory. The CPU's function:
// RandomState.standard_normal.
//
// G. Steele, D. Lea, C. Flood: Fast splittable pseudorandom number generators. OOPSLA 2014.
// G. Box, M. Muller: A note on the generation of random normal deviates. Ann. Math. Stat. 29 (1958).
#include "compat.cuh"

__device__ __forceinline__ double uniform(unsigned long long seed, unsigned long long counter) {
  unsigned long long z = seed + (counter + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  z ^= z >> 31;
  return double(z >> 11) * 0x1p-53;  // in [0, 1)
}

__global__ void __launch_bounds__(256)
normals(double* __restrict__ x, long long size, unsigned long long seed, unsigned long long drawn) {
  const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (2 * p >= size) return;
  const unsigned long long counter = 2 * (drawn + p);
  const double radius = sqrt(-2.0 * log(1.0 - uniform(seed, counter)));
  const double angle = 6.283185307179586 * uniform(seed, counter + 1);
  x[2 * p] = radius * cos(angle);
  if (2 * p + 1 < size) x[2 * p + 1] = radius * sin(angle);
}
