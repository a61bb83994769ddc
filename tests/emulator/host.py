"""Builds kernels for the CPU, checks arguments, launches, and reports what the sanitizers say."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["SANITIZERS", "EmulatorError", "Module", "missing_emulator", "sanitizer"]

HERE = Path(__file__).resolve().parent
# Sanitizer to (flags for the kernels, libraries to load into Python first). Debug information costs
# compile time, and only the sanitizers' reports use it.
SANITIZERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "none": (("-O1",), ()),
    "address": (
        (
            "-O1",
            "-g1",
            "-fno-omit-frame-pointer",
            "-fsanitize=address,undefined",
            "-fsanitize-recover=address",
        ),
        ("libasan.so", "libubsan.so"),
    ),
    "thread": (("-O1", "-g1", "-fsanitize=thread"), ("libtsan.so",)),
}
COMMON = ("-std=c++17", "-march=native", "-fPIC", "-fvisibility=hidden", "-w", "-nostartfiles")
RUNTIME_FLAGS = ("-O2", "-fcf-protection=none", "-fno-tree-loop-distribute-patterns")
REPORT = re.compile(r"ERROR: AddressSanitizer|runtime error:|WARNING: ThreadSanitizer")
# A kernel's bound on the threads of a block, which is a constant expression, and the kernel's name.
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
BOUND = re.compile(
    r"__launch_bounds__\s*\(([^,()]+)(?:,[^()]*)?\)\s*(?:(?:static\s+)?void\s+)?(\w+)\s*\("
)
MAX_THREADS = 1024
GUARD_BYTES = 256  # after the copy of an array
MAX_SHARED_BYTES = 232_448  # with the opt-in, compute capability 9.0


class EmulatorError(RuntimeError):
    """A kernel did not compile, or did what it must not."""


def sanitizer() -> str:
    """The one this process was started for: ``none``, ``address`` or ``thread``."""
    return os.environ.get("EMULATOR_SANITIZER", "none")


def compiler() -> str:
    """The C++ compiler."""
    return os.environ.get("CXX", "g++")


def missing_emulator() -> str:
    """Why kernels cannot be emulated here; empty if they can."""
    if sys.platform != "linux":
        return f"kernels are emulated on Linux, not on {sys.platform}"
    if shutil.which(compiler()) is None:
        return f"kernels are emulated with a C++ compiler, and there is no {compiler()}"
    return ""


@functools.cache
def _cache() -> Path:
    default = Path(tempfile.gettempdir()) / f"lle_gpu-emulator-{os.getuid()}"
    folder = Path(os.environ.get("EMULATOR_CACHE", default))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def _compiler_version() -> str:
    return subprocess.run([compiler(), "--version"], capture_output=True, text=True).stdout


def _build(stem: str, text: str, flags: Sequence[str]) -> Path:
    """The shared library of a translation unit, from the cache if it has been built before."""
    header = (HERE / "emulator.h").read_text()
    key = hashlib.sha256(repr((_compiler_version(), flags, text, header)).encode()).hexdigest()[:20]
    library = _cache() / f"{stem}-{key}.so"
    if library.exists():
        return library
    with tempfile.TemporaryDirectory(dir=_cache()) as folder:
        unit, built = Path(folder, "unit.cpp"), Path(folder, "built.so")
        unit.write_text(text)
        command = [compiler(), *COMMON, *flags, "-shared", "-o", str(built), str(unit)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise EmulatorError(done.stderr)
        built.replace(library)
    return library


def _unit(code: str, names: Sequence[str]) -> str:
    """Kernels and the table of their instantiations, as one translation unit."""
    bounds = _bounds(code)
    rows = "".join(
        f'EMU_ENTRY("{name}", {bounds.get(name.partition("<")[0], MAX_THREADS)}, {name})\n'
        for name in names
    )
    return (
        f'#include "{HERE / "emulator.h"}"\n'
        f'namespace {{\n{code}\n}}\n#line 1 "table of kernels"\n'
        'extern "C" {\n'
        '__attribute__((visibility("hidden"))) extern char __bss_start[], _end[];\n'
        'extern __attribute__((visibility("default"))) emu_library emu_this_library;\n'
        "}\n"
        f"static emu_entry entries[] = {{\n{rows}{{nullptr, nullptr, nullptr, 0}}}};\n"
        "emu_library emu_this_library = {entries, __bss_start, _end};\n"
    )


def _bounds(code: str) -> dict[str, str]:
    """Kernels' names to their bounds on the threads of a block, where they have one."""
    code = COMMENT.sub(" ", code)
    found = {name: bound for bound, name in BOUND.findall(code)}
    if len(found) != code.count("__launch_bounds__"):
        raise EmulatorError(f"of the __launch_bounds__ those alone can be read: {found}")
    return found


