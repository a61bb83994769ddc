// Principal directions of every point's neighbourhood:
//
//     Z_i (k x d) = its neighbours minus a centre = U S V^T,  values_i = S^2
//
// The centre is the point itself or, centred, the neighbours' mean. Directions with values_i at or
// below floor * the largest are zero, as are those values: floor = (k eps)^2 where d < k (Jacobi on
// Z), k eps else (Jacobi on the Cholesky factor of Z Z^T; local_eigen.cuh). Centred directions are
// also made orthogonal to the vector of ones to the last bit.
//
//     X[N,d], points[n,d] row-major in T, index[n,k]; all that follows is in double
//     U[n,count,k]     the first count <= min(k,d) directions, largest value first
//     values[n,min(k,d)]
//     info[n]          0, or 1 where Jacobi did not converge in that many sweeps
//
//     principal_directions_lanes   M lanes a point, min(k,d) <= M, k <= K <= 32; M = K where d >= k
//                                  a column in each lane's registers. Static shared memory: where
//                                  d >= k, 8 (K (K + 2) + 2) bytes a point, a tile of Z
//     principal_directions_block   a block a point (or, ROWS = 0, a point at a time), k <= 8 ROWS.
//                                  m = min(k,d), ld = k rounded up to 8 modulo 16; memory of
//                                  8 (m ld + k + 32) bytes, 8 * 16 (k | 1) more where d >= k:
//                                  dynamic shared, or, for ROWS = 0 and k of any size, the block's
//                                  `stride` doubles of `work`
//
// The same as lle_gpu.constraints.cpu: local.principal_directions, and ltsa.tangent_coordinates.
#include "local_eigen.cuh"

// A neighbourhood: X's rows nearest[0..k-1], their differences to `origin` in double.
template <typename T> struct Neighborhood {
  const T* X;
  const int* nearest;
  const T* origin;  // centred: the first neighbour, so that data far from zero lose nothing
  int d;
  __device__ __forceinline__ double operator()(int row, int feature) const {
    return double(X[(long long)nearest[row] * d + feature]) - double(origin[feature]);
  }
};

template <typename T>
__device__ __forceinline__ Neighborhood<T> neighborhood(const T* points, const T* X,
                                                        const int* index, long long i, int d, int k,
                                                        bool centred) {
  const int* nearest = index + i * k;
  const T* origin = centred ? X + (long long)nearest[0] * d : points + i * d;
  return {X, nearest, origin, d};
}

// Feature f of a neighbourhood as a column; zeros for a lane without one.
template <typename T, int K>
__device__ __forceinline__ void load_column(double (&a)[K], const Neighborhood<T>& Z, int f, int k,
                                            bool live, bool centred) {
#pragma unroll
  for (int j = 0; j < K; ++j) a[j] = live && j < k ? Z(j, f) : 0.0;
  if (!centred) return;
  double mean = 0.0;
#pragma unroll
  for (int j = 0; j < K; ++j) mean += a[j];
  mean /= k;
#pragma unroll
  for (int j = 0; j < K; ++j)
    if (j < k) a[j] -= mean;
}

template <int K> __device__ __forceinline__ double norm(const double (&a)[K]) {
  double sum = 0.0;
#pragma unroll
  for (int j = 0; j < K; ++j) sum = fma(a[j], a[j], sum);
  return sqrt(sum);
}

constexpr int LANES_WARPS = 4;

