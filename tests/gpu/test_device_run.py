"""``.ci/gpu``, with programs that only say how they were called in place of the device's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "gpu"

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not SCRIPT.exists(), reason="a checkout's script, for bash"
)
PROGRAMS = {
    "nvidia-smi": "echo GPU 0",
    "python": '[ -z "${FAILS:-}" ] || [[ "$*" != *$FAILS* ]]; code=$?; '
    'echo "python ${EXACT_ALLOCATIONS:+exact} $*"; exit $code',
    "compute-sanitizer": 'echo "sanitizer $*"; while [ "$1" != python ]; do shift; done; "$@"',
}


def call(folder, *parts, without=(), **environment):
    for name, lines in PROGRAMS.items():
        if name not in without:
            program = folder / name
            program.write_text(f"#!{shutil.which('bash')}\n{lines}\n")
            program.chmod(0o755)
    # Nothing else, since the machine may have a device.
    (folder / "dirname").symlink_to(shutil.which("dirname"))
    return subprocess.run(
        [shutil.which("bash"), SCRIPT, *parts],
        capture_output=True,
        text=True,
        env={"PATH": str(folder), "PYTHON": "python", **environment},
    )


def test_without_arguments_it_does_everything(tmp_path):
    done = call(tmp_path)
    assert done.returncode == 0, done.stderr
    headings = [line for line in done.stdout.splitlines() if line.startswith("==")]
    assert headings == ["== tests", "== record", "== memcheck", "== racecheck"]
    assert "python  -m pytest -q -m gpu\n" in done.stdout
    assert "python  -m benchmarks.gpu\n" in done.stdout
    assert "--tool racecheck --error-exitcode 9 python -m pytest" in done.stdout
    assert done.stdout.count("python exact -m pytest -q -m gpu and kernel tests/gpu") == 2


def test_what_fails_is_named_and_the_rest_is_done(tmp_path):
    done = call(tmp_path, "tests", "record", "memcheck", FAILS="pytest")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "failed: tests memcheck"
    assert "benchmarks.gpu" in done.stdout


def test_no_device_and_no_such_part(tmp_path):
    wrong = call(tmp_path, "test", without=["nvidia-smi"])
    assert wrong.returncode == 1
    assert "no part test: tests, record, memcheck or racecheck" in wrong.stderr
    (tmp_path / "dirname").unlink()
    none = call(tmp_path, without=["nvidia-smi"])
    assert none.returncode == 2
    assert "no GPU" in none.stderr
