// Barycentric weights of points in their neighbours, and weighted means over neighbours.
//
//     w_i ~ (G_i + ridge_i I)^-1 1, scaled to sum to one
//     G_i = Z_i Z_i^T (k x k), Z_i (k x d) the differences x_j - p_i; ridge_i = reg * trace(G_i),
//     or 1 where the trace is zero: then all weights are equal, whatever the ridge
//
//     points[m,d], X[n,d]   T, row-major
//     index[m,k]            the neighbours, rows of X
//     W                     as_row = 0: [m,k], the weights;  1: [m,k+1], the rows [1, -w_i] of F
//     info[m]               0, or 1 where rounding or overflow may have decided: a pivot not above
//                           LEAST_PIVOT times the trace, a trace or ridge out of range. Such a
//                           point's weights are to be found in another way
//
// Differences, Gram matrix and solution are computed in S (float or double, at least T), and the
// weights scaled in double, so that each row of F sums to zero to double precision.
//
//     kernel              k       a point has   shared memory
//     barycentric_warp    <= 32   K / R lanes   dynamic: tile_bytes(K, R, P) a point; static: 4 K
//     barycentric_block   <= 128  a block       dynamic: 64 k, with k rounded up to a multiple of
//                                               4, + (k (k + 1) / 2 + 2 k) sizeof(S) bytes
//     weighted_means      any     q threads     none
//
// The same as lle_gpu.constraints.cpu.standard: barycentric_weights, weighted_means.
// L. Saul, S. Roweis: Think globally, fit locally. JMLR 4:119 (2003), section 3. Solved by G = L D
// L^T, Cholesky's without square roots: G. Golub, C. Van Loan: Matrix computations, 4.1.2.
//
// What it costs. The floor is the gather, (k + 1) d numbers a point that no two points share unless
// the cache has kept them: for n = 1M, d = 50, k = 15 in float 3.4 GB with index and rows, 0.79 ms
// at the 4.3 TB/s of an H200. A row of 200 bytes lies in 262 bytes of lines of 64, if it is fetched
// once; in parts that are loaded apart in time, between which 132 multiprocessors have touched more
// than the cache holds, it would be 424. So all of a row is loaded at once. A multiprocessor then
// has 210 cycles for a point (1.98 GHz), and 420 within twice the floor. What
// barycentric_warp<float, float, 16, 4, 2, 13> issues per point, counted in the code that NVRTC
// 13.5 makes for sm_90 (not measured):
//
//     gathering                        100 instructions    110 cycles of the load/store unit
//     13 chunks of 4 columns           300                  80 to 130
//     elimination and the way back     110                  24
//     the rest                          20                   4
//     together                         530                 220 to 270
//
// so 130 cycles if all four schedulers issue always. Eight warps a multiprocessor have the shared
// memory, and 240 registers each; a warp has 68 loads of 200 bytes under way while it gathers: two
// warps at it, 27 KB, cover the latency (23 KB: 4.3 TB/s for 700 ns over 132 multiprocessors).
#include "compat.cuh"

template <typename S> constexpr int chunk_columns = 16 / sizeof(S);
constexpr int WARPS = 2;  // in a block of barycentric_warp

template <typename T, int V> struct __align__(V * sizeof(T)) Vector { T v[V]; };
template <typename S> using Chunk = Vector<S, chunk_columns<S>>;

template <typename S> __device__ __forceinline__ Chunk<S> chunk_at(const unsigned char* tile) {
  return *reinterpret_cast<const Chunk<S>*>(tile);
}

// V numbers of row `row`, rows of so many bytes. `first` is where row 0 has them.
template <int V, typename T>
__device__ __forceinline__ Vector<T, V> load(const T* first, unsigned row, unsigned bytes) {
  const unsigned char* const base = reinterpret_cast<const unsigned char*>(first);
  return *reinterpret_cast<const Vector<T, V>*>(base + (unsigned long long)row * bytes);
}

template <typename S, typename T, int V>
__device__ __forceinline__ Vector<S, V> difference(const Vector<T, V>& a, const Vector<T, V>& b) {
  Vector<S, V> z;
#pragma unroll
  for (int v = 0; v < V; ++v) z.v[v] = S(a.v[v]) - S(b.v[v]);
  return z;
}

