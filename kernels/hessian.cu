// Rows of Hessian eigenmaps: Gram-Schmidt, from left to right, of
//
//     [1, U_i, U_a * U_b for a <= b]            (1 + q + h columns of k numbers, h = q (q + 1) / 2)
//
// of which the last h are the rows. Each is projected twice; one that keeps less than `tolerance`
// of its norm becomes zero.
//
//     U[n,q,k]      tangent coordinates of the k neighbours: orthonormal rows, orthogonal to 1
//     rows[n,h,k]
//
// A group of `lanes` (8, 16, 32) a point, each lane taking whole columns for the products and whole
// rows for the subtraction, so that nothing is summed across lanes. Dynamic shared memory a point:
// 8 (q + h + 1) bytes for the products and, if WORK_IS_SHARED, 8 h (k | 1) for the columns, which
// else are worked on where they are to be, in global memory.
//
// The same as lle_gpu.constraints.cpu.hessian. D. Donoho, C. Grimes. PNAS 100:5591 (2003).
#include "compat.cuh"

template <bool WORK_IS_SHARED>
__global__ void hessian_rows(const double* __restrict__ U, double* __restrict__ rows, int n, int q,
                             int k, double tolerance, int lanes) {
  const int own = threadIdx.x % lanes, group = threadIdx.x / lanes, h = q * (q + 1) / 2;
  const long long i = (long long)blockIdx.x * (blockDim.x / lanes) + group;
  const bool live = i < n;  // the others go along, on the last point, and write nothing of it
  const double* u = U + (live ? i : n - 1) * q * k;
  double* out = rows + (live ? i : n - 1) * h * k;

  DYN_SHARED(bytes);
  const int ld = WORK_IS_SHARED ? k | 1 : k;
  double* products = reinterpret_cast<double*>(bytes) + group * (q + h + 1);
  double* columns = reinterpret_cast<double*>(bytes) + blockDim.x / lanes * (q + h + 1);
  double* Q = WORK_IS_SHARED ? columns + group * h * ld : out;
  if (!WORK_IS_SHARED && !live) return;  // lanes = 32 then: whole warps leave

  int a = 0, b = 0;
  for (int j = 0; j < h; ++j) {
    double* column = Q + (long long)j * ld;
    for (int r = own; r < k; r += lanes) column[r] = u[a * k + r] * u[b * k + r];
    if (++b == q) b = ++a;
    __syncwarp();
    double before = 0.0, after = 0.0;
    for (int r = 0; r < k; ++r) before = fma(column[r], column[r], before);
    for (int pass = 0; pass < 2; ++pass) {
      for (int c = own; c < 1 + q + j; c += lanes) {
        double product = 0.0;
        if (c == 0) {  // 1 / sqrt(k) both here and below: the mean
          for (int r = 0; r < k; ++r) product += column[r];
          product /= k;
        } else {
          const double* other = c <= q ? u + (c - 1) * k : Q + (long long)(c - 1 - q) * ld;
          for (int r = 0; r < k; ++r) product = fma(column[r], other[r], product);
        }
        products[c] = product;
      }
      __syncwarp();
      for (int r = own; r < k; r += lanes) {
        double projection = products[0];
        for (int c = 0; c < q; ++c) projection = fma(products[1 + c], u[c * k + r], projection);
        for (int c = 0; c < j; ++c)
          projection = fma(products[1 + q + c], Q[(long long)c * ld + r], projection);
        column[r] -= projection;
      }
      __syncwarp();
    }
    for (int r = 0; r < k; ++r) after = fma(column[r], column[r], after);
    before = sqrt(before);
    after = sqrt(after);
    const double scale = after > tolerance * before && after > 0.0 ? 1.0 / after : 0.0;
    __syncwarp();
    for (int r = own; r < k; r += lanes) column[r] *= scale;
    __syncwarp();
  }
  if (WORK_IS_SHARED && live)
    for (int e = own; e < h * k; e += lanes) out[e] = Q[(e / k) * ld + e % k];
}
