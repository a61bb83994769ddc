r"""Locally linear embedding by a network: coordinates that are a function of the point.

    minimise over the network f:   tr(Y^T M Y) / n,   M = (I - W)^T (I - W),
    with  Y = (Z - 1 m^T) A,  Z = f(X) (n x c),   m and A such that  1^T Y = 0,  Y^T Y = n I

W (n x n) has the barycentric weights of X, k in a row: the problem of Roweis and Saul, but over
functions that a network can be instead of over all n x c numbers. So its minimum is never below
theirs, the sum of the c smallest squared singular values of I - W beside the constant's.

Training. Of a batch of b seeds and their neighbours, with E (b x c) the local residuals
e_i = z_i - sum_j w_ij z_j of the seeds' outputs, and C = L L^T (c x c) the covariance of these,

    loss = tr(C^-1 E^T E) / b = || L^-1 E^T ||_F^2 / b

which is tr(Y^T M Y) / n when the batch is all points. No scaling, shift or linear map of the
outputs changes it, and outputs that collapse make it infinite rather than small. Its gradient is
that of its logarithm, scaled: the loss falls by orders of magnitude, and steps should not.

At first the outputs learn the exact embedding (the minimum over all n x c numbers) by least
squares, since the loss has valleys: an encoder that is smooth at first finds smooth coordinates
that are orthogonal to those of least loss, and stays with them.

Afterwards. m and L of all points, A = L^-T U with U the eigenvectors of L^-1 E^T E L^-T / n: the
columns of Y have the squared residuals ``residuals_``, ascending, as singular vectors have.

S. Roweis, L. Saul: Nonlinear dimensionality reduction by locally linear embedding. Science
290:2323 (2000). Whitening by the Cholesky factor of the outputs' covariance: U. Shaham, K. Stanton,
H. Li, R. Basri, B. Nadler, Y. Kluger: SpectralNet: spectral clustering using deep neural networks.
ICLR (2018), section 3.2.
"""

from __future__ import annotations

import copy
import itertools
import math
import operator
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import validate_data
from torch import Tensor, nn

from lle_gpu.arrays import Number, as_points, check_sizes, to_host
from lle_gpu.constraints import Constraints
from lle_gpu.exceptions import DisconnectedGraphWarning, MemoryLimitError, warn_user
from lle_gpu.kinds import output_kind, wrap
from lle_gpu.neighbors.graph import closed_classes
from lle_gpu.progress import advance, note, stage, watch
from lle_gpu.spectral.cpu import bottom_vectors
from lle_gpu.torch.checks import chosen_device, real
from lle_gpu.torch.functional import reconstruct
from lle_gpu.torch.modes import evaluating, full_precision, own_modes, seeded
from lle_gpu.torch.neighbors import knn
from lle_gpu.torch.sampling import NeighborhoodBatchSampler, local_neighbors
from lle_gpu.torch.weights import METHODS, barycentric_weights

__all__ = ["ParametricLLE", "Standardize"]

# The covariance's ridge, in units of its mean eigenvalue: above the rounding of float32 outputs.
RIDGE = 1e-10
# The loss is looked at every so many batches or more. When it has not fallen at PATIENCE looks the
# learning rate is multiplied by DECAY; at the DECAYS-th time, training ends.
LOOK, PATIENCE, DECAY, DECAYS = 20, 2, 0.3, 4
# The exact embedding is learnt in this share of the epochs at most.
LEARNING = 0.2
# Bytes of local Gram matrices, and of points on their way through the network, at once.
GRAM_BYTES, ROWS = 1 << 27, 4096
# What a fit leaves besides tensors, and a state does not hold.
OF_THE_FIT = ("history_", "n_iter_", "least_loss_", "feature_names_in_", "_labels_in")
PARAMETER_CONSTRAINTS: dict[str, list[Any]] = {
    "encoder": [None, nn.Module],
    "n_components": [Number(Integral, 1, None, closed="left")],
    "n_neighbors": [Number(Integral, 1, None, closed="left")],
    "reg": [Number(Real, 0, None, closed="neither")],
    "weights_method": [StrOptions(set(METHODS))],
    "init": [StrOptions({"exact", "random"})],
    "hidden": [list, tuple],
    "batch_size": [Number(Integral, 2, None, closed="left")],
    "max_epochs": [Number(Integral, 1, None, closed="left")],
    "lr": [Number(Real, 0, None, closed="neither")],
    "tol": [Number(Real, 0, 1, closed="left")],
    "random_state": ["random_state"],
    "device": [None, str, torch.device],
    "verbose": ["verbose"],
}


