// The closed class of a sound neighbour graph: which points lead to a point, to which does it lead?
//
// Row i of index has the k neighbours of point i: an edge from i to each. From one point, marks
// spread against the edges and along them, a step of both in a launch:
//
//   leads_i = 1              if leads_j = 1 for a neighbour j of i: a path leads from i to the point
//   reached_j = NEW          if reached_i = NEW for a point i with the neighbour j, whose own mark
//                            is then OLD: a path leads from the point to j
//
// If all points lead to it, no closed class is without it, so that there is one; and that is what
// has been reached. Strong components, which tell this of any graph, are found on the host.
//
//   index (n, k), leads, reached (n) int; 1 and NEW for the point itself before the first launch,
//   else 0; last, the latest step in which anything was marked or handed on
//
// Threads: one for a point. Marks are written by atomics, the same ones in every order of events,
// though a step may go farther in one than in another; a step without news has none after it.
// Shared memory: none.
//
// Floor: 4 n k bytes a step, which stay in a large device's L2: 12 M neighbours are 48 MB, 12 us.
//
// The CPU's function: closed_classes in lle_gpu/neighbors/graph.py.
#include "compat.cuh"

constexpr int NEW = 1, OLD = 2;

__global__ void __launch_bounds__(256)
spread_both_ways(const int* __restrict__ index, int n, int k, int step, int* leads, int* reached,
                 int* last) {
  const int i = int(blockIdx.x * (long long)blockDim.x + threadIdx.x);
  if (i >= n) return;
  const int* const neighbors = index + i * (long long)k;
  bool news = false;
  if (racing_load(reached + i) == NEW) {
    for (int j = 0; j < k; ++j) {
      int* const its = reached + neighbors[j];
      if (racing_load(its) == 0) atomicCAS(its, 0, NEW);
    }
    atomicExch(reached + i, OLD);
    news = true;
  }
  if (racing_load(leads + i) == 0) {
    int found = 0;
    for (int j = 0; j < k && !found; ++j) found = racing_load(leads + neighbors[j]);
    if (found) {
      atomicExch(leads + i, 1);
      news = true;
    }
  }
  if (news && racing_load(last) < step) atomicMax(last, step);
}
