"""Compile every kernel for every architecture with NVRTC: no GPU and no driver is needed.

    python -m tests.compile_kernels [75 80 86 90 100 120]

compiles all instantiations that lle_gpu's modules register, as CuPy would, and prints registers,
bytes of static shared memory, and bytes spilled and on the stack. A message of the compiler, a
spill that is not in ``SPILLS`` or a stack that is not in ``STACKS`` makes it fail.

Needs ``pip install cupy-cuda13x nvidia-cuda-nvrtc`` (CuPy only binds NVRTC here).
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import lle_gpu
from lle_gpu.cuda.compiler import OPTIONS, instantiations, source_text

ARCHITECTURES = ("75", "80", "86", "90", "100", "120")
# Regular expression over "SOURCE NAME sm_ARCHITECTURE" to the largest number of bytes that such a
# kernel may spill, with the reason beside it.
SPILLS: dict[str, int] = {}
# The same for the stack: arrays in memory that should have been registers, since some index of them
# is no constant. That is slow, and no spill.
STACKS = {r"normals\.cu normals": 40}  # cos and sin of arguments that are never as large
ENTRY = re.compile(
    r"Compiling entry function '(?P<entry>\w+)' for '(?P<architecture>\w+)'"
    r".*?(?P<stack>\d+) bytes stack frame"
    r".*?(?P<spill>\d+) bytes spill stores, (?P<reload>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Compiled:
    """What ptxas says of one instantiation."""

    source: str
    name: str
    architecture: str
    registers: int
    shared_bytes: int
    spill_bytes: int
    stack_bytes: int

    @property
    def is_wrong(self) -> bool:
        """Whether it spills, or has a stack, of more bytes than are allowed."""
        what = f"{self.source} {self.name} sm_{self.architecture}"
        return any(
            has > max((size for key, size in allowed.items() if re.search(key, what)), default=0)
            for has, allowed in ((self.spill_bytes, SPILLS), (self.stack_bytes, STACKS))
        )


def compile_source(source: str, names: Sequence[str], architecture: str) -> list[Compiled]:
    """Compile a source's instantiations for one architecture, as CuPy does; raises with the log."""
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(source_text(source), source, (), ())
    for name in names:
        nvrtc.addNameExpression(program, name)
    options = (
        *OPTIONS,
        f"-arch=sm_{architecture}",
        "-ftz=true",
        "--device-as-default-execution-space",
        "--ptxas-options=-v",
    )
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError:
        log = nvrtc.getProgramLog(program)
        raise RuntimeError(f"{source} for sm_{architecture}:\n{log}") from None
    log = nvrtc.getProgramLog(program)
    entries = {match["entry"]: match for match in ENTRY.finditer(log)}
    warnings = [line for line in log.splitlines() if "warning" in line]
    if warnings:
        raise RuntimeError(f"{source} for sm_{architecture}:\n" + "\n".join(warnings))
    found = []
    for name in names:
        lowered: Any = nvrtc.getLoweredName(program, name)
        match = entries[lowered.decode() if isinstance(lowered, bytes) else lowered]
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        spill = max(int(match["spill"]), int(match["reload"]))
        found.append(
            Compiled(
                source,
                name,
                architecture,
                int(match["registers"]),
                int(shared[1]) if shared else 0,
                spill,
                int(match["stack"]),
            )
        )
    nvrtc.destroyProgram(program)
    return found


def register_all() -> None:
    """Import every module of lle_gpu: those that launch kernels register what they ask for.

    lle_gpu.torch, which launches none itself, needs PyTorch, and is left out.
    """
    for module in pkgutil.walk_packages(lle_gpu.__path__, "lle_gpu."):
        if "__main__" not in module.name and not module.name.startswith("lle_gpu.torch"):
            importlib.import_module(module.name)


def main(architectures: Sequence[str] = ARCHITECTURES) -> int:
    """Compile all, print a table, return the number of things that are wrong."""
    register_all()
    begin = time.perf_counter()
    jobs = [(s, names, a) for s, names in instantiations().items() for a in architectures]
    wrong = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = [pool.submit(compile_source, *job) for job in jobs]
        results: dict[tuple[str, str], list[Compiled]] = {}
        for future in running:
            try:
                for one in future.result():
                    results.setdefault((one.source, one.name), []).append(one)
            except RuntimeError as error:
                print(error, file=sys.stderr)
                wrong += 1
    print("registers (static shared bytes) [bytes spilled of the stack's]")
    for (source, name), of_each in results.items():
        cells = []
        for one in of_each:
            cell = f"sm_{one.architecture} {one.registers} ({one.shared_bytes})"
            if one.spill_bytes or one.stack_bytes:
                cell += f" [{one.spill_bytes} of {one.stack_bytes}]"
            if one.is_wrong:
                wrong += 1
                cell += " TOO MUCH"
            cells.append(cell)
        print(f"{source}  {name}\n    {'  '.join(cells)}")
    seconds = time.perf_counter() - begin
    print(f"{len(results)} instantiations, {len(architectures)} architectures, {seconds:.0f} s")
    if not jobs:
        print("no instantiation is registered", file=sys.stderr)
        wrong += 1
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main(tuple(sys.argv[1:]) or ARCHITECTURES) else 0)
