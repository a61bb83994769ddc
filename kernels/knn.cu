// Exact k nearest neighbours by brute force: float32 proposes, float64 decides.
//
//   X (n, d)  points, T = float or double        Q (m, d)  queries, double
//   Z (n, D)  points centred, scaled, float32    Y (m, D)  queries likewise
//   own (m)   the query's own row in X, which is never its neighbour; -1: none
//
//   knn_difference  proposes:  p = sum_j (y_j - z_j)^2 in float32, the 32 S smallest for each query
//   knn_products    the same from p = |y|^2 + |z|^2 - 2 y.z, with y.z from a matrix product
//   knn_rerank      t = sum_j (q_j - x_j)^2 of the candidates in float64, the k least by (t, index),
//                   and whether a point that was not proposed could belong among them
//   knn_exact       t of all points, for the queries where it could; knn_merge joins its parts
//
// A warp serves R queries. Its lanes look at 32 points at a time and hold, for each query, the list
// of the 32 S nearest so far: ascending, slot 32 r + lane in register r of a lane. So a point that
// is not near costs one comparison, there are no atomics, and all is reproducible.
//
// Equals lle_gpu.neighbors.cpu.NeighborSearch, bit for bit where NumPy sums as on x86-64.
// The list is that of J. Johnson, M. Douze, H. Jegou: Billion-scale similarity search with GPUs,
// arXiv:1702.08734 (2017), section 4, without the queues that batch its insertions.
#include "compat.cuh"

#define ALL_LANES 0xffffffffu

constexpr int NO_INDEX = 2147483647;  // behind every index
constexpr int WARPS = 8;              // in a block

template <typename V> __device__ __forceinline__ V infinity();
template <> __device__ __forceinline__ float infinity<float>() {
  return __int_as_float(0x7f800000);
}
template <> __device__ __forceinline__ double infinity<double>() {
  return __longlong_as_double(0x7ff0000000000000LL);
}

// The 32 S nearest points so far, by (value, index).
template <typename V, int S>
struct WarpList {
  V value[S];
  int index[S];
  V last_value;  // of slot 32 S - 1, known to all lanes
  int last_index;

  __device__ __forceinline__ WarpList() {
#pragma unroll
    for (int r = 0; r < S; ++r) {
      value[r] = infinity<V>();
      index[r] = NO_INDEX;
    }
    last_value = infinity<V>();
    last_index = NO_INDEX;
  }

  static __device__ __forceinline__ bool precedes(V a, int i, V b, int j) {
    return a < b || (a == b && i < j);
  }

  // Lanes with `valid` offer one point each. Returns whether one of them was in the list already.
  __device__ __forceinline__ bool offer(V a, int i, bool valid) {
    bool repeated = false;
    unsigned asking =
        __ballot_sync(ALL_LANES, valid && precedes(a, i, last_value, last_index));
    while (asking) {
      const int lane = __ffs(asking) - 1;
      asking &= asking - 1;
      const V b = __shfl_sync(ALL_LANES, a, lane);
      const int j = __shfl_sync(ALL_LANES, i, lane);
      if (precedes(b, j, last_value, last_index)) repeated |= insert(b, j);
    }
    return repeated;
  }

  // All lanes insert the same point: what lies behind it moves up by one slot.
  __device__ __forceinline__ bool insert(V a, int i) {
    const int lane = threadIdx.x % 32;
    bool there = false;
#pragma unroll
    for (int r = S - 1; r >= 0; --r) {
      V before = __shfl_up_sync(ALL_LANES, value[r], 1);
      int before_index = __shfl_up_sync(ALL_LANES, index[r], 1);
      if (r > 0) {
        const V carried = __shfl_sync(ALL_LANES, value[r > 0 ? r - 1 : 0], 31);
        const int carried_index = __shfl_sync(ALL_LANES, index[r > 0 ? r - 1 : 0], 31);
        if (lane == 0) {
          before = carried;
          before_index = carried_index;
        }
      }
      there |= value[r] == a && index[r] == i;
      const bool first_slot = r == 0 && lane == 0;
      if (precedes(a, i, value[r], index[r])) {
        const bool moved = !first_slot && precedes(a, i, before, before_index);
        value[r] = moved ? before : a;
        index[r] = moved ? before_index : i;
      }
    }
    last_value = __shfl_sync(ALL_LANES, value[S - 1], 31);
    last_index = __shfl_sync(ALL_LANES, index[S - 1], 31);
    return __any_sync(ALL_LANES, there);
  }