template <typename T, int K, int M, bool GRAM>
__global__ void __launch_bounds__(32 * LANES_WARPS, K == 32 ? 2 : 3)
principal_directions_lanes(const T* __restrict__ X, const T* __restrict__ points,
                           const int* __restrict__ index, double* __restrict__ U,
                           double* __restrict__ values, int* __restrict__ info, int n, int d, int k,
                           int count, int centred, int sweeps) {
  const int own = threadIdx.x % M, m = d < k ? d : k;
  const long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / M;
  const bool live = i < n;  // the others go on with zeros, so that every lane meets every shuffle
  const auto Z = neighborhood(points, X, index, live ? i : 0, d, k, centred);

  double a[K];
  double floor = k * EPS;
  if constexpr (GRAM) {
    // Row own of Z Z^T, which is its column, from tiles of M features, each lane loading one. The
    // two numbers beside each tile put those of a warp's groups into different banks.
    constexpr int LD = K + 2;
    __shared__ __align__(16) double tiles[32 * LANES_WARPS / M][K * LD + 2];
    double* tile = tiles[threadIdx.x / M];
#pragma unroll
    for (int c = 0; c < K; ++c) a[c] = 0.0;
    for (int first = 0; first < d; first += M) {
      double column[K];
      load_column(column, Z, first + own, k, live && first + own < d, centred);
#pragma unroll
      for (int j = 0; j < K; ++j) tile[own * LD + j] = column[j];
      __syncwarp();
#pragma unroll 2
      for (int f = 0; f < M; ++f) {
        const double z = tile[f * LD + own];
        const double2* row = reinterpret_cast<const double2*>(tile + f * LD);
#pragma unroll
        for (int c = 0; c < K / 2; ++c) {
          const double2 pair = row[c];
          a[2 * c] = fma(z, pair.x, a[2 * c]);
          a[2 * c + 1] = fma(z, pair.y, a[2 * c + 1]);
        }
      }
      __syncwarp();
    }
    cholesky_lanes<K, M>(a, k);
  } else {
    floor *= floor;
    load_column(a, Z, own, k, live && own < d, centred);
  }

  double largest = 0.0;
#pragma unroll
  for (int j = 0; j < K; ++j) largest = fmax(largest, fabs(a[j]));
  const int h = binary_exponent(max_lanes<M>(largest));
  const double scale = ldexp(1.0, -h);
#pragma unroll
  for (int j = 0; j < K; ++j) a[j] *= scale;
  const bool converged = jacobi_lanes<K, M>(a, k, m, sweeps);

  const double length = norm(a), square = length * length;
  int rank = 0;  // how many columns come before this one
  for (int c = 0; c < M; ++c) {
    const double other = __shfl_sync(ALL_LANES, square, c, M);
    rank += other > square || (other == square && c < own);
  }
  const bool determined = square > floor * max_lanes<M>(square);
  double factor = determined ? 1.0 / length : 0.0, mean = 0.0;
  if (centred && determined) {
    // The mean is zero up to eps * (largest / own singular value): remove that, too.
#pragma unroll
    for (int j = 0; j < K; ++j) mean += a[j];
    mean /= k;
    double rest = 0.0;
#pragma unroll
    for (int j = 0; j < K; ++j) {
      const double z = j < k ? a[j] - mean : 0.0;
      rest = fma(z, z, rest);
    }
    factor = rest > 0.0 ? 1.0 / sqrt(rest) : 0.0;
  }
  if (!live) return;
  if (rank < m) values[i * m + rank] = determined ? ldexp(square, 2 * h) : 0.0;
  if (rank < count) {
    double* direction = U + (i * count + rank) * k;
#pragma unroll
    for (int j = 0; j < K; ++j)
      if (j < k) direction[j] = (a[j] - mean) * factor;
  }
  if (own == 0) info[i] = !converged;
}

constexpr int TILE = 16;  // features behind Z Z^T that stand in memory at a time

// Features first .. first + width - 1 of a neighbourhood: column f at to + f * ld.
template <typename T>
__device__ __forceinline__ void load_block(double* to, int ld, const Neighborhood<T>& Z, int first,
                                           int width, int k, bool centred) {
  for (int e = threadIdx.x; e < k * width; e += blockDim.x) {  // neighbouring threads: features
    const int row = e / width, f = e - row * width;
    to[(long long)f * ld + row] = Z(row, first + f);
  }
  __syncthreads();
  if (!centred) return;
  const int lane = threadIdx.x % 32;
  for (int f = threadIdx.x / 32; f < width; f += blockDim.x / 32) {
    double* column = to + (long long)f * ld;
    double mean = 0.0;
    for (int r = lane; r < k; r += 32) mean += column[r];
    mean = sum_lanes<32>(mean) / k;
    for (int r = lane; r < k; r += 32) column[r] -= mean;
  }
  __syncthreads();
}

// G (+)= Z Z^T over a tile: 4 x 4 numbers a thread, of the lower half, each to both its places.
__device__ __forceinline__ void gram_block(double* G, int ld, const double* tile, int tile_ld,
                                           int width, int k, bool add) {
  const int blocks = (k + 3) / 4, half = (blocks + 1) / 2;
  for (int e = threadIdx.x; e < half * (blocks + 1); e += blockDim.x) {
    // Rows a and blocks - 1 - a of a triangle have blocks + 1 squares together.
    const int a = e / (blocks + 1), b = e - a * (blocks + 1), opposite = blocks - 1 - a;
    if (a == opposite && b > a) continue;
    const int row = 4 * (b <= a ? a : opposite), column = 4 * (b <= a ? b : b - a - 1);
    double sum[4][4] = {};
#pragma unroll 1
    for (int f = 0; f < width; ++f) {
      const double* z = tile + f * tile_ld;
      double x[4], y[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        x[j] = z[row + j < k ? row + j : k - 1];
        y[j] = z[column + j < k ? column + j : k - 1];
      }
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int l = 0; l < 4; ++l) sum[j][l] = fma(x[j], y[l], sum[j][l]);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int l = 0; l < 4; ++l) {
        const int r = row + j, c = column + l;
        if (r >= k || c > r) continue;
        double* lower = G + (long long)c * ld + r;
        const double v = add ? *lower + sum[j][l] : sum[j][l];
        *lower = v;
        G[(long long)r * ld + c] = v;
      }
  }
}

