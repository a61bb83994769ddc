// Products with F, F^T and M = F^T F for blocks of b vectors, and a step of a Chebyshev recurrence.
//
// F is as the constraints have it: row p = i r + s (point i, s < r) holds rows_{i,s,a} in column
// index_{i,a}, a < m. An entry e = i m + a ties point i to column index_{i,a}; `order` has the
// entries sorted by column, those of column j from first_j to first_{j+1}, by ascending e. A sparse
// matrix A has the columns and values of row i from first_i to first_{i+1}.
//
//   kernel                 computes
//   multiply_rows          Y_p = sum_a rows_{i,s,a} X_{index_{i,a}}                        Y = F X
//   multiply_transposed    Z_j = sum_{e of j} sum_s rows_{i,s,a} Y_{i r + s}               Z = F^T Y
//   multiply_sparse        Y_i = sum_{e of i} values_e X_{columns_e}                       Y = A X
//   chebyshev_step         Z_i <- alpha (A X)_i + beta Y_i + gamma Z_i
//   gram_values            M_jc = sum_{(i,a,c') of (j,c)} sum_s rows_{i,s,a} rows_{i,s,c'}
//
//   X, Y, Z (.., b) row-major, T; index, columns int; order, first long long; rows (n, r, m), T
//
// Threads: block (w, 256 / w), w = min(b, 32); one thread for a row and a column of the block, so
// that w neighbouring threads read the same entries of the matrix and w consecutive numbers of X.
// Rows of more than LONG entries (a hub's, in F^T) would keep one thread busy long after the others:
// each has one of the first n_long blocks to itself, whose 256 / w slices take every 256 / w-th
// entry. Whatever is summed is summed in an order that depends on the sizes alone, so the same
// input gives the same bits; there are no atomics. Shared memory: 256 T.
//
// Memory bound, b = 8, double: a nonzero costs 12 bytes for value and column, and 64 of X, which
// come from the L2 as far as the points are in an order in which neighbours are near. So the floor
// for n points with m nonzeros a row is n (12 m + 8 + 16 b) bytes for Y = B X, the same and 8 b more
// for each other block that is read for a step: for n = 1M, m = 13 that is 0.30 and 0.43 GB, 0.17
// ms together at 4.3 TB/s, 21 us a vector. F as the constraints have it: 8 r m + 4 m a point.
//
// The CPU's functions: Products.multiply in lle_gpu/spectral/cpu/products.py, normal_product in
// cpu/certify.py, gram in lle_gpu/constraints/cpu/assemble.py, and the recurrence of
// ChebyshevFilter in lle_gpu/spectral/chebyshev.py.
//
// N. Bell, M. Garland: Implementing sparse matrix-vector multiplication on throughput-oriented
// processors. SC 2009. Y. Zhou, Y. Saad, M. L. Tiago, J. R. Chelikowsky: Self-consistent-field
// calculations using Chebyshev-filtered subspace iteration. J. Comput. Phys. 219:172 (2006).
#include "compat.cuh"

constexpr int LONG = 256;

// X_{row,c} of X (.., b). An address takes one multiplication so, and four as a number of 64 bits.
template <typename T> __device__ __forceinline__ T element(const T* X, int row, int b, int c) {
  const unsigned char* const column = reinterpret_cast<const unsigned char*>(X + c);
  const unsigned bytes = b * sizeof(T);
  return *reinterpret_cast<const T*>(column + (unsigned long long)unsigned(row) * bytes);
}

// term(.. term(term(sum, 0), 1) .., count - 1), the loads of UNROLL terms under way at once: of the
// last few, too, which one by one would take longer than all others.
template <int UNROLL, typename T, typename Term>
__device__ __forceinline__ T add_terms(T sum, int count, Term term) {
  int e = 0;
  for (; e + UNROLL <= count; e += UNROLL) {
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) sum = term(sum, e + u);
  }
#pragma unroll
  for (int u = 0; u < UNROLL - 1; ++u)
    if (e + u < count) sum = term(sum, e + u);
  return sum;
}

// store(i, c, sum over e from first_i to first_{i+1} of the terms) for all rows i < n and all
// columns c < b; term(sum, e, c) adds one. UNROLL loads are under way at once.
template <typename T, int UNROLL, typename Term, typename Store>
__device__ __forceinline__ void sum_rows(const long long* __restrict__ first,
                                         const int* __restrict__ long_rows, int n_long, int n,
                                         int b, Term term, Store store) {
  __shared__ T slices[256];
  const int c = blockIdx.y * blockDim.x + threadIdx.x;
  if (int(blockIdx.x) < n_long) {  // the whole block: nobody misses the barrier
    const int i = long_rows[blockIdx.x];
    const long long end = first[i + 1];
    T sum = T(0);
    if (c < b) {
#pragma unroll UNROLL
      for (long long e = first[i] + threadIdx.y; e < end; e += blockDim.y) sum = term(sum, e, c);
    }
    slices[threadIdx.y * blockDim.x + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || c >= b) return;
    for (int y = 1; y < int(blockDim.y); ++y) sum += slices[y * blockDim.x + threadIdx.x];
    store(i, c, sum);
    return;
  }
  const long long i = (long long)(blockIdx.x - n_long) * blockDim.y + threadIdx.y;
  if (i >= n || c >= b) return;
  const long long begin = first[i], end = first[i + 1];
  if (end - begin > LONG) return;
  const T sum = add_terms<UNROLL>(T(0), int(end - begin),
                                  [=](T sum, int e) { return term(sum, begin + e, c); });
  store(int(i), c, sum);
}