class Standardize(nn.Module):
    """Shift and scale points as the training points have to be to have mean 0 and variance 1.

    One scale for all features, so that distances keep their proportions.

    Parameters
    ----------
    n_features : int

    Attributes
    ----------
    mean : Tensor of shape (n_features,), float64, buffer
        It is subtracted in float64, so that points far from 0 keep their differences.
    scale : Tensor of shape (), buffer
        Root of the features' mean variance; of the dtype that comes out.

    Examples
    --------
    >>> import torch
    >>> from lle_gpu.torch.parametric import Standardize
    >>> Standardize(2).learn(torch.tensor([[0.0, 0.0], [4.0, 4.0]]))(torch.tensor([[4.0, 2.0]]))
    tensor([[1., 0.]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(()))

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move, or change dtypes; the mean keeps its own."""
        mean = self.mean
        super()._apply(fn, recurse)
        self.mean = self.mean.double() if mean.is_meta else mean.to(self.mean.device)
        return self

    def learn(self, x: Tensor) -> Self:
        """Take mean and scale from points (n, n_features)."""
        mean = x.double().mean(dim=0)
        self.mean.copy_(mean)
        self.scale.copy_((x.double() - mean).square().mean().sqrt())
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Points (n, n_features) of any floating-point dtype, standardised, in the scale's."""
        if x.shape[-1:] != self.mean.shape:
            raise ValueError(
                f"the points have shape {tuple(x.shape)}, and must be (points, {len(self.mean)}), "
                "of the features that were standardised in training"
            )
        return (x - self.mean).to(self.scale.dtype) / self.scale


