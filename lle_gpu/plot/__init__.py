"""Pictures: embeddings, their spectrum, their neighbour graph, and how parameters were chosen::

    from lle_gpu.plot import plot_embedding
    plot_embedding(Y, labels=y, images=digits).figure.savefig("digits.png")

They are drawn with matplotlib (extra ``[plot]``), and more points than it draws well with
datashader, where that is installed (extra ``[datashader]``). Figures are made without pyplot: no
display is needed, and nothing is left in its global state. Every picture goes where ``ax`` says,
and says itself what it leaves out.
"""

from __future__ import annotations

from lle_gpu.plot.embedding import compare_methods, plot_embedding
from lle_gpu.plot.neighbors import plot_neighbors
from lle_gpu.plot.selection import plot_selection
from lle_gpu.plot.spectrum import plot_spectrum

__all__ = [
    "compare_methods",
    "plot_embedding",
    "plot_neighbors",
    "plot_selection",
    "plot_spectrum",
]