// Whether a trace, or a ridge, is far enough from underflow and overflow for its parts to have all
// their digits. Zero in double has: it says that all neighbours lie on their point.
__device__ __forceinline__ bool in_range(float trace) { return trace >= 1e-30f && trace <= 1e30f; }
__device__ __forceinline__ bool in_range(double trace) { return trace >= 0.0 && trace <= 1e300; }
// A pivot this small, in units of the trace, has lost most of its digits.
template <typename S> constexpr S LEAST_PIVOT = sizeof(S) == 4 ? S(1e-5) : S(1e-10);

// Without the slow way for the numbers that in_range excludes; 1 ulp.
__device__ __forceinline__ float reciprocal(float x) { return __fdividef(1.0f, x); }
__device__ __forceinline__ double reciprocal(double x) { return 1.0 / x; }

template <int L, typename S> __device__ __forceinline__ S group_sum(S v) {
#pragma unroll
  for (int o = L / 2; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o, L);
  return v;
}

__device__ __forceinline__ void store_weight(double* __restrict__ W, long long i, int j, int k,
                                             int as_row, double w) {
  if (j >= k) return;
  if (!as_row) {
    W[i * k + j] = w;
    return;
  }
  double* const row = W + i * (k + 1);
  if (j == 0) row[0] = 1.0;
  row[1 + j] = -w;
}

// K / R lanes solve a system of up to K unknowns; a lane has the rows r + b L, b < R, of the lower
// triangle, in registers whose indices are all constants. Eliminating column p from the rows below
// leaves u = L D in that column, which is what the way back needs:
// x_p = (y_p - sum_{q > p} u_qp x_q) / D_p. What stands above the diagonal, and in rows from k on,
// flows nowhere.
//
// All loops run over all of K and R, with conditions inside: for loops that begin later NVRTC 13.5
// puts a into memory on compute capability 10 and 12.
template <int K, int R, typename S>
__device__ __forceinline__ bool solve_in_lanes(S (&a)[R][K], S (&x)[R], int r, int k, S reg) {
  constexpr int L = K / R;
  constexpr unsigned ALL = 0xffffffffu;
  S trace = S(0);
#pragma unroll
  for (int c = 0; c < K; ++c)
    if (c < k && c % L == r) trace += a[c / L][c];
  trace = group_sum<L>(trace);
  const S ridge = trace > S(0) ? reg * trace : S(1);
  const S least = LEAST_PIVOT<S> * trace;
  bool failed = !in_range(trace) || !in_range(ridge);

  S y[R], inverse[R];
#pragma unroll
  for (int b = 0; b < R; ++b) {
    y[b] = S(1);
    x[b] = inverse[b] = S(0);
#pragma unroll
    for (int c = 0; c < K; ++c)
      // (For a branch here the compiler would make an index of r, and put all of a into memory.)
      if (c / L == b) a[b][c] += c == r + b * L ? ridge : S(0);
  }
#pragma unroll
  for (int p = 0; p < K; ++p) {
    if (p >= k) continue;
    const S pivot = __shfl_sync(ALL, a[p / L][p], p % L, L);
    const S yp = __shfl_sync(ALL, y[p / L], p % L, L);
    failed = failed || !(pivot > least);
    const S inv = reciprocal(pivot);
    S factor[R];
#pragma unroll
    for (int b = 0; b < R; ++b) {
      if (b < p / L) continue;
      const int row = r + b * L;
      if (row == p) inverse[b] = inv;
      if (row <= p) a[b][p] = S(0);
      factor[b] = a[b][p] * inv;
      y[b] = fma(-factor[b], yp, y[b]);
    }
#pragma unroll
    for (int c = 0; c < K; ++c) {
      if (c <= p) continue;
      const S u = __shfl_sync(ALL, a[c / L][p], c % L, L);
#pragma unroll
      for (int b = 0; b < R; ++b)
        if (b >= c / L) a[b][c] = fma(-factor[b], u, a[b][c]);
    }
  }
#pragma unroll
  for (int p = K - 1; p >= 0; --p) {
    if (p >= k) continue;
    S s = S(0);
#pragma unroll
    for (int b = 0; b < R; ++b)
      if (b >= p / L) s = fma(a[b][p], x[b], s);
    s = group_sum<L>(s);
    if (r == p % L) x[p / L] = (y[p / L] - s) * inverse[p / L];
  }
  return failed;
}

