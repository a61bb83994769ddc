"""The neighbour graph over the embedding: where it is torn, and where short-circuited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted

from lle_gpu.kinds import to_host
from lle_gpu.neighbors.precomputed import neighbor_index
from lle_gpu.parallel import chunk_rows
from lle_gpu.plot.canvas import FAINT, WARNING, legend_below
from lle_gpu.plot.checks import as_embedding
from lle_gpu.plot.embedding import draw

__all__ = ["edge_stretch", "plot_neighbors"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]
# Two points nearer in X than this share of the median edge count as so far apart: between them the
# ratio of lengths would tell of noise alone.
SHORT = 0.1


def plot_neighbors(
    model: Any,
    *,
    stretch: float = 5.0,
    labels: ArrayLike | None = None,
    values: ArrayLike | None = None,
    images: ArrayLike | None = None,
    title: str | None = None,
    label_name: str | None = None,
    value_name: str | None = None,
    coordinates: Sequence[int] = (0, 1),
    span: float = 1.0,
    n_images: int = 60,
    max_edges: int = 5000,
    key: bool = True,
    knn_graph: Any = None,
    ax: Any = None,
) -> Any:
    """Draw the neighbour graph over the embedding, and show the edges that it stretches.

    An embedding keeps neighbours near one another. Each edge (i, j) of the graph is stretched by ::

        s_ij = (||y_i - y_j|| / ||x_i - x_j||) / median of that over all edges,

    over all coordinates of the embedding. Those of more than ``stretch`` stand out: where many of
    them cross the picture the embedding is torn, or the graph has short circuits, edges between
    parts of the manifold that lie side by side in X and far apart along it (a smaller
    ``n_neighbors`` may avoid them). Factors up to 5 are common on sound manifolds: every coordinate
    has unit norm, so that a long sheet is drawn in along its length.

    No stretched edge does not mean no short circuit: many of them pull the parts together, the
    picture folds, and no edge is long in it. Then the colours of ``values`` mix.

    Parameters
    ----------
    model : LocallyLinearEmbedding
        Fitted.
    stretch : float, default=5.0
        Edges stretched by more are highlighted, above all others.
    labels, values, images, title, label_name, value_name, coordinates, span, n_images, key, ax
        As in :func:`plot_embedding`.
    max_edges : int, default=5000
        Edges that are drawn at most of either sort: of the ordinary ones so many at random, of the
        stretched ones those stretched most. The picture says so.
    knn_graph : tuple, array-like or sparse matrix, default=None
        The graph, if it was given to :meth:`fit`, which does not keep it; else it is the model's
        ``precomputed_knn``, or what its ``nbrs_`` finds, searched for once more.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    NotFittedError
        If the model is not fitted.
    ValueError
        For a ``stretch`` or ``max_edges`` that is not positive, and as :func:`plot_embedding`.

    Notes
    -----
    The neighbours that ``disconnected="bridge"`` gave to ``bridged_rows_`` are not kept, and so not
    drawn: their nearest ones are. Points nearer to one another in X than a tenth of the median edge
    count as so far apart.

    Examples
    --------
    >>> from sklearn.datasets import make_swiss_roll
    >>> from lle_gpu import LocallyLinearEmbedding
    >>> from lle_gpu.plot import plot_neighbors
    >>> X, position = make_swiss_roll(800, random_state=0)
    >>> lle = LocallyLinearEmbedding(n_neighbors=12, method="ltsa").fit(X)
    >>> ax = plot_neighbors(lle, values=position)
    >>> [text.get_text() for text in ax.texts]
    ['no edge of 5,508 is stretched more than 5 times the median...']
    """
    if not stretch > 0:
        raise ValueError(f"stretch={stretch} must be positive; 5 is usual")
    if max_edges < 1:
        raise ValueError(f"max_edges={max_edges} must be at least 1")
    check_is_fitted(model, "embedding_")
    Y = as_embedding(model.embedding_, "embedding_")
    X = model.nbrs_.X
    edges = _edges(_graph(model, knn_graph, len(Y)))
    factor = edge_stretch(to_host(X), Y, edges)
    rows = np.argsort(-factor, kind="stable")
    count = int((factor > stretch).sum())
    stretched = rows[: min(count, max_edges)]
    rest = rows[count:]
    if len(rest) > max_edges:
        rest = np.random.default_rng(0).choice(rest, max_edges, replace=False)

    remarks = _remarks(len(edges), count, len(stretched), len(rest), stretch)
    if len(model.bridged_rows_) and knn_graph is None:
        remarks.append(
            f"without the edges that bridge {len(model.bridged_rows_):,} points to other parts"
        )
    ax, points = draw(
        Y,
        labels=labels,
        values=values,
        images=images,
        title=title,
        label_name=label_name,
        value_name=value_name,
        coordinates=coordinates,
        span=span,
        n_images=n_images,
        key=key,
        renderer="auto",
        ax=ax,
        remarks=remarks,
    )
    handles = [_draw_edges(ax, points, edges[rest], "edge", FAINT)]
    if count:
        label = f"stretched more than {stretch:g} times"
        handles.append(_draw_edges(ax, points, edges[stretched], label, WARNING))
    legend_below(ax, [_key_of(handle) for handle in handles])
    return ax


def edge_stretch(X: Any, Y: Float, edges: Index) -> Float:
    """How much longer each edge is in Y (n, q) than in X (n, d), over the median: (m,), of (m, 2).

    0 everywhere if more than half of the edges have no length in Y, but for those that have:
    infinity.
    """
    in_x, in_y = _lengths(X, edges), _lengths(Y, edges)
    typical = float(np.median(in_x))
    ratio = in_y / np.maximum(in_x, SHORT * typical if typical > 0 else 1.0)
    middle = float(np.median(ratio))
    if middle == 0:
        return np.where(ratio > 0, np.inf, 0.0)
    return ratio / middle


def _remarks(
    n_edges: int, n_stretched: int, drawn_stretched: int, drawn_rest: int, stretch: float
) -> list[str]:
    """How many edges are stretched, and which of all are drawn."""
    share = f"{n_stretched:,}" if n_stretched else "no edge"
    verb = "are" if n_stretched > 1 else "is"
    remarks = [
        f"{share} of {n_edges:,} {'edges ' * (n_stretched > 0)}{verb} stretched more than "
        f"{stretch:g} times the median"
    ]
    if drawn_rest + drawn_stretched < n_edges:
        most = f"; of those the {drawn_stretched:,} most stretched"
        others = "others" if n_stretched else "edges"
        remarks.append(
            f"{drawn_rest:,} of the {others} are drawn, at random"
            f"{most * (drawn_stretched < n_stretched)}"
        )
    return remarks


def _graph(model: Any, knn_graph: Any, n: int) -> Index:
    """The graph (n, k) that the model was fitted to, as far as it is known."""
    k = model.nbrs_.n_neighbors
    for name, given in (("knn_graph", knn_graph), ("precomputed_knn", model.precomputed_knn)):
        if given is not None:
            return neighbor_index(given, n, k, name=name)
    index: Index = to_host(model.nbrs_.kneighbors(return_distance=False))
    return index


def _edges(index: Index) -> Index:
    """Each pair of neighbours once: (m, 2), of (n, k)."""
    n, k = index.shape
    ends = np.stack([np.repeat(np.arange(n), k), index.ravel().astype(np.int64)])
    code = np.unique(ends.min(axis=0) * n + ends.max(axis=0))
    return np.stack(np.divmod(code, n), axis=1)


def _lengths(points: Any, edges: Index) -> Float:
    """||p_i - p_j|| for each edge, in chunks; of dense or sparse points."""
    lengths = np.empty(len(edges))
    size = chunk_rows(8 * 3 * points.shape[1], 1 << 24)
    for low in range(0, len(edges), size):
        i, j = edges[low : low + size].T
        if issparse(points):
            difference = points[i] - points[j]
            squares = difference.multiply(difference).sum(axis=1)
        else:
            difference = points[i].astype(np.float64) - points[j]
            squares = np.einsum("ij,ij->i", difference, difference)
        lengths[low : low + size] = np.sqrt(np.asarray(squares).ravel())
    return lengths


def _draw_edges(ax: Any, points: Float, edges: Index, label: str, colour: str) -> Any:
    """Draw edges as one collection: the ordinary ones under the points, the others over them."""
    stands_out = colour == WARNING
    style: dict[str, Any] = {
        "colors": colour,
        "linewidths": 0.9 if stands_out else 0.5,
        "alpha": 0.8 if stands_out else 0.6,
        "zorder": 4 if stands_out else 0.5,
        "label": label,
        "rasterized": len(edges) > 5000,
    }
    if points.shape[1] == 3:
        from mpl_toolkits.mplot3d.art3d import Line3DCollection

        return ax.add_collection3d(Line3DCollection(points[edges], **style))
    from matplotlib.collections import LineCollection

    segments: Any = points[edges]
    return ax.add_collection(LineCollection(segments, **style), autolim=False)


def _key_of(collection: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=collection.get_color()[0][:3], label=collection.get_label())