class _Launch(ctypes.Structure):
    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
    )


class _Entry(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("call", ctypes.c_void_p),
        ("signature", ctypes.c_char_p),
        ("most_threads", ctypes.c_uint),
    )


class _Library(ctypes.Structure):
    _fields_ = (
        ("entries", ctypes.POINTER(_Entry)),
        ("shared_begin", ctypes.c_void_p),
        ("shared_end", ctypes.c_void_p),
    )


@functools.cache
def _runtime() -> ctypes.CDLL:
    path = _build("runtime", (HERE / "runtime.cpp").read_text(), RUNTIME_FLAGS)
    library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)  # the kernels' libraries find it so
    library.emu_error.restype = ctypes.c_char_p
    library.emu_switches.restype = ctypes.c_uint64
    return library


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)  # with AddressSanitizer's functions, where it is loaded
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    return libc


def _asan(change: str, address: int, size: int) -> None:
    """Poison or unpoison memory."""
    function = getattr(_libc(), f"__asan_{change}_memory_region")
    function(ctypes.c_void_p(address), ctypes.c_size_t(size))


_running = threading.Lock()  # the scheduler's state is one for the process


class Module:
    """Kernels of one source, instantiated by ``names``.

    Attributes
    ----------
    shared_bytes : int
        Static shared memory of all the kernels together.
    most_threads : dict of str to int
        Threads that a block of a kernel may have.
    """

    def __init__(self, code: str, names: Sequence[str]) -> None:
        runtime = _runtime()
        flags = SANITIZERS[sanitizer()][0]
        stem = re.sub(r"\W+", "-", names[0])[:60] + "-" + sanitizer()
        self._dll = ctypes.CDLL(str(_build(stem, _unit(code, names), flags)))
        self._runtime = runtime
        self._library = _Library.in_dll(self._dll, "emu_this_library")
        self._entries, self.most_threads = {}, {}
        for i, name in enumerate(names):
            signature = self._library.entries[i].signature.decode().split()
            self._entries[name] = (i, [] if signature == ["-"] else signature)
            self.most_threads[name] = self._library.entries[i].most_threads
        self.shared_bytes = (self._library.shared_end or 0) - (self._library.shared_begin or 0)

    def written(self, name: str) -> list[bool]:
        """Which of a kernel's parameters are pointers that it may write to."""
        return [word[0] == "P" and not word.startswith("Pc") for word in self._entries[name][1]]

    def launch(
        self,
        name: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[np.ndarray | np.generic],
        *,
        shared_bytes: int = 0,
        seed: int = 0,
    ) -> None:
        """Run a kernel on NumPy arrays and scalars of its parameters' exact types."""
        index, signature = self._entries[name]
        if len(arguments) != len(signature):
            raise TypeError(f"{name}: {len(arguments)} arguments for {len(signature)} parameters")
        if shared_bytes > MAX_SHARED_BYTES:
            raise EmulatorError(f"{name}: {shared_bytes} bytes of dynamic shared memory")
        if math.prod(block) > self.most_threads[name]:
            raise EmulatorError(
                f"{name}: {math.prod(block)} threads in a block; {self.most_threads[name]} are "
                "allowed"
            )
        launch = _Launch(_three(grid), _three(block), shared_bytes, seed)
        for position, (argument, word) in enumerate(zip(arguments, signature, strict=True)):
            _check(f"argument {position} of {name}", argument, word)
        copied = [
            (argument, not word.startswith("Pc"))
            for argument, word in zip(arguments, signature, strict=True)
            if isinstance(argument, np.ndarray) and sanitizer() == "address"
        ]
        copies = _ExactCopies([array for array, _ in copied], [written for _, written in copied])
        values = []
        for argument in arguments:
            if isinstance(argument, np.generic):
                values.append(np.array(argument))
            elif copied:
                values.append(np.array(copies.address(argument), np.uintp))
            else:
                values.append(np.array(argument.ctypes.data, np.uintp))
        pointers = (ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values])
        with _running:
            failed, report = self._run(index, launch, pointers)
            error = self._runtime.emu_error().decode()
        copies.give_back()
        if failed:
            raise EmulatorError(f"{name}: {error}")
        if REPORT.search(report):
            raise EmulatorError(f"{name}:\n{report[:6000]}")

    def _run(self, index: int, launch: _Launch, pointers: ctypes.Array) -> tuple[int, str]:
        def run() -> int:
            return self._runtime.emu_launch(
                ctypes.byref(self._library), index, ctypes.byref(launch), pointers
            )

        if sanitizer() == "none":
            return run(), ""
        with tempfile.TemporaryFile() as file:  # the sanitizers write to file descriptor 2
            saved = os.dup(2)
            os.dup2(file.fileno(), 2)
            try:
                failed = run()
            finally:
                os.dup2(saved, 2)
                os.close(saved)
            file.seek(0)
            return failed, file.read().decode(errors="replace")