template <typename T, int ROWS>
__global__ void __launch_bounds__(512)
principal_directions_block(const T* __restrict__ X, const T* __restrict__ points,
                           const int* __restrict__ index, double* __restrict__ U,
                           double* __restrict__ values, int* __restrict__ info, double* work,
                           long long stride, int n, int d, int k, int count, int centred,
                           int sweeps) {
  const int m = d < k ? d : k, lane = threadIdx.x % 32;
  const int ld = (k + 7) / 16 * 16 + 8, tile_ld = k | 1;
  DYN_SHARED(bytes);
  double* A = ROWS > 0 ? reinterpret_cast<double*>(bytes) : work + blockIdx.x * stride;
  double* squares = A + (long long)m * ld;                  // k, also the order of the pivots
  double* warps = squares + k;                              // 32
  double* tile = warps + 32;                                // TILE x tile_ld

  for (long long i = blockIdx.x; i < n; i += gridDim.x) {
    const auto Z = neighborhood(points, X, index, i, d, k, centred);
    double floor = k * EPS;
    int columns = m;
    const int pad = (k + TEAM - 1) / TEAM * TEAM - k;
    for (int e = threadIdx.x; e < m * pad; e += blockDim.x)
      A[(long long)(e / pad) * ld + k + e % pad] = 0.0;
    if (d < k) {
      floor *= floor;
      load_block(A, ld, Z, 0, d, k, centred);
    } else {
      for (int first = 0; first < d; first += TILE) {
        const int width = d - first < TILE ? d - first : TILE;
        load_block(tile, tile_ld, Z, first, width, k, centred);
        gram_block(A, ld, tile, tile_ld, width, k, first > 0);
        __syncthreads();
      }
      columns = cholesky_block(A, ld, reinterpret_cast<int*>(squares), k);
    }

    double largest = 0.0;
    for (int c = threadIdx.x / 32; c < columns; c += blockDim.x / 32)
      for (int r = lane; r < k; r += 32)
        largest = fmax(largest, fabs(A[(long long)c * ld + r]));
    const int h = binary_exponent(block_max(largest, warps));
    const double scale = ldexp(1.0, -h);
    for (int c = threadIdx.x / 32; c < columns; c += blockDim.x / 32)
      for (int r = lane; r < k; r += 32) A[(long long)c * ld + r] *= scale;
    __syncthreads();
    const bool converged = jacobi_block<ROWS>(A, ld, k, columns, sweeps);

    largest = 0.0;
    for (int c = threadIdx.x / 32; c < columns; c += blockDim.x / 32) {
      double square = 0.0;
      for (int r = lane; r < k; r += 32)
        square = fma(A[(long long)c * ld + r], A[(long long)c * ld + r], square);
      square = sum_lanes<32>(square);
      largest = fmax(largest, square);
      if (lane == 0) squares[c] = square;
    }
    const double smallest = floor * block_max(largest, warps);
    for (int c = threadIdx.x / 32; c < m; c += blockDim.x / 32) {
      const double square = c < columns ? squares[c] : 0.0;
      int rank = 0;
      for (int other = lane; other < columns; other += 32)
        rank += squares[other] > square || (squares[other] == square && other < c);
      rank = sum_lanes<32>(rank);
      if (c >= columns) rank = c;  // of no extent at all
      const bool determined = square > smallest;
      if (lane == 0) values[i * m + rank] = determined ? ldexp(square, 2 * h) : 0.0;
      if (rank >= count) continue;
      const double* a = A + (long long)c * ld;
      double* direction = U + (i * count + rank) * k;
      double factor = determined ? 1.0 / sqrt(square) : 0.0, mean = 0.0;
      if (centred && determined) {  // as above
        for (int r = lane; r < k; r += 32) mean += a[r];
        mean = sum_lanes<32>(mean) / k;
        double rest = 0.0;
        for (int r = lane; r < k; r += 32) rest = fma(a[r] - mean, a[r] - mean, rest);
        rest = sum_lanes<32>(rest);
        factor = rest > 0.0 ? 1.0 / sqrt(rest) : 0.0;
      }
      for (int r = lane; r < k; r += 32) direction[r] = determined ? (a[r] - mean) * factor : 0.0;
    }
    if (threadIdx.x == 0) info[i] = !converged;
    __syncthreads();  // the next point's neighbourhood takes the place of this one's
  }
}
