"""scikit-learn's own tests, with this estimator in place of theirs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from lle_gpu import LocallyLinearEmbedding

# The cases of theirs that the true Hessian estimator changes: none. Its one case with
# method="hessian" has n_neighbors=6 for n_components=2, where theirs and the true one coincide.
CHANGED_BY_THE_TRUE_HESSIAN: tuple[str, ...] = ()

THEIR_TESTS = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
THEIR_TESTS += ("--pyargs", "sklearn.manifold.tests.test_locally_linear")


def test_their_locally_linear_tests_pass_with_ours(tmp_path):
    deselect = [f"--deselect={name}" for name in CHANGED_BY_THE_TRUE_HESSIAN]
    done = subprocess.run(
        [sys.executable, "-m", "lle_gpu.accel", *THEIR_TESTS, *deselect],
        env={**os.environ, "SKLEARN_RUN_FLOAT32_TESTS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(done.stdout.split(" passed")[0].split()[-1])
    assert passed >= 24, done.stdout
    assert "skipped" not in done.stdout, done.stdout
    assert "DisconnectedGraphWarning" in done.stdout, "these were not ours"


@parametrize_with_checks(
    [
        LocallyLinearEmbedding(),
        LocallyLinearEmbedding(method="ltsa", n_neighbors=6),
        LocallyLinearEmbedding(method="modified", n_neighbors=6),
        LocallyLinearEmbedding(method="hessian", n_neighbors=6),
    ]
)
@pytest.mark.filterwarnings("ignore::lle_gpu.DisconnectedGraphWarning")  # their blobs fall apart
@pytest.mark.filterwarnings("ignore:F has at least:UserWarning")
@pytest.mark.filterwarnings("ignore:reg=0")
def test_estimator_checks(estimator, check):
    check(estimator)
