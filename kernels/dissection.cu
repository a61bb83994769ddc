// Nested dissection of a graph: distances from pivots, and one level of cuts and separators.
//
// A graph of n nodes: the neighbours of node i stand from first_i to first_{i+1}, and every edge
// stands at both of its ends; repeated neighbours and loops do no harm. What is left of it are m
// cells; `nodes` has their nodes, cell by cell, those of cell c from start_c on, size_c of them.
//
//   kernel                computes
//   spread                depth_{j,p} = level + 1 for what the nodes at `level` of pivot p reach first
//   choose_coordinate     the p with the largest variance of x_{.,p} over a cell, and that mean, low_c,
//                         and 1 / width of a bin, scale_c; scale_c = 0 if all coordinates are equal
//   sort_into_bins        label_i = 32 c + bin of x_{i,p}: BINS bins within REACH deviations of the
//                         mean, and one for what lies on either side; the first and the second half
//                         of the nodes if scale_c = 0. inside_{c,b} is the number of nodes in a bin
//   count_crossing        crossing_{c,b}: how many edges cross the threshold behind bin b more than
//                         the one before it
//   choose_threshold      limit_c = 32 c + the bin behind which the cell is cut: the least
//                         (crossing + 1/2) / (nodes of the smaller half)^1/2
//   open_degrees          edges of node i that cross its cell's limit and have no end in the cover
//   join_cover            takes i into it if that is more than at the other end of each such edge
//
//   first (n + 1) long long; neighbors int; nodes, and cell, the cell of each, int
//   depth (n, PIVOTS), queue (n PIVOTS), begin, found (levels) int; x (n, PIVOTS) float
//   start, size, widest, limit (m) int; low, scale (m) float; inside, crossing (m, SLOTS) int
//   label, degree (n) int; covered (n) signed char, 0 or 1
//
// The separator is a vertex cover of the edges that cross: rounds of open_degrees and join_cover,
// until no edge is open. The priorities (degree, then the node's hash) are all different, so each
// round covers an edge in every cell that has one. The covers have a few nodes more than the least
// ones, which the CPU takes from a maximum matching: less than a tenth in the tests.
//
// Threads: LANES neighbouring ones for a queue's entry or a node, which share its neighbours; a warp
// for a cell's coordinate, whose lane 16 h + p sums every other sample of pivot p; one for a cell's
// threshold. A hub keeps its lanes busy while the others wait: it is among the first in a separator,
// and then no longer looked at. Atomics are on integers alone, and what they fill is read as counts or as a set, so the
// same graph gives the same order. Shared memory: none.
//
// Floor: a level of the search reads its nodes' neighbours once; a level of cuts reads all edges
// that are left twice, 12 bytes for each with its label: 24 M edges at 4 TB/s are 0.15 ms.
//
// The CPU's function: dissect in lle_gpu/spectral/cpu/ordering.py, with the references.
// D. Merrill, M. Garland, A. Grimshaw: Scalable GPU graph traversal. PPoPP 2012 (queues of nodes).
// M. Luby: A simple parallel algorithm for the maximal independent set problem. SIAM J. Comput.
// 15:1036 (1986) (local maxima of priorities).
#include "compat.cuh"

#define ALL_LANES 0xffffffffu

constexpr int PIVOTS = 16;
constexpr int LANES = 8;
constexpr int SLOTS = 32;  // labels of a cell
constexpr int FAR = 0x7fffffff;
constexpr float SAME = 1e-6f;  // relative deviation of coordinates that are equal

// This thread's place among those that work on items of LANES threads each.
__device__ __forceinline__ long long item_of_lanes() {
  return (blockIdx.x * (long long)blockDim.x + threadIdx.x) / LANES;
}

