// Principal directions of one neighbourhood by one-sided Jacobi (Hestenes 1958), for a group of
// lanes with a column each in registers, and for a block with the columns in shared memory.
//
//     A (k x m)  ->  A V = U diag(sigma),  V orthogonal: columns turned pairwise until orthogonal
//
// A pair of columns a, b with alpha = a.a, beta = b.b, gamma = a.b:
//
//     zeta = (beta - alpha) / (2 gamma),  t = sign(zeta) / (|zeta| + sqrt(1 + zeta^2)),
//     c = 1 / sqrt(1 + t^2),  s = c t:    a <- c a - s b,  b <- c b + s a
//
// and the longer of the two goes to the lower column, which makes sweeps fewer.
//
// - A is Z itself where there are fewer features than neighbours: singular values small beside the
//   largest keep their digits, which Z Z^T would square away.
// - Else A = L of Z Z^T = L L^T, Cholesky with complete pivoting: U and sigma^2 are the
//   eigenvectors and eigenvalues, and the columns of L are nearly orthogonal already (Veselic, Hari
//   1989): at most 12 sweeps to k = 128 on all matrices tried, where Jacobi on Z Z^T itself takes
//   up to 40.
//
// The order of pairs is fixed: in round s = 1, 2, ... column p meets column p xor s. Nothing
// depends on the schedule of threads, and no value on which other points are in the launch.
//
// K. Veselic, V. Hari: A note on a one-sided Jacobi algorithm. Numer. Math. 56:627 (1989).
// Z. Drmac, K. Veselic: New fast and accurate Jacobi SVD algorithm. SIAM J. Matrix Anal. 29:1322
// (2008).
#pragma once
#include "compat.cuh"

constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr double EPS = 2.220446049250313e-16;

// Sum over each group of M lanes, the same bits in all of them.
template <int M, typename V> __device__ __forceinline__ V sum_lanes(V v) {
#pragma unroll
  for (int offset = M / 2; offset > 0; offset /= 2) v += __shfl_xor_sync(ALL_LANES, v, offset, M);
  return v;
}

template <int M> __device__ __forceinline__ double max_lanes(double v) {
#pragma unroll
  for (int offset = M / 2; offset > 0; offset /= 2) {
    const double other = __shfl_xor_sync(ALL_LANES, v, offset, M);
    v = other > v ? other : v;
  }
  return v;
}

// Value and position of the largest, the lowest position among equals.
template <int M> __device__ __forceinline__ void argmax_lanes(double& v, int& position) {
#pragma unroll
  for (int offset = M / 2; offset > 0; offset /= 2) {
    const double other = __shfl_xor_sync(ALL_LANES, v, offset, M);
    const int where = __shfl_xor_sync(ALL_LANES, position, offset, M);
    if (other > v || (other == v && where < position)) {
      v = other;
      position = where;
    }
  }
}

// h with 2^h <= largest < 2^(h+1): squares of numbers scaled by 2^-h neither overflow nor vanish.
__device__ __forceinline__ int binary_exponent(double largest) {
  if (!(largest > 0.0) || isinf(largest)) return 0;
  const int h = ilogb(largest);
  return h < -1000 ? -1000 : h;
}

// What one pair of columns needs to be known of all of them.
struct Tolerance {
  double cosine;  // columns at less than this are orthogonal
  double quiet;   // once all rotations of a sweep are smaller, the sweep leaves every cosine below:
                  // a rotation by s adds s times a cosine to at most 2 m others
  __device__ __forceinline__ Tolerance(int k, int m) {
    cosine = EPS * fmax(4.0, sqrt(double(k)));
    quiet = sqrt(cosine / (2 * m));
  }
};

// a <- own a + other b. Lanes that hold b call it with alpha and beta exchanged and get b's pair
// of factors, from the same bits.
struct Rotation {
  double own, other;
  bool exchange;  // they change places
  bool moves;     // else a and b stay as they are
  bool large;     // the next sweep may find work again

  // lower: a is the lower of the two columns.
  __device__ __forceinline__ Rotation(double alpha, double beta, double gamma, bool lower,
                                      const Tolerance& tolerance) {
    double c = 1.0, s = 0.0, t = 0.0;
    large = false;
    // A column that is eps of the largest says nothing any more (all are scaled to about one).
    if (alpha > EPS * EPS && beta > EPS * EPS) {
      const double cosine = fabs(gamma) * rsqrt(alpha * beta);
      if (cosine > tolerance.cosine) {
        const double zeta = (beta - alpha) / (2.0 * gamma);
        t = 1.0 / (fabs(zeta) + sqrt(fma(zeta, zeta, 1.0)));
        if (zeta < 0.0) t = -t;  // zeta = 0: t = 1 in both lanes, and the exchange sorts it out
        c = rsqrt(fma(t, t, 1.0));
        s = c * t;
        large = cosine > tolerance.quiet || fabs(s) > tolerance.quiet;
      }
    }
    const double a = fma(-t, gamma, alpha), b = fma(t, gamma, beta);  // squared norms afterwards
    exchange = lower ? a < b : b < a;
    own = exchange ? s : c;
    other = exchange ? c : -s;
    moves = exchange || s != 0.0;
  }
};

