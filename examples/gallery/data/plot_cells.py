"""
Branching trajectories, as of cells
===================================

Cells that differentiate move along a tree: a stem, forks, leaves. Here is one made for the
purpose, so that branch and pseudotime are known: 2,000 points around a tree of seven smooth
curves in 50 dimensions, with noise in all of them
(:func:`lle_gpu.datasets.make_branching_trajectory`). No real cells are in it.
"""

import numpy as np
from matplotlib.figure import Figure

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.datasets import make_branching_trajectory
from lle_gpu.plot import plot_embedding

cells = make_branching_trajectory(2000, random_state=0)
print(cells.X.shape)

# %%
# The tree has two generations of forks. Four coordinates of the standard method show them one after
# the other: the first two the stem and its fork, the next two the forks behind it.
lle = LocallyLinearEmbedding(n_neighbors=20, n_components=4)
Y = lle.fit_transform(cells.X)
figure = Figure(figsize=(10, 4), layout="constrained")
left, right = figure.subplots(1, 2)
plot_embedding(Y, values=cells.position, value_name="pseudotime", ax=left)
plot_embedding(Y, labels=cells.labels, label_name="branch", coordinates=(2, 3), ax=right)

# %%
# Is the order of the cells that of their pseudotime? Along each branch: the rank correlation of
# pseudotime with the direction in which the branch runs in the embedding.
rank = lambda v: np.argsort(np.argsort(v))
for branch in np.unique(cells.labels):
    of_it = cells.labels == branch
    points = Y[of_it] - Y[of_it].mean(axis=0)
    along = points @ np.linalg.svd(points, full_matrices=False)[2][0]
    r = np.corrcoef(rank(along), rank(cells.position[of_it]))[0, 1]
    print(f"branch {branch}: {abs(r):.3f}")
