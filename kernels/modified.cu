// Rows of modified LLE, from the principal directions of each point's neighbours minus the point:
//
//     w   = (Z Z^T + ridge I)^-1 1, scaled to sum to one; ridge = reg * trace(Z Z^T)
//     P   = I - sum_{j < leading} u_j u_j^T,  p = P 1,  s = k - leading,  alpha = ||p|| / sqrt(s)
//     rows = [p / alpha,  -P - (1 - alpha) / alpha p w^T]          (k x (k + 1))
//
// and where alpha <= tolerance, p / alpha is any vector of norm sqrt(s) in the range of P (here the
// largest column of P) and alpha counts as zero.
//
// By the directions u_j with their values lambda_j = sigma_j^2, the others having none,
//
//     ridge (Z Z^T + ridge I)^-1 1 = sum_j ridge / (lambda_j + ridge) (u_j . 1) u_j
//                                    + (1 - sum_j (u_j . 1) u_j)
//
// reg = 0 stands for the limit: what of 1 has no extent to working accuracy (lambda_j <= k eps
// lambda_1), if that is more than k sqrt(eps), else the pseudo-inverse.
//
//     U[n,m,k]      m = min(k, d) directions, zero where the data do not determine them
//     values[n,m]   lambda, largest first
//     leading[n]    k - s_i
//     rows[n,k,k+1]
//
// One warp a point; dynamic shared memory a warp: 8 (2 m + 4 k) bytes. The same as
// lle_gpu.constraints.cpu: modified.modified, standard.local_weights.
// Z. Zhang, J. Wang: MLLE. NIPS 19 (2006).
#include "local_eigen.cuh"

__global__ void modified_rows(const double* __restrict__ U, const double* __restrict__ values,
                              const int* __restrict__ leading, double* __restrict__ rows, int n,
                              int m, int k, double reg, double tolerance) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const long long i = (long long)blockIdx.x * (blockDim.x / 32) + warp;
  if (i >= n) return;  // whole warps leave
  const double* u = U + i * m * k;
  const double* lambda = values + i * m;
  const int kept = leading[i] < m ? leading[i] : m, s = k - leading[i];
  double* out = rows + i * k * (k + 1);

  DYN_SHARED(bytes);
  double* along = reinterpret_cast<double*>(bytes) + warp * (2 * m + 4 * k);  // u_j . 1
  double* share = along + m;        // w = sum_j share_j u_j (+ what of 1 is in none of them)
  double* w = share + m;            // k
  double* ones = w + k;             // k: P 1
  double* diagonal = ones + k;      // k: of P
  double* scaled = diagonal + k;    // k: p / alpha

  double trace = 0.0;
  int known = 0;  // the directions that have an extent: come first
  for (int j = 0; j < m; ++j) {
    trace += lambda[j];
    known += lambda[j] > (reg == 0.0 ? k * EPS * lambda[0] : 0.0);
  }
  const double ridge = trace > 0.0 ? reg * trace : 1.0;

  for (int j = lane; j < m; j += 32) {
    double sum = 0.0;
    for (int r = 0; r < k; ++r) sum += u[j * k + r];
    along[j] = sum;
  }
  __syncwarp();

  double null_part = 0.0;  // squared norm of what of 1 they do not hold
  for (int r = lane; r < k; r += 32) {
    double p = 1.0, square = 1.0, rest = 1.0;
    for (int j = 0; j < m; ++j) {
      const double z = u[j * k + r];
      if (j < kept) {
        p = fma(-along[j], z, p);
        square = fma(-z, z, square);
      }
      if (j < known) rest = fma(-along[j], z, rest);
    }
    ones[r] = p;
    diagonal[r] = square;
    w[r] = rest;
    null_part = fma(rest, rest, null_part);
  }
  null_part = sum_lanes<32>(null_part);
  // Directions that fill the whole space leave nothing but rounding, which a small ridge would make
  // large beside the rest.
  const bool complement = reg == 0.0 ? null_part > k * sqrt(EPS) : known < k;
  const int taken = reg == 0.0 && complement ? 0 : known;
  const double scale = reg == 0.0 ? lambda[0] : ridge, shift = reg == 0.0 ? 0.0 : ridge;
  for (int j = lane; j < m; j += 32)
    share[j] = j < taken ? along[j] * scale / (lambda[j] + shift) : 0.0;
  __syncwarp();

  double total = 0.0, length = 0.0;
  for (int r = lane; r < k; r += 32) {
    double v = complement ? w[r] : 0.0;
    for (int j = 0; j < m; ++j) v = fma(share[j], u[j * k + r], v);
    w[r] = v;
    total += v;
    length = fma(ones[r], ones[r], length);
  }
  total = sum_lanes<32>(total);
  double alpha = sqrt(sum_lanes<32>(length)) / sqrt(double(s));
  const bool flat = alpha <= tolerance;
  if (!flat) {
    for (int r = lane; r < k; r += 32) scaled[r] = ones[r] / alpha;
  } else {
    // V^T 1 = 0, so the Householder matrix is the identity, and V 1 depends on the basis V.
    alpha = 0.0;
    double largest = -1.0, square = 0.0;
    int column = k;
    for (int r = lane; r < k; r += 32)
      if (diagonal[r] > largest) {
        largest = diagonal[r];
        column = r;
      }
    argmax_lanes<32>(largest, column);
    for (int r = lane; r < k; r += 32) {
      double p = r == column ? 1.0 : 0.0;
      for (int j = 0; j < kept; ++j) p = fma(-u[j * k + r], u[j * k + column], p);
      scaled[r] = p;
      square = fma(p, p, square);
    }
    const double factor = sqrt(double(s)) / sqrt(sum_lanes<32>(square));
    for (int r = lane; r < k; r += 32) scaled[r] *= factor;
  }
  __syncwarp();

  for (int e = lane; e < k * (k + 1); e += 32) {
    const int row = e / (k + 1), column = e - row * (k + 1) - 1;
    if (column < 0) {
      out[e] = scaled[row];
      continue;
    }
    double p = 0.0;
    for (int j = 0; j < kept; ++j) p = fma(u[j * k + row], u[j * k + column], p);
    p -= row == column ? 1.0 : 0.0;
    out[e] = p - (1.0 - alpha) * scaled[row] * (w[column] / total);
  }
}