class _ExactCopies:
    """Copies of arrays behind which memory is poisoned, so that AddressSanitizer sees the ends.

    The poisoned memory belongs to the copy: what a kernel writes there is found out and harms
    nobody. Arrays that overlap share one copy, of their union, so that aliases stay aliases.
    """

    def __init__(self, arrays: Sequence[np.ndarray], written: Sequence[bool]) -> None:
        self._spans: list[tuple[int, int, int, bool]] = []  # start, end, address of copy, written
        ranges = sorted(
            (array.ctypes.data, array.ctypes.data + array.nbytes, is_written)
            for array, is_written in zip(arrays, written, strict=True)
        )
        merged: list[tuple[int, int, bool]] = []
        for start, end, is_written in ranges:
            if merged and start < merged[-1][1]:
                before = merged.pop()
                start, end = before[0], max(before[1], end)
                is_written = is_written or before[2]
            merged.append((start, end, is_written))
        for start, end, is_written in merged:
            address = _libc().malloc(end - start + GUARD_BYTES)
            ctypes.memmove(address, start, end - start)
            _asan("poison", address + end - start, GUARD_BYTES)
            self._spans.append((start, end, address, is_written))

    def address(self, array: np.ndarray) -> int:
        """Where the copy of an array begins."""
        begin = array.ctypes.data
        for start, end, address, _ in self._spans:
            if start <= begin and begin + array.nbytes <= end:
                return address + begin - start
        raise AssertionError("an array was not copied")

    def give_back(self) -> None:
        """Copy what was written back, and free."""
        for start, end, address, is_written in self._spans:
            if is_written:
                ctypes.memmove(start, address, end - start)
            _asan("unpoison", address, end - start + GUARD_BYTES)
            _libc().free(address)


def _check(where: str, argument: object, word: str) -> None:
    """Refuse an argument that is not of the parameter's exact type."""
    if not isinstance(argument, np.generic | np.ndarray):
        raise TypeError(
            f"{where} is a Python {type(argument).__name__}, which CuPy would pass as 8 bytes: use "
            "a NumPy scalar"
        )
    pointer = word[0] == "P"
    kind = word.lstrip("Pc") if pointer else word
    have = f"{argument.dtype.kind}{argument.dtype.itemsize}"
    if pointer != isinstance(argument, np.ndarray) or (have != kind and kind[0] != "x"):
        raise TypeError(
            f"{where} is {'an array' if isinstance(argument, np.ndarray) else 'a scalar'} of "
            f"{argument.dtype}; the parameter is {'a pointer to ' if pointer else ''}{kind}"
        )
    if isinstance(argument, np.ndarray) and not argument.flags.c_contiguous:
        raise TypeError(f"{where} is not C-contiguous")


def _three(sizes: Sequence[int]) -> ctypes.Array:
    return (ctypes.c_uint * 3)(*sizes, *(1,) * (3 - len(sizes)))
