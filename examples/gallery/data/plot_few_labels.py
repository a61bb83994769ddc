"""
Few labels
==========

The digits again, but only a few of them have a label. An embedding is made of all points, so it
can use those without labels; a linear classifier on top needs only the few.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lle_gpu import LocallyLinearEmbedding

X, y = load_digits(return_X_y=True)

# %%
# Ten features of each digit, made without labels. The ridge matters: ``reg=1e-3``, the default,
# follows the noise of single neighbourhoods, and 0.1 does not.
features = {
    "64 pixels": X,
    "PCA, 10": PCA(10).fit_transform(X),
    "LLE, 10, reg=1e-3": LocallyLinearEmbedding(
        n_neighbors=10, n_components=10, disconnected="bridge"
    ).fit_transform(X),
    "LLE, 10, reg=0.1": LocallyLinearEmbedding(
        n_neighbors=10, n_components=10, reg=0.1, disconnected="bridge"
    ).fit_transform(X),
}

# %%
# Accuracy on the digits without labels, for eight draws of the labelled ones.
labels_per_class = (1, 2, 5, 10, 20)
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for (name, F), marker in zip(features.items(), "osv^", strict=True):
    means, deviations = [], []
    for count in labels_per_class:
        scores = []
        for seed in range(8):
            rng = np.random.default_rng(seed)
            known = np.concatenate(
                [rng.permutation(np.flatnonzero(y == c))[:count] for c in range(10)]
            )
            rest = np.setdiff1d(np.arange(len(y)), known)
            model = make_pipeline(StandardScaler(), RidgeClassifier())
            scores.append(model.fit(F[known], y[known]).score(F[rest], y[rest]))
        means.append(np.mean(scores))
        deviations.append(np.std(scores))
    ax.errorbar(labels_per_class, means, deviations, marker=marker, capsize=2, label=name)
    print(f"{name:18} " + "  ".join(f"{m:.3f}" for m in means))
ax.set_xscale("log")
ax.set_xticks(labels_per_class, labels_per_class)
ax.set_xlabel("labels in each class")
ax.set_ylabel("accuracy on the rest")
ax.legend(frameon=False)

# %%
# This is transductive: the digits that are scored were there when the features were made. With all
# labels the pixels win; features from an embedding help where labels are few.