// How a warp loads rows of up to P chunks: LANES of it a row, V columns at a time, in PARTS.
__host__ __device__ constexpr int power_of_two(int least) {
  int power = 1;
  while (power < least && power < 32) power *= 2;
  return power;
}
template <typename S, int V, int P> struct Loads {
  static constexpr int COLUMNS = P * chunk_columns<S>;
  static constexpr int LANES = power_of_two((COLUMNS + V - 1) / V);
  static constexpr int PARTS = (COLUMNS + LANES * V - 1) / (LANES * V);
  static constexpr int AT_ONCE = 32 / LANES;  // rows
};

// Bytes from a point's tile to the next: K rows of P chunks, P odd, so that eight rows of a chunk lie
// in all 32 banks; and where eight lanes have more than one point, so many chunks more that the
// points' rows lie in others.
__host__ __device__ constexpr int tile_bytes(int K, int R, int P) {
  return 16 * (K * P + (K / R < 8 ? K / R : 0));
}

// Whether a lane's rows of G leave registers for half as much else as those of others do.
template <typename S, int K, int R>
constexpr bool many_numbers = sizeof(S) == 8 || R * K > 64;

// K (8, 16, 32) bounds k. A point has L = K / R lanes, so a warp has Q = 32 / L points. The warp
// gathers P chunks of each of their neighbours, or all columns if there are no more; then each lane
// multiplies its R rows by all rows of its point up to the last of its own block of L, which shared
// memory gives to all lanes of the point at once. For a chunk of C columns that is K + R loads and
// C R (R + 1) / 2 L multiplications.
template <typename T, typename S, int K, int R, int V, int P>
__global__ void __launch_bounds__(WARPS * 32, P == 13 || many_numbers<S, K, R> ? 4 : 6)
barycentric_warp(const T* __restrict__ points, const T* __restrict__ X,
                 const int* __restrict__ index, double* __restrict__ W, int* __restrict__ info,
                 int m, int d, int k, int as_row, S reg) {
  constexpr int L = K / R, Q = 32 / L, C = chunk_columns<S>, TILE = tile_bytes(K, R, P);
  using Of = Loads<S, V, P>;
  // Rows on their way at once: as many as registers hold beside what is computed.
  constexpr int ROWS = P == 13 && !many_numbers<S, K, R> ? 64 : 32;
  constexpr int B = ROWS / K, E = K / Of::AT_ONCE;
  DYN_SHARED(shared);
  __shared__ __align__(16) int neighbors[WARPS][Q * K];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int g = lane / L, r = lane % L;
  const long long first = ((long long)blockIdx.x * WARPS + warp) * Q;
  if (first >= m) return;  // the whole warp
  unsigned char* const tiles = shared + warp * (Q * TILE);
  // Past the last point, and past the last neighbour, the last one is done again and not stored, so
  // that all lanes meet at every barrier.
  const int last = int(min((long long)m - first, (long long)Q)) - 1;
  for (int e = lane; e < Q * K; e += 32)
    neighbors[warp][e] = index[(first + min(e / K, last)) * k + min(e % K, k - 1)];
  __syncwarp();

  // A sector of memory, 32 bytes, that two passes share is read twice. So passes end where sectors do
  // if rows begin there; if they do not, that would help few rows, and may take a pass more.
  const unsigned row_bytes = d * sizeof(T);
  const int step = d > P * C && row_bytes % 32 == 0 ? (P - 1) * C : P * C;
  const int column = lane % Of::LANES * V, row = lane / Of::LANES;
  const unsigned char* const Z = tiles + g * TILE;
  S a[R][K] = {};  // row r + b L of G, from column 0 to (b + 1) L - 1
  for (int c0 = 0; c0 < d; c0 += step) {
    const int columns = min(step, d - c0);
    if (columns % C != 0) {  // behind the last column there are zeros
      Chunk<S> zeros;
#pragma unroll
      for (int v = 0; v < C; ++v) zeros.v[v] = S(0);
      for (int e = lane; e < Q * K; e += 32)
        *reinterpret_cast<Chunk<S>*>(tiles + e / K * TILE + (e % K * P + columns / C) * 16) = zeros;
      __syncwarp();
    }
    // Many loads before the first is waited for: the memory's latency is what there is to hide. One
    // condition for all of a lane: for one at each load, compilers make three times the instructions.
#pragma unroll 1
    for (int q0 = 0; q0 < Q; q0 += B) {
      Vector<T, V> point[B][Of::PARTS], neighbor[B][E][Of::PARTS];
#pragma unroll
      for (int u = 0; u < Of::PARTS; ++u) {
        const int at = column + u * Of::LANES * V;
        if (at >= columns) continue;
#pragma unroll
        for (int q = 0; q < B; ++q) {
          point[q][u] = load<V>(points + first * d + c0 + at, min(q0 + q, last), row_bytes);
#pragma unroll
          for (int e = 0; e < E; ++e)
            neighbor[q][e][u] = load<V>(
                X + c0 + at, neighbors[warp][(q0 + q) * K + e * Of::AT_ONCE + row], row_bytes);
        }
      }
#pragma unroll
      for (int u = 0; u < Of::PARTS; ++u) {
        const int at = column + u * Of::LANES * V;
        if (at >= columns) continue;
#pragma unroll
        for (int q = 0; q < B; ++q)
#pragma unroll
          for (int e = 0; e < E; ++e) {
            unsigned char* const to =
                tiles + (q0 + q) * TILE + (e * Of::AT_ONCE + row) * (P * 16) + at * sizeof(S);
            *reinterpret_cast<Vector<S, V>*>(to) = difference<S>(neighbor[q][e][u], point[q][u]);
          }
      }
    }
    __syncwarp();
    const int bytes = columns * int(sizeof(S));
    for (int byte = 0; byte < bytes; byte += 16) {
      Chunk<S> own[R];
#pragma unroll
      for (int b = 0; b < R; ++b) own[b] = chunk_at<S>(Z + (r + b * L) * (P * 16) + byte);
#pragma unroll
      for (int c = 0; c < K; ++c) {
        const Chunk<S> other = chunk_at<S>(Z + c * (P * 16) + byte);
#pragma unroll
        for (int b = 0; b < R; ++b)
#pragma unroll
          for (int v = 0; v < C; ++v)
            if (b >= c / L) a[b][c] = fma(own[b].v[v], other.v[v], a[b][c]);
      }
    }
    __syncwarp();
  }

  S x[R];
  const bool failed = solve_in_lanes<K, R>(a, x, r, k, reg);
  double sum = 0.0;
#pragma unroll
  for (int b = 0; b < R; ++b) sum += double(x[b]);
  const double scale = 1.0 / group_sum<L>(sum);
  const long long i = first + g;
  if (i >= m) return;
#pragma unroll
  for (int b = 0; b < R; ++b) store_weight(W, i, r + b * L, k, as_row, double(x[b]) * scale);
  if (r == 0) info[i] = failed;
}