  // The first `width` slots, as row `row` of (., width) arrays.
  __device__ __forceinline__ void write(V* values, int* indices, long long row, int width) const {
#pragma unroll
    for (int r = 0; r < S; ++r) {
      const int slot = 32 * r + int(threadIdx.x % 32);
      if (slot < width) {
        values[row * width + slot] = value[r];
        indices[row * width + slot] = index[r];
      }
    }
  }
};

// A query's candidates as they are handed on: -1 where there were fewer points.
template <int S>
__device__ __forceinline__ void write_candidates(const WarpList<float, S>& list, float* proposed,
                                                 int* candidate) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int r = 0; r < S; ++r) {
    proposed[32 * r + lane] = list.value[r];
    candidate[32 * r + lane] = list.index[r] == NO_INDEX ? -1 : list.index[r];
  }
}

// p = sum_j (y_j - z_j)^2 for D <= 32, columns beyond d zero: queries in registers, points through
// shared memory, each lane its own. R queries share what a lane loads.
//   Z (n, D), Y (m, D), own (m) -> proposed (m, 32 S), candidate (m, 32 S)
//   a warp for R queries, WARPS in a block; 129 D floats of shared memory
// |p - t| <= (D + 2) 2^-24 t, to first order, for t of the float32 points.
template <int D, int R, int S>
__global__ void __launch_bounds__(32 * WARPS, 2)  // 128 registers: fewer would spill
knn_difference(const float* __restrict__ Z, const float* __restrict__ Y,
               const int* __restrict__ own, float* __restrict__ proposed,
               int* __restrict__ candidate, int n, int m) {
  constexpr int ROWS = 128;
  __shared__ float tile[D][ROWS + 1];
  const int lane = threadIdx.x % 32;
  const long long first = ((long long)blockIdx.x * WARPS + threadIdx.x / 32) * R;
  float y[R][D];
  WarpList<float, S> list[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const long long query = first + r < m ? first + r : m - 1;
#pragma unroll
    for (int j = 0; j < D; ++j) y[r][j] = Y[query * D + j];
  }
  for (int low = 0; low < n; low += ROWS) {
    const int rows = min(ROWS, n - low);
    __syncthreads();
    for (int e = threadIdx.x; e < rows * D; e += 32 * WARPS)
      tile[e % D][e / D] = Z[(long long)low * D + e];
    __syncthreads();
    for (int start = 0; start < rows; start += 32) {
      const int here = start + lane;
      const bool inside = here < rows;
      float z[D];
#pragma unroll
      for (int j = 0; j < D; ++j) z[j] = inside ? tile[j][here] : 0.0f;
      float p[R];
      bool near = false;
#pragma unroll
      for (int r = 0; r < R; ++r) {
        p[r] = 0.0f;
#pragma unroll
        for (int j = 0; j < D; ++j) {
          const float difference = y[r][j] - z[j];
          p[r] = fmaf(difference, difference, p[r]);
        }
        near |= p[r] < list[r].last_value;
      }
      if (!__any_sync(ALL_LANES, inside && near)) continue;
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const int self = first + r < m ? own[first + r] : -1;
        list[r].offer(p[r], low + here, inside && low + here != self);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r)
    if (first + r < m)
      write_candidates(list[r], proposed + (first + r) * (32 * S),
                       candidate + (first + r) * (32 * S));
}

// p = max(0, |y|^2 + |z|^2 - 2 y.z) for any D: the products of one tile of points come from cuBLAS.
//   products (m, columns) of points low, low + 1, ...; squares |y|^2 (m), |z|^2 (n); own (m)
//   -> proposed (m, 32 S), candidate (m, 32 S), which hold the nearest of the tiles before
//   a warp for each query
// |p - t| <= (D + 4) 2^-24 (|y| + |z|)^2, to first order, in whatever order the products are summed.
template <int S>
__global__ void __launch_bounds__(32 * WARPS)
knn_products(const float* __restrict__ products, const float* __restrict__ squares_y,
             const float* __restrict__ squares_z, const int* __restrict__ own,
             float* __restrict__ proposed, int* __restrict__ candidate, int low, int columns,
             int m) {
  constexpr int AHEAD = 4;  // loads under way at once
  const int lane = threadIdx.x % 32;
  const long long query = (long long)blockIdx.x * WARPS + threadIdx.x / 32;
  if (query >= m) return;  // whole warps leave
  const float* row = products + query * columns;
  const float square = squares_y[query];
  const int self = own[query];
  proposed += query * (32 * S);
  candidate += query * (32 * S);
  WarpList<float, S> list;
  if (low > 0) {
#pragma unroll
    for (int r = 0; r < S; ++r) {
      list.value[r] = proposed[32 * r + lane];
      list.index[r] = candidate[32 * r + lane];
    }
    list.last_value = __shfl_sync(ALL_LANES, list.value[S - 1], 31);
    list.last_index = __shfl_sync(ALL_LANES, list.index[S - 1], 31);
  }
  for (int start = 0; start < columns; start += 32 * AHEAD) {
    float p[AHEAD];
    bool near = false;
#pragma unroll
    for (int a = 0; a < AHEAD; ++a) {
      const int here = start + 32 * a + lane;
      p[a] = infinity<float>();
      if (here < columns) p[a] = fmaf(-2.0f, row[here], square + squares_z[low + here]);
      p[a] = p[a] > 0.0f ? p[a] : 0.0f;
      near |= p[a] < list.last_value;
    }
    if (!__any_sync(ALL_LANES, near)) continue;
#pragma unroll
    for (int a = 0; a < AHEAD; ++a) {
      const int here = start + 32 * a + lane;
      list.offer(p[a], low + here, here < columns && low + here != self);
    }
  }
  write_candidates(list, proposed, candidate);
}

// sum_j (q_j - x_j)^2, in the order in which NumPy's einsum adds on x86-64: even and odd columns
// apart, the four pairs of each whole eight from the last to the first, nothing fused. So points at
// equal distances, which rounding alone tells apart, come in the CPU's order.
__device__ __forceinline__ int column_of_pair(int pair, bool whole) {
  return 2 * (whole ? 3 - pair : pair);
}
__device__ __forceinline__ double add_square(double sum, double q, double x) {
  const double difference = __dsub_rn(q, x);
  return __dadd_rn(sum, __dmul_rn(difference, difference));
}
template <typename T>
__device__ __forceinline__ double squared_distance(const double* __restrict__ q,
                                                   const T* __restrict__ x, int d) {
  double even = 0.0, odd = 0.0;
  for (int group = 0; group < d; group += 8) {
    const bool whole = d - group >= 8;
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      const int j = group + column_of_pair(pair, whole);
      if (j < d) even = add_square(even, q[j], double(x[j]));
      if (j + 1 < d) odd = add_square(odd, q[j + 1], double(x[j + 1]));
    }
  }
  return __dadd_rn(even, odd);
}

