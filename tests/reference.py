"""An independent, slow, literal implementation of the four papers, for the tests alone.

One point at a time, dense, full SVDs and complete bases as the papers write them, nothing shared
with the package. Rows of constraints are stacked into a dense F and the bottom singular vectors are
taken from its SVD (an eigensolver on M would lose half of the digits).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import svd


def neighbors(X, k):
    """k nearest other points, by (distance, index)."""
    X = np.asarray(X, dtype=np.float64)
    n = len(X)
    index = np.empty((n, k), dtype=int)
    for i in range(n):
        distance = ((X - X[i]) ** 2).sum(axis=1)
        distance[i] = np.inf
        index[i] = np.lexsort((np.arange(n), distance))[:k]
    return index


def weights(x, N, reg):
    """Barycentric weights of x from its neighbours N (k, d)."""
    Z = N - x
    G = Z @ Z.T
    trace = np.trace(G)
    G += (reg * trace if trace > 0 else reg) * np.eye(len(N))
    w = np.linalg.solve(G, np.ones(len(N)))
    return w / w.sum()


def standard_rows(X, index, d, reg=1e-3):
    F = np.eye(len(X))
    for i, nbrs in enumerate(index):
        F[i, nbrs] -= weights(X[i], X[nbrs], reg)
    return F


def _complete_svd(Z):
    """U (k, k) and all k squared singular values, largest first."""
    U, s, _ = svd(Z, full_matrices=True)
    values = np.zeros(len(Z))
    values[: len(s)] = s**2
    return U, values


def modified_rows(X, index, d, reg=1e-3):
    """MLLE, section 4 of the paper: explicit V_i, Householder matrix, s_i rows."""
    n, k = index.shape
    parts = [_complete_svd(X[nbrs] - X[i]) for i, nbrs in enumerate(index)]
    eta = np.median([v[d:].sum() / v[:d].sum() for _, v in parts])
    rows = []
    for i, nbrs in enumerate(index):
        U, values = parts[i]
        s = 1
        for size in range(1, k - d + 1):
            # Strictly below, beyond rounding: at the median point itself the ratio equals eta.
            if values[k - size :].sum() / values[: k - size].sum() < eta * (1 - 1e-10):
                s = size
        # All of the exact null space always belongs to it.
        s = max(s, k - min(X.shape[1], k))
        V = U[:, k - s :]
        v = V.sum(axis=0)
        alpha = np.linalg.norm(v) / np.sqrt(s)
        h = alpha * np.ones(s) - v
        H = np.eye(s)
        if np.linalg.norm(h) > 1e-12:
            h /= np.linalg.norm(h)
            H -= 2 * np.outer(h, h)
        W = V @ H + (1 - alpha) * weights(X[i], X[nbrs], reg)[:, None]
        for column in W.T:
            row = np.zeros(n)
            row[i] = 1.0
            row[nbrs] -= column
            rows.append(row)
    return np.array(rows)


def _tangent(Z, d):
    """Leading left singular vectors of the centred neighbourhood (k, d)."""
    Z = Z - Z.mean(axis=0)
    return svd(Z, full_matrices=False)[0][:, :d]


def ltsa_rows(X, index, d):
    n, k = index.shape
    rows = []
    for nbrs in index:
        G = np.column_stack([np.full(k, k**-0.5), _tangent(X[nbrs], d)])
        for row in np.eye(k) - G @ G.T:
            full = np.zeros(n)
            full[nbrs] = row
            rows.append(full)
    return np.array(rows)


def hessian_rows(X, index, d):
    n, k = index.shape
    rows = []
    for nbrs in index:
        U = _tangent(X[nbrs], d)
        products = [U[:, a] * U[:, b] for a in range(d) for b in range(a, d)]
        Y = np.column_stack([np.ones(k), U, *products])
        Q = np.linalg.qr(Y)[0]
        for column in Q[:, 1 + d :].T:
            full = np.zeros(n)
            full[nbrs] = column
            rows.append(full)
    return np.array(rows)


ROWS = {
    "standard": standard_rows,
    "modified": modified_rows,
    "hessian": hessian_rows,
    "ltsa": ltsa_rows,
}
LEAST_K = {
    "standard": lambda d: 1,
    "modified": lambda d: d + 1,
    "hessian": lambda d: 1 + d + d * (d + 1) // 2,
    "ltsa": lambda d: d + 2,
}


def spectrum(F):
    """All singular values (ascending) and right singular vectors of F, orthogonal to 1."""
    n = F.shape[1]
    ones = np.full((1, n), n**-0.5)
    lifted = np.concatenate([F, 10 * np.abs(F).sum(axis=1).max() * np.sqrt(len(F)) * ones])
    R = np.linalg.qr(lifted, mode="r")
    _, values, Vt = svd(R)
    return values[::-1][: n - 1], Vt[::-1].T[:, : n - 1]


def sine(A, B):
    """Sine of the largest principal angle between the column spans of A and B."""
    A, B = np.linalg.qr(np.asarray(A, float))[0], np.linalg.qr(np.asarray(B, float))[0]
    return np.linalg.norm(B - A @ (A.T @ B), ord=2)


def affine_residual(Y, truth):
    """||T - best affine function of Y||_F / ||T - mean||_F."""
    T = truth - truth.mean(axis=0)
    A = np.column_stack([np.ones(len(Y)), Y])
    rest = T - A @ np.linalg.lstsq(A, T, rcond=None)[0]
    return np.linalg.norm(rest) / np.linalg.norm(T)
