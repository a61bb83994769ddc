"""
A closed curve: a photograph that turns
=======================================

360 pictures of a flower, one for each degree. They lie on a closed curve in the space of
pictures. One coordinate cannot hold a circle, two can: on a ring the bottom singular values come
in equal pairs.
"""

import numpy as np
from scipy.ndimage import gaussian_filter, rotate
from sklearn.datasets import load_sample_image

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.plot import plot_embedding

flower = gaussian_filter(load_sample_image("flower.jpg").mean(axis=2), 4)[60:380:8, 180:500:8]
angles = np.arange(360)
turned = np.array([rotate(flower, a, reshape=False, order=1, mode="nearest") for a in angles])

# %%
# What does not turn with the picture are the corners: only the disc inside is looked at.
y, x = np.mgrid[:40, :40] - 19.5
disc = x**2 + y**2 < 18**2
lle = LocallyLinearEmbedding(n_neighbors=6, reg=1e-2)
Y = lle.fit_transform(turned[:, disc])
ax = plot_embedding(
    Y,
    values=angles,
    value_name="degrees",
    images=np.where(disc, 255 - turned, 0),
    n_images=24,
    title="360 turns of a flower",
)
ax.set_aspect("equal")

# %%
# The two values are equal to rounding, and the radius is the same all the way round. The gap is
# that to the next pair, which would go round twice.
radius = np.hypot(*Y.T)
print(lle.spectrum_)
print(f"radius: mean {radius.mean():.4f}, standard deviation {radius.std():.1e}")
