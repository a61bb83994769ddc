"""
A table of one's own: scale the columns
=======================================

178 wines, 13 chemical measurements each, in units of their own. Neighbours are found by
distances, so a column with large numbers decides alone who is whose neighbour. Here it is
proline, in the hundreds, beside columns around 1.
"""

import numpy as np
from sklearn.datasets import load_wine
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.plot import compare_methods

wine = load_wine(as_frame=True)
print(wine.data.std().round(2).sort_values(ascending=False).head(4))

# %%
# With all columns scaled to the same spread, the three cultivars part.
cultivar = np.array([f"cultivar {c + 1}" for c in wine.target])
lle = LocallyLinearEmbedding(n_neighbors=60, method="ltsa")
embeddings = {
    "as it is": lle.fit_transform(wine.data.to_numpy()),
    "every column scaled": lle.fit_transform(StandardScaler().fit_transform(wine.data)),
}
figure = compare_methods(embeddings, labels=cultivar, span=0.98, n_columns=2)

# %%
# The share of wines whose five nearest in the picture are mostly of their own cultivar:
for name, Y in embeddings.items():
    nearest = KNeighborsClassifier(5).fit(Y, wine.target).kneighbors(return_distance=False)
    same = (wine.target.to_numpy()[nearest] == wine.target.to_numpy()[:, None]).mean(axis=1)
    print(f"{name:20} {(same > 0.5).mean():.2f}")
