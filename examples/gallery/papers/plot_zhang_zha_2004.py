"""
Zhang and Zha 2004: local tangent space alignment
=================================================

LTSA [1]_ aligns local tangent coordinates, and so promises the coordinates themselves, up to an
affine map, with an error that shrinks as neighbourhoods do. Curves with noise and the S-curve are
among the paper's examples.

============================  ===========
setting                       from
============================  ===========
curves, S-curve, d = 1 and 2  the paper
n = 1000; noise               this page's
k = 40 for curves, 10 else    this page's
============================  ===========
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_s_curve

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.metrics import affine_residual
from lle_gpu.plot import compare_methods

# %%
# Curves: the computed coordinate against the true arc length. A straight line is a perfect answer;
# noise of increasing size blurs it, and does not bend it.
rng = np.random.default_rng(0)
angle = np.sort(rng.uniform(0, 1.5 * np.pi, 1000))
figure, axes = plt.subplots(2, 3, figsize=(9, 5), layout="constrained")
for (upper, lower), noise in zip(axes.T, (0, 0.02, 0.05), strict=True):
    curve = np.column_stack([np.cos(angle), np.sin(angle)])
    curve += noise * rng.standard_normal(curve.shape)
    Y = LocallyLinearEmbedding(n_neighbors=40, n_components=1, method="ltsa").fit_transform(curve)
    upper.scatter(*curve.T, c=angle, s=3)
    upper.set_title(f"noise {noise}", loc="left", fontsize=10, fontweight="bold")
    upper.set_aspect("equal")
    lower.scatter(angle, Y[:, 0], c=angle, s=3)
    lower.set_xlabel("true arc length")
    lower.set_ylabel("coordinate 1")
    print(f"noise {noise}: {affine_residual(Y, angle[:, None]):.4f} left over")

# %%
# The S-curve. LLE bends and squeezes it; LTSA gives the rectangle.
X, t = make_s_curve(1000, random_state=0)
truth = np.column_stack([t, X[:, 1]])
embeddings = {
    name: LocallyLinearEmbedding(n_neighbors=10, method=method).fit_transform(X)
    for name, method in (("LLE", "standard"), ("LTSA", "ltsa"))
}
figure = compare_methods(embeddings, values=t, value_name="position along the S")
for name, Y in embeddings.items():
    print(f"{name:5} {affine_residual(Y, truth):.4f}")

# %%
# The error shrinks with the neighbourhoods: twice the points, half the error or less.
for n in (500, 1000, 2000, 4000):
    X, t = make_s_curve(n, random_state=0)
    Y = LocallyLinearEmbedding(n_neighbors=10, method="ltsa").fit_transform(X)
    print(f"n = {n}: {affine_residual(Y, np.column_stack([t, X[:, 1]])):.5f}")

# %%
# .. rubric:: References
#
# .. [1] Z. Zhang, H. Zha: Principal manifolds and nonlinear dimensionality reduction via tangent
#    space alignment. SIAM J. Sci. Comput. 26:313 (2004). `doi:10.1137/S1064827502419154
#    <https://doi.org/10.1137/S1064827502419154>`__
