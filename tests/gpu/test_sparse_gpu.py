"""Sparse X beside a GPU: the CPU takes it, and models of either device take either kind."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from conftest import make_manifold

from lle_gpu import LocallyLinearEmbedding, arrays
from lle_gpu.progress import StageTimes, report_to

X = make_manifold("five-d", 150)


@pytest.fixture
def gpu(gpu_once):
    """No kernel is new here."""
    return gpu_once


def test_auto_takes_the_cpu_for_sparse_points(gpu):
    with report_to(StageTimes()) as times:
        model = LocallyLinearEmbedding(n_neighbors=12).fit(sp.csr_array(X))
    assert model.device_ == "cpu"
    assert "device: the CPU, since X is sparse" in times.notes
    assert LocallyLinearEmbedding(n_neighbors=12).fit(X).device_ == "gpu"
    for device in ("gpu", "cuda"):
        with pytest.raises(ValueError, match=f"device='{device}' does not take sparse X"):
            LocallyLinearEmbedding(device=device).fit(sp.csr_array(X))


def test_a_model_of_the_gpu_places_sparse_points_part_by_part(gpu, monkeypatch):
    monkeypatch.setattr(arrays, "PART_BYTES", 8 * X.shape[1] * 11)
    model = LocallyLinearEmbedding(n_neighbors=12, device="gpu").fit(X)
    Y = model.transform(sp.csr_array(X[:30]))
    assert type(Y) is np.ndarray
    np.testing.assert_allclose(Y, model.embedding_[:30], atol=1e-12)


def test_a_model_of_sparse_points_places_cupy_s(gpu, monkeypatch):
    monkeypatch.setattr(arrays, "PART_BYTES", 8 * X.shape[1] * 11)
    model = LocallyLinearEmbedding(n_neighbors=12).fit(sp.csr_array(X))
    Y = model.transform(gpu.cupy.asarray(X[:30]))
    np.testing.assert_array_equal(gpu.to_numpy(Y), model.embedding_[:30])
