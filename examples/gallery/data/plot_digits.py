"""
Handwritten digits, four ways
=============================

scikit-learn's 1,797 digits of 8 x 8 pixels. All four methods see the same neighbours; what they
ask of a neighbourhood differs, and so does the picture.
"""

# sphinx_gallery_thumbnail_number = 2
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from lle_gpu import LocallyLinearEmbedding
from lle_gpu.plot import compare_methods, plot_embedding

X, y = load_digits(return_X_y=True)
images = X.reshape(-1, 8, 8)

# %%
# Large neighbourhoods suit these data, whose noise has many dimensions: 40 neighbours tell tangent
# planes from it. ``span`` leaves out the outermost points, and the pictures say how many.
embeddings = {
    method: LocallyLinearEmbedding(n_neighbors=40, method=method).fit_transform(X)
    for method in ("standard", "modified", "ltsa", "hessian")
}
figure = compare_methods(embeddings, labels=y, label_name="digit", span=0.98)

# %%
# How much of the ten classes two coordinates keep, as the share of digits whose nearest neighbour
# in the picture shows the same digit:
for method, Y in embeddings.items():
    nearest = KNeighborsClassifier(1).fit(Y, y).kneighbors(n_neighbors=1, return_distance=False)
    print(f"{method:10} {(y[nearest[:, 0]] == y).mean():.2f}")

# %%
# LTSA with 150 neighbours, and some of the digits themselves.
Y = LocallyLinearEmbedding(n_neighbors=150, method="ltsa").fit_transform(X)
ax = plot_embedding(Y, labels=y, images=images, label_name="digit")
