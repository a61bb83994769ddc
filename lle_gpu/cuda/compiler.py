"""Our CUDA kernels: their sources, compiled once per device and instantiation, launched checked.

A module that launches kernels says at its top which instantiations it may ask for:

    register("barycentric.cu", [f"barycentric_warp<{T}, {K}, 4>" for T in REAL for K in (8, 16)])

    f = kernel("barycentric.cu", "barycentric_warp<float, 16, 4>")
    f.launch(geometry, X, index, W, np.int32(n))

so that every one of them can be compiled for every architecture without a GPU, and none is asked
for that was not. Registering imports no CuPy.

NVRTC compiles, through CuPy, which keeps the binaries on disk under a hash of the source it is
given. So headers are pasted into that source (a changed header is then a changed source), with
``#line`` directives, by which the compiler's messages name the real file and line.
"""

from __future__ import annotations

import importlib.resources
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

import lle_gpu
from lle_gpu.cuda.geometry import Geometry, check_launch
from lle_gpu.cuda.probe import cupy

__all__ = [
    "OPTIONS",
    "REALS",
    "Kernel",
    "KernelCompilationError",
    "forget_kernels",
    "instantiations",
    "kernel",
    "kernel_folder",
    "register",
    "source_text",
]

# -lineinfo costs nothing at run time: profilers and sanitizers then name lines.
OPTIONS = ("-std=c++17", "-lineinfo")
# The kernels' names for the float types of arrays.
REALS = {"float32": "float", "float64": "double"}
# Dynamic shared memory that a block gets without the kernel having asked for more.
PLAIN_SHARED_BYTES = 48 * 1024
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
PRAGMA_ONCE = re.compile(r"^\s*#\s*pragma\s+once\b")

_registered: dict[str, dict[str, None]] = {}  # a dict of names keeps their order
_compiled: dict[tuple[int, str, str], Kernel] = {}
_modules: dict[tuple[int, str, tuple[str, ...]], Any] = {}  # by the names that are in them
_compiling = threading.Lock()


class KernelCompilationError(RuntimeError):
    """A kernel does not compile; the message holds the compiler's."""


def register(source: str, names: Iterable[str]) -> None:
    """Declare the instantiations of a source's kernels that may be asked for.

    Parameters
    ----------
    source : str
        File in ``kernels/``.
    names : iterable of str
        C++ expressions that name one kernel each, as ``"weights<float, 16>"``.
    """
    _registered.setdefault(source, {}).update(dict.fromkeys(names))


def instantiations() -> Mapping[str, Sequence[str]]:
    """Everything registered by the modules imported so far: source to names."""
    return {source: tuple(names) for source, names in _registered.items()}


def kernel_folder() -> Traversable:
    """Where the sources are: in the checkout that lle_gpu is imported from, or as installed.

    The checkout goes first: ``lle_gpu.kernels`` may be that of another installation, which has
    nothing to do with this one's Python.
    """
    beside = Path(lle_gpu.__file__).parents[1] / "kernels"
    if (beside / "barycentric.cu").is_file():
        return beside
    return importlib.resources.files("lle_gpu.kernels")


def source_text(source: str) -> str:
    """A source with its headers pasted in, each once."""
    return "\n".join(_pasted(source, "the loader", set()))


def _pasted(file: str, included_from: str, seen: set[str]) -> Iterable[str]:
    if file in seen:
        return
    seen.add(file)
    path = kernel_folder().joinpath(file)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise KernelCompilationError(f"{included_from} asks for {path}: there is none") from None
    shown = str(path).replace("\\", "/")
    yield f'#line 1 "{shown}"'
    for number, line in enumerate(text.splitlines(), start=1):
        include = INCLUDE.match(line)
        if include:
            yield from _pasted(include[1], f"{path}, line {number},", seen)
            yield f'#line {number + 1} "{shown}"'
        else:
            yield "" if PRAGMA_ONCE.match(line) else line


def kernel(source: str, name: str) -> Kernel:
    """Get a kernel for the current device, compiled now if it has not been yet.

    Parameters
    ----------
    source : str
        File in ``kernels/``.
    name : str
        One of the names registered for it.

    Returns
    -------
    Kernel
        To be called with grid, block and arguments.

    Raises
    ------
    KernelCompilationError
        If it does not compile.
    ValueError
        If the instantiation has not been registered.
    GpuUnavailableError
        If there is no CuPy.
    """
    device = int(cupy().cuda.runtime.getDevice())
    key = device, source, name
    found = _compiled.get(key)
    if found is None:
        with _compiling:
            found = _compiled.get(key)
            if found is None:
                found = _compiled[key] = Kernel(source, name, device)
    return found


def forget_kernels() -> None:
    """Compile anew whatever is asked for next."""
    with _compiling:
        _compiled.clear()
        _modules.clear()


