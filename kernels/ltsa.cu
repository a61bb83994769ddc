// Rows of local tangent space alignment, the projectors
//
//     P_i = I - 1/k 1 1^T - U_i^T U_i          (k x k)
//
//     U[n,q,k]      tangent coordinates of the k neighbours: orthonormal rows, orthogonal to 1
//     rows[n,k,k]
//
// One warp a point; no shared memory: a point's coordinates stay in the L1 cache while its k * k
// numbers are written, which is what takes the time. The same as lle_gpu.constraints.cpu.ltsa.
// Z. Zhang, H. Zha. SIAM J. Sci. Comput. 26:313 (2004).
#include "compat.cuh"

__global__ void ltsa_rows(const double* __restrict__ U, double* __restrict__ rows, int n, int q,
                          int k) {
  const long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (i >= n) return;
  const double* u = U + i * q * k;
  double* P = rows + i * k * k;
  const double mean = 1.0 / k;
  for (int e = threadIdx.x % 32; e < k * k; e += 32) {
    const int row = e / k, column = e - row * k;
    double explained = 0.0;
    for (int j = 0; j < q; ++j) explained = fma(u[j * k + row], u[j * k + column], explained);
    P[e] = (-explained - mean) + (row == column ? 1.0 : 0.0);
  }
}