// How far a proposal p of a point at squared distance t can be from t, as p is made of float32
// points (each rounded by up to `shift`), by differences (`relative`) or products (`absolute`).
__device__ __forceinline__ double proposal_error(double t, double reach, double relative,
                                                 double absolute) {
  const double shift = 6.1e-8 * reach + 1e-15;  // 2^-24, and what float32 flushes to zero
  const double root = sqrt(t);
  return relative * (root + shift) * (root + shift) + absolute * reach * reach +
         shift * (2.0 * root + shift);
}

// The k nearest of the candidates, exactly, and whether they are the k nearest of all points.
//   X (n, d), Q (m, d), own (m), candidate (m, count), proposed (m, count), reach (m) = |y| + max|z|
//   -> distance (m, k) = t, index (m, k), status (m)
//   a warp for each query, a candidate for each lane; k <= 32 S
//   scale: that of Z; `relative`, `absolute`: see proposal_error; complete: all points are proposed
// Points that are not proposed have p >= `farthest`. Were one as near as the k-th, at t, its p would
// be at most t + proposal_error(t): so the query is settled if that lies below `farthest`.
constexpr int SETTLED = 0, UNSETTLED = 1, BROKEN = 2;  // BROKEN: the proposals cannot be right

template <typename T, int S>
__global__ void __launch_bounds__(32 * WARPS, 2)
knn_rerank(const T* __restrict__ X, const double* __restrict__ Q, const int* __restrict__ own,
           const int* __restrict__ candidate, const float* __restrict__ proposed,
           const double* __restrict__ reach, double* __restrict__ distance,
           int* __restrict__ index, int* __restrict__ status, int n, int d, int m, int count, int k,
           int complete, double scale, double relative, double absolute) {
  const int lane = threadIdx.x % 32;
  const long long query = (long long)blockIdx.x * WARPS + threadIdx.x / 32;
  if (query >= m) return;  // whole warps leave
  if (!(reach[query] < infinity<double>())) {  // too far away for float32
    if (lane == 0) status[query] = UNSETTLED;
    return;
  }
  // t is rounded by up to (d + 2) 2^-53 of itself, and by underflow.
  const double above = 1.0 + (d + 4) * 2.3e-16;
  const double underflow = d * 2.3e-308 * scale * scale;
  const int self = own[query];
  WarpList<double, S> list;
  float farthest = 0.0f;
  bool broken = false;
  for (int start = 0; start < count; start += 32) {
    const int c = start + lane;
    const int j = c < count ? candidate[query * count + c] : -1;
    const bool there = j >= 0 && j < n;
    if (c < count && !there) broken |= !complete || j != -1;
    double t = infinity<double>();
    if (there) {
      const float p = proposed[query * count + c];
      t = squared_distance(Q + query * d, X + (long long)j * d, d);
      const double scaled = t * scale * scale;
      const double most = scaled * above + underflow;
      const double error = proposal_error(most, reach[query], relative, absolute) + most - scaled;
      broken |= fabs(double(p) - scaled) > error;
      farthest = p > farthest ? p : farthest;
    }
    broken |= list.offer(t, j, there && j != self);
  }
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) {
    const float other = __shfl_xor_sync(ALL_LANES, farthest, o);
    farthest = other > farthest ? other : farthest;
  }
  list.write(distance, index, query, k);
  double kth = infinity<double>();
  int kth_index = NO_INDEX;