// found_l entries (i PIVOTS + p: node i, pivot p) of the queue have depth l, from begin_l on.
__global__ void __launch_bounds__(256)
spread(const long long* __restrict__ first, const int* __restrict__ neighbors, int level,
       int* depth, int* queue, int* begin, int* found) {
  const int low = begin[level], size = found[level], next = low + size;
  const int lane = threadIdx.x % LANES;
  const long long items = gridDim.x * (long long)blockDim.x / LANES;
  if (blockIdx.x == 0 && threadIdx.x == 0) begin[level + 1] = next;
  for (long long q = item_of_lanes(); q < size; q += items) {
    const int entry = queue[low + q], node = entry / PIVOTS, pivot = entry % PIVOTS;
    const long long end = first[node + 1];
    for (long long e = first[node] + lane; e < end; e += LANES) {
      const int other = neighbors[e] * PIVOTS + pivot;
      // Nearly all have been reached already, and loads are cheaper than atomics.
      if (racing_load(depth + other) == FAR && atomicCAS(depth + other, FAR, level + 1) == FAR)
        queue[next + atomicAdd(found + level + 1, 1)] = other;
    }
  }
}

__global__ void __launch_bounds__(128)
choose_coordinate(const float* __restrict__ x, const int* __restrict__ nodes,
                  const int* __restrict__ start, const int* __restrict__ size, int n_cells,
                  int most_samples, float bins_per_deviation, int* __restrict__ widest,
                  float* __restrict__ low, float* __restrict__ scale) {
  const int c = int((blockIdx.x * (long long)blockDim.x + threadIdx.x) / 32);
  if (c >= n_cells) return;  // the whole warp
  const int lane = threadIdx.x % 32, p = lane % PIVOTS;
  const int samples = min(size[c], most_samples), stride = size[c] / samples;
  const int* const sampled = nodes + start[c];
  const float shift = x[(long long)sampled[0] * PIVOTS + p];
  float sum = 0, squares = 0;
  for (int t = lane / PIVOTS; t < samples; t += 32 / PIVOTS) {
    const float value = x[(long long)sampled[t * stride] * PIVOTS + p] - shift;
    sum += value;
    squares = fmaf(value, value, squares);
  }
  sum += __shfl_xor_sync(ALL_LANES, sum, PIVOTS);
  squares += __shfl_xor_sync(ALL_LANES, squares, PIVOTS);
  float mean = sum / samples, variance = squares / samples - mean * mean;
  mean += shift;
  int best = p;
  for (int step = PIVOTS / 2; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(ALL_LANES, variance, step);
    const float its_mean = __shfl_xor_sync(ALL_LANES, mean, step);
    const int its = __shfl_xor_sync(ALL_LANES, best, step);
    if (other > variance) {
      variance = other;
      mean = its_mean;
      best = its;
    }
  }
  if (lane > 0) return;
  widest[c] = best;
  low[c] = mean;
  const float rounding = SAME * fmaxf(1.0f, fabsf(mean));
  scale[c] = variance > rounding * rounding ? bins_per_deviation * rsqrtf(variance) : 0.0f;
}

__global__ void __launch_bounds__(256)
sort_into_bins(const float* __restrict__ x, const int* __restrict__ nodes,
               const int* __restrict__ cell, const int* __restrict__ start,
               const int* __restrict__ size, const int* __restrict__ widest,
               const float* __restrict__ low, const float* __restrict__ scale, int n, int bins,
               int* __restrict__ label, int* inside) {
  const int q = int(blockIdx.x * (long long)blockDim.x + threadIdx.x);
  int mine = -1;
  if (q < n) {
    const int c = cell[q], i = nodes[q];
    float value = (x[(long long)i * PIVOTS + widest[c]] - low[c]) * scale[c];
    if (scale[c] == 0.0f && q - start[c] < size[c] / 2) value = -1.0f;
    mine = c * SLOTS + int(fminf(fmaxf(value + (1 + bins / 2), 0.0f), bins + 1.0f));
    label[i] = mine;
  }
  // A warp's nodes are mostly one cell's, and in few of its bins.
  const unsigned alike = __match_any_sync(ALL_LANES, mine);
  if (mine >= 0 && int(threadIdx.x % 32) == __ffs(int(alike)) - 1)
    atomicAdd(inside + mine, __popc(alike));
}

