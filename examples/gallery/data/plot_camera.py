"""
Where was the camera?
=====================

1,470 views through a window that was moved over a photograph. Nobody tells where it was; a view
is 768 grey values. The views lie on a surface of two dimensions, the window's two coordinates,
and the embedding reads these from the views alone.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.metrics import affine_residual
from lle_gpu.plot import compare_methods

photograph = gaussian_filter(load_sample_image("china.jpg").mean(axis=2), 4)[::4, ::4] / 255
windows = sliding_window_view(photograph, (48, 64))[::2, ::2, ::2, ::2]
rows, columns, height, width = windows.shape
place = np.indices((rows, columns)).reshape(2, -1).T * 2.0  # of the window's upper left corner
views = windows.reshape(rows * columns, height * width)
print(views.shape)

# %%
figure, axes = plt.subplots(1, 4, figsize=(11, 2.1), layout="constrained")
axes[0].imshow(photograph, cmap="gray")
axes[0].set_title("the photograph", fontsize=10)
for ax, view in zip(axes[1:], views[[60, 700, 1400]], strict=True):
    ax.imshow(view.reshape(height, width), cmap="gray", vmin=0, vmax=1)
    ax.set_title("a view", fontsize=10)
for ax in axes:
    ax.set_axis_off()

# %%
# Each embedding, coloured by where the window was across the photograph.
embeddings = {
    method: LocallyLinearEmbedding(n_neighbors=12, method=method).fit_transform(views)
    for method in ("standard", "modified", "ltsa", "hessian")
}
figure = compare_methods(embeddings, values=place[:, 1], value_name="left edge, pixels")

# %%
# How much of the true places an affine function of the embedding does not explain (0: all is
# found; 1: nothing). The surface is bent *and* stretched, since moving the window changes some
# views more than others: no method promises the places themselves, and none finds them exactly.
for method, Y in embeddings.items():
    print(f"{method:10} {affine_residual(Y, place):.2f}")