#pragma unroll
  for (int r = 0; r < S; ++r) {
    const double here = __shfl_sync(ALL_LANES, list.value[r], (k - 1) % 32);
    const int here_index = __shfl_sync(ALL_LANES, list.index[r], (k - 1) % 32);
    if (r == (k - 1) / 32) {
      kth = here;
      kth_index = here_index;
    }
  }
  broken = __any_sync(ALL_LANES, broken);
  if (lane == 0) {
    const double most = kth * scale * scale * above + underflow;
    const bool settled =
        kth_index != NO_INDEX &&
        (complete || farthest > most + proposal_error(most, reach[query], relative, absolute));
    status[query] = broken ? BROKEN : settled ? SETTLED : UNSETTLED;
  }
}

// The `width` nearest of all points behind `after`, by (t, index), in float64. So lists longer than
// 32 S are filled in passes, each behind where the last one ended.
//   X (n, d), Q (m, d), own (m), after (m), after_index (m)
//   -> found (parts, m, width) = t, found_index (parts, m, width): of each part of the points, behind
//   which NO_INDEX where it has fewer; width <= 32 S
//   a warp for R queries, WARPS in a block; blockIdx.y: a part of `size` points, a multiple of 32.
//   Points and queries through shared memory, 32 columns at a time: 32 (33 + WARPS R) doubles
// Few queries fill a device only if several blocks share the points: knn_merge joins what they find.
template <typename T, int R, int S>
__global__ void __launch_bounds__(32 * WARPS, 2)
knn_exact(const T* __restrict__ X, const double* __restrict__ Q, const int* __restrict__ own,
          const double* __restrict__ after, const int* __restrict__ after_index,
          double* __restrict__ found, int* __restrict__ found_index, int n, int d, int m, int width,
          int size) {
  constexpr int COLUMNS = 32;
  __shared__ double points[32][COLUMNS + 1];
  __shared__ double queries[WARPS * R][COLUMNS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const long long first = ((long long)blockIdx.x * WARPS + warp) * R;
  const int begin = int(blockIdx.y) * size;
  const int end = size < n - begin ? begin + size : n;
  WarpList<double, S> list[R];
  int self[R], behind_index[R];
  double behind[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const bool there = first + r < m;
    self[r] = there ? own[first + r] : -1;
    behind[r] = there ? after[first + r] : -1.0;
    behind_index[r] = there ? after_index[first + r] : -1;
  }
  for (int low = begin; low < end; low += 32) {
    const int here = low + lane;
    double even[R], odd[R];
#pragma unroll
    for (int r = 0; r < R; ++r) even[r] = odd[r] = 0.0;
    for (int left = 0; left < d; left += COLUMNS) {
      const int columns = min(COLUMNS, d - left);
      __syncthreads();
      for (int row = warp; row < 32; row += WARPS)  // an odd last column gets a zero beside it
        points[row][lane] = low + row < end && lane < columns
                                ? double(X[(long long)(low + row) * d + left + lane])
                                : 0.0;
      if (low == begin || d > COLUMNS) {
        for (int r = 0; r < R; ++r)
          queries[warp * R + r][lane] = first + r < m && lane < columns
                                            ? Q[(first + r) * d + left + lane]
                                            : 0.0;
      }
      __syncthreads();
      if (first >= m) continue;  // a whole warp without queries: it loads, and no more
      for (int group = 0; group < columns; group += 8) {
        const bool whole = columns - group >= 8;
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) {
          const int j = group + column_of_pair(pair, whole);
          if (j >= columns) break;
          const double x = points[lane][j], x_next = points[lane][j + 1];
#pragma unroll
          for (int r = 0; r < R; ++r) {
            even[r] = add_square(even[r], queries[warp * R + r][j], x);
            odd[r] = add_square(odd[r], queries[warp * R + r][j + 1], x_next);
          }
        }
      }
    }
    if (first >= m) continue;
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const double t = __dadd_rn(even[r], odd[r]);
      const bool beyond = WarpList<double, S>::precedes(behind[r], behind_index[r], t, here);
      list[r].offer(t, here, here < end && here != self[r] && beyond);
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    if (first + r >= m) continue;
    list[r].write(found, found_index, blockIdx.y * (long long)m + first + r, width);
  }
}

// The `width` least by (value, index) of those of the parts: found, found_index (parts, m, width)
// -> merged, merged_index (m, width). A warp for each query, WARPS in a block; width <= 32 S.
template <int S>
__global__ void __launch_bounds__(32 * WARPS, 2)
knn_merge(const double* __restrict__ found, const int* __restrict__ found_index,
          double* __restrict__ merged, int* __restrict__ merged_index, int parts, int m,
          int width) {
  const int lane = threadIdx.x % 32;
  const long long query = (long long)blockIdx.x * WARPS + threadIdx.x / 32;
  if (query >= m) return;  // whole warps leave
  WarpList<double, S> list;
  for (int part = 0; part < parts; ++part) {
    const long long row = (part * (long long)m + query) * width;
    for (int start = 0; start < width; start += 32) {
      const bool there = start + lane < width;
      const double value = there ? found[row + start + lane] : infinity<double>();
      const int index = there ? found_index[row + start + lane] : NO_INDEX;
      list.offer(value, index, true);  // an empty slot comes before nothing
    }
  }
  list.write(merged, merged_index, query, width);
}
