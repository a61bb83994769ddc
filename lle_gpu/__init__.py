"""lle_gpu: locally linear embedding and its family, right, fast and certified.

In two lines::

    from lle_gpu import LocallyLinearEmbedding
    Y = LocallyLinearEmbedding(n_neighbors=12, n_components=2, method="ltsa").fit_transform(X)
"""

from __future__ import annotations

from lle_gpu.device import show_config
from lle_gpu.estimator import LocallyLinearEmbedding
from lle_gpu.exceptions import (
    DisconnectedGraphError,
    DisconnectedGraphWarning,
    GpuFallbackWarning,
    GpuMemoryError,
    GpuUnavailableError,
    MemoryLimitError,
    ModelFileError,
    PickleVersionWarning,
)
from lle_gpu.functional import locally_linear_embedding
from lle_gpu.memory import MemoryEstimate, estimate_memory
from lle_gpu.patching import patch_sklearn, unpatch_sklearn
from lle_gpu.persistence import load
from lle_gpu.selection import (
    DimensionEstimate,
    NeighborSelection,
    RegSelection,
    intrinsic_dimension,
    select_n_neighbors,
    select_reg,
)
from lle_gpu.spectral import Spectrum

__version__ = "0.1.0"

__all__ = [
    "DimensionEstimate",
    "DisconnectedGraphError",
    "DisconnectedGraphWarning",
    "GpuFallbackWarning",
    "GpuMemoryError",
    "GpuUnavailableError",
    "LocallyLinearEmbedding",
    "MemoryEstimate",
    "MemoryLimitError",
    "ModelFileError",
    "NeighborSelection",
    "PickleVersionWarning",
    "RegSelection",
    "Spectrum",
    "__version__",
    "estimate_memory",
    "intrinsic_dimension",
    "load",
    "locally_linear_embedding",
    "patch_sklearn",
    "select_n_neighbors",
    "select_reg",
    "show_config",
    "unpatch_sklearn",
]
