"""
A graph in pieces, and what to do
=================================

With five neighbours each, the digits' graph has sets of points that no edge leaves. Every one of
them adds a null vector, and the coordinates only tell these sets apart. lle_gpu says so; other
libraries draw the picture on the left without a word.
"""

import warnings

from sklearn.datasets import load_digits

from lle_gpu import DisconnectedGraphWarning, LocallyLinearEmbedding
from lle_gpu.plot import compare_methods

X, y = load_digits(return_X_y=True)

# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", DisconnectedGraphWarning)
    junk = LocallyLinearEmbedding(n_neighbors=5).fit(X)
print(caught[0].message)

# %%
# ``"bridge"`` gives a few points neighbours outside of their set, in place of their farthest ones;
# ``"largest"`` embeds the largest part alone and places the others afterwards.
bridged = LocallyLinearEmbedding(n_neighbors=5, disconnected="bridge").fit(X)
largest = LocallyLinearEmbedding(n_neighbors=5, disconnected="largest").fit(X)
print(
    f"null vectors: {junk.spectrum_.n_null}, {bridged.spectrum_.n_null}, {largest.spectrum_.n_null}"
)
print(f"rows with other neighbours: {len(bridged.bridged_rows_)}")
print(f"rows embedded: {len(largest.embedded_rows_)} of {len(X)}")
figure = compare_methods(
    {"warn": junk.embedding_, "bridge": bridged.embedding_, "largest": largest.embedding_},
    labels=y,
    label_name="digit",
)