// ---- a group of M lanes (4, 8, 16, 32), a column of up to K rows in each lane's registers ----

// G = L L^T in place: lane c comes with column c of G, leaves with a column of L. Pivots that are
// rounding beside the largest end it (rounding alone need not be positive: its factor may be
// anything); the columns left are zero. In rows that were pivots before, L has rounding instead of
// zeros: no more than in the others. Needs M >= k.
template <int K, int M>
__device__ __forceinline__ void cholesky_lanes(double (&a)[K], int k) {
  const int own = threadIdx.x % M;
  double diagonal = 0.0;
#pragma unroll
  for (int j = 0; j < K; ++j)
    if (j == own) diagonal = a[j];
  const double smallest = k * EPS * max_lanes<M>(diagonal);
  bool waiting = own < k;
#pragma unroll 1
  for (int step = 0; step < k; ++step) {
    double pivot = waiting ? diagonal : -1.0;
    int p = own;
    argmax_lanes<M>(pivot, p);
    const bool goes_on = pivot > smallest;
    if (!__any_sync(ALL_LANES, goes_on)) break;  // the other groups of the warp, too, are done
    double column[K], mine = 0.0;
#pragma unroll
    for (int j = 0; j < K; ++j) {
      column[j] = __shfl_sync(ALL_LANES, a[j], p, M);
      if (j == own) mine = column[j];
    }
    if (!goes_on || !waiting) continue;
    if (own == p) {
      const double scale = rsqrt(pivot);
#pragma unroll
      for (int j = 0; j < K; ++j) a[j] *= scale;
      waiting = false;
    } else {
      const double factor = -mine / pivot;
#pragma unroll
      for (int j = 0; j < K; ++j) a[j] = fma(factor, column[j], a[j]);
      diagonal = fma(factor, mine, diagonal);
    }
  }
  if (waiting) {
#pragma unroll
    for (int j = 0; j < K; ++j) a[j] = 0.0;
  }
}

// One-sided Jacobi on the M columns of a group. Returns whether all became orthogonal.
template <int K, int M>
__device__ __forceinline__ bool jacobi_lanes(double (&a)[K], int k, int m, int sweeps) {
  const int lane = threadIdx.x % 32, own = lane % M;
  const unsigned group = (M == 32 ? ALL_LANES : (1u << (M % 32)) - 1u) << (lane - own);
  const Tolerance tolerance(k, m);
  bool active = true;
#pragma unroll 1
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    bool large = false;
#pragma unroll 1
    for (int s = 1; s < M; ++s) {
      double b[K], alpha = 0.0, gamma = 0.0;
#pragma unroll
      for (int j = 0; j < K; ++j) {
        b[j] = __shfl_xor_sync(ALL_LANES, a[j], s, M);
        alpha = fma(a[j], a[j], alpha);
        gamma = fma(a[j], b[j], gamma);
      }
      const double beta = __shfl_xor_sync(ALL_LANES, alpha, s, M);
      const Rotation rotation(alpha, beta, gamma, own < (own ^ s), tolerance);
      large |= rotation.large;
      if (active && rotation.moves) {  // a group that is done stays, whatever its warp still does
#pragma unroll
        for (int j = 0; j < K; ++j) a[j] = fma(rotation.own, a[j], rotation.other * b[j]);
      }
    }
    const unsigned unfinished = __ballot_sync(ALL_LANES, large);
    active = active && (unfinished & group) != 0;
    if (!__any_sync(ALL_LANES, active)) break;
  }
  return !active;
}

// ---- a block, A in shared (or, for ROWS = 0, global) memory: column c at A + c * ld ----
//
// Eight neighbouring lanes are a team and turn one pair; each holds ROWS >= k / 8 rows of both
// columns in registers, so rows from k to the next multiple of 8 must be there, and zero. With
// ld = 8 modulo 16 the columns of two teams that a wavefront serves lie in different banks.

constexpr int TEAM = 8;

// The largest of the threads' values, and a barrier. warps: room for one number each, which no
// thread may still be reading.
__device__ __forceinline__ double block_max(double v, double* warps) {
  v = max_lanes<32>(v);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
  __syncthreads();
  double largest = warps[0];
  for (int w = 1; w < int(blockDim.x / 32); ++w) largest = warps[w] > largest ? warps[w] : largest;
  return largest;
}

