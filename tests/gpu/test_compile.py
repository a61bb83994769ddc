"""What is registered is what there is; and what the check with NVRTC notices, where NVRTC is."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from lle_gpu.cuda import compiler
from lle_gpu.cuda.compiler import instantiations, kernel_folder, source_text
from tests import compile_kernels


def missing_nvrtc():
    """Why kernels cannot be compiled here; empty if they can."""
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        return f"NVRTC is not installed, pip install 'lle-gpu[nvrtc]': {error}"
    return ""


ROOT = Path(__file__).parents[2]
nvrtc = pytest.mark.skipif(bool(missing_nvrtc()), reason=missing_nvrtc() or "NVRTC is there")
KERNEL = re.compile(r"__global__ void\s+(?:__launch_bounds__\([^)]*\)\s*(?://[^\n]*\s+)?)?(\w+)\(")
GOOD = """
template <class T> __global__ void fine(T* x) {
  __shared__ T s[64];
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = s[63 - threadIdx.x];
}
// 128 values alive at once, in 64 registers.
__global__ void __launch_bounds__(1024) spilling(float* x) {
  float a[128];
#pragma unroll
  for (int i = 0; i < 128; ++i) a[i] = x[threadIdx.x + 1024 * i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 128; ++i) x[threadIdx.x * 128 + i] = a[i] * a[127 - i];
}
"""


GOOD += """
// An index that no compiler knows.
__global__ void indexed(float* x, const int* at) {
  float a[16];
  for (int i = 0; i < 16; ++i) a[i] = x[i * 7];
  for (int i = 0; i < 64; ++i) a[at[i] & 15] += a[at[i + 1] & 15];
  for (int i = 0; i < 16; ++i) x[i] = a[i];
}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of kernels of this test's own."""
    monkeypatch.setattr(compiler, "kernel_folder", lambda: tmp_path)
    monkeypatch.setattr(compiler, "_registered", {})
    monkeypatch.setattr(compile_kernels, "register_all", lambda: None)
    (tmp_path / "good.cu").write_text(GOOD)
    (tmp_path / "bad.cu").write_text("__global__ void bad(int* x) { *x = undeclared_thing; }")
    return tmp_path


def test_the_sources_are_those_beside_the_package_that_is_imported(tmp_path, monkeypatch):
    """Not those of another installation; its own where there are none beside it."""
    installed = SimpleNamespace(__file__=str(tmp_path / "site" / "lle_gpu" / "__init__.py"))
    monkeypatch.setattr("importlib.resources.files", lambda name: f"another's {name}")
    assert kernel_folder() == ROOT / "kernels"
    monkeypatch.setattr(compiler, "lle_gpu", installed)
    assert kernel_folder() == "another's lle_gpu.kernels"
    (tmp_path / "site" / "kernels").mkdir(parents=True)  # of some other distribution
    assert kernel_folder() == "another's lle_gpu.kernels"


# What NVRTC may be told, and why. -use_fast_math is not there, nor what it stands for (-ftz=true,
# -prec-div=false, -prec-sqrt=false): the bounds on rounding that decide whether weights and
# neighbours are right hold for quotients and roots as IEEE rounds them, and no emulated kernel
# would show that they were broken.
OPTIONS = {
    "-std=c++17": "if constexpr; NVRTC's default is another with each of its versions",
    "-lineinfo": "no other code: profilers and sanitizers name lines",
}


def test_the_options_leave_the_arithmetic_as_it_is_written():
    assert set(compiler.OPTIONS) == set(OPTIONS)


def test_every_kernel_is_registered_and_no_other():
    compile_kernels.register_all()
    registered = instantiations()
    sources = {p.name for p in kernel_folder().iterdir() if p.name.endswith(".cu")}
    assert set(registered) == sources
    for source, names in registered.items():
        there = set(KERNEL.findall(source_text(source)))
        assert {name.partition("<")[0] for name in names} == there, source


@nvrtc
def test_registers_shared_memory_and_spills_are_read(folder):
    fine, double, spilling = compile_kernels.compile_source(
        "good.cu", ["fine<float>", "fine<double>", "spilling"], "90"
    )
    assert (fine.shared_bytes, double.shared_bytes, spilling.shared_bytes) == (256, 512, 0)
    assert (fine.spill_bytes, double.spill_bytes) == (0, 0)
    assert 0 < fine.registers < 32
    assert spilling.registers <= 64
    assert spilling.spill_bytes > 0


@nvrtc
def test_spills_are_wrong_unless_allowed(folder, monkeypatch, capsys):
    compiler.register("good.cu", ["fine<float>", "spilling"])
    assert compile_kernels.main(["75"]) == 1
    assert "TOO MUCH" in capsys.readouterr().out
    allowed = {r"good.cu spilling sm_75": 4096}
    monkeypatch.setattr(compile_kernels, "SPILLS", allowed)
    assert compile_kernels.main(["75"]) == 1  # what is spilled lies on the stack
    monkeypatch.setattr(compile_kernels, "STACKS", allowed)
    assert compile_kernels.main(["75"]) == 0
    assert compile_kernels.main(["80"]) == 1


@nvrtc
def test_an_array_in_memory_is_wrong(folder, capsys):
    compiler.register("good.cu", ["indexed"])
    assert compile_kernels.main(["90"]) == 1
    assert re.search(r"\[0 of \d\d+\] TOO MUCH", capsys.readouterr().out)


@nvrtc
def test_what_does_not_compile_is_wrong_and_shown(folder, capsys):
    compiler.register("bad.cu", ["bad"])
    compiler.register("good.cu", ["fine<float>"])
    assert compile_kernels.main(["80"]) == 1
    error = capsys.readouterr().err
    assert "undeclared_thing" in error
    assert f"{folder / 'bad.cu'}(1)" in error


@nvrtc
def test_nothing_registered_is_wrong(folder, capsys):
    assert compile_kernels.main(["80"]) == 1