class Kernel:
    """One instantiation of a kernel on one device; made by :func:`kernel`.

    Attributes
    ----------
    source, name : str
    device : int
    function : cupy.RawKernel
    """

    def __init__(self, source: str, name: str, device: int) -> None:
        if name not in _registered.get(source, {}):
            known = ", ".join(_registered.get(source, {})) or "none"
            raise ValueError(
                f"{name!r} of {source} is not a registered instantiation (registered: {known}); "
                "name it in the module's register(...), so that it is compiled for every "
                "architecture in the tests"
            )
        self.source, self.name, self.device = source, name, device
        cp = cupy()
        self._array, self._current_device = cp.ndarray, cp.cuda.runtime.getDevice
        self.function = _compile(source, name, device)
        self._static_bytes = int(self.function.shared_size_bytes)
        self._allowed_bytes = PLAIN_SHARED_BYTES - self._static_bytes
        # Asked for once: each of these attributes is several calls of the driver.
        self._most_threads = int(self.function.max_threads_per_block)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<kernel {self.name} of {self.source} on device {self.device}>"

    def launch(self, geometry: Geometry, *arguments: Any) -> None:
        """As a call, by a launch of :mod:`lle_gpu.cuda.geometry`, its shared memory included."""
        self(geometry.grid, geometry.block, arguments, shared_bytes=geometry.shared_bytes)

    def __call__(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        arguments: Sequence[Any],
        *,
        shared_bytes: int = 0,
    ) -> None:
        """Launch on the current stream, without waiting; an empty grid launches nothing.

        Parameters
        ----------
        grid, block : int or up to three ints
        arguments : sequence of CuPy arrays and NumPy scalars
            Arrays are C-contiguous and on the kernel's device, which is the current one. Scalars
            are of the parameter's exact type: their bytes are passed as they are.
        shared_bytes : int
            Dynamic shared memory of a block. More than 48 KiB is asked for as CUDA wants it.

        Raises
        ------
        TypeError, ValueError
            If an argument, the grid, the block or the shared memory cannot be.
        """
        grid = (grid,) if isinstance(grid, int) else tuple(grid)
        block = (block,) if isinstance(block, int) else tuple(block)
        if self._current_device() != self.device:
            raise ValueError(
                f"{self.name} was compiled for device {self.device} and the current device is "
                f"{self._current_device()}; call kernel(...) for it there"
            )
        for position, argument in enumerate(arguments):
            self._check(position, argument)
        check_launch(
            grid,
            block,
            self._static_bytes + shared_bytes,
            self.device,
            self.name,
            most_threads=self._most_threads,
        )
        if 0 in grid:
            return
        if shared_bytes > self._allowed_bytes:
            with self._lock:
                if shared_bytes > self._allowed_bytes:
                    self.function.max_dynamic_shared_size_bytes = shared_bytes
                    self._allowed_bytes = shared_bytes
        self.function(grid, block, tuple(arguments), shared_mem=shared_bytes)

    def _check(self, position: int, argument: Any) -> None:
        """Refuse what CuPy would pass on as something else than it is."""
        where = f"argument {position} of {self.name}"
        if isinstance(argument, np.generic):
            return
        if not isinstance(argument, self._array):
            raise TypeError(
                f"{where} is a {type(argument).__module__}.{type(argument).__name__}; it must be a "
                "CuPy array or a NumPy scalar of the parameter's exact type, as np.int32(n)"
            )
        if argument.device.id != self.device:
            raise ValueError(
                f"{where} is on device {argument.device.id}, the kernel on device {self.device}; "
                "copy it there, or make its device the current one"
            )
        if not argument.flags.c_contiguous:
            raise ValueError(
                f"{where}, of shape {argument.shape} and strides {argument.strides}, is not "
                "C-contiguous; pass cupy.ascontiguousarray of it"
            )


def _compile(source: str, name: str, device: int) -> Any:
    """The kernel as CuPy's RawKernel, on the current device.

    Kernels of a source that have the same template arguments, or none, are used together, and
    compiled together: each module parses the source, and compiles what is no template in it.
    """
    cp = cupy()
    together = tuple(
        other for other in _registered[source] if other.partition("<")[2] == name.partition("<")[2]
    )
    module = _modules.get((device, source, together))
    if module is None:
        code = source_text(source)
        module = cp.RawModule(code=code, options=OPTIONS, name_expressions=together)
    try:
        function = module.get_function(name)
    except cp.cuda.compiler.CompileException as error:
        architecture = cp.cuda.Device().compute_capability
        raise KernelCompilationError(
            f"{name} of {source} does not compile for sm_{architecture}:\n{error}"
        ) from None
    _modules[device, source, together] = module
    return function
