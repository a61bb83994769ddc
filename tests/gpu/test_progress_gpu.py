"""Callbacks on the GPU's path."""

from __future__ import annotations

import signal
import warnings

import pytest
from conftest import make_manifold

from lle_gpu import LocallyLinearEmbedding

ROLL = make_manifold("swiss-roll", 250)


@pytest.mark.parametrize("where", ["neighbors", "constraints", "lanczos"])
@pytest.mark.parametrize("kind", ["start", "advance", "finish"])
def test_a_callback_s_memory_error_is_not_the_device_s(stand_in, where, kind):
    """Chunks would be halved, other searches and solvers tried, and the CPU at last."""
    told = []
    raised = MemoryError("the callback's own: cudaErrorMemoryAllocation")

    def stop(event):
        told.append(event)
        if (event.stage, event.kind) == (where, kind):
            raise raised

    model = LocallyLinearEmbedding(
        n_neighbors=10, eigen_solver="shift-invert", callbacks=stop, device="auto"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MemoryError) as caught:
            model.fit(ROLL)
    assert caught.value is raised
    assert (told[-1].stage, told[-1].kind) == (where, kind)
    assert not hasattr(model, "embedding_")


def test_control_c_leaves_the_estimator(stand_in):
    model = LocallyLinearEmbedding(n_neighbors=10, device="gpu").fit(ROLL)
    before = dict(vars(model))
    model.callbacks = before["callbacks"] = lambda event: signal.raise_signal(signal.SIGINT)
    for call in (model.fit, model.transform):
        with pytest.raises(KeyboardInterrupt):
            call(ROLL[:100] + 0.1)
        assert {name: id(value) for name, value in vars(model).items()} == {
            name: id(value) for name, value in before.items()
        }