// As cholesky_lanes; the columns of L stand in the order of the pivots. Returns their number.
// order: room for k ints.
__device__ __forceinline__ int cholesky_block(double* A, int ld, int* order, int k) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (int c = threadIdx.x; c < k; c += blockDim.x) order[c] = c;  // which column of G stands here
  __syncthreads();
  double smallest = 0.0;
  int step = 0;
  for (; step < k; ++step) {
    double pivot = -1.0;
    int p = k;
    for (int c = step + lane; c < k; c += 32) {  // every warp for itself: no barrier
      const double candidate = A[(long long)c * ld + order[c]];
      if (candidate > pivot) {
        pivot = candidate;
        p = c;
      }
    }
    argmax_lanes<32>(pivot, p);
    if (step == 0) smallest = k * EPS * pivot;
    if (!(pivot > smallest)) break;
    __syncthreads();
    double* L = A + (long long)step * ld;
    const double scale = rsqrt(pivot);
    for (int r = threadIdx.x; r < k; r += blockDim.x) {  // the pivot's column comes here, scaled
      const double left = L[r];
      L[r] = scale * A[(long long)p * ld + r];
      if (p != step) A[(long long)p * ld + r] = left;
    }
    if (threadIdx.x == 0) {
      const int left = order[step];
      order[step] = order[p];
      order[p] = left;
    }
    __syncthreads();
    for (int c = step + 1 + warp; c < k; c += warps) {
      const double factor = -L[order[c]];
      double* column = A + (long long)c * ld;
      for (int r = lane; r < k; r += 32) column[r] = fma(factor, L[r], column[r]);
    }
    __syncthreads();
  }
  return step;
}

// One-sided Jacobi on m columns. Returns whether all became orthogonal.
template <int ROWS>
__device__ __forceinline__ bool jacobi_block(double* A, int ld, int k, int m, int sweeps) {
  const int lane = threadIdx.x % TEAM, team = threadIdx.x / TEAM, teams = blockDim.x / TEAM;
  const Tolerance tolerance(k, m);
  int columns = 1;
  while (columns < m) columns *= 2;
  bool active = true;
#pragma unroll 1
  for (int sweep = 0; sweep < sweeps && active; ++sweep) {
    bool large = false;
#pragma unroll 1
    for (int s = 1; s < columns; ++s) {
      const int high = 31 - __clz(s);  // p has a zero here, p xor s a one
#pragma unroll 1
      for (int first = 0; first < columns / 2; first += teams) {
        const int pair = first + team;
        const int p = ((pair >> high) << (high + 1)) | (pair & ((1 << high) - 1)), q = p ^ s;
        const int rows = pair < columns / 2 && q < m ? k : 0;
        double* a = A + (long long)p * ld;
        double* b = A + (long long)q * ld;
        double alpha = 0.0, beta = 0.0, gamma = 0.0;
        double x[ROWS > 0 ? ROWS : 1], y[ROWS > 0 ? ROWS : 1];
        if constexpr (ROWS > 0) {
#pragma unroll
          for (int j = 0; j < ROWS; ++j) {
            x[j] = TEAM * j < rows ? a[lane + TEAM * j] : 0.0;
            y[j] = TEAM * j < rows ? b[lane + TEAM * j] : 0.0;
            alpha = fma(x[j], x[j], alpha);
            beta = fma(y[j], y[j], beta);
            gamma = fma(x[j], y[j], gamma);
          }
        } else {
          for (int r = lane; r < rows; r += TEAM) {
            alpha = fma(a[r], a[r], alpha);
            beta = fma(b[r], b[r], beta);
            gamma = fma(a[r], b[r], gamma);
          }
        }
        alpha = sum_lanes<TEAM>(alpha);
        beta = sum_lanes<TEAM>(beta);
        gamma = sum_lanes<TEAM>(gamma);
        const Rotation rotation(alpha, beta, gamma, true, tolerance);
        if (!rotation.moves) continue;
        large |= rotation.large;
        const double aa = rotation.own, ab = rotation.other;
        const double bb = rotation.exchange ? -aa : aa, ba = rotation.exchange ? ab : -ab;
        if constexpr (ROWS > 0) {
#pragma unroll
          for (int j = 0; j < ROWS; ++j) {
            if (TEAM * j < rows) {
              a[lane + TEAM * j] = fma(aa, x[j], ab * y[j]);
              b[lane + TEAM * j] = fma(bb, y[j], ba * x[j]);
            }
          }
        } else {
          for (int r = lane; r < rows; r += TEAM) {
            const double u = a[r], v = b[r];
            a[r] = fma(aa, u, ab * v);
            b[r] = fma(bb, v, ba * u);
          }
        }
      }
      __syncthreads();
    }
    active = __syncthreads_or(large) != 0;
  }
  return !active;
}
