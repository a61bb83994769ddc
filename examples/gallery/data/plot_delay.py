"""
A signal and the system behind it
=================================

One coordinate of the Lorenz system, seen through a window of 40 samples. Such windows lie on a
copy of the system's attractor (Takens [1]_); here each is a point in 40 dimensions, and two
coordinates show the butterfly. The colour is the coordinate z, of which the signal x says nothing
directly.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.integrate import solve_ivp

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.plot import compare_methods


def lorenz(t, state):
    x, y, z = state
    return 10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z


times = np.arange(10, 60, 0.01)  # the first ten seconds are on the way to the attractor
x, y, z = solve_ivp(lorenz, (0, 60), (1, 1, 20), t_eval=times, rtol=1e-8).y

figure, ax = plt.subplots(figsize=(9, 1.8), layout="constrained")
ax.plot(times, x, linewidth=0.8)
ax.set_xlabel("time")
ax.set_ylabel("x")

# %%
windows = sliding_window_view(x, 40)[::2]
middle = np.arange(len(windows)) * 2 + 20
embeddings = {
    method: LocallyLinearEmbedding(n_neighbors=15, method=method).fit_transform(windows)
    for method in ("standard", "modified", "ltsa", "hessian")
}
figure = compare_methods(embeddings, values=z[middle], value_name="z")

# %%
# .. rubric:: References
#
# .. [1] F. Takens: Detecting strange attractors in turbulence. Lecture Notes in Mathematics 898:366
#    (1981). `doi:10.1007/BFb0091924 <https://doi.org/10.1007/BFb0091924>`__
