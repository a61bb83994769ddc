"""
Edges in photographs
====================

Patches of 5 x 5 pixels from two photographs: the fifth with the most contrast, scaled to mean 0
and length 1, and of these the most common kinds. They are edges, seen at every angle. Lee,
Pedersen and Mumford [1]_ found that such patches lie near a surface; where they are densest,
Carlsson and others [2]_ found circles: one of edges by direction, and others through it, of lines
that change into edges.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.datasets import load_sample_image
from sklearn.neighbors import NearestNeighbors

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.plot import plot_embedding

patches = np.concatenate(
    [
        sliding_window_view(load_sample_image(name).mean(axis=2), (5, 5))[::3, ::3].reshape(-1, 25)
        for name in ("china.jpg", "flower.jpg")
    ]
)
patches -= patches.mean(axis=1, keepdims=True)
contrast = np.linalg.norm(patches, axis=1)
strong = contrast > np.quantile(contrast, 0.8)
X = patches[strong] / contrast[strong, None]
X = X[np.random.default_rng(0).permutation(len(X))[:6000]]

# %%
# The densest third, by the distance to the 50th neighbour.
distance = NearestNeighbors(n_neighbors=50).fit(X).kneighbors()[0][:, -1]
X = X[distance < np.quantile(distance, 0.3)]
print(X.shape)

# %%
# The colour is the direction in which a patch grows brighter, which the method does not know.
y, x = np.mgrid[-2:3, -2:3].reshape(2, -1)
direction = np.degrees(np.arctan2(X @ y, X @ x))
lle = LocallyLinearEmbedding(n_neighbors=50, n_components=2, method="ltsa", disconnected="bridge")
Y = lle.fit_transform(X)
ax = plot_embedding(
    Y,
    values=direction,
    value_name="direction, degrees",
    images=X.reshape(-1, 5, 5),
    title=f"{len(X):,} patches of 5 x 5 pixels",
)

# %%
# .. rubric:: References
#
# .. [1] A. B. Lee, K. S. Pedersen, D. Mumford: The nonlinear statistics of high-contrast patches in
#    natural images. International Journal of Computer Vision 54:83 (2003).
#    `doi:10.1023/A:1023705401078 <https://doi.org/10.1023/A:1023705401078>`__
# .. [2] G. Carlsson, T. Ishkhanov, V. de Silva, A. Zomorodian: On the local behavior of spaces of
#    natural images. International Journal of Computer Vision 76:1 (2008).
#    `doi:10.1007/s11263-007-0056-x <https://doi.org/10.1007/s11263-007-0056-x>`__
