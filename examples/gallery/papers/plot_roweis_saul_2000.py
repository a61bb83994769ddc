"""
Roweis and Saul 2000: locally linear embedding
==============================================

The paper [1]_ that began it, and its two surfaces: the swiss roll and the S-curve.

===========================  ============================================================
setting                      from
===========================  ============================================================
n = 2000, k = 12, d = 2      the authors' scripts ``swissroll.m`` and ``scurve.m``
height 21, 3/2 pi to 9/2 pi  ``swissroll.m``
reg = 1e-3                   the authors' ``lle.m``, where k exceeds the three dimensions
===========================  ============================================================

What the paper claims: neighbours stay neighbours, and the surface is laid out flat; not that
lengths are kept. Colours run on smoothly from end to end, and the outline is squeezed.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_s_curve
from sklearn.manifold import trustworthiness

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.plot import plot_embedding

rng = np.random.default_rng(0)
t = 1.5 * np.pi * (1 + 2 * rng.uniform(size=2000))
roll = np.column_stack([t * np.cos(t), 21 * rng.uniform(size=2000), t * np.sin(t)])
curve, s = make_s_curve(2000, random_state=0)

# %%
figure = plt.figure(figsize=(10, 8), layout="constrained")
for row, (name, X, position) in enumerate((("swiss roll", roll, t), ("S-curve", curve, s))):
    lle = LocallyLinearEmbedding(n_neighbors=12, n_components=2, reg=1e-3)
    Y = lle.fit_transform(X)
    space = figure.add_subplot(2, 2, 2 * row + 1, projection="3d")
    space.scatter(*X.T, c=position, s=6)
    space.view_init(12, -70)
    space.set(xticklabels=[], yticklabels=[], zticklabels=[])
    space.set_title(f"{name}, 2000 points", loc="left", fontsize=11, fontweight="bold")
    plane = figure.add_subplot(2, 2, 2 * row + 2)
    plot_embedding(Y, values=position, key=False, ax=plane, title="LLE, k = 12")
    print(f"{name}: {lle.spectrum_}")
    print(f"trustworthiness of 12 neighbours: {trustworthiness(X, Y, n_neighbors=12):.4f}\n")

# %%
# .. rubric:: References
#
# .. [1] S. T. Roweis, L. K. Saul: Nonlinear dimensionality reduction by locally linear embedding.
#    Science 290:2323 (2000). `doi:10.1126/science.290.5500.2323
#    <https://doi.org/10.1126/science.290.5500.2323>`__