template <typename T>
__global__ void __launch_bounds__(256)
multiply_rows(const int* __restrict__ index, const T* __restrict__ rows, const T* __restrict__ X,
              T* __restrict__ Y, long long n_rows, int r, int m, int b) {
  const long long p = (long long)blockIdx.x * blockDim.y + threadIdx.y;
  const int c = blockIdx.y * blockDim.x + threadIdx.x;
  if (p >= n_rows || c >= b) return;
  const int* const columns = index + (r == 1 ? p : p / r) * m;
  const T* const values = rows + p * m;
  Y[p * b + c] = add_terms<8>(
      T(0), m, [=](T sum, int a) { return fma(values[a], element(X, columns[a], b, c), sum); });
}

template <typename T>
__global__ void __launch_bounds__(256, 4)
multiply_transposed(const long long* __restrict__ first, const int* __restrict__ long_rows,
                    int n_long, const long long* __restrict__ order, const T* __restrict__ rows,
                    const T* __restrict__ Y, T* __restrict__ Z, int n, int r, int m, int b) {
  sum_rows<T, 1>(
      first, long_rows, n_long, n, b,
      [=](T sum, long long e, int c) {
        const long long i = order[e] / m, a = order[e] - i * m;
#pragma unroll 4
        for (int s = 0; s < r; ++s)
          sum = fma(rows[(i * r + s) * m + a], Y[(i * r + s) * b + c], sum);
        return sum;
      },
      [=](int j, int c, T sum) { Z[(long long)j * b + c] = sum; });
}

template <typename T>
__global__ void __launch_bounds__(256)
multiply_sparse(const long long* __restrict__ first, const int* __restrict__ long_rows, int n_long,
                const int* __restrict__ columns, const T* __restrict__ values,
                const T* __restrict__ X, T* __restrict__ Y, int n, int b) {
  sum_rows<T, 8>(
      first, long_rows, n_long, n, b,
      [=](T sum, long long e, int c) {
        return fma(values[e], element(X, columns[e], b, c), sum);
      },
      [=](int i, int c, T sum) { Y[(long long)i * b + c] = sum; });
}

// alpha, beta, gamma are row done[0] + step of `coefficients`; where gamma is 0, Z is not read. What
// is done is counted on the device, so that a captured run of steps serves for the whole recurrence.
template <typename T>
__global__ void __launch_bounds__(256)
chebyshev_step(const long long* __restrict__ first, const int* __restrict__ long_rows, int n_long,
               const int* __restrict__ columns, const T* __restrict__ values,
               const T* __restrict__ X, const T* __restrict__ Y, T* __restrict__ Z, int n, int b,
               const double* __restrict__ coefficients, const long long* __restrict__ done,
               int step) {
  const double* const row = coefficients + 3 * (done[0] + step);
  const T alpha = T(row[0]), beta = T(row[1]), gamma = T(row[2]);
  sum_rows<T, 8>(
      first, long_rows, n_long, n, b,
      [=](T sum, long long e, int c) {
        return fma(values[e], element(X, columns[e], b, c), sum);
      },
      [=](int i, int c, T sum) {
        const long long at = (long long)i * b + c;
        const T before = gamma == T(0) ? T(0) : gamma * Z[at];
        Z[at] = fma(alpha, sum, fma(beta, Y[at], before));
      });
}

// One thread.
__global__ void count_steps(long long* done, int steps) { *done += steps; }

// One thread for each of M's nonzeros: `entries` from first_p to first_{p+1} are t m + c', where
// order_t = i m + a is an entry of F in M's row; one of n_entries or more is M's diagonal, which
// has a place even in a row of zeros.
template <typename T>
__global__ void __launch_bounds__(256, 4)
gram_values(const long long* __restrict__ first, const long long* __restrict__ entries,
            const long long* __restrict__ order, const T* __restrict__ rows, T* __restrict__ values,
            long long nonzeros, long long n_entries, int r, int m) {
  const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (p >= nonzeros) return;
  T sum = T(0);
  const long long end = first[p + 1];
#pragma unroll 1
  for (long long f = first[p]; f < end; ++f) {
    const long long entry = entries[f];
    if (entry >= n_entries) continue;
    const long long e = order[entry / m], i = e / m;
    const T* const row = rows + i * r * m;
    const int a = int(e - i * m), c = int(entry % m);
#pragma unroll 4
    for (int s = 0; s < r; ++s) sum = fma(row[s * m + a], row[s * m + c], sum);
  }
  values[p] = sum;
}