__host__ __device__ constexpr int triangle(int rows) { return rows * (rows + 1) / 2; }

// A tile of Z in barycentric_block is 64 bytes of each row: four chunks. Two rows fill the 32 banks,
// and their eight chunks stand in an order (by exclusive or) that is another for the rows of other
// 4 x 4 tiles of G, so that the eight lanes that a 16-byte load serves at once meet all banks.
constexpr int ROW_BYTES = 64;
template <typename S> constexpr int tile_columns = ROW_BYTES / sizeof(S);

__device__ __forceinline__ unsigned place(int row, unsigned order, unsigned byte) {
  return (row >> 1) * (2 * ROW_BYTES) + (((row & 1) * ROW_BYTES + byte) ^ order << 4);
}

// G is packed by rows of its lower triangle; its 4 x 4 tiles are dealt out to the threads: 16 C
// multiplications for 8 loads. Elimination as above: a row to a warp, its columns to the lanes, one
// barrier a pivot. The ridge is added where a pivot is read. (Two blocks, since the compiler would
// otherwise rather spill than take more than 64 registers.)
template <typename T, typename S, int V>
__global__ void __launch_bounds__(256, 2)
barycentric_block(const T* __restrict__ points, const T* __restrict__ X,
                  const int* __restrict__ index, double* __restrict__ W, int* __restrict__ info,
                  int m, int d, int k, int as_row, S reg) {
  constexpr int C = chunk_columns<S>;
  DYN_SHARED(shared);
  const int side = (k + 3) / 4;  // of G, in tiles
  unsigned char* const Z = shared;
  S* const G = reinterpret_cast<S*>(Z + 4 * side * ROW_BYTES);
  S* const y = G + triangle(k);
  S* const x = y + k;
  const int t = threadIdx.x, threads = blockDim.x;
  const int lane = t % 32, warp = t / 32, warps = threads / 32;
  const long long i = blockIdx.x;

  for (int e = t; e < triangle(k); e += threads) G[e] = S(0);
  for (int row = t; row < k; row += threads) y[row] = S(1);
  for (int c0 = 0; c0 < d; c0 += tile_columns<S>) {
    __syncthreads();
    const int columns = min(tile_columns<S>, d - c0);
    constexpr int PARTS = tile_columns<S> / (8 * V);
    for (int row = t / 8; row < k; row += threads / 8) {
#pragma unroll
      for (int u = 0; u < PARTS; ++u) {
        const int column = (8 * u + t % 8) * V;
        Vector<T, V> point = {}, neighbor = {};
        if (column < columns) {
          point = load<V>(points + i * d + c0 + column, 0, 0);
          neighbor = load<V>(X + c0 + column, index[i * k + row], d * sizeof(T));
        }
        *reinterpret_cast<Vector<S, V>*>(Z + place(row, row >> 2 & 7, column * sizeof(S))) =
            difference<S>(neighbor, point);
      }
    }
    __syncthreads();
    const int bytes = columns * int(sizeof(S));
    for (int e = t; e < triangle(side); e += threads) {
      int I = int((sqrtf(8.0f * e + 1.0f) - 1.0f) * 0.5f);  // e = triangle(I) + J, J <= I
      if (triangle(I) > e) --I;
      if (triangle(I + 1) <= e) ++I;
      const int J = e - triangle(I);
      S s[4][4] = {};
      for (int byte = 0; byte < bytes; byte += 16) {
        Chunk<S> own[4], other[4];
#pragma unroll
        for (int b = 0; b < 4; ++b) {
          own[b] = chunk_at<S>(Z + place(4 * I + b, I & 7, byte));
          other[b] = chunk_at<S>(Z + place(4 * J + b, J & 7, byte));
        }
#pragma unroll
        for (int b = 0; b < 4; ++b)
#pragma unroll
          for (int c = 0; c < 4; ++c)
#pragma unroll
            for (int v = 0; v < C; ++v) s[b][c] = fma(own[b].v[v], other[c].v[v], s[b][c]);
      }
#pragma unroll
      for (int b = 0; b < 4; ++b)
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const int row = 4 * I + b, column = 4 * J + c;
          if (row < k && column <= row) G[triangle(row) + column] += s[b][c];
        }
    }
  }
  __syncthreads();

  S trace = S(0);  // found by every warp for itself
  for (int row = lane; row < k; row += 32) trace += G[triangle(row) + row];
  trace = group_sum<32>(trace);
  const S ridge = trace > S(0) ? reg * trace : S(1);
  const S least = LEAST_PIVOT<S> * trace;
  bool failed = !in_range(trace) || !in_range(ridge);
  for (int p = 0; p < k; ++p) {
    __syncthreads();
    const S pivot = G[triangle(p) + p] + ridge;
    failed = failed || !(pivot > least);
    const S inverse = S(1) / pivot, yp = y[p];
    for (int row = p + 1 + warp; row < k; row += warps) {
      S* const below = G + triangle(row);
      const S factor = below[p] * inverse;
      for (int c = p + 1 + lane; c <= row; c += 32)
        below[c] = fma(-factor, G[triangle(c) + p], below[c]);
      if (lane == 0) y[row] = fma(-factor, yp, y[row]);
    }
  }
  for (int p = k - 1; p >= 0; --p) {
    __syncthreads();
    const S* const row = G + triangle(p);
    const S xp = y[p] / (row[p] + ridge);
    if (t == 0) x[p] = xp;
    for (int c = t; c < p; c += threads) y[c] = fma(-row[c], xp, y[c]);
  }
  __syncthreads();

  double sum = 0.0;
  for (int row = lane; row < k; row += 32) sum += double(x[row]);
  const double scale = 1.0 / group_sum<32>(sum);
  for (int row = t; row < k; row += threads)
    store_weight(W, i, row, k, as_row, double(x[row]) * scale);
  if (t == 0) info[i] = failed;
}

// means_ic = sum_j weights_ij values_{index_ij, c}, in the order of j; weights and index [m,k],
// values [n,q], means [m,q]. A thread for each i and c.
template <typename T>
__global__ void __launch_bounds__(256)
weighted_means(const double* __restrict__ weights, const int* __restrict__ index,
               const T* __restrict__ values, double* __restrict__ means, int m, int k, int q) {
  const long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= (long long)m * q) return;
  const long long i = e / q, c = e % q;
  double sum = 0.0;
  for (int j = 0; j < k; ++j)
    sum = fma(weights[i * k + j], double(values[(long long)index[i * k + j] * q + c]), sum);
  means[e] = sum;
}
