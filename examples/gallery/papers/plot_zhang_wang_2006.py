"""
Zhang and Wang 2006: several weights
====================================

With more neighbours than dimensions, the weights that rebuild a point from its neighbours are far
from unique, and LLE takes one choice among many. MLLE [1]_ asks for several at once. The paper
shows it on swiss rolls with a hole; the last picture here, how little the number of neighbours
matters to it once there are enough.

================  ==========================================
setting           from
================  ==========================================
surfaces, d = 2   the paper: swiss roll with a hole, S-curve
n = 1500, k = 12  scikit-learn's example of the swiss hole
the other k       this page's
================  ==========================================
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.datasets import load
from lle_gpu.metrics import affine_residual
from lle_gpu.plot import compare_methods

hole = load("swiss-hole", 1500)
figure = plt.figure(figsize=(9, 3.6), layout="constrained")
space = figure.add_subplot(1, 2, 1, projection="3d")
space.scatter(*hole.X.T, c=hole.position, s=6)
space.view_init(12, -70)
space.set(xticklabels=[], yticklabels=[], zticklabels=[])
flat = figure.add_subplot(1, 2, 2)
flat.scatter(*hole.truth.T, c=hole.position, s=6)
flat.set_xlabel("arc length")
flat.set_ylabel("height")
flat.set_aspect("equal")

# %%
# LLE fills the hole's surroundings into spikes; the other three keep its shape.
figure = compare_methods(
    {
        name: LocallyLinearEmbedding(n_neighbors=12, method=method).fit_transform(hole.X)
        for name, method in (
            ("LLE", "standard"),
            ("MLLE", "modified"),
            ("LTSA", "ltsa"),
            ("Hessian", "hessian"),
        )
    },
    values=hole.position,
    value_name="position on the spiral",
)

# %%
# The number of neighbours, on both surfaces: what an affine map of the embedding leaves of the
# true coordinates.
# (With six neighbours a point of the roll is nobody's neighbour: ``"bridge"`` ties it to its
# nearest.)
neighbors = (6, 8, 10, 12, 16, 20)


figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
for ax, data in zip(axes, (hole, load("s-curve", 1500)), strict=True):
    for method, marker in (("standard", "o"), ("modified", "s"), ("ltsa", "^"), ("hessian", "v")):
        errors = [
            affine_residual(
                LocallyLinearEmbedding(
                    n_neighbors=k, method=method, disconnected="bridge"
                ).fit_transform(data.X),
                data.truth,
            )
            for k in neighbors
        ]
        ax.semilogy(neighbors, errors, marker=marker, label=method)
        print(f"{data.name:10} {method:9}" + "".join(f"{e:8.4f}" for e in errors))
    ax.set_title(data.description, loc="left", fontsize=10, fontweight="bold")
    ax.set_xlabel("n_neighbors")
axes[0].set_ylabel("affine residual")
figure.legend(
    *axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=4, frameon=False
)

# %%
# .. rubric:: References
#
# .. [1] Z. Zhang, J. Wang: MLLE: modified locally linear embedding using multiple weights. Advances
#    in Neural Information Processing Systems 19, p. 1593 (2006).