class ParametricLLE(nn.Module, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Locally linear embedding as a network: an estimator, and a module for other networks.

    Parameters
    ----------
    encoder : nn.Module, default=None
        From points (m, n_features) to outputs (m, at least n_components); where there are more, a
        linear layer follows. A copy of it is trained, from the parameters that it has. Images:
        begin with ``nn.Unflatten``. None is a perceptron of widths ``hidden`` on standardised
        features (:class:`Standardize`), with smooth units (SiLU).
    n_components : int, default=2
        Coordinates of the embedding.
    n_neighbors : int, default=10
        Neighbours of each point.
    reg : float, default=1e-3
        Ridge on the local weights, in units of the trace of the local Gram matrix; above 0.
    weights_method : {"affine", "nonneg"}, default="affine"
        As in :func:`barycentric_weights`.
    init : {"exact", "random"}, default="exact"
        What training begins with. "exact": the embedding of least loss, by
        :class:`lle_gpu.LocallyLinearEmbedding`'s solver on the CPU, is learnt first, as far as the
        encoder can, in a fifth of ``max_epochs`` at most; then the loss. "random": the loss at
        once, from the encoder's first parameters; nothing is solved, and ``least_loss_`` is not
        known.
    hidden : sequence of int, default=(256, 256)
        Widths of the encoder that is made where none is given.
    batch_size : int, default=1024
        Seeds of a batch, at most; their neighbours come besides. The covariance is estimated from
        the seeds: it must be more than n_components, and should be many more.
    max_epochs : int, default=1000
        Passes over the points, at most.
    lr : float, default=0.01
        Learning rate (Adam) to begin with. It falls to 0.3 of it each time that the loss does not
        fall any more.
    tol : float, default=1e-2
        By how much of itself the loss must have fallen within 40 batches, or two epochs if these
        are longer, to be said to fall. When it does not for the fourth time, training ends.
    random_state : int, RandomState instance or None, default=None
        First parameters (without an encoder), batches, dropout. None: by torch's own generator, so
        that ``torch.manual_seed`` determines it. The same bits on one machine and number of
        threads; on a GPU sums over neighbours come in any order.
    device : {"auto", "cpu", "gpu", "cuda"}, torch.device or other name of one, default=None
        Where to train. None is where the encoder's parameters are, or, without an encoder, where X
        is. "auto" is the GPU where PyTorch can use one, else the CPU; "gpu" and "cuda" are the
        current GPU; "cuda:1" is PyTorch's name of another. :meth:`to` moves the fitted module.
    verbose : bool, default=False
        Print stages, their times, and the loss beside the least there is to standard error.

    Attributes
    ----------
    encoder_ : nn.Module
        The trained network. :meth:`fit` leaves it, and the estimator, in evaluation mode.
    mean_, whitener_ : Tensors of shapes (n_components,) and (n_components, n_components)
        The whitening of its outputs; buffers, like ``residuals_``.
    residuals_ : Tensor of shape (n_components,)
        Mean squared local residual of each coordinate on the training points, ascending.
    loss_ : float
        Their sum, tr(Y^T M Y) / n. Expect it above ``least_loss_``, also by a multiple of it, and
        no warning says so: an encoder is smooth, and the exact embedding follows each point. Where
        it is rough (few points for a strongly bent surface, or noise) the two may be far apart, and
        the encoder's may be nearer to what is looked for, or farther.
    least_loss_ : float
        The least there is, for any Y of these neighbours and weights: ``reconstruction_error_`` of
        :class:`lle_gpu.LocallyLinearEmbedding` (if ``weights_method="affine"``). Only with
        ``init="exact"``; not part of the state_dict.
    n_iter_ : int
        Epochs that were run. Not part of the state_dict.
    history_ : ndarray of shape (n_epochs,)
        Mean of the batches' losses in each epoch, in training mode, also while the exact embedding
        is learnt. Not part of the state_dict.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only if X had column names. Not part of the state_dict.

    Raises
    ------
    ValueError, TypeError
        For data with NaN or infinity, too few points or features for the parameters, parameters
        out of range, or an encoder with too few outputs or nothing to train.
    GpuUnavailableError
        If ``device`` is a GPU that PyTorch cannot use.
    FloatingPointError
        If training diverges.

    Warns
    -----
    ConvergenceWarning
        If ``max_epochs`` ended the training, or the exact embedding is not known to be right.
    DisconnectedGraphWarning
        If the neighbour graph is in pieces: there are coordinates then that tell the pieces apart
        and have no residual.

    Notes
    -----
    As a module it maps points to whitened coordinates, differentiably: ``model(x)``. Mean 0 and
    covariance I hold of the training points in evaluation mode, up to rounding in the encoder's
    dtype, until the encoder is trained further. ``load_state_dict`` needs an estimator of the same
    parameters, fitted or not, and the whole state of the other (also with ``strict=False``); it
    raises RuntimeError and loads nothing otherwise. An error or an interrupt during :meth:`fit`
    leaves the estimator as it was.

    References
    ----------
    .. [1] S. Roweis, L. Saul: Nonlinear dimensionality reduction by locally linear embedding.
       Science 290:2323 (2000).
    .. [2] U. Shaham, K. Stanton, H. Li, R. Basri, B. Nadler, Y. Kluger: SpectralNet: spectral
       clustering using deep neural networks. ICLR (2018).

    Examples
    --------
    >>> from sklearn.datasets import make_s_curve
    >>> from lle_gpu.torch import ParametricLLE
    >>> X, _ = make_s_curve(400, random_state=0)
    >>> model = ParametricLLE(hidden=(32, 32), tol=0.05, random_state=0)
    >>> Y = model.fit_transform(X)
    >>> bool(abs(Y.T @ Y / 400 - [[1, 0], [0, 1]]).max() < 1e-4)
    True
    >>> model.transform(X[:3]).shape
    (3, 2)
    """

    _parameter_constraints: dict[str, list[Any]] = PARAMETER_CONSTRAINTS

    def __init__(
        self,
        encoder: Any = None,
        *,
        n_components: int = 2,
        n_neighbors: int = 10,
        reg: float = 1e-3,
        weights_method: str = "affine",
        init: str = "exact",
        hidden: Sequence[int] = (256, 256),
        batch_size: int = 1024,
        max_epochs: int = 1000,
        lr: float = 0.01,
        tol: float = 1e-2,
        random_state: Any = None,
        device: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.reg = reg
        self.weights_method = weights_method
        self.init = init
        self.hidden = hidden
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.lr = lr
        self.tol = tol
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        for name in ("mean_", "whitener_", "residuals_", "n_features_"):
            self.register_buffer(name, None)

    def __setattr__(self, name: str, value: Any) -> None:
        # The parameter is no part of the module: a copy of it is what is trained.
        if name == "encoder":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def __sklearn_is_fitted__(self) -> bool:
        return "encoder_" in self._modules

    @property
    def n_features_in_(self) -> int:
        """Features of the training points."""
        return int(self._fitted().n_features_)

    @n_features_in_.setter
    def n_features_in_(self, value: int) -> None:  # by scikit-learn's validation
        self.n_features_ = torch.tensor(value)

    @property
    def _n_features_out(self) -> int:
        return len(self._fitted().mean_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # the encoder's comes out
        return tags

    @property
    def loss_(self) -> float:
        """tr(Y^T M Y) / n of the training points."""
        return float(self._fitted().residuals_.double().sum())

    @own_modes()
    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the encoder.

        Parameters
        ----------
        X : array, data frame or tensor of shape (n_samples, n_features)
            Dense, of any kind that :class:`lle_gpu.LocallyLinearEmbedding` takes. Neighbours and
            weights are computed in its dtype and where it is. Whether gradients or autocast are on
            around the call does not matter.
        y : ignored

        Returns
        -------
        self
        """
        self._validate_params()
        # Everything happens on another module, whose state is taken over in one step.
        fitted = self._bare()
        points = fitted._points(X, reset=True)
        n, d = points.shape
        check_sizes(
            (n, d),
            method="standard",
            n_neighbors=self.n_neighbors,
            n_components=self.n_components,
        )
        if self.batch_size <= self.n_components:
            raise ValueError(
                f"batch_size={self.batch_size} must be more than n_components="
                f"{self.n_components}, and should be many more: the covariance of fewer points is "
                "singular"
            )
        if bool((points == points[0]).all()):
            raise ValueError(
                f"all {n} points of X are equal, so every function on them is as good as any "
                "other. Check how X was loaded or scaled."
            )
        device = self._device(points)
        seed = self._seed()
        with watch(self.verbose, None), seeded(seed, device):
            fitted._build(points, device)
            with stage("neighbors", n):
                idx = knn(points, k=self.n_neighbors).cpu()
                self._warn_of_pieces(idx.numpy())
            with stage("constraints", n):
                w = self._weights(points, idx)
            target = None
            if self.init == "exact":
                exact, fitted.least_loss_ = fitted._exact(idx, w, seed)
                target = torch.from_numpy(exact)
            fitted.history_ = fitted._train(points, idx, w, target, seed)
            fitted.n_iter_ = len(fitted.history_)
            with stage("whitening"):
                fitted._whiten(points, idx, w)
        object.__setattr__(self, "__dict__", fitted.__dict__)
        return self

    def transform(self, X: Any) -> Any:
        """Coordinates of points, in evaluation mode and without gradient.

        Parameters
        ----------
        X : array, data frame or tensor of shape (m, n_features)
            Columns that had names in the same order.

        Returns
        -------
        array, data frame or tensor of shape (m, n_components)
            Of X's kind (or as ``set_output`` says), and on a tensor's device, in the encoder's
            dtype (float32, unless one of float64 was given).
        """
        self._fitted()
        points = self._points(X, reset=False, least=1)
        coordinates = self._whitened(self._outputs(points))
        by_set_output = _get_output_config("transform", self)["dense"] != "default"
        if isinstance(X, Tensor) and not by_set_output:
            return coordinates.to(X.device)
        kind = "numpy" if by_set_output else output_kind(X, None)
        columns = list(self.get_feature_names_out())
        return wrap(coordinates.cpu().numpy(), kind, like=X, columns=columns)

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """As :meth:`fit`, then :meth:`transform` of the same points."""
        return self.fit(X).transform(X)

    def forward(self, x: Tensor) -> Tensor:
        """Whitened coordinates (m, n_components) of points x (m, n_features), differentiable.

        In the encoder's mode (training or evaluation) and dtype; x must be on its device.
        """
        network = self._fitted().encoder_
        if not isinstance(x, Tensor):
            raise TypeError(
                f"x is a {type(x).__name__}, and must be a torch.Tensor of shape (m, n_features): "
                "torch.as_tensor(x) makes one, and transform(x) takes arrays and data frames"
            )
        return self._whitened(network(x))

    # --- parts of a fit --------------------------------------------------------------------------

    def _points(self, X: Any, *, reset: bool, least: int = 2) -> Tensor:
        if isinstance(X, Tensor):
            points = real("X", X, ndim=2)
            if points.requires_grad:
                raise ValueError(
                    "X requires grad, and none goes through fit and transform. Give X.detach(); "
                    "or call the fitted module, model(X), which is differentiable."
                )
            if len(points) < least or not points.shape[1]:
                raise ValueError(f"X has shape {tuple(X.shape)}: there must be {least} points")
            if not bool(torch.isfinite(points).all()):
                raise ValueError("X contains NaN or infinity: leave those rows out, or fill them")
            validate_data(self, X, reset=reset, skip_check_array=True)
            # Autograd saves no tensor for the backward pass that was made in inference mode.
            return points.clone() if points.is_inference() else points
        if issparse(X):
            raise TypeError("X is sparse, and the encoder takes dense points: give X.toarray()")
        array = to_host(as_points(X, estimator=self, reset=reset, least=least))
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))

    def _seed(self) -> int:
        if self.random_state is None:
            return int(torch.randint(2**31 - 1, ()))
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _device(self, points: Tensor) -> Any:
        if self.device is not None:
            return chosen_device("device", self.device)
        parameters = [] if self.encoder is None else list(self.encoder.parameters())
        return parameters[0].device if parameters else points.device

    def _warn_of_pieces(self, idx: NDArray[np.integer]) -> None:
        classes = closed_classes(idx)
        if len(classes) > 1:
            warn_user(
                f"The neighbour graph has {len(classes)} closed classes, of "
                f"{', '.join(map(str, classes.sizes[:8]))}{', ...' * (len(classes) > 8)} points: "
                "the first coordinates will tell them apart instead of showing their shape. Use "
                f"more neighbours (n_neighbors={self.n_neighbors}), or fit the largest alone.",
                DisconnectedGraphWarning,
            )

    def _weights(self, points: Tensor, idx: Tensor) -> Tensor:
        """Weights (n, k), on the CPU as the neighbours are."""
        n, k = idx.shape
        size = max(1, GRAM_BYTES // (4 * k * k * points.element_size()))
        parts = []
        for low in range(0, n, size):
            rows = slice(low, low + size)
            near = idx[rows].to(points.device)
            parts.append(
                barycentric_weights(
                    points[rows], (points, near), reg=self.reg, method=self.weights_method
                ).cpu()
            )
            advance(len(near))
        return torch.cat(parts)

    def _bare(self) -> Self:
        """The same parameters, hooks and so on, without a fit."""
        bare = copy.copy(self)
        inner = {k: copy.copy(v) if isinstance(v, dict) else v for k, v in vars(self).items()}
        object.__setattr__(bare, "__dict__", inner)
        bare._modules.pop("encoder_", None)
        for name in OF_THE_FIT:
            bare.__dict__.pop(name, None)
        return bare

    def _build(self, points: Tensor, device: Any) -> None:
        """An encoder that is not trained yet, and its buffers.

        Of the points only the shape counts, but for standardising: without any the encoder is to
        be loaded.
        """
        d, c = points.shape[1], self.n_components
        if self.encoder is None:
            standardize = Standardize(d)
            if len(points):
                standardize.learn(points)
            widths = [d, *self._hidden()]
            layers: list[Any] = [standardize]
            for fan_in, fan_out in itertools.pairwise(widths):
                layers += [nn.Linear(fan_in, fan_out), nn.SiLU()]
            network = nn.Sequential(*layers, nn.Linear(widths[-1], c)).to(device)
        else:
            network = copy.deepcopy(self.encoder).to(device)
            width = self._width(network, points[:1])
            if width != c:
                like = next(iter(network.parameters()), torch.empty(0, device=device))
                head = nn.Linear(width, c, device=device, dtype=like.dtype)
                network = nn.Sequential(network, head)
        if not any(p.requires_grad for p in network.parameters()):
            raise ValueError("encoder has no parameters that require grad: nothing can be trained")
        self.encoder_ = network
        like = next(network.parameters())
        self.mean_ = torch.zeros(c, dtype=like.dtype, device=device)
        self.whitener_ = torch.eye(c, dtype=like.dtype, device=device)
        self.residuals_ = torch.full_like(self.mean_, math.nan)
        self.n_features_ = torch.tensor(d, device=device)

    def _hidden(self) -> list[int]:
        try:
            widths = [operator.index(width) for width in self.hidden]
        except TypeError:
            widths = []
        if not widths or min(widths) < 1:
            raise ValueError(
                f"hidden={self.hidden!r} must be one or more widths, integers above 0: (256, 256)"
            )
        return widths

    def _width(self, network: Any, points: Tensor) -> int:
        try:
            with torch.no_grad(), evaluating(network):
                outputs = network(_for(network, points))
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"encoder does not take points of shape {tuple(points.shape)}, one of X's: {error}."
                f" Its first layer must take (points, {points.shape[1]}), which nn.Unflatten turns "
                "into images"
            ) from error
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(points):
            shape = getattr(outputs, "shape", type(outputs).__name__)
            raise ValueError(
                f"encoder gives {shape} for points of shape {tuple(points.shape)}, and must give "
                "(points, outputs): end with nn.Flatten()"
            )
        if outputs.shape[1] < self.n_components:
            raise ValueError(
                f"n_components={self.n_components} must be at most the encoder's outputs, which "
                f"are {outputs.shape[1]}"
            )
        return int(outputs.shape[1])

    def _exact(self, idx: Tensor, w: Tensor, seed: int) -> tuple[NDArray[np.float64], float]:
        """The embedding (n, c) of least loss among all, white, and its loss."""
        near = idx.numpy()
        own = np.arange(len(near))[:, None]
        rows = np.concatenate([np.ones_like(own), -w.double().numpy()], axis=1)
        try:
            with warnings.catch_warnings():
                # Whose advice is about parameters that are not this class's.
                warnings.filterwarnings("ignore", "The bottom vectors", ConvergenceWarning)
                vectors, spectrum = bottom_vectors(
                    Constraints(np.concatenate([own, near], axis=1), rows[:, None, :]),
                    self.n_components,
                    square=True,
                    classes=closed_classes(near),
                    random_state=seed,
                )
        except MemoryError as error:
            raise MemoryLimitError(
                f"init='exact' starts from the exact embedding, and that of {len(near)} points does"
                f" not fit in memory: {error}. Use init='random'."
            ) from error
        if not spectrum.converged:
            warn_user(
                "init='exact': the exact embedding has not converged (largest residual "
                f"{spectrum.residuals.max():.1e}), and least_loss_ may be larger than the least "
                "there is. Training begins with it all the same. Try another n_neighbors or a "
                "larger reg, or init='random'.",
                ConvergenceWarning,
            )
        return vectors * math.sqrt(len(near)), spectrum.error

    def _train(
        self, points: Tensor, idx: Tensor, w: Tensor, target: Tensor | None, seed: int
    ) -> NDArray[np.float64]:
        """Mean loss of each epoch; the first ones learn the target, if there is one."""
        network = self.encoder_
        network.train()
        n = len(points)
        # Batches of one size, and fewer points left out of an epoch than there are batches; each of
        # more points than coordinates.
        n_batches = max(1, min(-(-n // self.batch_size), n // (self.n_components + 1)))
        sampler = NeighborhoodBatchSampler(idx, n // n_batches, drop_last=True, seed=seed)
        last = 0.5 * self.lr * DECAY ** (DECAYS - 1)
        look = -(-LOOK // len(sampler))
        beside = "" if target is None else f" (the least there is: {self.least_loss_:.3g})"
        optimizer, schedule = self._optimizer(self.lr)
        history: list[float] = []
        aims: list[float] = []
        with stage("training", self.max_epochs):
            for epoch in range(self.max_epochs):
                sampler.set_epoch(epoch)
                steps = [
                    self._step(optimizer, points, idx, w, target, rows, sampler.batch_size)
                    for rows in sampler.batches()
                ]
                loss, aim = torch.stack(steps).mean(dim=0).tolist()
                history.append(loss)
                aims.append(aim)
                if not (math.isfinite(loss) and math.isfinite(aim)):
                    raise FloatingPointError(
                        f"the loss became {loss} in epoch {epoch}: lr={self.lr} is too "
                        "large for this encoder, or its outputs overflow"
                    )
                advance()
                if len(aims) % look == 0:
                    schedule.step(float(np.log(aims[-look:]).mean()))
                lr = optimizer.param_groups[0]["lr"]
                if target is None:
                    if lr < last:
                        break
                elif lr < self.lr or len(aims) >= LEARNING * self.max_epochs:
                    note(f"the exact embedding learnt in {len(aims)} epochs, loss {loss:.3g}")
                    target, aims = None, []
                    optimizer, schedule = self._optimizer(self.lr)
            else:
                before = history[-1 - max(1, len(history) // 10) :][0]
                warn_user(
                    f"max_epochs={self.max_epochs} ended the training before the loss settled: it "
                    f"went from {before:.3g} to {history[-1]:.3g}{beside} in the last tenth of "
                    "the epochs. Use more of them, or, where that changed little, a wider encoder "
                    "(hidden); a larger tol only ends sooner.",
                    ConvergenceWarning,
                )
            note(f"loss {history[-1]:.3g}{beside} after {len(history)} epochs")
        self.eval()
        return np.array(history)

    def _optimizer(self, lr: float) -> tuple[Any, Any]:
        optimizer = torch.optim.Adam([p for p in self.encoder_.parameters() if p.requires_grad], lr)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=DECAY, patience=PATIENCE - 1, threshold=-math.log1p(-self.tol),
            threshold_mode="abs",
        )  # fmt: skip
        return optimizer, schedule

    def _step(
        self,
        optimizer: Any,
        points: Tensor,
        idx: Tensor,
        w: Tensor,
        target: Tensor | None,
        rows: Tensor,
        b: int,
    ) -> Tensor:
        """The batch's loss, and what the step made smaller: the loss, or the target's error."""
        network = self.encoder_
        z = network(_for(network, points[rows.to(points.device)]))
        local = local_neighbors(rows, idx, b).to(z.device)
        loss = aim = whitened_residual(z, w[rows[:b]].to(z.device), local)
        if target is not None:
            aim = (z - target[rows].to(z)).square().mean().double()
        optimizer.zero_grad(set_to_none=True)
        aim.log().backward()
        optimizer.step()
        return torch.stack([loss.detach(), aim.detach()])

    @own_modes()
    def _outputs(self, points: Tensor) -> Tensor:
        network = self.encoder_
        with torch.no_grad(), evaluating(network):
            return torch.cat([network(_for(network, part)) for part in points.split(ROWS)])

    def _whiten(self, points: Tensor, idx: Tensor, w: Tensor) -> None:
        """Mean, whitener and residuals of all points."""
        z = self._outputs(points).double()
        mean = z.mean(dim=0)
        z = z - mean
        L = _factor(z.mT @ z / len(z))
        E = (z - reconstruct(w.to(z), z, idx.to(z.device))) @ _inverse(L).mT
        residuals, U = torch.linalg.eigh(E.mT @ E / len(z))
        whitener = _inverse(L).mT @ U
        Y = z @ whitener
        largest = Y.gather(0, Y.abs().argmax(dim=0, keepdim=True))[0]
        self.mean_ = mean.to(self.mean_)
        self.whitener_ = (whitener * largest.sign()).to(self.whitener_)
        self.residuals_ = residuals.clamp(min=0).to(self.residuals_)

    @full_precision
    def _whitened(self, z: Tensor) -> Tensor:
        z = real("the encoder's output", z, ndim=2)
        return (z - self.mean_.to(z.dtype)) @ self.whitener_.to(z.dtype)

    def _fitted(self) -> Self:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                "This ParametricLLE is not fitted yet: call fit, or load_state_dict with the state "
                "of one that is"
            )
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        given = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
        if given:  # else the state is of other modules, and torch says so if it is strict
            # On another module: parameters are copied one by one, and a misfit would end halfway.
            fitted = self if self.__sklearn_is_fitted__() else self._unloaded(given)
            _check_state(fitted.state_dict(), given)
            object.__setattr__(self, "__dict__", fitted.__dict__)
            for name in OF_THE_FIT:
                self.__dict__.pop(name, None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @own_modes()
    def _unloaded(self, state: dict[str, Any]) -> Self:
        """Built for this state, which is not loaded yet."""
        fitted = self._bare()
        if state.get("n_features_") is not None:
            d = int(state["n_features_"])
            shape = torch.empty(0, d) if self.encoder is None else torch.zeros(1, d)
            fitted._build(shape, self._device(shape))
            fitted.encoder_.train(self.training)
        return fitted


def _check_state(expected: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise unless both have the same names and shapes."""

    def shapes(state: dict[str, Any]) -> dict[str, Any]:
        return {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}

    here, there = shapes(expected), shapes(given)
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            raise RuntimeError(
                f"the state's {name} has shape {there.get(name, '(none: it is missing)')}, and "
                f"this ParametricLLE's {here.get(name, '(none: it has no such tensor)')}: it takes "
                "the state of one with the same encoder, hidden, n_components and features, as a "
                "whole. Nothing of it was loaded."
            )


@full_precision
def whitened_residual(z: Tensor, w: Tensor, local: Tensor) -> Tensor:
    """Mean squared local residual of the seeds' whitened outputs; see the module.

    Parameters
    ----------
    z : Tensor of shape (m, c)
        Outputs for a batch, seeds first.
    w : Tensor of shape (b, k)
        Weights of the b seeds.
    local : Tensor of shape (b, k), of integers
        Where in the batch their neighbours are.

    Returns
    -------
    Tensor of shape (), float64
        In float64 whatever z is: the residuals are small differences.
    """
    z = z.double()
    seeds = z[: len(w)]
    E = seeds - reconstruct(w.double(), z, local)
    centred = seeds - seeds.mean(dim=0)
    L = _factor(centred.mT @ centred / len(w))
    return torch.linalg.solve_triangular(L, E.mT, upper=False).square().sum() / len(w)


def _factor(C: Tensor) -> Tensor:
    """L of C + ridge = L L^T."""
    eye = torch.eye(len(C), dtype=C.dtype, device=C.device)
    try:
        return torch.linalg.cholesky(C + RIDGE * C.diagonal().mean() * eye)
    except torch.linalg.LinAlgError as error:
        raise FloatingPointError(
            "the encoder's outputs are equal for all points, or not finite: use a smaller lr, or "
            "an encoder that tells points apart"
        ) from error


def _inverse(L: Tensor) -> Tensor:
    eye = torch.eye(len(L), dtype=L.dtype, device=L.device)
    return torch.linalg.solve_triangular(L, eye, upper=False)


def _for(network: Any, points: Tensor) -> Tensor:
    """The points on the network's device and in its dtype, unless it standardises them first."""
    like = next(network.parameters(), torch.empty(0))
    first = next(module for module in network.modules() if not list(module.children()))
    return points.to(like.device if isinstance(first, Standardize) else like)