__global__ void __launch_bounds__(256)
count_crossing(const long long* __restrict__ first, const int* __restrict__ neighbors,
               const int* __restrict__ nodes, const int* __restrict__ label, int n, int* crossing) {
  const long long q = item_of_lanes();
  if (q >= n) return;
  const int i = nodes[q], mine = label[i];
  const long long end = first[i + 1];
  for (long long e = first[i] + threadIdx.x % LANES; e < end; e += LANES) {
    const int other = label[neighbors[e]];
    if (other > mine && other / SLOTS == mine / SLOTS) {  // from its lower end
      atomicAdd(crossing + mine, 1);
      atomicSub(crossing + other, 1);
    }
  }
}

__global__ void __launch_bounds__(256)
choose_threshold(const int* __restrict__ inside, const int* __restrict__ crossing,
                 const int* __restrict__ size, int n_cells, int bins, int* __restrict__ limit) {
  const int c = int(blockIdx.x * (long long)blockDim.x + threadIdx.x);
  if (c >= n_cells) return;
  int below = 0, cut = 0, best = c * SLOTS;
  float least = __int_as_float(0x7f800000);
  for (int b = 0; b <= bins; ++b) {  // behind the last bin there is nothing
    below += inside[c * SLOTS + b];
    cut += crossing[c * SLOTS + b];
    const int smaller = min(below, size[c] - below);
    if (smaller == 0) continue;
    const float cost = (cut + 0.5f) / sqrtf(float(smaller));
    if (cost < least) {
      least = cost;
      best = c * SLOTS + b;
    }
  }
  limit[c] = best;
}

// Whether an edge between nodes of these labels crosses the limit of their cell, which is `mine`'s.
__device__ __forceinline__ bool crosses(int mine, int other, int limit) {
  return other >= 0 && other / SLOTS == mine / SLOTS && (mine > limit) != (other > limit);
}

__global__ void __launch_bounds__(256)
open_degrees(const long long* __restrict__ first, const int* __restrict__ neighbors,
             const int* __restrict__ nodes, const int* __restrict__ label,
             const int* __restrict__ limit, const signed char* __restrict__ covered, int n,
             int* __restrict__ degree) {
  const long long q = item_of_lanes();
  int open = 0, i = -1;
  if (q < n) {
    i = nodes[q];
    const int mine = label[i], bound = limit[mine / SLOTS];
    const long long end = covered[i] ? 0 : first[i + 1];
    for (long long e = first[i] + threadIdx.x % LANES; e < end; e += LANES) {
      const int j = neighbors[e];
      open += crosses(mine, label[j], bound) && !covered[j];
    }
  }
  for (int step = LANES / 2; step > 0; step /= 2) open += __shfl_xor_sync(ALL_LANES, open, step);
  if (q < n && threadIdx.x % LANES == 0) degree[i] = open;
}

__device__ __forceinline__ bool precedes(int degree, int i, int its_degree, int j) {
  return degree != its_degree ? degree > its_degree : i * 2654435761u > j * 2654435761u;
}

__global__ void __launch_bounds__(256)
join_cover(const long long* __restrict__ first, const int* __restrict__ neighbors,
           const int* __restrict__ nodes, const int* __restrict__ label,
           const int* __restrict__ limit, const int* __restrict__ degree, int n,
           signed char* __restrict__ covered) {
  const long long q = item_of_lanes();
  int i = -1, open = 0, beaten = 0;
  if (q < n) {
    i = nodes[q];
    open = degree[i];
    const int mine = label[i], bound = limit[mine / SLOTS];
    const long long end = open ? first[i + 1] : 0;
    for (long long e = first[i] + threadIdx.x % LANES; e < end; e += LANES) {
      const int j = neighbors[e];
      // Both have open edges and this one crosses, so it is open itself.
      if (crosses(mine, label[j], bound) && degree[j] > 0) beaten |= precedes(degree[j], j, open, i);
    }
  }
  for (int step = LANES / 2; step > 0; step /= 2) beaten |= __shfl_xor_sync(ALL_LANES, beaten, step);
  if (open && !beaten && threadIdx.x % LANES == 0) covered[i] = 1;
}
